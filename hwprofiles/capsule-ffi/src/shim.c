#include "shim.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int _rte_errno(void) { return rte_errno; }

unsigned _rte_lcore_id(void) { return rte_lcore_id(); }

struct rte_mbuf *_rte_pktmbuf_alloc(struct rte_mempool *mp) { return rte_pktmbuf_alloc(mp); }

void _rte_pktmbuf_free(struct rte_mbuf *m) { rte_pktmbuf_free(m); }

int _rte_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned count) {
    return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void _rte_mempool_put_bulk(struct rte_mempool *mp, void *const *objs, unsigned n) {
    rte_mempool_put_bulk(mp, objs, n);
}

uint16_t _rte_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, const uint16_t n) {
    return rte_eth_rx_burst(port, queue, pkts, n);
}

uint16_t _rte_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n) {
    return rte_eth_tx_burst(port, queue, pkts, n);
}

/* The link structure has bit fields and became a union in 24.11: only its values leave this file. */
int cw_link_is_up(uint16_t port, uint32_t *speed_mbps) {
    struct rte_eth_link link = {0};
    int ret = rte_eth_link_get_nowait(port, &link);
    if (ret < 0)
        return ret;
    *speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
    return link.link_status == RTE_ETH_LINK_UP;
}

static ssize_t log_write(void *cookie, const char *text, size_t octets) {
    cw_log_sink sink;
    *(void **)&sink = cookie;
    int level = rte_log_cur_msg_loglevel();
    sink(level < 1 ? RTE_LOG_INFO : (uint32_t)level, text, octets);
    return (ssize_t)octets;
}

int cw_log_to(cw_log_sink sink) {
    cookie_io_functions_t functions = {.write = log_write};
    void *cookie = *(void **)&sink;
    FILE *stream = fopencookie(cookie, "w", functions);
    if (stream == NULL)
        return errno;
    setvbuf(stream, NULL, _IOLBF, BUFSIZ);
    return rte_openlog_stream(stream) == 0 ? 0 : EINVAL;
}

static atomic_uint fanout_cleared;

uint32_t cw_fanout_cleared(void) { return atomic_load(&fanout_cleared); }

/* The driver of AF_PACKET ports asks the kernel to put IPv4 fragments together before it hands frames
 * over, and offers no way not to. A gateway must see what was on the wire, so this setsockopt, which
 * the dynamic linker prefers to the C library's, takes that one flag out of that one option. All else
 * goes to the kernel as it came. */
__attribute__((visibility("default"))) int setsockopt(int fd, int level, int name, const void *value,
                                                      socklen_t octets) {
    if (level == SOL_PACKET && name == PACKET_FANOUT && value != NULL && octets >= sizeof(uint32_t)) {
        uint32_t argument;
        const uint32_t defragment = (uint32_t)PACKET_FANOUT_FLAG_DEFRAG << 16;
        __builtin_memcpy(&argument, value, sizeof(argument));
        if (argument & defragment) {
            /* The option may have grown: what stands behind the first word is not for us to cut. */
            unsigned char copy[64];
            if (octets <= sizeof(copy)) {
                argument &= ~defragment;
                __builtin_memcpy(copy, value, octets);
                __builtin_memcpy(copy, &argument, sizeof(argument));
                int ret = (int)syscall(SYS_setsockopt, fd, level, name, copy, octets);
                if (ret == 0)
                    atomic_fetch_add(&fanout_cleared, 1);
                return ret;
            }
        }
    }
    return (int)syscall(SYS_setsockopt, fd, level, name, value, octets);
}

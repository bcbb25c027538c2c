/* What the Rust side needs of DPDK's headers: inline functions as real ones, values of macros as
 * constants, and offsets of fields, so that the hand-written mbuf can be checked when compiling. */
#ifndef CAUSEWAY_DPDK_SHIM_H
#define CAUSEWAY_DPDK_SHIM_H

#include <stddef.h>
#include <stdint.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* Under the names of DPDK 19.11, which Capsule uses. */
static const uint64_t ETH_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t ETH_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t ETH_RSS_UDP = RTE_ETH_RSS_UDP;
static const uint64_t ETH_RSS_SCTP = RTE_ETH_RSS_SCTP;
static const uint64_t DEV_TX_OFFLOAD_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;

/* Fields that receive-side scaling can hash. */
static const uint64_t CW_RSS_IPV4 = RTE_ETH_RSS_IPV4;
static const uint64_t CW_RSS_FRAG_IPV4 = RTE_ETH_RSS_FRAG_IPV4;
static const uint64_t CW_RSS_NONFRAG_IPV4_TCP = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t CW_RSS_NONFRAG_IPV4_UDP = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
static const uint64_t CW_RSS_NONFRAG_IPV4_OTHER = RTE_ETH_RSS_NONFRAG_IPV4_OTHER;
static const uint64_t CW_RSS_IPV6 = RTE_ETH_RSS_IPV6;
static const uint64_t CW_RSS_FRAG_IPV6 = RTE_ETH_RSS_FRAG_IPV6;
static const uint64_t CW_RSS_NONFRAG_IPV6_TCP = RTE_ETH_RSS_NONFRAG_IPV6_TCP;
static const uint64_t CW_RSS_NONFRAG_IPV6_UDP = RTE_ETH_RSS_NONFRAG_IPV6_UDP;
static const uint64_t CW_RSS_NONFRAG_IPV6_OTHER = RTE_ETH_RSS_NONFRAG_IPV6_OTHER;

/* Offloads of a port. */
static const uint64_t CW_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t CW_RX_OFFLOAD_UDP_CKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t CW_RX_OFFLOAD_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t CW_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t CW_TX_OFFLOAD_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t CW_TX_OFFLOAD_UDP_CKSUM = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t CW_TX_OFFLOAD_TCP_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;

/* Flags of an mbuf. */
static const uint64_t CW_MBUF_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t CW_MBUF_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t CW_MBUF_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t CW_MBUF_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t CW_MBUF_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;

/* Layout of an mbuf, as the compiler of DPDK sees it. */
enum cw_mbuf_layout {
    CW_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
    CW_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
    CW_MBUF_REFCNT = offsetof(struct rte_mbuf, refcnt),
    CW_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
    CW_MBUF_PORT = offsetof(struct rte_mbuf, port),
    CW_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
    CW_MBUF_PACKET_TYPE = offsetof(struct rte_mbuf, packet_type),
    CW_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
    CW_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
    CW_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
    CW_MBUF_HASH = offsetof(struct rte_mbuf, hash),
    CW_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
    CW_MBUF_POOL = offsetof(struct rte_mbuf, pool),
    CW_MBUF_NEXT = offsetof(struct rte_mbuf, next),
    CW_MBUF_OCTETS = sizeof(struct rte_mbuf),
};

/* Inline functions of DPDK. */
int _rte_errno(void);
unsigned _rte_lcore_id(void);
struct rte_mbuf *_rte_pktmbuf_alloc(struct rte_mempool *mp);
void _rte_pktmbuf_free(struct rte_mbuf *m);
int _rte_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned count);
void _rte_mempool_put_bulk(struct rte_mempool *mp, void *const *objs, unsigned n);
uint16_t _rte_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, const uint16_t n);
uint16_t _rte_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);
int cw_link_is_up(uint16_t port, uint32_t *speed_mbps);

/* Gives each line that DPDK logs, with its level (1 worst, 8 least), to the function. 0 or an errno. */
typedef void (*cw_log_sink)(uint32_t level, const char *text, size_t octets);
int cw_log_to(cw_log_sink sink);

/* How many fan-out groups were made without kernel reassembly by the setsockopt of this file. */
uint32_t cw_fanout_cleared(void);

#endif

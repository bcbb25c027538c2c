"""Real tools over NAT64: many connections, large pings both ways, fragmented DNS answers; and what a kill or a
reload leaves behind."""

import collections
import fcntl
import ipaddress
import os
import re
import shutil
import signal
import threading
import time

import gateway as gw
import lab as lab_module
import live as live_lab
import netns
import network as n
import pytest
import tools
from live import counted
from scapy.layers.dns import DNS, DNSRR
from tools import closing

TARGET = n.nat64(n.V4ONLY)
POOL = ipaddress.ip_network(n.POOL4)
OTHER_POOL = "203.0.113.16/28"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    yield from live_lab.labs(tmp_path_factory, "tools")


@pytest.fixture
def live(shared):
    yield shared
    shared.set()


def test_a_thousand_connections_of_curl(live):
    """Each a connection of its own, a hundred at once; each counted once."""
    (n.RUN / "web-inet/www/small").write_bytes(b"x" * 1000)
    with counted(nat64_sessions_created=1000, nat64_mappings_created=1000):
        out = tools.vm1(
            *("curl", "-sS", "--parallel", "--parallel-max", "100", "-H", "Connection: close"),
            *("-o", "/dev/null", "-w", "%{http_code} %{size_download} %{local_port}\n"),
            f"http://[{TARGET}]/small?[1-1000]",
            timeout=120,
        )
    rows = [line.split() for line in out.splitlines()]
    assert len(rows) == 1000 and {(code, size) for code, size, _ in rows} == {("200", "1000")}
    assert len({port for *_, port in rows}) == 1000


@pytest.mark.parametrize("octets", [1452, 1453, 2000, 8000, 65000])
def test_large_pings_out(live, capture, octets):
    """In fragments from where a packet does not fit."""
    capture(n.VM1, "eth0")
    capture(n.INET, "up0")
    with counted(drop_nat64_fragment=0, drop_nat64_fragment_timeout=0):
        tools.ping(n.VM1, TARGET, "-s", octets)


@pytest.mark.parametrize("octets", [56, 1452, 1473, 2000, 8000, 65000])
def test_rfc6146_3_5_3_large_pings_in(live, capture, octets):
    """An IPv4 host pings a mapped identifier: the host behind it answers."""
    capture(n.VM1, "eth0")
    capture(n.INET, "up0")
    identifier = 20000 + octets % 1000
    tools.ping(n.VM1, TARGET, "-e", identifier, count=1)
    address, outside = live_lab.mapping("icmp", identifier)
    out = tools.ping(n.INET, address, "-I", n.CLIENT4, "-e", outside, "-s", octets)
    assert f"bytes from {address}" in out


# --- DNS -------------------------------------------------------------------------------------------


@pytest.fixture
def dns_server():
    """Answers every question over UDP with some 3,000 octets, which IPv4 sends in fragments."""
    sock = tools.udp(n.INET, n.CLIENT4, 53, timeout=0.2)
    texts = [bytes([97 + i]) * 250 for i in range(12)]
    over = threading.Event()

    def serve():
        while not over.is_set():
            try:
                question, peer = sock.recvfrom(4096)
            except TimeoutError:
                continue
            asked = DNS(question)
            name = asked.qd[0].qname
            head = DNS(id=asked.id, qr=1, aa=1, qd=asked.qd[0], an=None)
            head.ancount = len(texts)
            answers = b"".join(bytes(DNSRR(rrname=name, type="TXT", ttl=60, rdata=[t])) for t in texts)
            sock.sendto(bytes(head) + answers, peer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield texts
    over.set()
    thread.join(5)
    sock.close()


def test_dig_gets_a_dns_answer_in_fragments(live, dns_server, capture):
    inside, outside = capture(n.VM1, "eth0"), capture(n.INET, "up0")
    out = tools.vm1(
        *("dig", "-6", "+notcp", "+ignore", "+bufsize=4096", "+tries=1", "+time=3", "+short"),
        f"@{n.nat64(n.CLIENT4)}",
        "big.example",
        "TXT",
    )
    assert {line.strip('"').encode() for line in out.split()} == set(dns_server)
    # Three IPv4 fragments; each is IPv6 of its own, cut once more where it does not fit.
    assert len(outside.packets(f"ip.src == {n.CLIENT4} && (ip.flags.mf == 1 || ip.frag_offset > 0)")) == 3
    assert len(inside.packets("ipv6.fraghdr")) >= 3


# --- what a kill leaves ----------------------------------------------------------------------------


def kill_and_start_again(config):
    """kill -9, and what a service manager would do then."""
    pid, _ = lab_module.read_pid(lab_module.GATEWAY)
    os.kill(pid, signal.SIGKILL)
    tools.wait_until(unlocked, 20, "it is still there")
    lab_module.start_gateway(config)


def unlocked():
    """True once no process, not even one that is dying, has the control socket."""
    with open(f"{n.SOCKET}.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_kill_leaves_no_wrong_mapping(live):
    """What was mapped dynamically is gone: nobody outside reaches anybody by it, until the host that had it
    sends again. What is static is there at once."""
    fixed = f'[[nat64.static]]\nprotocol = "udp"\noutside = "203.0.113.5:7007"\ninside = "[{n.VM2_ADDR}]:7"\n'
    live.set(sections=fixed)
    with closing(
        tools.udp(n.VM1, n.VM1_ADDR, timeout=0.5), tools.udp(n.INET, n.V4ONLY), tools.udp(n.INET, n.CLIENT4)
    ) as (inside, server, stranger):
        to = (TARGET, server.getsockname()[1])
        inside.sendto(b"before", to)
        old = server.recvfrom(10)[1]
        kill_and_start_again(live.path)
        with counted(drop_nat64_no_bib=2, nat64_sessions_created=0):
            server.sendto(b"late answer", old)
            stranger.sendto(b"hello?", old)
        with pytest.raises(TimeoutError):
            inside.recv(100)
        tools.wait_until(lambda: gw.show("mappings", "--static", "--protocol", "udp")["mappings"], 5, "the static mapping is missing")
        stranger.sendto(b"static", ("203.0.113.5", 7007))
        assert stranger.recv(10) == b"static"
        inside.sendto(b"after", to)
        data, new = server.recvfrom(10)
        assert data == b"after" and ipaddress.ip_address(new[0]) in POOL
        server.sendto(b"answer", new)
        assert inside.recv(100) == b"answer"


def test_tcp_over_a_kill_is_reset_or_goes_on_but_never_mixed_up(live):
    """Connections of two hosts: after the kill each gets its own octets or an error, and new ones work."""
    with closing(
        tools.tcp_client(n.VM1, TARGET, n.ECHO_PORT), tools.tcp_client(n.VM2, TARGET, n.ECHO_PORT)
    ) as clients:
        for i, c in enumerate(clients):
            c.sendall(b"%d" % i * 100)
            assert tools.receive_all(c, 100) == b"%d" % i * 100
        kill_and_start_again(live.path)
        for i, c in enumerate(clients):
            c.settimeout(2)
            try:
                c.sendall(b"%d" % i * 100)
                assert tools.receive_all(c, 100) in (b"%d" % i * 100, b"")
            except OSError:
                pass
    tools.curl(n.VM1, f"http://[{TARGET}]/")


# --- reload under traffic --------------------------------------------------------------------------


class Talkers:
    """UDP sockets in the hosts that keep asking an echo server. Each datagram names its socket, so that one
    that went astray is seen."""

    def __init__(self, per_host):
        self.sockets = [
            tools.udp(ns, address, timeout=0.05)
            for ns, address in ((n.VM1, n.VM1_ADDR), (n.VM2, n.VM2_ADDR))
            for _ in range(per_host)
        ]
        self.astray, self.over = [], threading.Event()
        self.sent = self.answered = 0
        self.thread = threading.Thread(target=self.talk, daemon=True)
        self.thread.start()

    def talk(self):
        number = 0
        while not self.over.is_set():
            number += 1
            for s in self.sockets:
                address, port = s.getsockname()[:2]
                try:
                    s.sendto(b"%s %d %d" % (address.encode(), port, number), (TARGET, n.ECHO_PORT))
                    self.sent += 1
                except OSError:
                    continue
            for s in self.sockets:
                address, port = s.getsockname()[:2]
                try:
                    data, peer = s.recvfrom(100)
                except OSError:
                    continue
                self.answered += 1
                if not data.startswith(b"%s %d " % (address.encode(), port)) or peer[:2] != (TARGET, n.ECHO_PORT):
                    self.astray.append((address, port, data, peer))

    def stop(self):
        self.over.set()
        self.thread.join(10)
        for s in self.sockets:
            s.close()


def all_in(pool):
    rows = gw.show("mappings", "--limit", "0", "--protocol", "udp")["mappings"]
    return len(rows) >= 20 and all(ipaddress.ip_address(r["outside"]) in ipaddress.ip_network(pool) for r in rows)


def test_reloads_under_traffic_leave_no_half_translated_flow(live, capture):
    """The pool moves to and fro, the filtering and the ports change: on the wire every packet has an address
    and a port that belong together, and each pair belongs to one host."""
    inside, outside = capture(n.VM1, "eth0", "udp port 7"), capture(n.INET, "up0", "udp port 7")
    pools = [n.POOL4, OTHER_POOL]
    talkers = Talkers(10)
    try:
        for i in range(12):
            replace = [(f'pool = ["{n.POOL4}"]', f'pool = ["{pools[i % 2]}"]')]
            live.set('filtering = "address-and-port-dependent"' if i % 3 else "", replace=replace)
            time.sleep(0.3)
            # Once a reload has been answered no packet leaves by an address that is not in the pool.
            with closing(tools.udp(n.VM1, n.VM1_ADDR), tools.udp(n.INET, n.CLIENT4)) as (one, server):
                one.sendto(b"x", (n.nat64(n.CLIENT4), server.getsockname()[1]))
                assert ipaddress.ip_address(server.recvfrom(10)[1][0]) in ipaddress.ip_network(pools[i % 2])
        # Every flow is judged once in four seconds: in the end all have moved.
        tools.wait_until(lambda: all_in(pools[1]), 12, "some flows stayed behind")
    finally:
        talkers.stop()
    assert talkers.astray == []
    assert talkers.answered > talkers.sent / 2, (talkers.answered, talkers.sent)
    # Outwards: which (address, port) carried which host's octets.
    users, used = collections.defaultdict(set), collections.defaultdict(set)
    networks = [ipaddress.ip_network(p) for p in pools]
    for src, port, payload in outside.packets("udp.dstport == 7", "ip.src", "udp.srcport", "udp.payload"):
        who = tuple(bytes.fromhex(payload.replace(":", "")).split()[:2])
        assert any(ipaddress.ip_address(src) in net for net in networks), src
        users[src, port].add(who)
        used[who].add((src, port))
    assert len(used) == 20
    assert all(len(whose) == 1 for whose in users.values()), {k: v for k, v in users.items() if len(v) > 1}
    for who, pairs in used.items():
        assert len(pairs) >= 2, (who, pairs)
    # Inwards: what arrives at a host is from the server's address under the prefix, and for its own port.
    for src, dst, port, payload in inside.packets(
        "udp.srcport == 7", "ipv6.src", "ipv6.dst", "udp.dstport", "udp.payload"
    ):
        assert (src, dst) == (TARGET, n.VM1_ADDR)
        assert bytes.fromhex(payload.replace(":", "")).split()[1] == port.encode()


@pytest.mark.parametrize("direction", ["out", "in"])
def test_tcp_is_whole_over_fifty_reloads(live, direction, tmp_path):
    """20 MB through a gateway that adopts a plan all the time: not an octet is wrong."""
    source, got = tmp_path / "source", tmp_path / "got"
    source.write_bytes(os.urandom(20_000_000))
    www = n.RUN / "web-inet/www"
    if direction == "in":
        shutil.copy(source, www / "reloaded")
        command = ("-o", got, f"http://[{TARGET}]/reloaded")
    else:
        command = ("-T", source, f"http://[{TARGET}]/upload/reloaded")
    transfer = tools.Background(lambda: tools.vm1("curl", "-sS", "--fail", "--limit-rate", "4M", *command, timeout=120))
    for i in range(50):
        live.set(f"tos = {i}\nmss-clamp = {1000 + i}", limits=f"new-sessions-burst = {i}")
    transfer.result(120)
    if direction == "out":
        got = www / "upload/reloaded"
    assert got.read_bytes() == source.read_bytes()
    assert re.search(r"generation \d+, in use by all", gw.show_text("plan"))

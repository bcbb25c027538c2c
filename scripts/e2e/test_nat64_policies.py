"""NAT64's settings on a live gateway: each is changed by a reload, and seen on the wire."""

import contextlib
import ipaddress
import socket
import time

import gateway as gw
import live as live_lab
import netns
import network as n
import pytest
import tools
from live import counted, drops, echoed, mapping
from tools import closing

TARGET = n.nat64(n.V4ONLY)
IPV6_TCLASS, SO_NO_CHECK, UDP_NO_CHECK6_RX = 67, 11, 102


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    yield from live_lab.labs(tmp_path_factory, "policies")


@pytest.fixture
def live(shared):
    """As the lab's file has it, before and after each test."""
    yield shared
    shared.set()


@pytest.fixture
def wires(capture):
    return capture(n.VM1, "eth0"), capture(n.INET, "up0")


# --- translation -----------------------------------------------------------------------------------

SYN, SYN_ACK = "tcp.flags.syn == 1 && tcp.flags.ack == 0", "tcp.flags.syn == 1 && tcp.flags.ack == 1"


@pytest.mark.parametrize("clamp, to_server, to_client", [(1000, {"1000"}, {"1000"}), (None, {"1440"}, {"1460"})])
def test_the_mss_of_syns_is_lowered_both_ways_if_asked_for(live, wires, clamp, to_server, to_client):
    changed = live.set(f"mss-clamp = {clamp}" if clamp else "")
    assert changed == ({"nat64.mss-clamp"} if clamp else set())
    tools.curl(n.VM1, f"http://[{TARGET}]/")
    inside, outside = wires
    assert {row[0] for row in outside.packets(f"{SYN} && ip.dst == {n.V4ONLY}", "tcp.options.mss_val")} == to_server
    assert {row[0] for row in inside.packets(f"{SYN_ACK} && ipv6.src == {TARGET}", "tcp.options.mss_val")} == to_client
    # What the hosts themselves asked for.
    assert {row[0] for row in inside.packets(f"{SYN} && ipv6.dst == {TARGET}", "tcp.options.mss_val")} == {"1440"}
    assert {row[0] for row in outside.packets(f"{SYN_ACK} && ip.src == {n.V4ONLY}", "tcp.options.mss_val")} == {"1460"}


@pytest.mark.parametrize("policy", ["compute", "drop", "forward"])
def test_rfc7915_4_5_udp_without_a_checksum(live, wires, policy):
    live.set(f'udp-zero-checksum = "{policy}"')
    with closing(tools.udp(n.VM1, n.VM1_ADDR), tools.udp(n.INET, n.V4ONLY)) as (inside, server):
        inside.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_RX, 1)
        inside.sendto(b"open", (TARGET, server.getsockname()[1]))
        mapped = server.recvfrom(10)[1]
        server.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        with counted(drop_nat64_zero_checksum=int(policy == "drop")):
            server.sendto(b"no checksum", mapped)
            if policy == "drop":
                inside.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    inside.recv(100)
            else:
                assert inside.recv(100) == b"no checksum"
    seen_inside, seen_outside = wires
    payload = b"no checksum".hex(":")
    assert {row[0] for row in seen_outside.packets(f"udp.payload == {payload}", "udp.checksum")} == {"0x0000"}
    told = [row[0] for row in seen_inside.packets(f"udp.payload == {payload}", "udp.checksum")]
    assert len(told) == (0 if policy == "drop" else 1)
    if told:
        assert (told[0] == "0x0000") == (policy == "forward")


def test_rfc7915_4_1_and_5_1_the_class_octet_is_copied_or_replaced(live, wires):
    def exchange(payload):
        with closing(tools.udp(n.VM1, n.VM1_ADDR), tools.udp(n.INET, n.V4ONLY)) as (inside, server):
            inside.setsockopt(socket.IPPROTO_IPV6, IPV6_TCLASS, 0xB8)
            server.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x28)
            inside.sendto(payload, (TARGET, server.getsockname()[1]))
            server.sendto(payload, server.recvfrom(100)[1])
            assert inside.recv(100) == payload

    exchange(b"copied")
    assert live.set("tos = 0x10\ntraffic-class = 0x60") == {"nat64.tos", "nat64.traffic-class"}
    exchange(b"replaced")
    inside, outside = wires
    for payload, tos, tclass in ((b"copied", 0xB8, 0x28), (b"replaced", 0x10, 0x60)):
        of = f"udp.payload == {payload.hex(':')}"
        rows = outside.packets(f"{of} && ip.dst == {n.V4ONLY}", "ip.dsfield")
        assert [int(row[0], 16) for row in rows] == [tos]
        rows = inside.packets(f"{of} && ipv6.src == {TARGET}", "ipv6.tclass")
        assert [int(row[0], 16) for row in rows] == [tclass]


@pytest.mark.parametrize("policy, small, large", [("by-size", 0, 1), ("always", 1, 1), ("never", 0, 0)])
def test_rfc7915_5_1_dont_fragment(live, capture, policy, small, large):
    """Up to 1,260 octets of IPv4 are small."""
    outside = capture(n.INET, "up0")
    live.set(f'df = "{policy}"')
    with tools.udp(n.VM1) as s:
        for octets in (1260 - 28, 1261 - 28):
            s.sendto(bytes(octets), (TARGET, n.ECHO_PORT))
            assert len(s.recv(2000)) == octets
    rows = outside.packets(f"udp.dstport == {n.ECHO_PORT} && ip.dst == {n.V4ONLY}", "ip.len", "ip.flags.df", "ip.id")
    flag = {"True": 1, "1": 1, "False": 0, "0": 0}
    assert [(int(length), flag[df]) for length, df, _ in rows] == [(1260, small), (1261, large)]
    # RFC 7915 5.1: what may be fragmented has an Identification.
    assert all(int(number, 16) or flag[df] for _, df, number in rows), rows


# --- mappings --------------------------------------------------------------------------------------


def test_rfc6888_3_req_8_a_port_rests_before_another_host_gets_it(live):
    """One port for all: another host gets it when it has rested, and at once if it need not rest."""
    one = [('pool = ["203.0.113.0/28"]', 'pool = ["203.0.113.4/32"]\nports = "2048-2048"')]
    short = '[nat64.timeouts]\nudp = "1s"\n'
    with closing(tools.udp(n.VM1, timeout=0.5), tools.udp(n.VM2, timeout=0.3)) as (first, second):
        live.set('hold-down = "5s"', sections=short, replace=one)
        assert echoed([first], TARGET)
        gone = ended()
        with counted(drop_nat64_pool_full=1):
            assert not echoed([second], TARGET)
        tools.wait_until(lambda: echoed([second], TARGET), 20, "the port never came back")
        # Ports rest in turns: at least as long as configured, and at most a little over twice.
        assert 4 <= time.monotonic() - gone <= 16
        assert live.set('hold-down = "off"', sections=short, replace=one) == {"nat64.hold-down"}
        ended()
        assert echoed([first], TARGET)


def ended():
    """Waits until there is no UDP mapping; when that was."""
    def none():
        return not gw.show("mappings", "--protocol", "udp")["mappings"]

    tools.wait_until(none, 15, "mappings did not expire")
    return time.monotonic()


@pytest.mark.parametrize("keep", ["true", "false"])
def test_rfc4787_4_2_2_udp_ports_keep_their_parity_if_asked_for(live, keep):
    live.set(f"keep-parity = {keep}")
    sockets = [tools.udp(n.VM1, n.VM1_ADDR) for _ in range(32)]
    with closing(*sockets, tools.udp(n.INET, n.V4ONLY)) as (*sockets, server):
        same = 0
        for s in sockets:
            s.sendto(b"x", (TARGET, server.getsockname()[1]))
            same += (server.recvfrom(10)[1][1] - s.getsockname()[1]) % 2 == 0
    # (By chance all of them once in four thousand million runs.)
    assert (same == 32) == (keep == "true"), same


# (filtering, another address gets in, another port of the same address gets in)
FILTERINGS = [
    ("endpoint-independent", True, True),
    ("address-dependent", False, True),
    ("address-and-port-dependent", False, False),
]


@pytest.mark.parametrize("filtering, other_address, other_port", FILTERINGS)
def test_rfc4787_5_who_may_answer(live, filtering, other_address, other_port):
    live.set(f'filtering = "{filtering}"')
    with closing(
        tools.udp(n.VM1, n.VM1_ADDR, timeout=0.4),
        tools.udp(n.INET, n.V4ONLY),
        tools.udp(n.INET, n.V4ONLY),
        tools.udp(n.INET, n.CLIENT4),
    ) as (inside, server, port, address):
        inside.sendto(b"open", (TARGET, server.getsockname()[1]))
        mapped = server.recvfrom(10)[1]
        refused = (not other_address) + (not other_port)
        with counted(drop_nat64_filtered=refused):
            for who, gets_in in ((server, True), (port, other_port), (address, other_address)):
                text = b"from %d" % who.getsockname()[1]
                who.sendto(text, mapped)
                if gets_in:
                    assert inside.recv(100) == text
                else:
                    with pytest.raises(TimeoutError):
                        inside.recv(100)
        # Whoever is sent to gets in, whatever the filtering.
        inside.sendto(b"you too", (n.nat64(n.CLIENT4), address.getsockname()[1]))
        assert address.recvfrom(10) == (b"you too", mapped)
        address.sendto(b"thanks", mapped)
        assert inside.recv(10) == b"thanks"


def test_filtering_changes_for_flows_that_are_there(live):
    """A stranger who got in under the old setting goes on as a flow; a new one is kept out."""
    with closing(
        tools.udp(n.VM1, n.VM1_ADDR, timeout=0.4),
        tools.udp(n.INET, n.V4ONLY),
        tools.udp(n.INET, n.CLIENT4),
        tools.udp(n.INET, n.RESOLVER),
    ) as (inside, server, early, late):
        inside.sendto(b"open", (TARGET, server.getsockname()[1]))
        mapped = server.recvfrom(10)[1]
        early.sendto(b"early", mapped)
        assert inside.recv(10) == b"early"
        assert live.set('filtering = "address-and-port-dependent"') == {"nat64.filtering"}
        early.sendto(b"again", mapped)
        assert inside.recv(10) == b"again"
        before = drops("nat64-filtered")
        late.sendto(b"late", mapped)
        tools.wait_until(lambda: drops("nat64-filtered") == before + 1)
        inside.sendto(b"same port", (TARGET, server.getsockname()[1]))
        assert server.recvfrom(10) == (b"same port", mapped)


def test_tcp_goes_on_while_every_setting_changes(live):
    """An established connection keeps its mapping and its octets through a reload of each setting."""
    with tools.tcp_client(n.VM1, TARGET, n.ECHO_PORT) as s:
        port = s.getsockname()[1]
        s.sendall(b"0")
        assert s.recv(1) == b"0"
        at_first = mapping("tcp", port)
        for i, keys in enumerate(
            [
                'hold-down = "off"',
                "keep-parity = false",
                "tos = 0",
                "traffic-class = 8",
                'df = "never"',
                'udp-zero-checksum = "forward"',
                "mss-clamp = 1220",
                "identify-routers = false",
                'icmp-source = "192.0.2.77"',
                'filtering = "address-dependent"',
                'filtering = "address-and-port-dependent"',
                "lowest-ipv6-mtu = 1400",
                'ports = "30000-40000"',
            ]
        ):
            assert live.set(keys), keys
            s.sendall(b"%d " % i)
            assert tools.receive_all(s, len(b"%d " % i)) == b"%d " % i, keys
            assert mapping("tcp", port) == at_first, keys


# --- routers inside (RFC 6791, RFC 5837) -----------------------------------------------------------

DEEP, DEEP_NET, DEEP_ADDR, DEEP_ROUTER = "cw-deep", "2001:db8:64:1::/64", "2001:db8:64:1::10", "2001:db8:64:1::1"
INWARDS = [
    ('role = "tenant"', f'role = "tenant"\nsources = ["{DEEP_NET}"]'),
    ("[nat64]\n", f'[[route]]\nprefix = "{DEEP_NET}"\nvia = "{n.VM1_ADDR}"\n\n[nat64]\n'),
]


@pytest.fixture(scope="module")
def deep(shared):
    """cw-deep behind vm1, which is a router; the link between them carries 1300 octets."""
    netns.run("ip", "netns", "add", DEEP)
    try:
        netns.sysctl(DEEP, {"net.ipv6.conf.default.accept_dad": 0, "net.ipv6.conf.default.accept_ra": 0})
        netns.veth(n.VM1, "deep0", "02:00:00:00:08:01", DEEP, "eth0", "02:00:00:00:08:02")
        for ns, dev, address in ((n.VM1, "deep0", DEEP_ROUTER), (DEEP, "eth0", DEEP_ADDR)):
            netns.run("ip", "-n", ns, "link", "set", dev, "mtu", "1300", "up")
            netns.run("ip", "-n", ns, "address", "add", f"{address}/64", "dev", dev, "nodad")
        netns.run("ip", "-n", DEEP, "link", "set", "lo", "up")
        netns.run("ip", "-n", DEEP, "route", "add", "default", "via", DEEP_ROUTER)
        # A router keeps the default route that it was advertised only if told to (2).
        netns.sysctl(n.VM1, {"net.ipv6.conf.eth0.accept_ra": 2})
        netns.sysctl(n.VM1, {"net.ipv6.conf.all.forwarding": 1, "net.ipv6.icmp.ratelimit": 0})
        yield DEEP
    finally:
        netns.sysctl(n.VM1, {"net.ipv6.conf.all.forwarding": 0, "net.ipv6.icmp.ratelimit": 1000})
        netns.sysctl(n.VM1, {"net.ipv6.conf.eth0.accept_ra": 1})
        netns.run("ip", "-n", n.VM1, "link", "del", "deep0", check=False)
        netns.run("ip", "netns", "del", DEEP, check=False)
        tools.flush_route_caches()


@contextlib.contextmanager
def reached_from_outside(ns, address):
    """A UDP socket of a host inside, and where it is reached from outside. Nobody knows a path MTU."""
    tools.flush_route_caches()
    with closing(tools.udp(ns, address), tools.udp(n.INET, n.V4ONLY)) as (inside, server):
        inside.sendto(b"open", (TARGET, server.getsockname()[1]))
        yield inside, server.recvfrom(10)[1]


def hops(address, port):
    """Addresses of the hops from an IPv4 host to a mapped UDP port."""
    command = ["traceroute", "-4", "-n", "-q", "1", "-w", "2", "-m", "5", "-s", n.CLIENT4, "-U", "-p", str(port)]
    out = netns.ns_run(n.INET, *command, address).stdout
    return [line.split()[1] for line in out.splitlines()[1:]]


@pytest.mark.parametrize(
    "keys, router, named",
    [
        ("", n.GW_UPLINK4, [n.VM1_ADDR]),
        ('icmp-source = "192.0.2.77"', "192.0.2.77", [n.VM1_ADDR]),
        ('icmp-source = "192.0.2.77"\nidentify-routers = false', "192.0.2.77", []),
    ],
    ids=["gateway's address", "configured address", "not named"],
)
def test_rfc6791_and_rfc5837_traceroute_from_ipv4_names_ipv6_routers(live, deep, capture, keys, router, named):
    outside = capture(n.INET, "up0")
    live.set(keys, replace=INWARDS)
    with reached_from_outside(deep, DEEP_ADDR) as (inside, (address, port)):
        # Nobody listens any more, so that the last hop says so.
        inside.close()
        assert hops(address, port) == [n.GW_UPLINK4, router, address]
    # RFC 5837 4: class 2. The gateway's own error is about no translated packet, and names nobody.
    rows = outside.packets("icmp.type == 11", "icmp.ext.class", "icmp.int_info.ipv6")
    assert [name for _, name in rows if name] == named, rows
    assert [c for c, _ in rows if c] == ["2"] * len(named), rows


def test_rfc7915_5_2_path_mtu_from_ipv4_is_discovered(live, deep, capture):
    """Packet Too Big of a router inside becomes Fragmentation Needed, 20 octets less."""
    outside = capture(n.INET, "up0")
    live.set(replace=INWARDS)
    with (
        reached_from_outside(deep, DEEP_ADDR) as (inside, (address, port)),
        tools.udp(n.INET, n.CLIENT4) as far,
    ):
        far.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
        far.connect((address, port))
        far.send(bytes(1400))

        def refused():
            try:
                far.send(bytes(1400))
            except OSError as e:
                return e.errno == 90  # EMSGSIZE
            return False

        tools.wait_until(refused, 3, "the sender never heard of the small MTU")
        assert far.getsockopt(socket.IPPROTO_IP, 14) == 1280  # IP_MTU

        def fits():
            # (Errors about the packets before are told first.)
            with contextlib.suppress(OSError):
                return far.send(bytes(1280 - 28))

        tools.wait_until(fits, 3)
        assert len(inside.recv(2000)) == 1280 - 28
    assert {row[0] for row in outside.packets("icmp.type == 3 && icmp.code == 4", "icmp.mtu")} == {"1280"}


def test_rfc7915_4_packets_without_df_are_fragmented_for_ipv6(live, deep, capture):
    """1,400 octets without DF come through a link of 1,300, cut at the lowest IPv6 MTU."""
    inside_wire = capture(deep, "eth0")
    live.set(replace=INWARDS)
    with (
        reached_from_outside(deep, DEEP_ADDR) as (inside, mapped),
        tools.udp(n.INET, n.CLIENT4) as far,
    ):
        far.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER, IP_PMTUDISC_DONT
        sent = bytes(range(200)) * 7
        far.sendto(sent, mapped)
        assert inside.recv(2000) == sent
    fragments = inside_wire.packets("ipv6.fraghdr", "ipv6.plen")
    assert len(fragments) == 2 and all(int(plen) + 40 <= 1280 for (plen,) in fragments), fragments
    assert ipaddress.ip_address(mapped[0]) in ipaddress.ip_network(n.POOL4)

"""NAT64 with real programs and sockets: tenants reach the IPv4 Internet, and get answers.

Captures on both sides are checked for malformed packets and bad checksums.
"""

import hashlib
import ipaddress
import json
import os
import re
import socket

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

import gateway as gw
import network as n
import servers
import tools
from tools import closing

pytestmark = pytest.mark.usefixtures("lab")

TARGET = n.nat64(n.V4ONLY)
POOL = ipaddress.ip_network(n.POOL4)

# The IPv6 packet of a UDP datagram is 48 octets longer: this is the largest in one packet of 1500.
LARGEST = 1500 - 48


@pytest.fixture(autouse=True)
def both_sides(request):
    """Most tests are captured on both sides; those that move much data are not."""
    if "uncaptured" in request.keywords:
        yield
        return
    capture = request.getfixturevalue("capture")
    yield capture(n.VM1, "eth0"), capture(n.INET, "up0")


@pytest.mark.parametrize("octets", [0, 1, 7, 8, 56, 255, 1024, LARGEST])
def test_ping_of_any_size(octets):
    tools.ping(n.VM1, TARGET, "-s", octets)


def test_ping_from_two_hosts_with_the_same_identifier():
    """The gateway keeps ICMP queries apart by what it maps their identifiers to."""
    tools.ping(n.VM1, TARGET, "-e", 4711)
    tools.ping(n.VM2, TARGET, "-e", 4711)


def test_the_server_sees_an_address_of_the_pool(both_sides):
    seen, _, server = tools.curl(n.VM1, f"http://[{TARGET}]/whoami").split()
    assert ipaddress.ip_address(seen) in POOL
    assert server == n.V4ONLY
    inside, outside = both_sides
    assert {row[0] for row in inside.packets("tcp.dstport == 80", "ipv6.dst")} == {TARGET}
    assert {row[0] for row in outside.packets("tcp.dstport == 80", "ip.src")} == {seen}


def test_curl_gets_the_page():
    assert tools.curl(n.VM1, f"http://[{TARGET}]/") == servers.page("inet")


def test_wget_gets_the_page():
    assert tools.vm1("wget", "-q", "-T", "10", "-t", "1", "-O", "-", f"http://[{TARGET}]/") == servers.page(
        "inet"
    )


def test_ssh_runs_a_command():
    options = ["-i", n.RUN / "client_key", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]
    options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5"]
    seen = tools.vm1("ssh", *options, f"root@{TARGET}", "echo $SSH_CONNECTION").split()
    assert ipaddress.ip_address(seen[0]) in POOL and seen[2] == n.V4ONLY


def test_udp_of_every_size(both_sides):
    """Each size from nothing to the MTU comes back unchanged, with good checksums on both sides."""
    with tools.udp(n.VM1) as s:
        s.connect((TARGET, n.ECHO_PORT))
        for octets in [*range(0, 130), *range(130, LARGEST, 61), LARGEST - 1, LARGEST]:
            sent = os.urandom(octets)
            s.send(sent)
            assert s.recv(2048) == sent, f"{octets} octets"
    inside, outside = both_sides
    assert len(outside.packets(f"udp.dstport == {n.ECHO_PORT}")) == len(
        inside.packets(f"udp.dstport == {n.ECHO_PORT}")
    )


def test_rfc768_a_checksum_that_computes_to_zero_is_sent_as_ones(both_sides):
    """In each direction: the one payload of two octets for which the translated checksum is zero."""
    with closing(tools.udp(n.VM1, n.VM1_ADDR), tools.udp(n.INET, n.V4ONLY, 9010)) as (inside, server):
        inside.sendto(b"first", (TARGET, 9010))
        mapped = server.recvfrom(10)[1]
        port = inside.getsockname()[1]
        out = zero_making(IP(src=mapped[0], dst=n.V4ONLY) / UDP(sport=mapped[1], dport=9010))
        inside.sendto(out, (TARGET, 9010))
        assert server.recvfrom(10)[0] == out
        back = zero_making(IPv6(src=TARGET, dst=n.VM1_ADDR) / UDP(sport=9010, dport=port))
        server.sendto(back, mapped)
        # A host does not take an IPv6 datagram with a checksum of zero (RFC 8200 8.1).
        assert inside.recvfrom(10)[0] == back
    for capture, payload in ((both_sides[1], out), (both_sides[0], back)):
        assert capture.packets(f"udp.payload == {payload.hex(':')} && udp.checksum == 0xffff")
        assert capture.packets("udp.checksum == 0") == []


def zero_making(datagram):
    """The two octets of payload with which the checksum of the datagram is zero: its checksum without."""
    return bytes(datagram.__class__(bytes(datagram / b"\0\0"))[UDP])[6:8]


@pytest.mark.uncaptured
@pytest.mark.parametrize("direction", ["up", "down"])
def test_20_megabytes_over_tcp(direction, tmp_path):
    source = os.urandom(20_000_000)
    wanted = hashlib.sha256(source).hexdigest()
    www = n.RUN / "web-inet/www"
    if direction == "down":
        (www / "big").write_bytes(source)
        tools.curl(n.VM1, f"http://[{TARGET}]/big", "-o", tmp_path / "big", "--max-time", 120)
        got = tmp_path / "big"
    else:
        (tmp_path / "big").write_bytes(source)
        tools.curl(n.VM1, f"http://[{TARGET}]/upload/big", "-T", tmp_path / "big", "--max-time", 120)
        got = www / "upload/big"
    assert hashlib.sha256(got.read_bytes()).hexdigest() == wanted
    got.unlink()


def test_tcp_both_ways_at_once_and_half_close():
    sent = os.urandom(2_000_000)
    with tools.tcp_client(n.VM1, TARGET, n.ECHO_PORT) as s:
        reader = tools.Background(tools.receive_all, s)
        s.sendall(sent)
        s.shutdown(socket.SHUT_WR)
        assert reader.result() == sent


def test_tcp_reset_comes_through():
    """Nobody listens: the refusal of the IPv4 host reaches the IPv6 host."""
    with pytest.raises(ConnectionRefusedError):
        tools.tcp_client(n.VM1, TARGET, 4)


def test_200_connections_at_once():
    """Each has an outside port of its own, and none gets another's octets."""
    count = 200
    server = tools.tcp_server(n.INET, n.V4ONLY, 9011)
    server.listen(count)

    def accept():
        return [server.accept() for _ in range(count)]

    accepted = tools.Background(accept)
    with closing(
        server, *[tools.tcp_client(n.VM1 if i % 2 else n.VM2, TARGET, 9011) for i in range(count)]
    ) as (_, *clients):
        peers = accepted.result()
        assert len({peer for _, peer in peers}) == count
        assert {ipaddress.ip_address(address) for _, (address, _) in peers} <= set(POOL)
        for conn, (address, port) in peers:
            conn.sendall(f"{address} {port}\n".encode())
        told = {tools.receive_line(c) for c in clients}
        assert told == {f"{address} {port}\n".encode() for _, (address, port) in peers}
        for conn, _ in peers:
            conn.close()


@pytest.mark.uncaptured
@pytest.mark.parametrize(
    "options", [[], ["-R"], ["-u", "-b", "20M", "-l", "1200"]], ids=["tcp", "tcp-reverse", "udp"]
)
def test_iperf3(options):
    out = tools.vm1("iperf3", "-6", "-c", TARGET, "-p", n.IPERF_PORT, "-t", "2", "-J", *options)
    end = json.loads(out)["end"]
    if "-u" in options:
        assert end["sum"]["packets"] > 0
        assert end["sum"]["lost_percent"] < 5, end["sum"]
    else:
        assert end["sum_received"]["bytes"] > 1_000_000


def test_rfc6146_3_5_1_mappings_are_endpoint_independent():
    """One inside address and port is one outside address and port, whoever it talks to."""
    with closing(
        tools.udp(n.VM1, n.VM1_ADDR), tools.udp(n.INET, n.V4ONLY, 9001), tools.udp(n.INET, n.RESOLVER, 9002)
    ) as (inside, a, b):
        inside.sendto(b"a", (TARGET, 9001))
        inside.sendto(b"b", (n.nat64(n.RESOLVER), 9002))
        seen_a, seen_b = a.recvfrom(10)[1], b.recvfrom(10)[1]
        assert seen_a == seen_b
        assert ipaddress.ip_address(seen_a[0]) in POOL


def test_rfc6146_3_5_1_a_mapping_lets_others_in():
    """Filtering is endpoint-independent by default: a third host may use an existing mapping."""
    with closing(
        tools.udp(n.VM1, n.VM1_ADDR), tools.udp(n.INET, n.V4ONLY, 9003), tools.udp(n.INET, n.CLIENT4, 9004)
    ) as (inside, a, third):
        inside.sendto(b"open", (TARGET, 9003))
        mapped = a.recvfrom(10)[1]
        third.sendto(b"from the third", mapped)
        data, peer = inside.recvfrom(100)
        assert (data, peer[0], peer[1]) == (b"from the third", n.nat64(n.CLIENT4), 9004)
        inside.sendto(b"back", peer[:2])
        assert third.recvfrom(100) == (b"back", mapped)


def test_rfc6146_3_8_hairpinning_between_two_tenants():
    """vm2 reaches vm1 by vm1's outside address, and sees vm1 answer from there."""
    with closing(
        tools.udp(n.VM1, n.VM1_ADDR), tools.udp(n.VM2, n.VM2_ADDR), tools.udp(n.INET, n.V4ONLY, 9005)
    ) as (one, two, server):
        one.sendto(b"open", (TARGET, 9005))
        mapped = server.recvfrom(10)[1]
        two.sendto(b"over the hair pin", (n.nat64(mapped[0]), mapped[1]))
        data, peer = one.recvfrom(100)
        assert data == b"over the hair pin"
        assert ipaddress.ip_address(peer[0]) in ipaddress.ip_network(f"{n.NAT64_PREFIX}/96")
        one.sendto(b"and back", peer[:2])
        data, peer = two.recvfrom(100)
        assert (data, peer[0], peer[1]) == (b"and back", n.nat64(mapped[0]), mapped[1])


@pytest.mark.uncaptured
def test_an_address_of_the_pool_without_mapping_is_closed():
    with tools.udp(n.INET, n.CLIENT4, 9006) as s:
        before = gw.drops()
        s.sendto(b"?", ("203.0.113.7", 1))
        tools.wait_until(lambda: gw.drops().get("nat64-no-bib", 0) == before.get("nat64-no-bib", 0) + 1)


def test_a_closed_udp_port_is_reported_to_the_sender():
    """RFC 7915 4.2: ICMPv4 Port Unreachable becomes ICMPv6 Port Unreachable about the sender's packet."""
    with tools.udp(n.VM1) as s:
        s.connect((TARGET, 3))
        s.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            s.recv(10)


def traceroute(address, *options):
    """Addresses of the hops."""
    out = tools.vm1("traceroute", "-6", "-n", "-q", "1", "-w", "2", "-m", "6", *options, address)
    return [m.group(1) if (m := re.match(r"\s*\d+\s+(\S+)", line)) else line for line in out.splitlines()[1:]]


@pytest.mark.parametrize("options", [[], ["-I"]], ids=["udp", "icmp"])
def test_traceroute_shows_the_gateway_and_the_server(options):
    assert traceroute(TARGET, *options) == [n.GW_TENANT, TARGET]


@pytest.mark.parametrize("options", [[], ["-I"]], ids=["udp", "icmp"])
def test_traceroute_shows_ipv4_routers_in_their_ipv6_form(far_host, options):
    """RFC 7915 4.2: Time Exceeded of an IPv4 router comes from its address under the prefix."""
    target = n.nat64(tools.FAR4)
    assert traceroute(target, *options) == [n.GW_TENANT, n.nat64(n.INET_UP4), target]


def test_a_small_mtu_behind_the_gateway_is_discovered(far_host, both_sides):
    """RFC 7915 4.2: Fragmentation Needed becomes Packet Too Big, 20 octets larger."""
    target = n.nat64(tools.FAR4)
    server = tools.tcp_server(far_host, tools.FAR4, 9007)
    sent = os.urandom(300_000)

    def serve():
        conn, _ = server.accept()
        with conn:
            return tools.receive_all(conn)

    with server:
        received = tools.Background(serve)
        with tools.tcp_client(n.VM1, target, 9007) as s:
            s.sendall(sent)
        assert received.result() == sent
    # The far end offered an MSS that fits its own link, so TCP may never have met the limit; UDP does.
    with tools.udp(n.VM1) as s:
        s.setsockopt(socket.IPPROTO_IPV6, 23, 2)  # IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO
        s.connect((target, n.ECHO_PORT))
        s.send(bytes(1440))
        tools.wait_until(lambda: too_big(s), 3, "the sender never heard of the small MTU")
        assert s.getsockopt(socket.IPPROTO_IPV6, 24) == 1420  # IPV6_MTU
    inside, _ = both_sides
    assert {row[0] for row in inside.packets("icmpv6.type == 2", "icmpv6.mtu")} == {"1420"}


def too_big(sock):
    try:
        sock.send(bytes(1440))
    except OSError as e:
        return e.errno == 90  # EMSGSIZE
    return False


def test_sessions_are_listed_with_their_addresses():
    with tools.tcp_client(n.VM1, TARGET, n.ECHO_PORT) as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        port = s.getsockname()[1]
        mine = [
            r for r in gw.sessions("--protocol", "tcp", "--source", n.VM1_ADDR) if r["inside_port"] == port
        ]
        assert len(mine) == 1
        row = mine[0]
        assert (row["protocol"], row["inside"]) == ("tcp", n.VM1_ADDR)
        assert (row["remote"], row["remote_port"]) == (n.V4ONLY, n.ECHO_PORT)
        assert ipaddress.ip_address(row["outside"]) in POOL
        assert row["state"] == "ESTABLISHED"
        # RFC 6146 4: two hours and four minutes.
        assert 7430 <= row["expires_s"] <= 7440
        text = gw.show_text("sessions", "--limit", "0")
        assert any(f"{n.VM1_ADDR}]:{port} " in line for line in text.splitlines()), text

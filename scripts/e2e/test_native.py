"""Native IPv6 through the gateway: forwarding, hop limits, path MTU, errors."""

import os
import socket

import pytest
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether

import gateway as gw
import netns
import network as n
import servers
import tools
from test_nat64 import too_big, traceroute

pytestmark = pytest.mark.usefixtures("lab")


@pytest.mark.parametrize("octets", [0, 1, 56, 1000, 1452])
def test_ping_out(capture, octets):
    capture(n.VM1, "eth0"), capture(n.INET, "up0")
    tools.ping(n.VM1, n.V6ONLY, "-s", octets)


def test_ping_in(capture):
    """Tenants are reachable from the Internet (the lab's network is open)."""
    capture(n.INET, "up0")
    tools.ping(n.INET, n.VM1_ADDR)
    tools.ping(n.INET, n.VM2_ADDR)


def test_curl_both_ways(capture):
    capture(n.VM1, "eth0"), capture(n.INET, "up0")
    assert tools.curl(n.VM1, f"http://[{n.V6ONLY}]/") == servers.page("inet")
    assert tools.curl(n.INET, f"http://[{n.VM1_ADDR}]/") == servers.page("vm1")
    # Nothing is translated: each end sees the other's own address.
    assert tools.curl(n.VM1, f"http://[{n.V6ONLY}]/whoami").split()[0] == n.VM1_ADDR


def test_forwarding_changes_the_hop_limit_and_nothing_else(quiet):
    """RFC 8200 3: the hop limit is one less; everything else, unknown options included, is the same."""
    tools.ping(n.VM1, n.V6ONLY)
    # Next header 59, nothing: the destination says nothing about it either.
    packet = IPv6(src=n.VM1_ADDR, dst=n.V6ONLY, hlim=17, tc=0xB8, fl=0xABCDE, nh=59) / os.urandom(77)
    got = quiet.exchange(("tenant", Ether(src=n.VM1_MAC, dst=n.VRRP_MAC6) / packet))
    assert got.counters == {"forwarded6": 1}
    link = bytes(Ether(src=n.VRRP_MAC6, dst=n.INET_MAC, type=0x86DD))
    assert got.out == [("uplink", link + bytes(packet)[:7] + bytes([16]) + bytes(packet)[8:])]


def test_the_flow_of_a_fragmented_packet_passes_unchanged():
    """RFC 8200 4.5: only hosts fragment and reassemble; the gateway forwards fragments as they are."""
    tools.ping(n.VM1, n.V6ONLY, "-s", 4000)
    tools.ping(n.INET, n.VM1_ADDR, "-s", 4000)


@pytest.mark.parametrize("options", [[], ["-I"], ["-T", "-p", "80"]], ids=["udp", "icmp", "tcp"])
def test_traceroute_shows_the_gateway(options):
    assert traceroute(n.V6ONLY, *options) == [n.GW_TENANT, n.V6ONLY]


def test_traceroute_shows_a_further_router(far_host):
    assert traceroute(tools.FAR6) == [n.GW_TENANT, n.INET_UP6, tools.FAR6]


def test_traceroute_from_outside_shows_the_uplink_address():
    out = netns.ns_run(n.INET, "traceroute", "-6", "-n", "-q", "1", "-w", "2", "-m", "4", n.VM1_ADDR).stdout
    hops = [line.split()[1] for line in out.splitlines()[1:]]
    assert hops == [n.GW_UPLINK6, n.VM1_ADDR]


def test_rfc8201_path_mtu_of_a_further_router_is_discovered(far_host, capture):
    """Packet Too Big of a router behind the gateway reaches the sender, and TCP goes on."""
    inside = capture(n.VM1, "eth0")
    with tools.udp(n.VM1) as s:
        s.setsockopt(socket.IPPROTO_IPV6, 23, 2)  # IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO
        s.connect((tools.FAR6, 9))
        s.send(bytes(1440))
        tools.wait_until(lambda: too_big(s), 3, "the sender never heard of the small MTU")
        assert s.getsockopt(socket.IPPROTO_IPV6, 24) == 1400  # IPV6_MTU
    assert {tuple(row) for row in inside.packets("icmpv6.type == 2", "ipv6.src", "icmpv6.mtu")} == {
        (f"{n.INET_UP6},{n.VM1_ADDR}", "1400")
    }


def test_rfc4443_3_3_hop_limit_one_is_answered_with_time_exceeded(quiet):
    tools.ping(n.VM1, n.V6ONLY)
    packet = IPv6(src=n.VM1_ADDR, dst=n.V6ONLY, hlim=1) / ICMPv6EchoRequest(id=1, seq=1, data=b"x" * 40)
    got = quiet.exchange(("tenant", Ether(src=n.VM1_MAC, dst=n.VRRP_MAC6) / packet))
    assert got.counters == {"drop.hop-limit": 1, "icmp-errors-sent": 1}
    error = [Ether(f)[IPv6] for side, f in got.out if side == "tenant" and f[20] == 58 and f[54] == 3]
    assert len(error) == 1
    assert (error[0].src, error[0].dst) == (n.GW_TENANT, n.VM1_ADDR)
    # As much of the packet as fits: here all of it.
    assert bytes(error[0])[48:] == bytes(packet)


def test_an_unreachable_host_of_the_tenant_network_is_reported(capture):
    """RFC 4443 3.1 code 3: the address does not answer Neighbor Discovery."""
    capture(n.INET, "up0")
    before = gw.counters()
    out = netns.ns_run(n.INET, "ping", "-n", "-c", "2", "-W", "5", "2001:db8:64::dead", check=False).stdout
    assert f"From {n.GW_UPLINK6}" in out and "Address unreachable" in out, out
    after = gw.counters()
    assert after.get("drop.next-hop-unreachable", 0) > before.get("drop.next-hop-unreachable", 0)


def test_tenants_reach_each_other_natively():
    tools.ping(n.VM1, n.VM2_ADDR)


@pytest.mark.parametrize("address", ["2001:db8:64:1::1", "2001:db8:64:8000::1"])
def test_an_unused_part_of_the_routed_prefix_does_not_loop(address):
    """cw-inet routes the whole /48 to the gateway, whose default route leads back: a loop unless the
    gateway has no route for what nobody uses."""
    before = gw.counters()
    out = netns.ns_run(n.INET, "ping", "-n", "-c", "1", "-W", "2", address, check=False).stdout
    assert "Time exceeded" not in out, "the packet went round and round"
    assert gw.counters().get("forwarded6", 0) - before.get("forwarded6", 0) < 5

"""The gateway's own addresses: ARP, Neighbor Discovery, echo, and what it does not answer."""

import json
import os

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether

import gateway as gw
import netns
import network as n
import tools

pytestmark = pytest.mark.usefixtures("lab")

BROADCAST = "ff:ff:ff:ff:ff:ff"


def solicited_node(address):
    """Group and its MAC address (RFC 4291 2.7.1, RFC 2464 7)."""
    import ipaddress

    low = int(ipaddress.IPv6Address(address)) & 0xFFFFFF
    group = str(ipaddress.IPv6Address(int(ipaddress.IPv6Address("ff02::1:ff00:0")) | low))
    return group, f"33:33:ff:{low >> 16:02x}:{low >> 8 & 255:02x}:{low & 255:02x}"


def solicitation(target, source=n.VM1_ADDR, mac=n.VM1_MAC, hop_limit=255, **kw):
    group, group_mac = solicited_node(target)
    return (
        Ether(src=mac, dst=group_mac)
        / IPv6(src=source, dst=group, hlim=hop_limit)
        / ICMPv6ND_NS(tgt=target, **kw)
        / ICMPv6NDOptSrcLLAddr(lladdr=mac)
    )


def arp(target, source=n.INET_UP4, mac=n.INET_MAC, **kw):
    return Ether(src=mac, dst=BROADCAST) / ARP(op=1, hwsrc=mac, psrc=source, pdst=target, **kw)


@pytest.mark.parametrize("address", [n.GW_TENANT, n.GW_TENANT_LL + "%eth0"])
@pytest.mark.parametrize("octets", [0, 56, 1452])
def test_echo_on_the_tenant_side(address, octets, capture):
    capture(n.VM1, "eth0")
    tools.ping(n.VM1, address, "-s", octets)


@pytest.mark.parametrize("address", [n.GW_UPLINK4, n.GW_UPLINK6])
@pytest.mark.parametrize("octets", [0, 56, 1452])
def test_echo_on_the_uplink(address, octets, capture):
    capture(n.INET, "up0")
    tools.ping(n.INET, address, "-s", octets)


def test_the_tenant_address_answers_from_outside_and_the_uplink_address_from_inside():
    tools.ping(n.INET, n.GW_TENANT)
    tools.ping(n.VM1, n.GW_UPLINK6)


@pytest.mark.parametrize("target", [n.GW_TENANT, n.GW_TENANT_LL])
def test_rfc4861_7_2_4_solicitations_are_answered(quiet, target):
    tools.ping(n.VM1, n.GW_TENANT)
    got = quiet.exchange(("tenant", solicitation(target)))
    assert got.counters == {"ns-answered": 1}
    ((side, frame),) = got.out
    answer = Ether(frame)
    assert side == "tenant" and answer.src == n.VRRP_MAC6 and answer.dst == n.VM1_MAC
    assert (answer[IPv6].src, answer[IPv6].dst, answer[IPv6].hlim) == (target, n.VM1_ADDR, 255)
    na = answer[ICMPv6ND_NA]
    assert (na.tgt, na.R, na.S, na.O) == (target, 1, 1, 1)
    assert answer[ICMPv6NDOptDstLLAddr].lladdr == n.VRRP_MAC6


def test_rfc4862_5_4_3_a_probe_for_our_address_is_answered_to_all_nodes(quiet):
    """A host that wants to take the gateway's address is told, at the all-nodes group, not to."""
    group, group_mac = solicited_node(n.GW_TENANT)
    probe = (
        Ether(src=n.VM1_MAC, dst=group_mac)
        / IPv6(src="::", dst=group, hlim=255)
        / ICMPv6ND_NS(tgt=n.GW_TENANT)
    )
    got = quiet.exchange(("tenant", probe))
    assert got.counters == {"ns-answered": 1, "address-conflicts": 1}
    answer = Ether(got.out[0][1])
    assert answer.dst == "33:33:00:00:00:01" and answer[IPv6].dst == "ff02::1"
    assert (answer[ICMPv6ND_NA].R, answer[ICMPv6ND_NA].S) == (1, 0)


def test_solicitations_for_others_are_not_answered(quiet):
    got = quiet.exchange(("tenant", solicitation(n.VM2_ADDR, source=n.VM1_ADDR)))
    assert got.out == []
    assert sum(got.counters.values()) == 1 and next(iter(got.counters)).startswith("drop."), got


def test_arp_for_our_address_is_answered(quiet):
    tools.ping(n.INET, n.GW_UPLINK4)
    got = quiet.exchange(("uplink", arp(n.GW_UPLINK4)))
    assert got.counters == {"arp-answered": 1}
    ((side, frame),) = got.out
    answer = Ether(frame)
    assert side == "uplink" and (answer.src, answer.dst) == (n.VRRP_MAC4, n.INET_MAC)
    assert (answer[ARP].op, answer[ARP].psrc, answer[ARP].hwsrc) == (2, n.GW_UPLINK4, n.VRRP_MAC4)
    assert (answer[ARP].pdst, answer[ARP].hwdst) == (n.INET_UP4, n.INET_MAC)


def test_arp_for_addresses_of_the_pool_is_answered(quiet):
    """Somebody may have the pool on-link instead of routed."""
    got = quiet.exchange(("uplink", arp("203.0.113.5")))
    assert got.counters == {"arp-answered": 1}
    assert Ether(got.out[0][1])[ARP].psrc == "203.0.113.5"


@pytest.mark.parametrize("target", ["192.0.2.77", "203.0.113.99", n.V4ONLY])
def test_arp_for_others_is_not_answered(quiet, target):
    got = quiet.exchange(("uplink", arp(target)))
    assert (got.counters, got.out) == ({"drop.arp-not-ours": 1}, [])


def test_arping_finds_one_owner_of_the_address():
    out = netns.ns_run(n.INET, "arping", "-c", "3", "-w", "5", "-I", "up0", n.GW_UPLINK4).stdout
    assert out.upper().count(n.VRRP_MAC4.upper()) == 3, out
    assert "Received 3 response" in out, out


def test_echo_answers_are_exact(quiet):
    """The answer is the request with the addresses swapped: same identifier, sequence and data."""
    tools.ping(n.VM1, n.GW_TENANT)
    data = os.urandom(100)
    ask = IPv6(src=n.VM1_ADDR, dst=n.GW_TENANT) / ICMPv6EchoRequest(id=0x1234, seq=7, data=data)
    got = quiet.exchange(("tenant", Ether(src=n.VM1_MAC, dst=n.VRRP_MAC6) / ask))
    assert got.counters == {"echo-answered": 1}
    reply = Ether(got.out[0][1])
    wanted = IPv6(src=n.GW_TENANT, dst=n.VM1_ADDR, hlim=reply[IPv6].hlim) / ICMPv6EchoReply(
        id=0x1234, seq=7, data=data
    )
    assert bytes(reply[IPv6]) == bytes(wanted)

    tools.ping(n.INET, n.GW_UPLINK4)
    ask = IP(src=n.INET_UP4, dst=n.GW_UPLINK4) / ICMP(type=8, id=0x1234, seq=7) / data
    got = quiet.exchange(("uplink", Ether(src=n.INET_MAC, dst=n.VRRP_MAC4) / ask))
    assert got.counters == {"echo-answered": 1}
    reply = Ether(got.out[0][1])
    assert (reply[IP].src, reply[IP].dst, reply[ICMP].type) == (n.GW_UPLINK4, n.INET_UP4, 0)
    assert bytes(reply[ICMP])[4:] == bytes(ask[ICMP])[4:]


def test_a_frame_shorter_than_60_octets_and_one_with_padding_are_the_same(quiet):
    """Padding behind the packet (Ethernet's least frame) is not part of it."""
    tools.ping(n.VM1, n.GW_TENANT)
    ask = bytes(
        Ether(src=n.VM1_MAC, dst=n.VRRP_MAC6)
        / IPv6(src=n.VM1_ADDR, dst=n.GW_TENANT)
        / ICMPv6EchoRequest(id=5, seq=1)
    )
    answers = []
    for frame in (ask, ask + b"\xa5" * 30):
        got = quiet.exchange(("tenant", frame))
        assert got.counters == {"echo-answered": 1}
        answers.append(bytes(Ether(got.out[0][1])[IPv6]))
    assert answers[0] == answers[1]


def test_udp_to_the_gateway_itself_is_refused(quiet):
    """Nothing listens: one drop reason, and no answer but perhaps an error."""
    tools.ping(n.INET, n.GW_UPLINK4)
    got = quiet.exchange(
        (
            "uplink",
            Ether(src=n.INET_MAC, dst=n.VRRP_MAC4)
            / IP(src=n.INET_UP4, dst=n.GW_UPLINK4)
            / UDP(sport=5, dport=9)
            / b"x",
        )
    )
    assert got.counters.pop("drop.local-no-service") == 1
    assert set(got.counters) <= {"icmp-errors-sent"}


def test_fragments_arrive_singly(quiet):
    """DPDK's AF_PACKET port would have the kernel reassemble IPv4 fragments before Causeway sees them.
    Three fragments must be three frames, each with its own fate."""
    whole = IP(src=n.INET_UP4, dst=n.GW_UPLINK4, id=4242) / ICMP(type=8, id=9, seq=1) / bytes(2000)
    from scapy.layers.inet import fragment

    pieces = fragment(whole, fragsize=800)
    assert len(pieces) == 3
    got = quiet.exchange(*[("uplink", Ether(src=n.INET_MAC, dst=n.VRRP_MAC4) / p) for p in pieces])
    assert (got.counters, got.out) == ({"drop.local-fragment": 3}, [])


def test_neighbors_are_listed():
    tools.ping(n.VM1, n.GW_TENANT)
    tools.ping(n.VM1, n.V6ONLY)
    text = gw.show_text("neighbors").lower()
    assert n.VM1_ADDR in text and n.VM1_MAC in text
    assert n.INET_MAC in text


def test_ports_are_listed():
    text = gw.show_text("ports").lower()
    assert "tenant0" in text and "uplink0" in text
    assert n.GW_TENANT_MAC in text and n.GW_UPLINK_MAC in text


def test_the_kernel_of_the_gateway_has_no_address():
    for port in ("tenant0", "uplink0"):
        rows = json.loads(netns.run("ip", "-n", n.GW, "-j", "address", "show", "dev", port).stdout)
        assert rows[0]["addr_info"] == []

"""Bad and unwelcome frames: one drop reason each, the whole counter difference, and what is sent back.

A row is a sentence, where the frame comes in, the frame, and the counters that it moves. Nothing else may
move, and the gateway must go on working.
"""

import random
import time

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

import netns
import network as n
import tools
from test_gateway_addresses import solicitation

pytestmark = pytest.mark.usefixtures("lab")

TENANT = Ether(src=n.VM1_MAC, dst=n.VRRP_MAC6)
UPLINK = Ether(src=n.INET_MAC, dst=n.VRRP_MAC4)
UPLINK6 = Ether(src=n.INET_MAC, dst=n.VRRP_MAC6)
TARGET = n.nat64(n.V4ONLY)
POOL = "203.0.113.9"


def drop(reason, **more):
    return {f"drop.{reason}": 1} | {k.replace("_", "-"): v for k, v in more.items()}


def native(**kw):
    """A sane packet from vm1 to the IPv6 Internet, but for what is given."""
    return IPv6(**({"src": n.VM1_ADDR, "dst": n.V6ONLY} | kw)) / UDP(sport=1000, dport=9) / b"payload"


def to_pool(**kw):
    return IP(**({"src": n.CLIENT4, "dst": POOL} | kw)) / UDP(sport=1000, dport=40000) / b"payload"


def cut(packet, octets):
    return bytes(packet)[:octets]


ROWS = [
    # --- Ethernet ---
    (
        "a VLAN that is not configured",
        "tenant",
        TENANT / Dot1Q(vlan=100) / native(),
        drop("eth-unknown-vlan"),
    ),
    ("a VLAN on the uplink", "uplink", UPLINK / Dot1Q(vlan=7) / to_pool(), drop("eth-unknown-vlan")),
    (
        "an unknown EtherType",
        "tenant",
        Ether(src=n.VM1_MAC, dst=n.VRRP_MAC6, type=0x88B5) / (b"x" * 50),
        drop("eth-unknown-type"),
    ),
    (
        "an 802.3 length instead of a type",
        "uplink",
        Ether(src=n.INET_MAC, dst=n.VRRP_MAC4, type=38) / (b"\x42" * 46),
        drop("eth-unknown-type"),
    ),
    (
        "unicast to another station",
        "tenant",
        Ether(src=n.VM1_MAC, dst="02:00:00:00:99:99") / native(),
        drop("not-our-mac"),
    ),
    (
        "a group address as source",
        "tenant",
        Ether(src="03:00:00:00:00:01", dst=n.VRRP_MAC6) / native(),
        drop("eth-bad-source"),
    ),
    (
        "no source at all",
        "uplink",
        Ether(src="00:00:00:00:00:00", dst=n.VRRP_MAC4) / to_pool(),
        drop("eth-bad-source"),
    ),
    (
        "a unicast packet in a broadcast frame",
        "tenant",
        Ether(src=n.VM1_MAC, dst="ff:ff:ff:ff:ff:ff") / native(),
        drop("eth-group-unicast"),
    ),
    # --- IPv6 headers ---
    ("a runt: the Ethernet header alone", "tenant", cut(TENANT / native(), 14), drop("ip6-truncated")),
    ("a runt with half an IPv6 header", "tenant", cut(TENANT / native(), 34), drop("ip6-truncated")),
    ("a payload shorter than its length says", "tenant", cut(TENANT / native(), 60), drop("ip6-truncated")),
    ("version 4 in an IPv6 frame", "tenant", TENANT / native(version=4), drop("ip6-bad-version")),
    ("loopback as source", "tenant", TENANT / native(src="::1"), drop("ip6-bad-address")),
    ("a group as source", "tenant", TENANT / native(src="ff02::1"), drop("ip6-bad-address")),
    ("an IPv4-mapped source", "tenant", TENANT / native(src="::ffff:192.0.2.9"), drop("ip6-bad-address")),
    ("the unspecified address as destination", "tenant", TENANT / native(dst="::"), drop("ip6-bad-address")),
    (
        "a group that the gateway is not in",
        "tenant",
        Ether(src=n.VM1_MAC, dst="33:33:00:00:01:23") / native(dst="ff02::123", hlim=1),
        drop("multicast-not-ours"),
    ),
    # --- source validation ---
    (
        "a source of nobody here (BCP 38)",
        "tenant",
        TENANT / native(src="2001:db8:9999::1"),
        drop("spoofed-source"),
    ),
    ("a source under the NAT64 prefix", "tenant", TENANT / native(src=TARGET), drop("spoofed-source")),
    (
        "a tenant's source from outside (RFC 3704)",
        "uplink",
        UPLINK6 / native(src=n.VM2_ADDR, dst=n.VM1_ADDR),
        drop("spoofed-source"),
    ),
    (
        "spoofed towards NAT64",
        "tenant",
        TENANT / native(src="2001:db8:9999::1", dst=TARGET),
        drop("spoofed-source"),
    ),
    ("the gateway's own source", "tenant", TENANT / native(src=n.GW_TENANT), drop("own-source")),
    ("the gateway's own IPv4 source", "uplink", UPLINK / to_pool(src=n.GW_UPLINK4), drop("own-source")),
    ("a pool address as source", "uplink", UPLINK / to_pool(src="203.0.113.3"), drop("own-source")),
    (
        "link-local off its link (RFC 4291 2.5.6)",
        "tenant",
        TENANT / native(src="fe80::ff:fe00:101"),
        drop("link-local-scope"),
    ),
    ("IPv4 from a tenant", "tenant", TENANT / to_pool(), drop("spoofed-source")),
    # --- IPv4 headers ---
    ("a bad header checksum", "uplink", UPLINK / to_pool(chksum=0x1234), drop("ip4-bad-checksum")),
    ("version 6 in an IPv4 frame", "uplink", UPLINK / to_pool(version=6), drop("ip4-bad-version")),
    ("a header of less than 20 octets", "uplink", UPLINK / to_pool(ihl=4), drop("ip4-bad-length")),
    ("half an IPv4 header", "uplink", cut(UPLINK / to_pool(), 24), drop("ip4-truncated")),
    ("a total length beyond the frame", "uplink", cut(UPLINK / to_pool(), 40), drop("ip4-truncated")),
    ("a total length below the header", "uplink", UPLINK / to_pool(len=19), drop("ip4-bad-length")),
    ("a source of class E", "uplink", UPLINK / to_pool(src="240.0.0.1"), drop("ip4-bad-address")),
    ("loopback as source, IPv4", "uplink", UPLINK / to_pool(src="127.0.0.1"), drop("ip4-bad-address")),
    ("IPv4 to somebody else", "uplink", UPLINK / to_pool(dst="203.0.113.200"), drop("ip4-not-ours")),
    (
        "IPv4 broadcast",
        "uplink",
        Ether(src=n.INET_MAC, dst="ff:ff:ff:ff:ff:ff") / to_pool(dst="255.255.255.255"),
        drop("multicast-not-ours"),
    ),
    # --- the gateway itself ---
    (
        "ICMPv6 with a bad checksum to us",
        "tenant",
        TENANT / IPv6(src=n.VM1_ADDR, dst=n.GW_TENANT) / ICMPv6EchoRequest(id=1, seq=1, cksum=0x4242),
        drop("local-bad-checksum"),
    ),
    (
        "ICMP with a bad checksum to us",
        "uplink",
        UPLINK / IP(src=n.INET_UP4, dst=n.GW_UPLINK4) / ICMP(type=8, chksum=0x4242),
        drop("local-bad-checksum"),
    ),
    (
        "ND from off the link (RFC 4861 7.1)",
        "tenant",
        solicitation(n.GW_TENANT, hop_limit=64),
        drop("nd-hop-limit"),
    ),
    (
        "a solicitation for a group (RFC 4861 7.1.1)",
        "tenant",
        TENANT / IPv6(src=n.VM1_ADDR, dst=n.GW_TENANT, hlim=255) / ICMPv6ND_NS(tgt="ff02::1"),
        drop("nd-malformed"),
    ),
    (
        "an option of no length (RFC 4861 4.6)",
        "tenant",
        TENANT
        / IPv6(src=n.VM1_ADDR, dst=n.GW_TENANT, hlim=255)
        / ICMPv6ND_NS(tgt=n.GW_TENANT)
        / Raw(bytes([1, 0, 1, 2, 3, 4, 5, 6])),
        drop("nd-malformed"),
    ),
    (
        "another router's advertisement",
        "tenant",
        Ether(src=n.VM2_MAC, dst="33:33:00:00:00:01")
        / IPv6(src="fe80::ff:fe00:102", dst="ff02::1", hlim=255)
        / ICMPv6ND_RA()
        / ICMPv6NDOptSrcLLAddr(lladdr=n.VM2_MAC),
        drop("rogue-ra"),
    ),
    (
        "an advertisement that nobody asked for",
        "tenant",
        TENANT
        / IPv6(src="2001:db8:64::777", dst=n.GW_TENANT, hlim=255)
        / ICMPv6ND_NA(tgt="2001:db8:64::777", S=1, O=1),
        drop("nd-not-ours"),
    ),
    (
        "ARP that is cut",
        "uplink",
        cut(Ether(src=n.INET_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=n.GW_UPLINK4, psrc=n.INET_UP4), 30),
        drop("arp-malformed"),
    ),
    (
        "ARP for another hardware",
        "uplink",
        Ether(src=n.INET_MAC, dst="ff:ff:ff:ff:ff:ff")
        / ARP(hwtype=6, pdst=n.GW_UPLINK4, psrc=n.INET_UP4, hwsrc=n.INET_MAC),
        drop("arp-malformed"),
    ),
    # --- NAT64 ---
    (
        "UDP without checksum over IPv6 (RFC 8200 8.1)",
        "tenant",
        TENANT / IPv6(src=n.VM1_ADDR, dst=TARGET) / UDP(sport=1, dport=9, chksum=0) / b"x",
        drop("nat64-zero-checksum"),
    ),
    (
        "UDP whose length lies",
        "tenant",
        TENANT / IPv6(src=n.VM1_ADDR, dst=TARGET) / UDP(sport=1, dport=9, len=500) / b"x",
        drop("nat64-bad-transport"),
    ),
    (
        "TCP that is cut",
        "tenant",
        TENANT / IPv6(src=n.VM1_ADDR, dst=TARGET, nh=6) / Raw(b"\x00\x01\x00\x02\x00\x00"),
        drop("nat64-bad-transport"),
    ),
    (
        "TCP without session and without SYN",
        "tenant",
        TENANT / IPv6(src=n.VM1_ADDR, dst=TARGET) / TCP(sport=1001, dport=80, flags="A"),
        drop("nat64-no-session"),
    ),
    (
        "a protocol that is not translated",
        "tenant",
        TENANT / IPv6(src=n.VM1_ADDR, dst=TARGET, nh=47) / (b"\0" * 8),
        drop("nat64-protocol"),
    ),
    (
        "an IPv4 group under the prefix",
        "tenant",
        TENANT / native(dst=n.nat64("224.0.0.1")),
        drop("nat64-bad-destination"),
    ),
    (
        "IPv4 loopback under the prefix",
        "tenant",
        TENANT / native(dst=n.nat64("127.0.0.1")),
        drop("nat64-bad-destination"),
    ),
    ("UDP to the pool without mapping", "uplink", UPLINK / to_pool(), drop("nat64-no-bib")),
]


# Drops for which an ICMP error may be sent back as well; what it is, other tests say.
MAY_ANSWER = {
    "nat64-no-bib",
    "nat64-protocol",
    "nat64-bad-destination",
    "link-local-scope",
    "local-no-service",
}


@pytest.fixture(autouse=True)
def warm(lab):
    """The gateway knows the senders, so that it does not look for them meanwhile."""
    tools.ping(n.VM1, n.GW_TENANT, count=1)
    tools.ping(n.INET, n.GW_UPLINK4, count=1)


@pytest.mark.parametrize("sentence, side, frame, wanted", ROWS, ids=[r[0] for r in ROWS])
def test_is_dropped_for_one_reason(quiet, sentence, side, frame, wanted):
    got = quiet.exchange((side, bytes(frame)))
    reason = next(iter(wanted)).removeprefix("drop.")
    if reason in MAY_ANSWER:
        answered = got.counters.pop("icmp-errors-sent", 0)
        assert len(got.out) == answered
    else:
        assert got.out == []
    assert got.counters == wanted


@pytest.mark.parametrize(
    "octets, wanted", [(1500, "nat64-no-bib"), (1501, "eth-oversized"), (1504, "eth-oversized")]
)
def test_the_mtu_holds_to_the_octet(quiet, octets, wanted):
    """A veth end lets through four octets more than its MTU (room for a tag): Causeway does not."""
    ns, dev = tools.ENDS["uplink"]
    netns.run("ip", "-n", ns, "link", "set", dev, "mtu", 1504)
    try:
        got = quiet.exchange(
            ("uplink", UPLINK / IP(src=n.CLIENT4, dst=POOL) / UDP(sport=1, dport=2) / bytes(octets - 28))
        )
    finally:
        netns.run("ip", "-n", ns, "link", "set", dev, "mtu", 1500)
    got.counters.pop("icmp-errors-sent", None)
    assert got.counters == drop(wanted)


def test_a_priority_tag_names_no_vlan(quiet):
    """802.1Q: identifier 0 is a priority only; the frame belongs to the untagged network."""
    ask = (
        TENANT
        / Dot1Q(vlan=0, prio=5)
        / IPv6(src=n.VM1_ADDR, dst=n.GW_TENANT)
        / ICMPv6EchoRequest(id=3, seq=1)
    )
    got = quiet.exchange(("tenant", ask))
    assert got.counters == {"echo-answered": 1}


def test_many_bad_frames_are_all_counted(quiet):
    """200 spoofed packets in a row: exactly 200 drops, none of them forwarded, none answered."""
    frames = [("tenant", TENANT / native(src=f"2001:db8:9999::{i:x}")) for i in range(1, 201)]
    got = quiet.exchange(*frames)
    assert (got.counters, got.out) == ({"drop.spoofed-source": 200}, [])


def test_random_frames_do_no_harm(quiet):
    """Thousands of mutated frames on both sides; then everything still works, and every frame has been
    counted."""
    rng = random.Random(20260101)
    seeds = [(side, bytes(frame)) for _, side, frame, _ in ROWS]
    seeds += [("tenant", bytes(TENANT / native())), ("uplink", bytes(UPLINK / to_pool()))]
    before = tools.gw.counters()
    for i in range(6000):
        side, frame = rng.choice(seeds)
        frame = bytearray(frame)
        for _ in range(rng.randrange(1, 6)):
            # The link-layer destination stays, so that most frames get past it.
            at = rng.randrange(12, len(frame)) if len(frame) > 14 else 13
            frame[at] = rng.randrange(256)
        if rng.random() < 0.2:
            frame = frame[: rng.randrange(14, len(frame) + 1)]
        quiet.send(side, frame)
        if i % 200 == 0:
            time.sleep(0.01)
    tools.ping(n.VM1, n.GW_TENANT)
    tools.ping(n.VM1, TARGET)
    tools.ping(n.VM1, n.V6ONLY)
    after = tools.gw.counters()
    assert after["rx-frames"] - before["rx-frames"] >= 6000
    assert tools.log_complaints() == []


def test_rfc8200_4_4_a_routing_header_with_segments_left_is_refused_by_nat64(quiet):
    """RFC 7915 5.1: Parameter Problem, pointing at Segments Left."""
    packet = (
        IPv6(src=n.VM1_ADDR, dst=TARGET)
        / IPv6ExtHdrRouting(type=253, segleft=1, addresses=[n.V6ONLY])
        / UDP(sport=1, dport=9)
        / b"x"
    )
    got = quiet.exchange(("tenant", TENANT / packet))
    assert got.counters == {"drop.nat64-source-route": 1, "icmp-errors-sent": 1}
    ((_, frame),) = got.out
    error = Ether(frame)[IPv6]
    assert (frame[20], frame[54], frame[55]) == (58, 4, 0)
    assert int.from_bytes(frame[58:62], "big") == 43
    assert error.dst == n.VM1_ADDR

"""Router advertisements as hosts meet them: the Linux kernel, rdisc6 and radvdump, and octet by octet."""

import ipaddress
import json
import struct
import subprocess
import time

import firsthop as f
import gateway as gw
import lab as lab_module
import netns
import network as n
import pytest
import tools
from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Raw

ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
ALL_ROUTERS, ALL_ROUTERS_MAC = "ff02::2", "33:33:00:00:00:02"
PREFIX_INFO, MTU, ROUTE, RDNSS, DNSSL, CAPTIVE, PREF64, DNR = 3, 5, 24, 25, 31, 37, 38, 144
# Every option that there is, so that hosts and decoders see them all.
RA = """\
[network.ra]
managed = true
other = true
max-interval = "10m"

[[network.ra.route]]
prefix = "2001:db8:6::/48"
preference = "high"
lifetime = "20m"
"""
DNS = (
    f.DNS
    + """
[[dns.encrypted]]
name = "dns.example"
addresses = ["2001:db8:64::53"]
alpn = ["dot"]
priority = 1
"""
)
NETWORK = 'captive-portal = "https://portal.example/api"'
SETTINGS = f.NO_DHCPV6 | {"ra": RA, "dns": DNS, "network": NETWORK}


class Advertisement:
    """A router advertisement: its frame, fields and options as (type, content behind the length)."""

    def __init__(self, data):
        self.at = time.monotonic()
        self.packet = Ether(data)
        self.fields = self.packet[ICMPv6ND_RA]
        octets, self.options = bytes(self.fields)[16:], []
        while octets:
            assert len(octets) >= 2 and octets[1] and len(octets) >= 8 * octets[1], octets.hex()
            self.options.append((octets[0], octets[2 : 8 * octets[1]]))
            octets = octets[8 * octets[1] :]

    def all(self, kind):
        return [content for k, content in self.options if k == kind]

    def one(self, kind):
        (content,) = self.all(kind)
        return content


def advertisements(raw, seconds):
    """Those of the gateway that a link end hears within so long."""
    for data in raw.frames(seconds):
        packet = Ether(data)
        if ICMPv6ND_RA in packet and packet.src == n.GW_TENANT_MAC:
            yield Advertisement(data)


def solicitation(raw, src=None, hlim=255, dst=ALL_ROUTERS, mac=ALL_ROUTERS_MAC, link_layer=True, **kw):
    packet = Ether(src=raw.mac, dst=mac) / IPv6(src=src or raw.link_local, dst=dst, hlim=hlim) / ICMPv6ND_RS(**kw)
    if link_layer:
        packet /= ICMPv6NDOptSrcLLAddr(lladdr=raw.mac)
    return bytes(packet)


def solicited(raw, seconds=2.0, **kw):
    """The first unicast answer to a solicitation."""
    raw.put(solicitation(raw, **kw))
    return next((a for a in advertisements(raw, seconds) if a.packet.dst == raw.mac), None)


# --- real hosts ------------------------------------------------------------------------------------


def test_rdisc6_shows_what_was_configured(fresh):
    out = fresh().up().run("rdisc6", "-1", "eth0").stdout
    values = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in out.splitlines())}

    def seconds(key):
        return int(values[key].split()[0])

    assert values["Stateful address conf."] == "Yes"
    assert values["Stateful other conf."] == "Yes"
    assert values["Prefix"] == n.TENANT_PREFIX
    assert values["On-link"] == "Yes"
    assert values["Autonomous address conf."] == "No"
    assert values["Router preference"] == "medium"
    assert values["Hop limit"].split()[0] == "64"
    assert seconds("Router lifetime") == 1800
    assert (seconds("Valid time"), seconds("Pref. time")) == (30 * 86400, 7 * 86400)
    assert seconds("MTU") == 1500
    assert values["Source link-layer address"].lower() == n.GW_TENANT_MAC
    assert values["Recursive DNS server"] == n.DNS64
    assert values["DNS search list"] == f.SEARCH
    # Three times the longest interval between advertisements.
    assert (seconds("DNS server lifetime"), seconds("DNS search list lifetime")) == (1800, 1800)
    assert f"from {n.GW_TENANT_LL}" in out
    assert values["Route"] == "2001:db8:6::/48"


def test_radvdump_writes_the_configuration_that_we_have(fresh):
    h = fresh().up()
    dump = subprocess.Popen(netns.in_ns(h.ns, "radvdump"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        time.sleep(0.5)
        h.run("rdisc6", "-1", "eth0")
        time.sleep(0.5)
    finally:
        dump.terminate()
        out = dump.communicate()[0]
    for line in (
        "AdvManagedFlag on;",
        "AdvOtherConfigFlag on;",
        "AdvDefaultLifetime 1800;",
        "AdvLinkMTU 1500;",
        f"prefix {n.TENANT_PREFIX}",
        "AdvAutonomous off;",
        "AdvValidLifetime 2592000;",
        "AdvPreferredLifetime 604800;",
        f"RDNSS {n.DNS64}",
        f"DNSSL {f.SEARCH}",
        "route 2001:db8:6::/48",
        "AdvRoutePreference high;",
        "AdvRouteLifetime 1200;",
    ):
        # What is radvd's own default it does not print.
        if line not in out:
            assert line in ("AdvValidLifetime 2592000;", "AdvPreferredLifetime 604800;"), f"{line} is missing in\n{out}"


def test_the_kernel_takes_gateway_prefix_and_mtu_and_makes_no_address(fresh):
    h = fresh()
    h.up()
    tools.wait_until(lambda: f.has_gateway(h.ns), 10, "no default route")
    (route,) = f.clients.default_routes(h.ns)
    assert (route["gateway"], route["protocol"], route["dev"]) == (n.GW_TENANT_LL, "ra", "eth0")
    on_link = json.loads(netns.run("ip", "-n", h.ns, "-6", "-j", "route", "show", n.TENANT_PREFIX).stdout)
    assert [r["dev"] for r in on_link] == ["eth0"] and "gateway" not in on_link[0]
    # A is off: no address but the link-local one, also a while later.
    time.sleep(1)
    assert h.addresses() == []


def test_the_kernel_has_its_gateway_soon_after_its_link_is_up(fresh):
    """It solicits within a second of its link-local address being there (RFC 4861 6.3.7); the answer is at once."""
    h = fresh()
    h.up()
    began = time.monotonic()
    tools.wait_until(lambda: f.has_gateway(h.ns), 5, "no default route")
    assert time.monotonic() - began < 2.0


def test_tshark_finds_nothing_wrong(fresh, capture):
    h = fresh()
    seen = capture(n.BRIDGE, h.port)
    h.up()
    h.run("rdisc6", "-1", "eth0")
    assert seen.strict(f"icmpv6.type == 134 && eth.src == {n.GW_TENANT_MAC}")


# --- octet by octet --------------------------------------------------------------------------------


def test_rfc4861_4_2_an_advertisement_octet_by_octet(raw):
    ra = solicited(raw())
    packet, fields = ra.packet, ra.fields
    assert (packet.src, packet[IPv6].src, packet[IPv6].hlim) == (n.GW_TENANT_MAC, n.GW_TENANT_LL, 255)
    assert (fields.code, fields.M, fields.O, fields.chlim, fields.routerlifetime) == (0, 1, 1, 64, 1800)
    assert (fields.reachabletime, fields.retranstimer) == (0, 0)
    assert packet[ICMPv6NDOptSrcLLAddr].lladdr == n.GW_TENANT_MAC
    assert packet[ICMPv6NDOptMTU].mtu == 1500
    prefix = packet[ICMPv6NDOptPrefixInfo]
    assert (prefix.prefix, prefix.prefixlen, prefix.L, prefix.A) == ("2001:db8:64::", 64, 1, 0)
    assert (prefix.validlifetime, prefix.preferredlifetime) == (30 * 86400, 7 * 86400)
    # RFC 8106 5.1 and 5.2.
    assert ra.one(RDNSS) == struct.pack("!HI", 0, 1800) + f.packed(n.DNS64)
    assert ra.one(DNSSL)[:6] == struct.pack("!HI", 0, 1800) and ra.one(DNSSL)[6:].rstrip(b"\0") == b"\3lab\7example"
    # RFC 8781 4: the scaled lifetime in eights of a second, and the code of /96 is 0; 96 bits of prefix.
    (word,) = struct.unpack("!H", ra.one(PREF64)[:2])
    assert word & 7 == 0 and 0 < word >> 3 <= 8191 and 1800 <= (word >> 3) * 8 <= 65528
    assert ra.one(PREF64)[2:] == f.packed(n.NAT64_PREFIX)[:12]
    # RFC 4191 2.3: preference high is 01, in the middle of the octet.
    assert ra.one(ROUTE)[:6] == bytes([48, 0b01000]) + struct.pack("!I", 1200)
    assert ra.one(ROUTE)[6:14] == f.packed("2001:db8:6::")[:8]
    # RFC 8910 2.3, padded with zeros.
    assert ra.one(CAPTIVE).rstrip(b"\0") == b"https://portal.example/api"
    # RFC 9463 6.1: priority, lifetime, name, addresses, parameters.
    name = b"\3dns\7example\0"
    wanted = struct.pack("!HIH", 1, 1800, len(name)) + name + struct.pack("!H", 16) + f.packed(n.DNS64)
    wanted += struct.pack("!H", 8) + b"\0\1\0\4\3dot"
    assert ra.one(DNR).rstrip(b"\0") == wanted.rstrip(b"\0")


def test_rfc4861_6_2_6_a_solicitation_is_answered_by_unicast_at_once(raw):
    end = raw()
    solicited(end)
    began = time.monotonic()
    ra = solicited(end)
    assert ra.at - began < 0.1
    assert (ra.packet.dst, ra.packet[IPv6].dst) == (end.mac, end.link_local)


def test_rfc4861_6_2_6_who_has_no_address_is_answered_by_multicast(raw):
    end = raw()
    # Whatever is still due of the beginning.
    time.sleep(3.1)
    end.put(solicitation(end, src="::", link_layer=False))
    began = time.monotonic()
    ra = next(a for a in advertisements(end, 4.0) if a.packet.dst == ALL_NODES_MAC)
    assert ra.packet[IPv6].dst == ALL_NODES
    # At most half a second of delay, and three seconds between two of them.
    assert ra.at - began <= 3.6


def test_rfc4861_6_2_6_multicast_ones_keep_three_seconds_apart(raw):
    """However many ask."""
    end = raw()
    heard, deadline = [], time.monotonic() + 10
    while time.monotonic() < deadline:
        end.put(solicitation(end, src="::", link_layer=False))
        heard += [a.at for a in advertisements(end, 0.2) if a.packet.dst == ALL_NODES_MAC]
    assert 2 <= len(heard) <= 4
    assert min(b - a for a, b in zip(heard, heard[1:], strict=False)) > 2.9


BAD = [
    ("hop limit 254", {"hlim": 254}),
    ("hop limit 64", {"hlim": 64}),
    ("a code", {"code": 1}),
    ("a bad checksum", {"cksum": 0x1234}),
    ("a source link-layer address without source", {"src": "::"}),
]


@pytest.mark.parametrize("sentence, wrong", BAD, ids=[b[0] for b in BAD])
def test_rfc4861_6_1_1_a_bad_solicitation_is_dropped_for_one_reason(raw, sentence, wrong):
    end = raw()
    with f.one_drop():
        end.put(solicitation(end, **wrong))
        assert not [a for a in advertisements(end, 0.7) if a.packet.dst == end.mac]


def test_rfc4861_6_1_1_options_of_length_zero_and_cut_ones(raw):
    end = raw()
    base = Ether(src=end.mac, dst=ALL_ROUTERS_MAC) / IPv6(src=end.link_local, dst=ALL_ROUTERS, hlim=255)
    for octets in (bytes(8), bytes([1, 2]) + bytes(6), b"\1"):
        with f.one_drop():
            end.put(bytes(base / ICMPv6ND_RS() / Raw(octets)))


def test_rfc6980_a_fragmented_solicitation_is_not_answered(raw):
    from scapy.layers.inet6 import IPv6ExtHdrFragment

    end = raw()
    packet = (
        Ether(src=end.mac, dst=ALL_ROUTERS_MAC)
        / IPv6(src=end.link_local, dst=ALL_ROUTERS, hlim=255)
        / IPv6ExtHdrFragment(nh=58, id=7)
        / ICMPv6ND_RS()
    )
    with f.one_drop():
        end.put(bytes(packet))
        assert not [a for a in advertisements(end, 0.5) if a.packet.dst == end.mac]


def test_rfc6104_another_router_is_counted_told_and_never_believed(raw):
    """A tenant that plays the router: its own affair is that hosts may believe it; the gateway does not."""
    end = raw()
    rogue = (
        Ether(src=end.mac, dst=ALL_NODES_MAC)
        / IPv6(src=end.link_local, dst=ALL_NODES, hlim=255)
        / ICMPv6ND_RA(routerlifetime=9000, M=0, prf=1)
        / ICMPv6NDOptPrefixInfo(prefix="2001:db8:bad::", prefixlen=64, L=1, A=1)
        / ICMPv6NDOptSrcLLAddr(lladdr=end.mac)
    )
    with f.one_drop() as reasons:
        end.put(bytes(rogue))
    tools.wait_until(lambda: f.log_has(end.mac), 3, f"nothing in the log ({reasons})")
    # What the gateway says has not changed.
    assert solicited(end).one(PREFIX_INFO)[14:] == f.packed("2001:db8:64::")
    netns.run("ip", "-n", n.VM1, "-6", "route", "del", "default", "via", end.link_local, check=False)
    for ns in (n.VM1, n.VM2):
        netns.run("ip", "-n", ns, "-6", "address", "flush", "to", "2001:db8:bad::/64", check=False)
    tools.ping(n.VM2, n.V6ONLY)


def test_a_flood_of_solicitations_is_bounded(raw):
    """Thousands of a second: fewer answers than questions, all counted, and the gateway forwards meanwhile."""
    end = raw()
    ping = tools.Background(lambda: tools.ping(n.VM1, n.V6ONLY, count=20))
    frame = solicitation(end)
    for i in range(3000):
        end.put(frame)
        if i % 100 == 0:
            time.sleep(0.01)
    answers = len([a for a in advertisements(end, 1.5) if a.packet.dst == end.mac])
    ping.result()
    assert 0 < answers < 1500


def test_show_ra_tells_what_is_advertised(first_hop):
    text = gw.show_text("ra")
    assert n.TENANT_PREFIX in text and n.DNS64 in text


# --- other settings --------------------------------------------------------------------------------


class TestShortIntervals:
    """Advertisements every three to four seconds."""

    LAB = f.NO_DHCPV6 | {
        "ra": '[network.ra]\nmanaged = false\nother = true\nautonomous = true\nmax-interval = "4s"\nmin-interval = "3s"\n'
        'router-lifetime = "12s"\nvalid-lifetime = "4h"\npreferred-lifetime = "2h"\nsolicited = "multicast"\n'
    }

    def test_rfc4861_6_2_4_unsolicited_ones_come_at_their_intervals(self, raw):
        end = raw()
        times = [a.at for a in advertisements(end, 17)]
        gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
        assert len(gaps) >= 3
        assert all(2.95 <= g <= 4.1 for g in gaps), gaps

    def test_rfc4862_with_a_on_the_kernel_makes_an_address(self, fresh):
        h = fresh()
        h.up()
        (address,) = tools.wait_until(h.addresses, 10, "no address")
        assert ipaddress.ip_address(address) in ipaddress.ip_network(n.TENANT_PREFIX)
        tools.ping(h.ns, n.V6ONLY)

    def test_answers_go_to_all_where_so_configured(self, raw):
        end = raw()
        end.put(solicitation(end))
        ra = next(iter(advertisements(end, 5)))
        assert ra.packet.dst == ALL_NODES_MAC

    def test_a_changed_prefix_dns_server_and_lifetime_take_effect(self, raw, first_hop, fresh):
        """What is no longer advertised is withdrawn: hosts are told, and do not wait for its end."""
        h = fresh()
        h.up()
        (old,) = tools.wait_until(h.addresses, 10, "no address")
        end = raw()
        text = first_hop.read_text()
        try:
            changed = text.replace(f'servers = ["{n.DNS64}"]', 'servers = ["2001:db8:64::5353"]')
            changed = changed.replace("autonomous = true\n", "autonomous = false\n").replace('"12s"', '"20s"')
            assert changed != text
            first_hop.write_text(changed)
            assert f.reload()
            heard = list(advertisements(end, 8))
            assert heard, "no advertisement after the reload"
            last = heard[-1]
            servers = {o[6:]: struct.unpack("!I", o[2:6])[0] for o in last.all(RDNSS)}
            assert servers.pop(f.packed("2001:db8:64::5353")) > 0
            assert servers == {f.packed(n.DNS64): 0}
            assert last.fields.routerlifetime == 20

            def deprecated():
                out = netns.run("ip", "-n", h.ns, "-6", "address", "show", "dev", "eth0", "to", old).stdout
                return "deprecated" in out or old not in out

            tools.wait_until(deprecated, 5, f"{old} is still preferred")
        finally:
            first_hop.write_text(text)
            f.reload()

    def test_rfc4861_6_2_5_an_ordered_stop_takes_the_default_route_away(self, raw, first_hop, fresh):
        h = fresh()
        h.up()
        tools.wait_until(lambda: f.has_gateway(h.ns), 10, "no default route")
        end = raw()
        f.stop()
        heard = list(advertisements(end, 1.0))
        assert heard and heard[-1].fields.routerlifetime == 0
        tools.wait_until(lambda: not f.has_gateway(h.ns), 3, "the default route is still there")
        lab_module.start_gateway(first_hop)
        tools.wait_until(lambda: f.has_gateway(h.ns), 10, "no default route after the start")


class TestWithout:
    """No section `[network.ra]`: silence."""

    LAB = f.NO_DHCPV6 | {"ra": ""}

    def test_nothing_is_advertised(self, raw):
        end = raw()
        end.put(solicitation(end))
        assert list(advertisements(end, 3)) == []

"""Who may send from which address: `off`, `prefix` and `leased`."""

import firsthop as f
import gateway as gw
import netns
import network as n
import pytest
import tools
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import Ether

pytestmark = pytest.mark.usefixtures("first_hop")

SETTINGS = {"network": 'source-validation = "leased"'}
PREFIX = {"network": 'source-validation = "prefix"'}
OFF = {"network": 'source-validation = "off"'}


def packet(client, source, dst=n.V6ONLY):
    """A packet that its receiver does not answer (next header 59: none); to NAT64 a UDP datagram."""
    link = Ether(src=client.mac, dst=n.GW_TENANT_MAC)
    if dst == n.V6ONLY:
        return bytes(link / IPv6(src=source, dst=dst, hlim=9, nh=59))
    return bytes(link / IPv6(src=source, dst=dst, hlim=9) / UDP(sport=9, dport=n.ECHO_PORT) / b"x")


# The kernel behind a raw client refuses what the server sends to it by ICMPv6, which may come this late.
NOISE = f.NOISE | {"local-no-service"}


def fate(frame, end):
    """The drop reason of a frame, or `forwarded`."""
    before = gw.counters()
    end.put(frame)

    def changed():
        after = gw.counters()
        names = [k for k in after if k.startswith("drop.") or k in ("forwarded6", "nat64-v6-to-v4")]
        names = [k for k in names if k.removeprefix("drop.") not in NOISE]
        moved = {k for k in names if after[k] != before.get(k, 0)}
        return moved or None

    moved = tools.wait_until(changed, 3, "it came to nothing at all")
    assert len(moved) == 1, moved
    (name,) = moved
    return name.removeprefix("drop.") if name.startswith("drop.") else "forwarded"


class TestLeased:
    LAB = SETTINGS

    def test_the_labs_servers_reach_everything(self):
        for ns in (n.VM1, n.VM2):
            tools.ping(ns, n.V6ONLY)
            tools.ping(ns, n.nat64(n.V4ONLY))
            tools.ping(ns, n.GW_TENANT)
            tools.ping(n.INET, n.VM1_ADDR)

    def test_a_leased_address_and_none_before_or_after(self, raw):
        client = raw()
        offered = client.solicit(f.ia_na(1)).leases[0]
        assert fate(packet(client, offered), client) == "source-not-bound"
        address, _ = client.bind()
        assert fate(packet(client, address), client) == "forwarded"
        assert fate(packet(client, address, n.nat64(n.V4ONLY)), client) == "forwarded"
        client.renew(address, kind=f.RELEASE)
        assert fate(packet(client, address), client) == "source-not-bound"

    def test_somebody_elses_leased_address_is_refused(self, raw):
        owner, thief = raw(), raw()
        address, _ = owner.bind()
        thief.bind()
        assert fate(packet(thief, address), thief) == "source-other-mac"
        assert fate(packet(thief, n.VM1_ADDR), thief) == "source-other-mac"
        assert fate(packet(thief, "2001:db8:64::1eee"), thief) == "source-not-bound"
        assert fate(packet(thief, "2001:db8:9999::1"), thief) in ("spoofed-source", "source-not-bound")
        # And nothing of it hurts the owner.
        assert fate(packet(owner, address), owner) == "forwarded"

    def test_a_delegated_prefix_is_the_clients_own(self, raw):
        client, thief = raw(), raw()
        got = client.solicit(f.ia_pd(1))
        (prefix,) = client.request(f.ia_pd(1, *got.pds[0].leases)).leases
        inside = prefix.partition("::")[0] + "::77"
        assert fate(packet(client, inside), client) == "forwarded"
        assert fate(packet(thief, inside), thief) in ("source-other-mac", "source-not-bound")

    def test_link_local_and_dad_go_on(self, raw):
        """What a host needs before it has an address: ND, RS and DHCPv6 from link-local addresses."""
        client = raw()
        echo = Ether(src=client.mac, dst=n.GW_TENANT_MAC) / IPv6(src=client.link_local, dst=n.GW_TENANT_LL)
        client.put(bytes(echo / ICMPv6EchoRequest(id=5, seq=1)))
        assert client.bind()[0]

    def test_nd_that_claims_somebody_elses_address_is_refused(self, raw):
        """A neighbour advertisement for a leased address with another MAC address changes nothing."""
        thief = raw()
        tools.ping(n.INET, n.VM1_ADDR)
        lie = (
            Ether(src=thief.mac, dst=n.GW_TENANT_MAC)
            / IPv6(src=n.VM1_ADDR, dst=n.GW_TENANT, hlim=255)
            / ICMPv6ND_NA(tgt=n.VM1_ADDR, S=0, O=1)
            / ICMPv6NDOptDstLLAddr(lladdr=thief.mac)
        )
        with f.one_drop():
            thief.put(bytes(lie))
        tools.ping(n.INET, n.VM1_ADDR)
        rows = [r for r in gw.show("neighbors")["neighbors"] if r["address"] == n.VM1_ADDR]
        assert [r["mac"] for r in rows] == [n.VM1_MAC]

    def test_an_address_that_nobody_leased_is_not_looked_for(self):
        """A scan from outside: no solicitation leaves, nothing is allocated."""
        before = gw.counters()
        for i in range(50):
            netns.ns_run(n.INET, "ping", "-n", "-c1", "-W", "0.01", f"2001:db8:64::f:{i:x}", check=False)
        after = gw.counters()
        assert after.get("ns-sent", 0) - before.get("ns-sent", 0) <= 3
        tools.ping(n.INET, n.VM1_ADDR)


class TestPrefix:
    LAB = PREFIX

    @pytest.mark.parametrize(
        "source, wanted", [("2001:db8:64::1eee", "forwarded"), ("2001:db8:9999::1", "spoofed-source")]
    )
    def test_any_address_of_the_network_and_no_other(self, raw, source, wanted):
        client = raw()
        assert fate(packet(client, source), client) == wanted

    def test_a_delegated_prefix_may_be_sent_from(self, raw):
        client = raw()
        got = client.solicit(f.ia_pd(1))
        (prefix,) = client.request(f.ia_pd(1, *got.pds[0].leases)).leases
        assert fate(packet(client, prefix.partition("::")[0] + "::77"), client) == "forwarded"


class TestOff:
    LAB = OFF

    @pytest.mark.parametrize(
        "source, wanted",
        [
            ("2001:db8:9999::1", "forwarded"),
            # Never these, whatever is off.
            (n.GW_TENANT, "own-source"),
            ("::1", "ip6-bad-address"),
        ],
    )
    def test_any_source_but_our_own(self, raw, source, wanted):
        client = raw()
        assert fate(packet(client, source), client) == wanted

"""DHCPv6 as servers meet it: unmodified clients, a relay, and a client octet by octet for everything odd."""

import contextlib
import ipaddress
import json
import os
import random
import signal
import struct
import subprocess
import time
from pathlib import Path

import firsthop as f
import gateway as gw
import lab as lab_module
import netns
import network as n
import pytest
import tools
from scapy.layers.inet6 import ICMPv6ND_RA, IPv6
from scapy.layers.l2 import Ether

PXE, CLONED = "02:00:00:00:02:f1", "02:00:00:00:02:f2"
RESERVED = f.RESERVED + f.reservation(PXE, "2001:db8:64::1f1") + f.reservation(CLONED, "2001:db8:64::1f2")
NETWORK = 'dhcpv6-relays = true\nntp = ["2001:db8:64::123"]\ncaptive-portal = "https://portal.example/api"'
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
DHCPV6 = f.DHCPV6 + 'boot-file-url = "http://[2001:db8:64::80]/boot"\nsol-max-rt = "1h"\ninf-max-rt = "2h"\n'
SETTINGS = {"reservations": RESERVED, "network": NETWORK, "dns": DNS, "dhcpv6": DHCPV6}
PREFERRED, VALID = 8 * 3600, 12 * 3600


# --- real clients ----------------------------------------------------------------------------------

CLIENTS = [f.Dhclient, f.Dhcpcd, f.Dhcp6c, f.Networkd]


def test_the_labs_servers_got_what_their_owners_were_told(first_hop):
    """cw-vm1 and cw-vm2 boot with the kernel's router advertisements and ISC dhclient, and nothing else."""
    for ns, address in ((n.VM1, n.VM1_ADDR), (n.VM2, n.VM2_ADDR)):
        # Nothing made up beside it: A is off.
        assert f.clients.addresses(ns) == [address]
        assert f.has_gateway(ns)
        assert f.clients.told_resolvers(ns) == ([n.DNS64], [f"{f.SEARCH}."])
        tools.ping(ns, n.V6ONLY)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_unmodified_client_gets_address_gateway_and_dns(fresh, tmp_path, capture, client):
    h = fresh(dad=True).up()
    seen = capture(h.ns, "eth0")
    program = client(h, tmp_path)
    program.start()
    try:
        address = program.bound(f.in_pool)
        tools.wait_until(
            lambda: set(program.told()[0]) == {n.DNS64}, 10, lambda: f"told {program.told()}; {program.said()[-2000:]}"
        )
        # systemd-networkd counts what it heard twice (router advertisement and DHCPv6).
        assert {d.rstrip(".") for d in program.told()[1]} == {f.SEARCH}
        tools.ping(h.ns, n.V6ONLY)
        tools.ping(h.ns, n.nat64(n.V4ONLY))
        (row,) = [r for r in f.leases("--address", address) if r["address"].startswith(address)]
        assert row["mac"] == h.mac
    finally:
        program.stop()
    from_us = f"eth.src == {n.GW_TENANT_MAC}"
    assert seen.strict(f"{from_us} && dhcpv6")
    assert seen.strict(f"{from_us} && icmpv6")


@pytest.mark.parametrize("client", CLIENTS)
def test_an_unmodified_client_gets_its_reserved_address(fresh, tmp_path, client):
    """By the MAC address of its frames, whatever client it is."""
    program = client(fresh(PXE).up(), tmp_path).start()
    try:
        assert program.bound(lambda a: not f.in_pool(a)) == "2001:db8:64::1f1"
    finally:
        program.stop()


def test_dhclient_gives_its_lease_back(fresh, tmp_path):
    h = fresh().up()
    program = f.Dhclient(h, tmp_path).start()
    address = program.bound(f.in_pool)
    said = program.release()
    assert said.returncode == 0, said.stderr
    tools.wait_until(
        lambda: not [r for r in f.leases("--address", address) if r["state"] == "active"], 5, "it is still active"
    )


def test_dhclient_comes_back_after_a_reboot_with_the_same_address(fresh, tmp_path):
    """Confirm (RFC 9915 18.2.3), then the address that it had."""
    h = fresh().up()
    first = f.Dhclient(h, tmp_path, "-1").start()
    address = first.bound(f.in_pool)
    first.process.kill()
    first.process.wait()
    h.run("ip", "address", "flush", "dev", "eth0", "scope", "global")
    first.process = None
    first.start()
    try:
        assert first.bound(f.in_pool) == address
        assert "Confirm" in first.said() or "CONFIRM" in first.said().upper()
    finally:
        first.stop()


def test_a_reinstalled_host_gets_the_same_address(fresh, tmp_path):
    """New DUID, new lease file, same MAC address: the same address without any reservation."""
    h = fresh().up()
    addresses = []
    for tag in ("-before", "-after"):
        program = f.Dhclient(h, tmp_path, tag).start()
        try:
            addresses.append(program.bound(f.in_pool))
        finally:
            program.stop(signal.SIGKILL)
        h.run("ip", "address", "flush", "dev", "eth0", "scope", "global")
    assert addresses[0] == addresses[1]


def test_dhcp6c_gets_a_prefix_and_it_is_reached(fresh, tmp_path):
    """A delegated prefix is routed to who has it."""
    h = fresh().up()
    h.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    for dev in ("lan0", "lan1"):
        h.run("ip", "link", "set", dev, "up")
    program = f.Dhcp6c(h, tmp_path, prefix=True).start()
    try:
        program.bound(f.in_pool)

        def on_lan():
            rows = json.loads(netns.run("ip", "-n", h.ns, "-6", "-j", "address", "show", "dev", "lan0").stdout)
            found = [a["local"] for r in rows for a in r.get("addr_info", []) if a.get("scope") == "global"]
            return found[0] if found else None

        inside = tools.wait_until(on_lan, 20, lambda: f"no prefix: {program.said()[-2000:]}")
        assert ipaddress.ip_address(inside) in ipaddress.ip_network(n.DELEGATED)
        tools.ping(n.INET, inside)
        tools.ping(h.ns, n.V6ONLY, "-I", inside)
    finally:
        program.stop()


def test_a_unicast_advertisement_follows_the_reply_at_once(raw):
    """The client has its gateway the moment it has its address."""
    client = raw()
    client.bind()
    deadline = time.monotonic() + 0.5
    for data in client.frames(0.5):
        packet = Ether(data)
        if ICMPv6ND_RA in packet and packet.dst == client.mac:
            assert packet[IPv6].src == n.GW_TENANT_LL
            assert packet[IPv6].dst == client.link_local
            assert packet[ICMPv6ND_RA].routerlifetime > 0
            return
    raise AssertionError(f"no advertisement within {time.monotonic() - deadline + 0.5:.2f} s")


# --- a relay ---------------------------------------------------------------------------------------

RELAYED = """
[[dhcpv6.link]]
name = "behind"
prefixes = ["2001:db8:64:b::/64"]
pools = ["2001:db8:64:b::1000-2001:db8:64:b::1fff"]

[[dhcpv6.link.reservation]]
mac = "02:00:00:00:0b:07"
addresses = ["2001:db8:64:b::7"]
"""


ROUTE = '\n[[route]]\nprefix = "2001:db8:64:b::/64"\nvia = "2001:db8:64::b"\n'


@pytest.fixture
def relay(first_hop, tmp_path):
    """ISC dhcrelay between a link of its own (2001:db8:64:b::/64) and the tenants' link."""
    with contextlib.ExitStack() as stack:

        def ip(ns, *args):
            netns.run("ip", "-n", ns, *args)

        ip(n.BRIDGE, "link", "add", "br9", "type", "bridge", "mcast_snooping", "0")
        stack.callback(netns.run, "ip", "-n", n.BRIDGE, "link", "del", "br9", check=False)
        ip(n.BRIDGE, "link", "set", "br9", "up")
        r = stack.enter_context(f.host("relay", "02:00:00:00:0b:01"))
        h = stack.enter_context(f.host("behind", "02:00:00:00:0b:07", bridge="br9"))
        netns.sysctl(r.ns, {"net.ipv6.conf.all.forwarding": 1, "net.ipv6.conf.default.accept_dad": 0})
        netns.veth(r.ns, "eth1", "02:00:00:00:0b:02", n.BRIDGE, "relay1")
        ip(n.BRIDGE, "link", "set", "relay1", "master", "br9", "up")
        ip(r.ns, "link", "set", "eth1", "up")
        r.up()
        ip(r.ns, "address", "add", "2001:db8:64::b/64", "dev", "eth0", "nodad")
        ip(r.ns, "address", "add", "2001:db8:64:b::1/64", "dev", "eth1", "nodad")
        ip(r.ns, "route", "replace", "default", "via", n.GW_TENANT, "dev", "eth0")
        h.up()
        with open(tmp_path / "relay.log", "wb") as log:
            process = subprocess.Popen(
                netns.in_ns(
                    r.ns, "dhcrelay", "-6", "-d", "-I", "-pf", tmp_path / "relay.pid", "-l", "eth1", "-u", "ff05::1:3%eth0"
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        stack.callback(netns.end, process.pid)
        tools.wait_until(lambda: ":547" in r.run("ss", "-Hlun").stdout, 5, lambda: (tmp_path / "relay.log").read_text())
        yield h, r


class TestRelay:
    LAB = SETTINGS | {"network": NETWORK + '\nsources = ["2001:db8:64:b::/64"]', "sections": RELAYED + ROUTE}

    def test_dhclient_behind_dhcrelay(self, relay, tmp_path, capture):
        """Relay-forward to ff05::1:3; the link is chosen by the relay's link-address."""
        h, r = relay
        seen = capture(r.ns, "eth0")
        program = f.Dhclient(h, tmp_path).start()
        try:
            # No router advertisement there: only the address is the server's.
            tools.wait_until(h.addresses, 20, lambda: program.said()[-2000:])
            (address,) = h.addresses()
            assert address == "2001:db8:64:b::7" or f.in_pool(
                address, "2001:db8:64:b::1000", "2001:db8:64:b::1fff"
            )
            assert program.told()[0] == [n.DNS64]
        finally:
            program.stop()
        assert seen.strict(f"dhcpv6 && eth.src == {n.GW_TENANT_MAC}")

    def test_rfc6939_the_relay_tells_the_mac_address(self, relay):
        """A reservation by MAC address holds behind a relay that tells it."""
        _, r = relay
        with contextlib.closing(f.Raw(r.ns, r.mac)) as raw:
            client = f.Raw(r.ns, "02:00:00:00:0b:07", duid=b"\0\3\0\1\2\0\0\0\x0b\x99")
            client.close()
            inner = client.message(f.SOLICIT, f.ia_na(1))
            mac = f.option(f.CLIENT_MAC, b"\0\1" + bytes.fromhex("020000000b07"))
            got = forward(raw, inner, mac, interface_id=b"port7")
            assert got.leases == ["2001:db8:64:b::7"]

    @pytest.mark.parametrize("depth", [1, 2, 8])
    def test_nested_relays_are_answered_with_the_same_chain(self, relay, depth):
        _, r = relay
        with contextlib.closing(f.Raw(r.ns, r.mac)) as raw:
            client = f.Raw(r.ns, f"02:00:00:00:0b:{0x20 + depth:02x}")
            client.close()
            got = forward(raw, client.message(f.SOLICIT, f.ia_na(1)), depth=depth, interface_id=b"abc")
            assert got.kind == f.ADVERTISE and len(got.leases) == 1

    def test_rfc9915_7_6_a_relay_loop_ends(self, relay):
        """More relays than HOP_COUNT_LIMIT are a loop: dropped, for one reason."""
        _, r = relay
        with contextlib.closing(f.Raw(r.ns, r.mac)) as raw:
            client = f.Raw(r.ns, "02:00:00:00:0b:40")
            client.close()
            with f.one_drop():
                relays(raw, client.message(f.SOLICIT, f.ia_na(1)), depth=12)

    def test_an_unknown_link_is_not_served_from_another(self, relay):
        _, r = relay
        with contextlib.closing(f.Raw(r.ns, r.mac)) as raw:
            client = f.Raw(r.ns, "02:00:00:00:0b:41")
            client.close()
            got = forward(raw, client.message(f.SOLICIT, f.ia_na(1)), link="2001:db8:dead::1", may_be_silent=True)
            assert got is None or got.leases == []


def wrap(inner, hops, link, peer, *options):
    head = bytes([f.RELAY_FORWARD, hops]) + f.packed(link) + f.packed(peer)
    return head + b"".join(options) + f.option(f.RELAY_MSG, inner)


def relays(raw, inner, *options, depth=1, link="2001:db8:64:b::1", interface_id=None):
    """Sends a message as the last of so many relays."""
    payload = wrap(inner, 0, link, "fe80::1:2:3", *options, *([f.option(f.INTERFACE_ID, interface_id)] if interface_id else []))
    for hop in range(1, depth):
        payload = wrap(payload, min(hop, 255), "::", "2001:db8:64:b::1")
    raw.send(payload, src="2001:db8:64::b", dst=f.ALL_SERVERS, sport=547, hlim=8)


def forward(raw, inner, *options, depth=1, link="2001:db8:64:b::1", interface_id=None, may_be_silent=False):
    """`relays`, and the answer unwrapped; fails unless the chain is the same."""
    for _ in range(3):
        relays(raw, inner, *options, depth=depth, link=link, interface_id=interface_id)
        for data in raw.frames(1.0):
            packet = Ether(data)
            if f.UDP not in packet or packet[f.UDP].dport != 547 or data[:6].hex(":") != raw.mac:
                continue
            octets = bytes(packet[f.UDP].payload)
            if octets[0] != f.RELAY_REPLY:
                continue
            for hop in reversed(range(depth)):
                assert octets[0] == f.RELAY_REPLY and octets[1] == hop, octets[:34].hex()
                inside = dict(f.parse_options(octets[34:]))
                assert octets[2:18] == f.packed(link if hop == 0 else "::")
                assert octets[18:34] == f.packed("fe80::1:2:3" if hop == 0 else "2001:db8:64:b::1")
                if hop == 0:
                    assert inside.get(f.INTERFACE_ID) == interface_id
                octets = inside[f.RELAY_MSG]
            return f.Message(octets)
    assert may_be_silent, "no Relay-reply"
    return None


# --- message by message ----------------------------------------------------------------------------


class TestMessages:
    def test_rfc9915_18_3_9_an_advertise_says_what_a_request_will_get(self, raw):
        client = raw()
        advertise = client.solicit(f.ia_na(7))
        (ia,) = advertise.ias
        assert (ia.iaid, len(ia.leases)) == (7, 1)
        assert advertise.one(f.CLIENT_ID) == client.duid and advertise.one(f.SERVER_ID)
        # Preference 255: no need to wait for other servers (RFC 9915 18.2.1).
        assert advertise.one(f.PREFERENCE) == b"\xff"
        (offered,) = ia.leases
        reply = client.request(f.ia_na(7, offered))
        (ia,) = reply.ias
        assert ia.leases == {offered: (PREFERRED, VALID)}
        assert 0 < ia.t1 <= ia.t2 <= PREFERRED
        packet = reply.packet
        assert (packet.src, packet[IPv6].src) == (n.GW_TENANT_MAC, n.GW_TENANT_LL)
        assert (packet.dst, packet[IPv6].dst, packet[f.UDP].sport) == (client.mac, client.link_local, 547)

    def test_options_come_when_they_are_asked_for(self, raw):
        """RFC 9915 21.7: what the Option Request names, and nothing of it otherwise."""
        client = raw()
        wanted = {
            f.DNS_SERVERS: f.packed(n.DNS64),
            f.DOMAIN_LIST: b"\3lab\7example\0",
            f.BOOT_URL: b"http://[2001:db8:64::80]/boot",
            f.SOL_MAX_RT: struct.pack("!I", 3600),
            f.INF_MAX_RT: struct.pack("!I", 7200),
            f.CAPTIVE: b"https://portal.example/api",
            # RFC 5908 4.1: an address of a server.
            f.NTP: f.option(1, f.packed("2001:db8:64::123")),
        }
        # RFC 9463 3: priority, name, addresses, parameters (alpn = dot).
        name = b"\3dns\7example\0"
        wanted[f.DNR] = (
            struct.pack("!HH", 1, len(name)) + name + struct.pack("!H", 16) + f.packed(n.DNS64) + b"\0\1\0\4\3dot"
        )
        asked = f.option(f.ORO, struct.pack(f"!{len(wanted)}H", *wanted))
        got = client.solicit(f.ia_na(1), asked)
        assert {code: got.one(code) for code in wanted} == wanted
        information = client.ask(client.message(f.INFORMATION, asked))
        # The boot file URL may depend on who it is: not judged here.
        assert {c: information.one(c) for c in wanted if c != f.BOOT_URL} == {
            c: v for c, v in wanted.items() if c != f.BOOT_URL
        }
        assert information.ias == []
        bare = client.solicit(f.ia_na(1))
        assert [c for c in (f.BOOT_URL, f.NTP, f.CAPTIVE, f.DNR) if bare.one(c)] == []

    def test_rfc9915_18_3_4_renew_of_a_known_lease(self, raw):
        client = raw()
        address, _ = client.bind()
        assert client.renew(address).leases == [address]

    def test_rfc9915_18_3_4_renew_of_an_unknown_lease_is_no_binding(self, raw):
        client = raw()
        client.solicit(f.ia_na(1))
        got = client.renew("2001:db8:64::1abc")
        assert got.kind == f.REPLY
        (ia,) = got.ias
        # Either NoBinding, or the lease is made (the RFC leaves the choice), but never silence.
        assert ia.status == f.NO_BINDING or got.leases

    def test_rfc9915_18_3_5_rebind_without_server_identifier(self, raw):
        client = raw()
        address, _ = client.bind()
        assert client.renew(address, kind=f.REBIND).leases == [address]

    def test_rfc9915_18_3_5_rebind_of_an_address_of_another_link_ends_it(self, raw):
        client = raw()
        got = client.renew("2001:db8:77::5", kind=f.REBIND)
        assert got is not None and got.leases == []
        (ia,) = got.ias
        assert ia.leases.get("2001:db8:77::5") == (0, 0) or ia.status == f.NO_BINDING

    def test_rfc9915_18_3_3_confirm(self, raw):
        client = raw()
        address, _ = client.bind()
        confirm = client.message(f.CONFIRM, f.ia_na(1, address))
        assert client.ask(confirm).status == f.SUCCESS
        assert client.ask(client.message(f.CONFIRM, f.ia_na(1, "2001:db8:77::5"))).status == f.NOT_ON_LINK

    def test_rfc9915_18_3_2_request_of_an_address_of_another_link(self, raw):
        client = raw()
        client.solicit(f.ia_na(1))
        got = client.request(f.ia_na(1, "2001:db8:77::5"))
        (ia,) = got.ias
        assert ia.status == f.NOT_ON_LINK or got.leases

    def test_release_and_the_same_again(self, raw):
        """A released address rests before anybody else gets it; its client gets it back."""
        client = raw()
        address, _ = client.bind()
        got = client.renew(address, kind=f.RELEASE)
        assert got.kind == f.REPLY and got.status == f.SUCCESS
        assert raw().bind()[0] != address
        assert client.bind()[0] == address

    def test_release_of_somebody_elses_address_changes_nothing(self, raw):
        owner, thief = raw(), raw()
        address, _ = owner.bind()
        thief.bind()
        got = thief.renew(address, kind=f.RELEASE)
        assert got is not None and (got.ias == [] or got.ias[0].status == f.NO_BINDING)
        assert [r["mac"] for r in f.leases("--address", address) if r["state"] == "active"] == [owner.mac]

    def test_a_declined_address_is_given_to_nobody(self, raw):
        """Somebody uses it without asking: it is set aside, and said so."""
        client = raw()
        address, _ = client.bind()
        got = client.renew(address, kind=f.DECLINE)
        assert got.kind == f.REPLY and got.status == f.SUCCESS
        others = {client.bind()[0], *(raw().bind()[0] for _ in range(4))}
        assert address not in others and len(others) == 5
        assert {r["state"] for r in f.leases("--address", address)} == {"declined"}
        assert f.log_has(address, "eclined")

    def test_rapid_commit_is_answered_by_an_advertise_where_it_is_off(self, raw):
        client = raw()
        got = client.solicit(f.ia_na(1), f.option(f.RAPID_COMMIT))
        assert got.kind == f.ADVERTISE and got.one(f.RAPID_COMMIT) is None

    def test_several_associations_get_an_address_each(self, raw):
        client = raw()
        got = client.solicit(f.ia_na(1), f.ia_na(2), f.ia_na(3), f.ia_pd(9))
        assert len({a for ia in got.ias for a in ia.leases}) == 3
        assert len(got.pds) == 1 and got.pds[0].leases
        offered = [a for ia in got.ias for a in ia.leases]
        reply = client.request(*(f.ia_na(i, a) for i, a in enumerate(offered, 1)), f.ia_pd(9, *got.pds[0].leases))
        assert len(reply.leases) == 4

    def test_delegated_prefixes_are_of_the_configured_length_and_no_two_alike(self, raw):
        seen = set()
        for _ in range(3):
            client = raw()
            got = client.solicit(f.ia_pd(1))
            got = client.request(f.ia_pd(1, *got.pds[0].leases))
            (prefix,) = got.leases
            network = ipaddress.ip_network(prefix)
            assert network.prefixlen == 64 and network.subnet_of(ipaddress.ip_network(n.DELEGATED))
            seen.add(prefix)
        assert len(seen) == 3

    def test_a_temporary_address_is_answered_by_a_status(self, raw):
        client = raw()
        got = client.ask(client.message(f.SOLICIT, f.option(f.IA_TA, struct.pack("!I", 5))))
        assert got is not None and got.leases == []


class TestIdentity:
    """Reservations by the frame's MAC address: the same server gets the same address whatever it runs."""

    def test_pxe_then_installer_then_system(self, raw):
        """Three DUIDs and three IAIDs of one machine: one address."""
        client = raw(PXE)
        for number, duid in enumerate((b"\0\1\0\1\1\2\3\4" + b"p" * 6, b"\0\4" + b"u" * 16, b"\0\2\0\0\xab\x11os")):
            client.duid = duid
            address, _ = client.bind(iaid=100 + number)
            assert address == "2001:db8:64::1f1"

    def test_a_cloned_machine_id(self, raw):
        """One DUID and one IAID on two machines: each has its own reserved address."""
        duid = b"\0\2\0\0\xab\x11cloned!!"
        assert raw(PXE, duid=duid).bind(iaid=5)[0] == "2001:db8:64::1f1"
        assert raw(CLONED, duid=duid).bind(iaid=5)[0] == "2001:db8:64::1f2"

    def test_a_cloned_machine_id_without_reservations(self, raw):
        duid = b"\0\2\0\0\xab\x11cloned??"
        first, second = raw(duid=duid), raw(duid=duid)
        one, two = first.bind(iaid=5)[0], second.bind(iaid=5)[0]
        assert one != two
        assert first.renew(one, iaid=5).leases == [one]
        assert second.renew(two, iaid=5).leases == [two]

    def test_nobody_else_gets_a_reserved_address(self, raw):
        """Not even who asks for it."""
        client = raw()
        client.solicit(f.ia_na(1))
        got = client.request(f.ia_na(1, "2001:db8:64::1f1"))
        assert "2001:db8:64::1f1" not in got.leases

    @pytest.mark.parametrize("octets", [3, 4, 20, 129, 130])
    def test_duids_of_every_length(self, raw, octets):
        address, reply = raw(duid=b"\0\2" + os.urandom(octets - 2)).bind()
        assert f.in_pool(address) and reply.one(f.CLIENT_ID)

    def test_who_had_it_is_told(self, raw):
        """Attribution: every lease event is kept."""
        client = raw()
        address, _ = client.bind()

        def who():
            done = gw.causeway("leases", "who", address, "--json", "--socket", n.SOCKET, check=False)
            return done.returncode, [(w["event"], w["lease"]["mac"], w["held"]) for w in json.loads(done.stdout)["who"]]

        assert who() == (0, [("given", client.mac, True)])
        client.renew(address, kind=f.RELEASE)
        # Nobody holds it now; who had it last is told nevertheless.
        code, rows = who()
        assert code == 1 and rows[0] == ("released", client.mac, False)


class TestBadInput:
    """Refused for one reason each; the gateway goes on."""

    @pytest.fixture(autouse=True)
    def goes_on(self, raw):
        yield
        raw().bind()

    @pytest.mark.parametrize(
        "sentence, make",
        [
            ("no client identifier", lambda c: c.message(f.SOLICIT, f.ia_na(1), client_id=False)),
            ("a server identifier in a Solicit", lambda c: c.message(f.SOLICIT, f.ia_na(1), f.option(f.SERVER_ID, b"\0\2x" * 3))),
            ("a Request without server identifier", lambda c: c.message(f.REQUEST, f.ia_na(1))),
            (
                "a Request to another server",
                lambda c: c.message(f.REQUEST, f.ia_na(1), f.option(f.SERVER_ID, b"\0\3\0\1another")),
            ),
            ("a Renew without server identifier", lambda c: c.message(f.RENEW, f.ia_na(1))),
            ("an empty message", lambda c: b""),
            ("half a header", lambda c: b"\1\2"),
            ("an option that is cut", lambda c: c.message(f.SOLICIT) + b"\0\3\0\x28abc"),
            ("half an option's header", lambda c: c.message(f.SOLICIT, f.ia_na(1)) + b"\0\3"),
            ("an association of no identifier", lambda c: c.message(f.SOLICIT, f.option(f.IA_NA, b"\0\0"))),
            (
                "an address option that is cut",
                lambda c: c.message(f.SOLICIT, f.option(f.IA_NA, bytes(12) + f.option(f.IA_ADDR, b"short"))),
            ),
            ("two client identifiers", lambda c: c.message(f.SOLICIT, f.option(f.CLIENT_ID, b"\0\3\0\1zz"), f.ia_na(1))),
            ("an empty DUID", lambda c: c.message(f.SOLICIT, f.option(f.CLIENT_ID, b""), f.ia_na(1), client_id=False)),
            (
                "a DUID of 131 octets",
                lambda c: c.message(f.SOLICIT, f.option(f.CLIENT_ID, bytes(131)), f.ia_na(1), client_id=False),
            ),
            ("a kind of message that there is not", lambda c: c.message(200, f.ia_na(1))),
            ("a Reply", lambda c: c.message(f.REPLY, f.ia_na(1))),
            ("an Advertise", lambda c: c.message(f.ADVERTISE, f.ia_na(1))),
            ("80 associations, as many as a frame holds", lambda c: c.message(f.SOLICIT, *(f.ia_na(i) for i in range(80)))),
            ("a relay without message", lambda c: bytes([f.RELAY_FORWARD, 0]) + bytes(32)),
            ("half a relay's header", lambda c: bytes([f.RELAY_FORWARD, 0]) + bytes(10)),
        ],
        ids=lambda x: x if isinstance(x, str) else "",
    )
    def test_is_refused_for_one_reason(self, raw, sentence, make):
        client = raw()
        client.solicit(f.ia_na(1))
        with f.one_drop():
            assert client.silent(make(client))

    @pytest.mark.parametrize(
        "sentence, wire",
        [
            ("a bad checksum", {"chksum": 0x1234}),
            ("no checksum (RFC 8200 8.1)", {"chksum": 0}),
            ("a length that lies", {"len": 400}),
        ],
        ids=lambda x: x if isinstance(x, str) else "",
    )
    def test_a_bad_datagram_is_refused_for_one_reason(self, raw, sentence, wire):
        client = raw()
        with f.one_drop():
            assert client.silent(client.message(f.SOLICIT, f.ia_na(1)), **wire)

    def test_rfc9915_16_a_unicast_message_of_a_client_is_not_served(self, raw):
        client = raw()
        with f.one_drop():
            assert client.silent(client.message(f.SOLICIT, f.ia_na(1)), dst=n.GW_TENANT_LL, hlim=64)

    def test_a_global_source_is_no_client(self, raw):
        client = raw()
        with f.one_drop():
            assert client.silent(client.message(f.SOLICIT, f.ia_na(1)), src="2001:db8:64::1777")

    def test_every_truncation_of_a_request(self, raw):
        """Each is refused or answered, none does harm, and each one is counted."""
        client = raw()
        advertise = client.solicit(f.ia_na(1))
        whole = client.message(f.REQUEST, f.ia_na(1, *advertise.leases), f.option(f.ORO, b"\0\x17"), server_id=True)
        drops = sum(gw.drops().values())
        for length in range(len(whole)):
            client.send(whole[:length])
            time.sleep(0.005)
        answers = len(list(client.replies(1.0)))
        tools.wait_until(
            lambda: sum(gw.drops().values()) - drops + answers >= len(whole),
            3,
            lambda: f"{sum(gw.drops().values()) - drops} drops, {answers} answers, {len(whole)} messages",
        )

    def test_random_octets_do_no_harm(self, raw):
        client, rng = raw(), random.Random(20261123)
        whole = client.message(f.SOLICIT, f.ia_na(1, "2001:db8:64::1009"), f.ia_pd(2), f.option(f.ORO, b"\0\x17\0\x18"))
        for i in range(1500):
            octets = bytearray(whole)
            for _ in range(rng.randrange(1, 8)):
                octets[rng.randrange(len(octets))] = rng.randrange(256)
            client.send(bytes(octets))
            if i % 50 == 0:
                time.sleep(0.02)
        tools.ping(n.VM1, n.V6ONLY)

    def test_one_client_does_not_take_the_pool(self, raw):
        """Associations without end from one MAC address: no more than the bound is leased to it."""
        client = raw()
        for first in range(0, 40, 8):
            client.server_id = client.solicit(f.ia_na(first)).one(f.SERVER_ID)
            client.ask(client.message(f.REQUEST, *(f.ia_na(i) for i in range(first, first + 8)), server_id=True))
        rows = [r for r in f.leases("--mac", client.mac) if r["state"] == "active"]
        assert 0 < len(rows) <= 8
        got = client.solicit(f.ia_na(99))
        assert got.leases == [] and (got.status == f.NO_ADDRS or got.ias[0].status == f.NO_ADDRS)


class TestSmallPool:
    """A pool of two addresses and one prefix."""

    LAB = {
        "dhcpv6": """[network.dhcpv6]
pools = ["2001:db8:64::1000-2001:db8:64::1001"]
delegate = [{ prefix = "2001:db8:64:8000::/64", length = 64 }]
rapid-commit = true
"""
    }

    def test_who_comes_too_late_gets_a_clear_status(self, raw):
        assert {raw().bind()[0] for _ in range(2)} == {"2001:db8:64::1000", "2001:db8:64::1001"}
        late = raw()
        got = late.solicit(f.ia_na(1))
        # RFC 9915 18.3.9: NoAddrsAvail, in the association or for all of it.
        assert got.leases == [] and f.NO_ADDRS in (got.status, got.ias[0].status if got.ias else None)
        got = late.request(f.ia_na(1))
        assert got.leases == [] and f.NO_ADDRS in (got.status, got.ias[0].status if got.ias else None)

    def test_who_comes_too_late_for_a_prefix(self, raw):
        client = raw()
        got = client.solicit(f.ia_pd(1))
        assert client.request(f.ia_pd(1, *got.pds[0].leases)).leases == ["2001:db8:64:8000::/64"]
        got = raw().solicit(f.ia_pd(1))
        assert got.leases == [] and f.NO_PREFIX in (got.status, got.pds[0].status if got.pds else None)

    def test_rapid_commit(self, raw):
        """RFC 9915 18.3.1: two messages instead of four. (The reserved addresses are not of the pool.)"""
        client = raw(n.VM1_MAC)
        got = client.ask(client.message(f.SOLICIT, f.ia_na(77), f.option(f.RAPID_COMMIT)))
        assert got.kind == f.REPLY and got.one(f.RAPID_COMMIT) == b""


# --- what lasts ------------------------------------------------------------------------------------


class TestDurable:
    LAB = {"gateway": "# Its leases last."}

    def test_kill_9_loses_no_lease_that_was_answered(self, raw, first_hop):
        """In the middle of many clients' requests; afterwards each has what it was told, and no two the same."""
        clients = [raw() for _ in range(6)]
        told = {}
        for turn in range(3):
            # Killed after so many replies, without any warning.
            for client in clients[: turn + 3]:
                address, _ = client.bind(iaid=turn + 1)
                assert told.setdefault(address, client.mac) == client.mac
            lab_module.kill_gateway(n.FIRST)
            lab_module.start_gateway(first_hop)
        for client in clients:
            for address in [a for a, mac in told.items() if mac == client.mac]:
                rows = [r for r in f.leases("--address", address) if r["state"] == "active"]
                assert [r["mac"] for r in rows] == [client.mac], address
        fresh = [raw().bind()[0] for _ in range(5)]
        assert not set(fresh) & set(told)

    def test_the_server_identifier_outlives_a_restart(self, raw, first_hop):
        client = raw()
        address, _ = client.bind()
        before = client.server_id
        f.stop()
        lab_module.start_gateway(first_hop)
        assert client.renew(address).leases == [address]
        client.solicit(f.ia_na(1))
        assert client.server_id == before

    def test_an_ordered_stop_and_start_keep_every_lease(self, raw, first_hop):
        clients = [raw() for _ in range(4)]
        addresses = [c.bind()[0] for c in clients]
        f.stop()
        lab_module.start_gateway(first_hop)
        assert [c.renew(a).leases for c, a in zip(clients, addresses, strict=True)] == [[a] for a in addresses]


class TestDisk:
    """A full or read-only disk: renewals go on, new leases get a clear status, the alarm is visible."""

    @pytest.fixture
    def disk(self, tmp_path):
        """A small disk of its own (ext4 on a loop device)."""
        place, image = tmp_path / "disk", Path("/var/tmp") / f"causeway-e2e-{os.getpid()}.img"
        place.mkdir()
        with open(image, "wb") as out:
            out.truncate(16 << 20)
        try:
            netns.run("mkfs.ext4", "-q", "-m", "0", image)
            netns.run("mount", "-o", "loop", image, place)
            yield place
            netns.run("umount", "-l", place)
        finally:
            image.unlink()

    @pytest.fixture
    def first_hop(self, labs, disk):
        labs.close()
        complaints = ("lease", "disk", "read-only", "readonly", "full")
        with f.lab_with(labs.folder, server=f'leases = "{disk}/leases.db"\n', allowed=complaints) as config:
            yield config

    def fill(self, disk):
        with contextlib.suppress(OSError), open(disk / "fill", "wb", buffering=0) as out:
            for size in (65536, 4096, 512, 1):
                with contextlib.suppress(OSError):
                    while True:
                        out.write(bytes(size))

    @pytest.mark.parametrize("how", ["full", "read-only"])
    def test_a_disk_that_takes_nothing(self, disk, first_hop, raw, how):
        client = raw()
        address, _ = client.bind()
        if how == "full":
            self.fill(disk)
        else:
            # As the kernel does it when a disk fails: files that are open become read-only too.
            netns.run("mount", "-o", "remount,abort", disk, check=False)
            with pytest.raises(OSError, match="Read-only"):
                (disk / "x").touch()
        # Known leases go on; at first it may not have noticed that the disk is no good.
        for _ in range(3):
            assert client.renew(address).leases == [address]
        newcomer = raw()
        got = newcomer.solicit(f.ia_na(1))
        if got.leases:
            got = newcomer.request(f.ia_na(1, *got.leases))
        assert got.leases == [], f"a lease that is not on disk: {got}"
        statuses = {got.status, *(ia.status for ia in got.ias)} - {None}
        assert statuses & {f.NO_ADDRS, f.UNSPEC_FAIL}, got
        assert f.log_has("ERROR", "lease") or f.log_has("WARN", "lease")
        # Whoever has a reservation is served as well.
        assert raw(n.VM1_MAC).bind()[0] == n.VM1_ADDR
        if how == "read-only":
            # Such a disk does not come back without being mounted anew.
            return
        (disk / "fill").unlink()

        def works_again():
            with contextlib.suppress(AssertionError):
                return raw().bind()[0]

        tools.wait_until(works_again, 30, "no new lease although the disk is well again")
        assert client.renew(address).leases == [address]

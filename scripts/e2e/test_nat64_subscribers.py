"""Subscribers, tenants, static mappings and port allocation on a live gateway, with real programs."""

import ipaddress
import json
import time

import gateway as gw
import live as live_lab
import netns
import network as n
import pytest
import tools
from live import counted, echoed, mapping
from tools import closing

TARGET = n.nat64(n.V4ONLY)
POOL = ipaddress.ip_network(n.POOL4)
# Routed to the gateway, and in no pool.
OWN = "203.0.113.16"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    yield from live_lab.labs(tmp_path_factory, "subscribers")


@pytest.fixture
def live(shared):
    """As the lab's file has it, before and after each test; flows of the test before have ended."""
    short = "".join(f'{key} = "1s"\n' for key in ("udp", "icmp", "tcp-transitory", "tcp-established"))
    shared.set(sections=f"[nat64.timeouts]\n{short}", keys='hold-down = "off"')
    tools.wait_until(lambda: not gw.sessions() and not dynamic(), 20, "flows did not expire")
    shared.set()
    yield shared
    shared.set()


def dynamic():
    return [r for r in gw.show("mappings", "--limit", "0")["mappings"] if not r["static"]]


def static():
    """The static mappings but those of the lab's own file, which are the port maps of the shared address."""
    return [r for r in gw.show("mappings", "--static")["mappings"] if r["outside"] != n.PROXY]


def statically(protocol, outside, inside):
    return f'[[nat64.static]]\nprotocol = "{protocol}"\noutside = "{outside}"\ninside = "{inside}"\n'


def tenant(name, prefix, more=""):
    return f'[[nat64.tenant]]\nname = "{name}"\nprefixes = ["{prefix}/128"]\n{more}\n'


def udp_sockets(ns, address, count, timeout=0.5):
    return [tools.udp(ns, address, timeout=timeout) for _ in range(count)]


# --- static mappings -------------------------------------------------------------------------------

FILTERINGS = ["endpoint-independent", "address-dependent", "address-and-port-dependent"]


def test_rfc6146_3_1_ssh_reaches_a_server_by_its_static_mapping(live):
    # The lab's own way to this server, a port map, makes room: an inside port has one mapping.
    way = f'[[splicer.port-map]]\nprotocol = "tcp"\noutside = "{n.PROXY}:2201"\ninside = "[{n.VM1_ADDR}]:22"\n'
    changed = live.set(
        sections=statically("tcp", "203.0.113.5:2222", f"[{n.VM1_ADDR}]:22"), replace=[(way, "")]
    )
    assert "nat64.static[tcp 203.0.113.5:2222]" in changed
    options = ["-i", n.RUN / "client_key", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]
    options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5", "-b", n.CLIENT4, "-p", "2222"]
    out = netns.ns_run(n.INET, "ssh", *options, "root@203.0.113.5", "echo $SSH_CONNECTION").stdout.split()
    assert (out[0], out[2], out[3]) == (n.nat64(n.CLIENT4), n.VM1_ADDR, "22")
    assert [(r["protocol"], r["outside"], r["outside_port"], r["inside"], r["inside_port"]) for r in static()] == [
        ("tcp", "203.0.113.5", 2222, n.VM1_ADDR, 22)
    ]
    assert "static" in gw.show_text("mappings", "--static")


@pytest.mark.parametrize("filtering", FILTERINGS)
@pytest.mark.parametrize("address", ["203.0.113.5", OWN], ids=["of the pool", "of no pool"])
def test_a_static_mapping_lets_everybody_in_whatever_the_filtering(live, filtering, address):
    sections = "".join(
        statically(protocol, f"{address}:7007", f"[{n.VM1_ADDR}]:{n.ECHO_PORT}") for protocol in ("tcp", "udp")
    )
    live.set(f'filtering = "{filtering}"', sections=sections)
    tools.wait_until(lambda: len(static()) == 2)
    with tools.tcp_client(n.INET, address, 7007, n.CLIENT4) as s:
        s.sendall(b"over tcp")
        assert tools.receive_all(s, 8) == b"over tcp"
    with tools.udp(n.INET, n.CLIENT4) as s:
        s.sendto(b"over udp", (address, 7007))
        assert s.recvfrom(100) == (b"over udp", (address, 7007))
    # A name for the gateway's own network: ARP for an address of no pool is answered too.
    assert netns.ns_run(n.INET, "arping", "-c1", "-w2", "-I", "up0", address, check=False).returncode == 0


def test_a_static_mapping_is_used_outwards_as_well(live):
    live.set(sections=statically("udp", "203.0.113.5:9200", f"[{n.VM1_ADDR}]:9100"))
    tools.wait_until(static)
    with closing(tools.udp(n.VM1, n.VM1_ADDR, 9100), tools.udp(n.INET, n.V4ONLY)) as (inside, server):
        inside.sendto(b"out", (TARGET, server.getsockname()[1]))
        assert server.recvfrom(10) == (b"out", ("203.0.113.5", 9200))


def test_a_static_mapping_comes_and_goes_with_a_reload(live):
    fixed = statically("udp", "203.0.113.5:7007", f"[{n.VM1_ADDR}]:{n.ECHO_PORT}")
    with tools.udp(n.INET, n.CLIENT4, timeout=0.3) as s:
        with counted(drop_nat64_no_bib=1):
            s.sendto(b"before", ("203.0.113.5", 7007))
        live.set(sections=fixed)
        tools.wait_until(static)
        s.sendto(b"there", ("203.0.113.5", 7007))
        assert s.recv(10) == b"there"
        # To another server: at once, and not to the one before.
        live.set(sections=fixed.replace(n.VM1_ADDR, n.VM2_ADDR))
        tools.wait_until(lambda: [r["inside"] for r in static()] == [n.VM2_ADDR], 10)
        with tools.udp(n.INET, n.RESOLVER) as other:
            other.sendto(b"moved", ("203.0.113.5", 7007))
            assert other.recv(10) == b"moved"
            (row,) = gw.sessions("--protocol", "udp", "--remote", n.RESOLVER)
            assert (row["inside"], row["inside_port"]) == (n.VM2_ADDR, n.ECHO_PORT)
        live.set(sections='[nat64.timeouts]\nudp = "1s"\n')
        tools.wait_until(lambda: not gw.show("mappings", "--protocol", "udp")["mappings"], 15, "the mapping stayed")
        with counted(drop_nat64_no_bib=1):
            s.sendto(b"after", ("203.0.113.5", 7007))


# --- tenants ---------------------------------------------------------------------------------------


def seen(ns):
    return tools.curl(ns, f"http://[{TARGET}]/whoami").split()[0]


def test_a_tenant_leaves_by_its_own_address_and_nobody_else_does(live):
    before = seen(n.VM2)
    assert ipaddress.ip_address(before) in POOL
    changed = live.set(sections=tenant("shop", n.VM2_ADDR, f'pool = ["{OWN}"]'))
    assert changed == {"nat64.tenant[shop]"}
    assert seen(n.VM2) == OWN
    assert ipaddress.ip_address(seen(n.VM1)) in POOL
    tools.ping(n.VM2, TARGET)
    tools.ping(n.VM1, TARGET)
    rows = [r for r in gw.show("pool", "--tenant", "shop")["pool"] if r["in_use"]]
    assert {r["address"] for r in rows} == {OWN} and {"tcp", "icmp"} <= {r["protocol"] for r in rows}
    live.set()
    assert ipaddress.ip_address(seen(n.VM2)) in POOL


def test_a_tenant_that_gets_an_address_of_its_own_leaves_no_flow_behind(live):
    """A flow by the shared pool ends, and its next packet makes one by the tenant's address."""
    with closing(tools.udp(n.VM2, n.VM2_ADDR), tools.udp(n.VM1, n.VM1_ADDR), tools.udp(n.INET, n.V4ONLY)) as (
        theirs,
        others,
        server,
    ):
        to = (TARGET, server.getsockname()[1])
        theirs.sendto(b"1", to)
        assert ipaddress.ip_address(server.recvfrom(10)[1][0]) in POOL
        others.sendto(b"1", to)
        stays = server.recvfrom(10)[1]
        live.set(sections=tenant("shop", n.VM2_ADDR, f'pool = ["{OWN}"]'))

        def moved():
            theirs.sendto(b"2", to)
            return server.recvfrom(10)[1][0] == OWN

        # Every flow is judged once in four seconds.
        tools.wait_until(moved, 10, "the flow never left the shared pool")
        others.sendto(b"3", to)
        assert server.recvfrom(10) == (b"3", stays)


# --- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key, reason", [("ports-max", "ports"), ("sessions-max", "sessions")])
def test_rfc6888_3_req_4_and_5_a_subscriber_has_so_much_and_its_neighbour_loses_nothing(live, key, reason):
    live.set(limits=f"{key} = 8")
    greedy, modest = udp_sockets(n.VM1, n.VM1_ADDR, 20), udp_sockets(n.VM2, n.VM2_ADDR, 8)
    with closing(*greedy, *modest):
        with counted(**{f"drop_nat64_subscriber_{reason}": 12}):
            assert len(echoed(greedy, TARGET)) == 8
        assert len(echoed(modest, TARGET)) == 8
        # What is there goes on.
        assert len(echoed(greedy[:8], TARGET)) == 8
        # A limit that is lifted holds at once.
        live.set()
        assert len(echoed(greedy, TARGET)) == 20


def test_a_tenants_limit_is_its_own(live):
    live.set(limits="ports-max = 4", sections=tenant("shop", n.VM2_ADDR, 'ports-max = "off"'))
    small, large = udp_sockets(n.VM1, n.VM1_ADDR, 10), udp_sockets(n.VM2, n.VM2_ADDR, 10)
    with closing(*small, *large):
        assert (len(echoed(small, TARGET)), len(echoed(large, TARGET))) == (4, 10)


def test_new_sessions_come_at_the_configured_rate(live):
    live.set(limits="new-sessions-per-second = 2\nnew-sessions-burst = 5")
    hasty, other = udp_sockets(n.VM1, n.VM1_ADDR, 30, 0.2), udp_sockets(n.VM2, n.VM2_ADDR, 5)
    with closing(*hasty, *other):
        first = len(echoed(hasty[:15], TARGET))
        assert 5 <= first <= 8, first
        assert gw.drops()["nat64-subscriber-rate"] >= 15 - first
        assert len(echoed(other, TARGET)) == 5
        # Two seconds later there are four more.
        time.sleep(2)
        later = len(echoed(hasty[15:], TARGET))
        assert 3 <= later <= 8, later


def test_a_promise_of_ports_is_kept_while_another_takes_all_it_can(live):
    """64 ports for all, 8 of them promised to each subscriber."""
    small = [('pool = ["203.0.113.0/28"]', 'pool = ["203.0.113.4/32"]\nports = "2048-2111"')]
    live.set(limits="ports-min = 8", replace=small)
    greedy, seen_late = udp_sockets(n.VM1, n.VM1_ADDR, 80, 0.3), udp_sockets(n.VM2, n.VM2_ADDR, 8)
    with closing(*greedy, *seen_late):
        got = len(echoed(greedy, TARGET))
        assert 8 <= got <= 56, got
        assert len(echoed(seen_late, TARGET)) == 8


def test_subscribers_are_shown_with_what_they_have(live):
    live.set(limits="ports-max = 8", sections=tenant("shop", n.VM2_ADDR))
    mine, theirs = udp_sockets(n.VM1, n.VM1_ADDR, 10), udp_sockets(n.VM2, n.VM2_ADDR, 3)
    with closing(*mine, *theirs):
        assert (len(echoed(mine, TARGET)), len(echoed(theirs, TARGET))) == (8, 3)
        rows = {r["prefix"]: r for r in gw.show("subscribers")["subscribers"]}
        vm1, vm2 = rows[f"{n.VM1_ADDR}/128"], rows[f"{n.VM2_ADDR}/128"]
        assert (vm1["name"], vm1["ports"]["udp"], vm1["sessions"], vm1["refused"]["ports"]) == (None, 8, 8, 2)
        assert (vm2["name"], vm2["ports"]["udp"], vm2["refused"]["ports"]) == ("shop", 3, 0)
        only = gw.show("subscribers", "--source", n.VM1_ADDR)["subscribers"]
        assert [r["prefix"] for r in only] == [f"{n.VM1_ADDR}/128"]
        assert "shop" in gw.show_text("subscribers")


# --- port allocation -------------------------------------------------------------------------------


def outsides(sockets, ns, address):
    assert len(echoed(sockets, TARGET)) == len(sockets)
    return {mapping("udp", s.getsockname()[1], address) for s in sockets}


def test_ports_come_in_blocks(live):
    """40 flows take one block of 64 ports; 70 take two, on the same address."""
    live.set(sections='[nat64.allocation]\nmode = "blocks"\nblock-size = 64\n')
    mine, theirs = udp_sockets(n.VM1, n.VM1_ADDR, 70), udp_sockets(n.VM2, n.VM2_ADDR, 10)
    with closing(*mine, *theirs):
        first = outsides(mine[:40], n.VM1, n.VM1_ADDR)
        assert len({(a, port // 64) for a, port in first}) == 1, first
        both = first | outsides(mine[40:], n.VM1, n.VM1_ADDR)
        blocks = {(a, port // 64) for a, port in both}
        assert len(blocks) == 2 and len({a for a, _ in blocks}) == 1, blocks
        others = {(a, port // 64) for a, port in outsides(theirs, n.VM2, n.VM2_ADDR)}
        assert len(others) == 1 and not others & blocks
        row = {r["prefix"]: r for r in gw.show("subscribers")["subscribers"]}[f"{n.VM1_ADDR}/128"]
        shown = {(b["address"], b["first"] // 64) for b in row["blocks"]}
        assert shown == blocks and all(b["last"] == b["first"] + 63 for b in row["blocks"])


def computed(live, what, check=True):
    done = gw.causeway("nat64", "deterministic", "--config", live.path, "--json", what, check=check)
    return json.loads(done.stdout) if done.returncode == 0 else done


def test_rfc7422_the_calculation_agrees_with_what_servers_see(live):
    live.set(sections='[nat64.allocation]\nmode = "deterministic"\nhosts = ["2001:db8:64::100/120"]\n')
    for ns, address in ((n.VM1, n.VM1_ADDR), (n.VM2, n.VM2_ADDR)):
        row = computed(live, address)
        assert row["subscriber"] == f"{address}/128"
        sockets = udp_sockets(ns, address, 20)
        with closing(*sockets):
            for a, port in outsides(sockets, ns, address):
                assert a == row["address"] and row["first_port"] <= port <= row["last_port"]
                assert computed(live, f"{a}:{port}")["subscriber"] == f"{address}/128"
        server = seen(ns)
        assert server == row["address"]
    assert computed(live, "2001:db8:64::999", check=False).returncode == 1
    assert computed(live, "192.0.2.1:80", check=False).returncode == 1
    assert computed(live, "192.0.2.1", check=False).returncode == 2


def test_allocation_changes_and_flows_that_are_there_go_on_or_end_whole(live):
    """From single ports to blocks and back: TCP keeps its port, and each new flow obeys the new mode."""
    with tools.tcp_client(n.VM1, TARGET, n.ECHO_PORT) as s:
        port = s.getsockname()[1]
        before = mapping("tcp", port)
        for sections in ('[nat64.allocation]\nmode = "blocks"\nblock-size = 64\n', ""):
            live.set(sections=sections)
            s.sendall(b"still there")
            assert tools.receive_all(s, 11) == b"still there"
            assert mapping("tcp", port) == before
            sockets = udp_sockets(n.VM1, n.VM1_ADDR, 10)
            with closing(*sockets):
                got = {(a, p // 64) for a, p in outsides(sockets, n.VM1, n.VM1_ADDR)}
                assert (len(got) == 1) == bool(sections), got

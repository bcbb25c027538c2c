"""Policies of DNS64: views, names that are always, never, locally or not at all answered, limits, reload, flush,
two workers and a pair of gateways."""

import ipaddress
import json
import time

import clients
import dnstools
import failover
import gateway as gw
import lab as lab_module
import network as n
import pytest
import tools
from conftest import lab_command
from dnstools import addresses, dig
from live import counted

SYNTHESISED = n.nat64(n.V4ONLY)
OTHER_PREFIX = "2001:db8:64:ffff::"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    yield from dnstools.labs(tmp_path_factory, "policies")


@pytest.fixture
def live(shared):
    yield shared
    shared.dns()


def view(keys, name="two", sources=(f"{n.VM2_ADDR}/128",)):
    """A view for vm2."""
    return f'[[dns64.view]]\nname = "{name}"\nsources = {json.dumps(list(sources))}\n{keys}\n'


def both(name, kind="AAAA", section="data"):
    """What vm1 and vm2 get."""
    return [dig(name, kind, ns=ns).data(kind) for ns in (n.VM1, n.VM2)]


# --- names -----------------------------------------------------------------------------------------


def test_names_that_are_always_synthesised(live):
    live.dns('always = ["registry.example"]')
    for _ in range(2):
        assert dig("registry.example", "AAAA").data("AAAA") == [SYNTHESISED]
        assert dig("registry.example", "A").data("A") == [n.V4ONLY]
        # Only that name and what is under it.
        assert dig("dual.example", "AAAA").data("AAAA") == [n.V6ONLY]
    # Who has no A record keeps its AAAA record.
    live.dns('always = ["v6only.example"]')
    assert dig("v6only.example", "AAAA").data("AAAA") == [n.V6ONLY]


def test_names_that_are_never_synthesised(live):
    live.dns('never = ["never.example"]')
    for _ in range(2):
        got = dig("never.example", "AAAA")
        assert got.status == "NOERROR" and not got.answer and "SOA" in got.types("authority")
        assert dig("v4only.example", "AAAA").data("AAAA") == [SYNTHESISED]


def test_blocked_names_do_not_exist_with_all_that_is_under_them(live):
    live.dns('block = ["blocked.example"]')
    with counted(dns64_blocked=4):
        for name in ("blocked.example", "under.blocked.example", "BLOCKED.Example", "a.b.blocked.example"):
            got = dig(name, "AAAA")
            assert got.status == "NXDOMAIN" and "15 (Blocked)" in got.text, got.text
    # Not what only ends with the same letters.
    assert dig("v4only.example", "AAAA").status == "NOERROR"


def test_names_that_are_answered_here(live):
    live.dns(
        sections='[[dns64.local]]\nname = "console.lab.example"\naddresses = ["2001:db8:64::77", "198.51.100.20"]\nttl = "1m"\n'
        '[[dns64.local]]\nname = "old.lab.example"\naddresses = ["198.51.100.21"]\n'
    )
    got = dig("Console.Lab.example", "AAAA")
    assert got.data("AAAA") == ["2001:db8:64::77"] and got.ttl("AAAA") == 60 and "aa" in got.flags
    assert dig("console.lab.example", "A").data("A") == ["198.51.100.20"]
    assert dig("old.lab.example", "AAAA").data("AAAA") == [n.nat64("198.51.100.21")]
    got = dig("console.lab.example", "TXT")
    assert got.status == "NOERROR" and not got.answer
    assert tools.vm1("getent", "ahostsv6", "console.lab.example").split()[0] == "2001:db8:64::77"


def test_which_ipv4_ranges_may_be_synthesised(live):
    live.dns('exclude-a = ["10.0.0.0/8"]')
    assert not dig("private.example", "AAAA").answer
    assert dig("v4only.example", "AAAA").data("AAAA") == [SYNTHESISED]
    live.dns('only-a = ["198.51.100.99/32"]')
    assert dig("two.example", "AAAA").data("AAAA") == [n.nat64(n.CLIENT4)]
    assert not dig("v4only.example", "AAAA").answer
    live.dns()
    assert dig("private.example", "AAAA").data("AAAA") == [n.nat64("10.0.0.1")]


def test_rfc6147_5_1_4_which_aaaa_do_not_count_can_be_told(live):
    live.dns('exclude-aaaa = ["2001:db8:6::/48"]')
    assert dig("dual.example", "AAAA").data("AAAA") == [SYNTHESISED]
    got = dig("v6only.example", "AAAA")
    assert got.status == "NOERROR" and not got.data("AAAA")
    # ::ffff:0:0/96 was replaced by that.
    assert dig("mapped-alone.example", "AAAA").data("AAAA") == [f"::ffff:{n.V4ONLY}"]


# --- views -----------------------------------------------------------------------------------------


def test_a_tenant_without_dns64(live):
    live.dns(sections=view("dns64 = false"))
    assert both("v4only.example") == [[SYNTHESISED], []]
    assert both("dual.example") == [[n.V6ONLY], [n.V6ONLY]]
    assert both("v4only.example", "A") == [[n.V4ONLY], [n.V4ONLY]]
    # The other way round, and from the cache too.
    assert both("v4only.example") == [[SYNTHESISED], []]


def test_a_tenant_with_a_prefix_of_its_own_shares_the_cache(live):
    """Whatever the prefix, an answer is kept once."""
    prefixes = f'prefixes = ["{n.NAT64_PREFIX}/96", "{OTHER_PREFIX}/96"]'
    live.dns(
        sections=view(f'prefix = "{OTHER_PREFIX}/96"'), replace=[(f'prefixes = ["{n.NAT64_PREFIX}/96"]', prefixes)]
    )
    dig("two.example", "AAAA")
    with counted(dns64_cache_hits=1, dns64_cache_misses=0):
        assert dig("two.example", "AAAA", ns=n.VM2).data("AAAA") == [f"{OTHER_PREFIX}c633:640a", f"{OTHER_PREFIX}c633:6463"]
    assert dig("ipv4only.arpa", "AAAA", ns=n.VM2).data("AAAA") == [f"{OTHER_PREFIX}c000:aa", f"{OTHER_PREFIX}c000:ab"]
    assert dig("ipv4only.arpa", "AAAA").data("AAAA") == [n.nat64("192.0.0.170"), n.nat64("192.0.0.171")]
    # And NAT64 takes it.
    assert tools.curl(n.VM2, "http://v4only.example/") == tools.curl(n.VM1, "http://v4only.example/")


@pytest.mark.parametrize("length, wanted", [(48, "2001:db8:77:c633:64:a00::"), (56, "2001:db8:77:c6:33:640a::"), (64, "2001:db8:77:0:c6:3364:a00:0")])
def test_rfc6052_2_2_prefixes_of_other_lengths(live, length, wanted):
    """(One of 32 bits would hold the lab's own networks.)"""
    prefix = ipaddress.ip_network(("2001:db8:77::", length), strict=False)
    prefixes = f'prefixes = ["{n.NAT64_PREFIX}/96", "{prefix}"]'
    live.dns(sections=view(f'prefix = "{prefix}"'), replace=[(f'prefixes = ["{n.NAT64_PREFIX}/96"]', prefixes)])
    (got,) = dig("v4only.example", "AAAA", ns=n.VM2).data("AAAA")
    assert ipaddress.ip_address(got) == ipaddress.ip_address(wanted), got


def test_names_of_a_view(live):
    local = '[[dns64.view.local]]\nname = "only.two.example"\naddresses = ["2001:db8:64::99"]\n'
    live.dns(sections=view('always = ["dual.example"]\nnever = ["never.example"]\nblock = ["blocked.example"]') + local)
    assert both("dual.example") == [[n.V6ONLY], [SYNTHESISED]]
    assert both("never.example") == [[SYNTHESISED], []]
    assert [dig("blocked.example", "A", ns=ns).status for ns in (n.VM1, n.VM2)] == ["NOERROR", "NXDOMAIN"]
    assert both("only.two.example") == [[], ["2001:db8:64::99"]]
    # What one has in the cache the other does not get.
    assert both("dual.example") == [[n.V6ONLY], [SYNTHESISED]]


def test_a_view_with_other_rules_of_synthesis(live):
    live.dns(sections=view('exclude-aaaa = ["2001:db8:6::/48"]\nonly-a = ["198.51.100.99/32"]'))
    for _ in range(2):
        assert both("two.example") == [[SYNTHESISED, n.nat64(n.CLIENT4)], [n.nat64(n.CLIENT4)]]
        assert both("dual.example") == [[n.V6ONLY], []]


def test_only_those_clients_that_are_configured_are_answered(live):
    live.dns(f'clients = ["{n.VM1_ADDR}/128"]')
    assert dig("v4only.example", "AAAA").data("AAAA") == [SYNTHESISED]
    with counted(drop_dns64_not_client=1):
        assert dig("v4only.example", "AAAA", "+time=1", ns=n.VM2, check=False) is None


# --- limits ----------------------------------------------------------------------------------------


def test_a_client_that_asks_too_often_is_limited_and_another_is_not(live):
    live.dns("client-rate = 10\nclient-burst = 10\nclient-length = 128")
    dig("v4only.example", "AAAA", ns=n.VM2)
    before = gw.drops().get("dns64-client-limited", 0)
    with dnstools.udp_client(n.VM1) as s:
        for i in range(200):
            s.send(dnstools.query(ident=i))
        assert dig("v4only.example", "AAAA", ns=n.VM2).data("AAAA") == [SYNTHESISED]
        s.settimeout(0.3)
        answered = 0
        try:
            while s.recv(2000):
                answered += 1
        except TimeoutError:
            pass
    assert 5 <= answered <= 40, answered
    assert gw.drops()["dns64-client-limited"] - before >= 150


def test_a_flood_of_random_names_does_not_starve_another_tenant(live):
    """Upstream never answers them; vm2's names are answered meanwhile, cached or not."""
    zone = dnstools.Zone(*(f"good{i}.example. 300 IN AAAA {n.V6ONLY}" for i in range(20)))
    upstream = dnstools.Resolver(lambda asked: zone(asked) if asked.key[0].startswith("good") else None)
    with tools.closing(upstream, tools.udp(n.VM1)) as (_, flood):
        live.dns('client-length = 128\nclient-in-flight = 64\ntimeout = "2s"', upstreams=[dnstools.UPSTREAM])
        for i in range(3000):
            flood.sendto(dnstools.query(f"random{i}.example", ident=i & 0xFFFF), (n.DNS64, 53))
        for i in range(20):
            began = time.monotonic()
            assert dig(f"good{i}.example", "AAAA", ns=n.VM2).data("AAAA") == [n.V6ONLY]
            assert time.monotonic() - began < 1.5
    assert gw.drops().get("dns64-client-busy", 0) > 1000


# --- control ---------------------------------------------------------------------------------------


def test_reload_changes_what_clients_get_and_keeps_nothing_old(live):
    assert both("v4only.example") == [[SYNTHESISED]] * 2
    changed = live.set(replace=[("[dns64]\n", '[dns64]\nblock = ["v4only.example"]\n')])
    assert any("dns64" in key for key in changed), changed
    assert dig("v4only.example", "AAAA").status == "NXDOMAIN"
    live.set()
    assert dig("v4only.example", "AAAA").data("AAAA") == [SYNTHESISED]


def test_reload_of_the_caches_size_needs_a_restart(live):
    live.write(replace=[("[dns64]\n", '[dns64]\ncache = "32MiB"\n')])
    done = gw.causeway("reload", "--socket", n.SOCKET, check=False)
    assert done.returncode != 0 and "cache" in done.stdout + done.stderr
    live.write()


def test_reload_under_questions_loses_none(live):
    """dnsperf goes on while the configuration changes ten times."""
    queries = n.RUN / "reload-queries"
    queries.write_text("".join(f"bulk{i}.example AAAA\n" for i in range(200)))
    run = tools.Background(
        lambda: tools.vm1("dnsperf", "-s", n.DNS64, "-d", queries, "-l", "5", "-Q", "500", "-t", "3", timeout=60)
    )
    for i in range(10):
        live.set(replace=[("[dns64]\n", f"[dns64]\nsample-every = {i}\n")])
        time.sleep(0.3)
    text = run.result()
    assert "Queries lost:         0" in text, text


def test_flush_forgets_a_name_and_what_is_under_it_or_all(live):
    for name in ("v4only.example", "v4only.new.example"):
        dig(name, "AAAA")
    dnstools.flush("new.example")
    with counted(dns64_cache_hits=1, dns64_cache_misses=1):
        dig("v4only.example", "AAAA")
        dig("v4only.new.example", "AAAA")
    dnstools.flush()
    before = gw.counters()["dns64-cache-misses"]
    dig("v4only.example", "AAAA")
    assert gw.counters()["dns64-cache-misses"] == before + 1


@pytest.mark.parametrize(
    "name, words",
    [
        ("v4only.example", ["6147", SYNTHESISED, n.RESOLVER]),
        ("dual.example", [n.V6ONLY, n.RESOLVER]),
        ("nx.example", ["NXDOMAIN"]),
        ("ipv4only.arpa", ["8880"]),
    ],
)
def test_lookup_explains_step_by_step(live, name, words):
    text = gw.causeway("dns", "lookup", name, "AAAA", "--socket", n.SOCKET).stdout
    missing = [w for w in words if w.lower() not in text.lower()]
    assert not missing, text
    told = json.loads(gw.causeway("dns", "lookup", name, "AAAA", "--json", "--socket", n.SOCKET).stdout)
    assert told
    # From the cache now, and it says so.
    if name == "v4only.example":
        assert "cache" in gw.causeway("dns", "lookup", name, "--socket", n.SOCKET).stdout.lower()


def test_lookup_in_a_view(live):
    live.dns(sections=view("dns64 = false"))
    args = ("dns", "lookup", "v4only.example", "AAAA", "--socket", n.SOCKET)
    assert SYNTHESISED in gw.causeway(*args).stdout
    assert SYNTHESISED not in gw.causeway(*args, "--view", "two").stdout
    assert SYNTHESISED not in gw.causeway(*args, "--client", n.VM2_ADDR).stdout


def test_sampled_questions_are_logged(live):
    live.dns("sample-every = 1")
    dig("sampled-name.example", "AAAA")
    tools.wait_until(lambda: "sampled-name.example" in n.GATEWAY_LOG.read_text(errors="replace"), 5)


def test_hot_names_are_asked_for_again_before_they_expire(live):
    upstream = dnstools.Resolver(dnstools.Zone(f"hot.example. 10 IN AAAA {n.V6ONLY}"))
    with tools.closing(upstream):
        live.dns(upstreams=[dnstools.UPSTREAM])
        before, end = gw.counters().get("dns64-prefetched", 0), time.monotonic() + 10.5
        with dnstools.udp_client() as s:
            while time.monotonic() < end:
                s.send(dnstools.query("hot.example"))
                s.recv(2000)
                time.sleep(0.01)
        assert len(upstream.keys("hot.example.")) >= 2
        assert gw.counters()["dns64-prefetched"] > before


# --- other labs ------------------------------------------------------------------------------------


class TestWithoutTheSection:
    @pytest.fixture(scope="class", autouse=True)
    def without(self, shared, tmp_path_factory):
        def change(text):
            head, _, rest = text.partition("[dns64]\n")
            return head + rest.partition("\n\n")[2]

        yield from dnstools.restarted(shared, tmp_path_factory.mktemp("without"), change)

    def test_nobody_answers(self):
        assert dig("v4only.example", "AAAA", "+time=1", check=False) is None
        with pytest.raises(OSError):
            tools.tcp_client(n.VM1, n.DNS64, 53, timeout=1)


class TestTwoWorkers:
    @pytest.fixture(scope="class", autouse=True)
    def two_workers(self, shared, tmp_path_factory):
        name = 'name = "cw-gw"\n'
        folder = tmp_path_factory.mktemp("two-workers")
        yield from dnstools.restarted(shared, folder, lambda text: text.replace(name, f"{name}workers = 2\n", 1))

    def test_both_answer_from_one_cache(self):
        for i in range(60):
            assert addresses(f"bulk{i % 10}.example")
        with counted(dns64_cache_hits=40, dns64_cache_misses=0):
            for i in range(40):
                addresses(f"bulk{i % 10}.example")
        rows = {c["name"]: c["workers"] for c in gw.show("counters")["counters"]}
        assert all(rows["dns64-queries"]), rows["dns64-queries"]

    def test_tcp_and_long_answers(self):
        for _ in range(4):
            assert len(dig("many.example", "AAAA").data("AAAA")) == 60
            assert len(dig("big.example", "TXT").data("TXT")) == 12

    def test_misses_at_both(self):
        before = gw.counters().get("dns64-cache-misses", 0)
        queries = n.RUN / "two-queries"
        queries.write_text("".join(f"m{i}.wild.example AAAA\n" for i in range(2000)))
        text = tools.vm1("dnsperf", "-s", n.DNS64, "-d", queries, "-n", "1", "-c", "8", "-t", "5", timeout=60)
        assert "Queries lost:         0" in text and "NOERROR 2000" in text, text
        assert gw.counters()["dns64-cache-misses"] - before >= 2000
        rows = {c["name"]: c["workers"] for c in gw.show("counters")["counters"]}
        assert all(rows["dns64-cache-misses"]) and all(rows["dns64-upstream-asked"])


class TestPair:
    """DNS is at an address of the virtual router: the other gateway answers when one is gone."""

    @pytest.fixture(scope="class", autouse=True)
    def pair(self, shared):
        lab_module.start_gateway(n.CONFIG2, n.SECOND)
        yield
        lab_module.stop_process(n.SECOND.process, lambda _text: None)
        if not lab_module.read_pid(n.FIRST.process):
            lab_module.start_gateway(shared.path)

    def test_the_backup_answers_nobody_and_then_everybody(self, shared):
        assert dig("v4only.example", "AAAA").data("AAAA") == [SYNTHESISED]
        lab_module.kill_gateway(n.FIRST)
        tools.wait_until(lambda: failover.active() is n.SECOND, 10)
        for name, address in (("v4only.example", SYNTHESISED), ("dual.example", n.V6ONLY)):
            assert dig(name, "AAAA").data("AAAA") == [address]
        assert dig("v4only.example", "AAAA", "+tcp").data("AAAA") == [SYNTHESISED]
        assert tools.curl(n.VM1, "http://v4only.example/")
        lab_module.start_gateway(shared.path)


def test_hosts_are_told_this_address():
    """By DHCPv6, and by router advertisements."""
    assert clients.told_resolvers(n.VM1)[0] == [n.DNS64]

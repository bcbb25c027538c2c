"""DNS64 and its upstream resolvers: what is sent to them, and what is made of what they say, true or not. The resolvers
are this test's own, in cw-inet, but for those of the last part: unbound and BIND, which validate."""

import ipaddress
import time

import dns.flags
import dnstools
import gateway as gw
import lab as lab_module
import netns
import network as n
import pytest
import resolvers
import tools
from dnstools import SECOND_UPSTREAM, UPSTREAM, UPSTREAM6, Resolver, Zone, addresses, dig, reply
from live import counted

SYNTHESISED = n.nat64(n.V4ONLY)
V4 = f"v4.example. 300 IN A {n.V4ONLY}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    yield from dnstools.labs(tmp_path_factory, "upstreams")


@pytest.fixture
def live(shared):
    yield shared
    shared.dns()


@pytest.fixture
def upstream(live):
    """Makes a resolver of our own, to which the gateway turns."""
    made = []

    def make(answers, address=UPSTREAM, keys="", others=(), port=53):
        made.append(Resolver(answers, address, port=port))
        live.dns(keys, upstreams=[address, *others])
        return made[-1]

    yield make
    for m in made:
        m.close()


def serve(*answers):
    """Resolvers beside the first."""
    return [Resolver(a, address) for a, address in answers]


# --- what is asked ---------------------------------------------------------------------------------


def test_rfc6147_5_1_what_is_asked_and_in_which_order(upstream):
    r = upstream(Zone(V4, f"dual.example. 300 IN AAAA {n.V6ONLY}", f"dual.example. 300 IN A {n.V4ONLY}"))
    assert dig("v4.example", "AAAA").data("AAAA") == [SYNTHESISED]
    assert r.keys("v4.example.") == [("v4.example.", "AAAA"), ("v4.example.", "A")]
    dig("dual.example", "AAAA")
    assert r.keys("dual.example.") == [("dual.example.", "AAAA")]
    dig("nx.example", "AAAA")
    assert r.keys("nx.example.") == [("nx.example.", "AAAA")]
    # What was made of an A record serves who asks for it, and the other way round.
    dig("v4.example", "A")
    dig("v4.example", "AAAA")
    assert len(r.keys("v4.example.")) == 2


def test_rfc5452_9_2_ports_and_ids_cannot_be_guessed(upstream):
    r = upstream(Zone(*(f"n{i}.example. 300 IN AAAA {n.V6ONLY}" for i in range(60))), keys='ports = "20000-29999"')
    for i in range(60):
        addresses(f"n{i}.example")
    ports = [a.peer[1] for a in r.asked]
    ids = [a.message.id for a in r.asked]
    assert len(set(ports)) > 55 and len(set(ids)) > 55
    assert all(20000 <= p <= 29999 for p in ports)
    # No row: neighbours differ by all sorts of numbers.
    assert len({b - a for a, b in zip(ports, ports[1:], strict=False)}) > 50
    assert {a.peer[0] for a in r.asked} <= {n.GW_UPLINK4, n.GW_OWN4}


def test_0x20_the_case_of_names_is_random_and_answers_that_do_not_keep_it_are_noticed(upstream):
    name = "abcdefghijklmnopqrstuvwxyz.example."
    zone = Zone(f"{name} 0 IN AAAA {n.V6ONLY}")
    r = upstream(zone)
    for _ in range(3):
        dig(name, "AAAA")
    spelled = {a.name for a in r.asked}
    assert len(spelled) >= 3 and {s.lower() for s in spelled} == {name}
    r.forget()

    def folded(asked):
        # As a resolver that writes all names in lower case.
        octets = bytearray(zone(asked))
        end = 12 + octets[12:].index(0)
        octets[12:end] = bytes(octets[12:end]).lower()
        return bytes(octets)

    r.answers = folded
    assert dig(name, "AAAA").data("AAAA") == [n.V6ONLY]
    assert dig(f"other.{name}", "AAAA").status == "NXDOMAIN"
    # In the end it is asked without.
    assert r.asked[-1].name == r.asked[-1].name.lower()


def test_case_can_be_left_alone(upstream):
    r = upstream(Zone(V4), keys="case = false")
    dig("V4.eXample", "AAAA")
    assert {a.name for a in r.asked} == {"v4.example."}


def test_identical_questions_in_flight_are_merged(upstream):
    zone = Zone(V4)
    r = upstream(lambda asked: [(0.5, zone(asked))])
    with counted(dns64_merged=39, dns64_cache_misses=40):
        started = [tools.Background(dig, "v4.example", "AAAA") for _ in range(40)]
        assert all(s.result().data("AAAA") == [SYNTHESISED] for s in started)
    assert r.keys("v4.example.") == [("v4.example.", "AAAA"), ("v4.example.", "A")]


def test_an_upstream_over_ipv6(upstream):
    r = upstream(Zone(V4), UPSTREAM6)
    assert dig("v4.example", "AAAA").data("AAAA") == [SYNTHESISED]
    assert {ipaddress.ip_address(a.peer[0]).compressed for a in r.asked} <= {n.GW_UPLINK6, n.GW_OWN6}
    # And over TCP.
    r.answers = lambda asked: Zone(f"t.example. 300 IN AAAA {n.V6ONLY}")(asked) if asked.tcp else reply(asked, tc=True)
    assert dig("t.example", "AAAA").data("AAAA") == [n.V6ONLY]
    assert [a.tcp for a in r.asked if a.key[0] == "t.example."] == [False, True]


def test_flags_do_and_cd_are_passed_and_ad_is_not_asked_for_in_vain(upstream):
    r = upstream(Zone(f"six.example. 300 IN AAAA {n.V6ONLY}"))
    for args, do, cd in ((["+dnssec"], True, False), (["+cdflag"], False, True), (["+dnssec", "+cdflag"], True, True), ([], False, False)):
        r.forget()
        dig("six.example", "AAAA", *args)
        (asked,) = r.asked
        assert bool(asked.message.ednsflags & dns.flags.DO) == do
        assert bool(asked.message.flags & dns.flags.CD) == cd
        assert asked.message.flags & dns.flags.RD
        assert asked.message.edns == 0 and asked.message.payload <= 4096
        # RFC 7873: the client's cookie is none of upstream's business, nor is who asked.
        assert {o.otype for o in asked.message.options} <= {10}


# --- failures and latency --------------------------------------------------------------------------


def test_rfc6147_5_1_2_a_failure_of_the_aaaa_question_is_a_failure(upstream):
    def answers(asked):
        return reply(asked, rcode="SERVFAIL") if asked.key[1] == "AAAA" else Zone(V4)(asked)

    upstream(answers)
    assert dig("v4.example", "AAAA").status == "SERVFAIL"
    assert dig("v4.example", "A").data("A") == [n.V4ONLY]


def test_rfc6147_5_1_2_a_failure_can_be_taken_for_no_aaaa(upstream):
    def answers(asked):
        return reply(asked, rcode="SERVFAIL") if asked.key[1] == "AAAA" else Zone(V4)(asked)

    upstream(answers, keys='on-failure = "synthesise"')
    got = dig("v4.example", "AAAA")
    assert got.data("AAAA") == [SYNTHESISED] and got.ttl("AAAA") <= 600


def test_rfc6147_5_5_with_that_too_bogus_is_never_diverted(upstream):
    """SERVFAIL, but with CD there is an answer: validation failed."""

    def answers(asked):
        cd = asked.message.flags & dns.flags.CD
        zone = Zone(f"v4.example. 300 IN AAAA {n.V6ONLY}", V4)
        return zone(asked) if cd else reply(asked, rcode="SERVFAIL") if asked.key[1] == "AAAA" else zone(asked)

    upstream(answers, keys='on-failure = "synthesise"')
    assert dig("v4.example", "AAAA").status == "SERVFAIL"


def test_rfc6147_5_1_3_a_timeout_of_the_aaaa_question_is_a_failure(upstream):
    upstream(lambda asked: None if asked.key[1] == "AAAA" else Zone(V4)(asked), keys='timeout = "1s"')
    began = time.monotonic()
    assert dig("v4.example", "AAAA").status == "SERVFAIL"
    assert time.monotonic() - began < 2.5


def test_rfc9520_a_failure_is_remembered(upstream):
    r = upstream(lambda asked: reply(asked, rcode="SERVFAIL"))
    for _ in range(5):
        assert dig("v4.example", "AAAA").status == "SERVFAIL"
    count = len(r.asked)
    dig("v4.example", "AAAA")
    assert len(r.asked) == count <= 6


def test_rfc6147_5_1_7_ttl_is_the_smaller_of_a_and_soa(upstream):
    upstream(Zone(f"long.example. 86400 IN A {n.V4ONLY}", f"short.example. 30 IN A {n.V4ONLY}"))
    assert 115 <= dig("long.example", "AAAA").ttl("AAAA") <= 120
    assert 25 <= dig("short.example", "AAAA").ttl("AAAA") <= 30


def test_rfc6147_5_1_7_without_soa_a_synthesised_answer_lives_for_600_seconds_at_most(upstream):
    upstream(Zone(f"v4.example. 86400 IN A {n.V4ONLY}", soa=None))
    assert 595 <= dig("v4.example", "AAAA").ttl("AAAA") <= 600


def test_servfail_and_refused_of_one_upstream_send_the_question_to_another(upstream):
    for rcode in ("SERVFAIL", "REFUSED"):
        (second,) = serve((Zone(V4), SECOND_UPSTREAM))
        with tools.closing(second):
            upstream_one = upstream(lambda asked, rcode=rcode: reply(asked, rcode=rcode), others=[SECOND_UPSTREAM])
            for i in range(4):
                dig(f"x{i}.example", "AAAA")
            assert dig("v4.example", "AAAA").data("AAAA") == [SYNTHESISED]
            assert second.asked
            upstream_one.close()


def test_an_upstream_that_is_down_costs_one_timeout_and_not_one_per_question(upstream):
    (second,) = serve((Zone(*(f"n{i}.example. 300 IN AAAA {n.V6ONLY}" for i in range(40))), SECOND_UPSTREAM))
    with tools.closing(second):
        silent = upstream(lambda _asked: None, others=[SECOND_UPSTREAM])
        slow = 0
        for i in range(40):
            began = time.monotonic()
            assert addresses(f"n{i}.example") == [n.V6ONLY]
            slow += time.monotonic() - began > 0.25
        # Before it is known, and when it is tried again.
        assert slow <= 4, slow
        assert len(silent.asked) <= 12, len(silent.asked)
        # It is tried once more before it is called down.
        tools.wait_until(lambda: "down" in gw.show_text("dns"), 10)
        assert UPSTREAM in gw.show_text("dns")


def test_an_upstream_that_comes_back_is_used_again(upstream):
    zone = Zone(*(f"n{i}.example. 0 IN AAAA {n.V6ONLY}" for i in range(200)))
    first = upstream(lambda _asked: None, keys='timeout = "1s"')
    assert dig("n0.example", "AAAA").status == "SERVFAIL"
    first.answers = zone
    tools.wait_until(lambda: dig(f"n{int(time.monotonic() * 10) % 200}.example", "AAAA").status == "NOERROR", 20)


def test_a_resolver_that_is_not_there_is_told_of_by_icmp(live):
    """Port unreachable: the next is asked at once."""
    (second,) = serve((Zone(V4), SECOND_UPSTREAM))
    with tools.closing(second):
        live.dns(upstreams=[UPSTREAM, SECOND_UPSTREAM])
        assert dig("v4.example", "AAAA").data("AAAA") == [SYNTHESISED]


def test_the_faster_of_two_upstreams_gets_most_questions(upstream):
    names = [f"n{i}.example. 300 IN AAAA {n.V6ONLY}" for i in range(60)]
    slow, fast = Zone(*names), Zone(*names)
    (second,) = serve((fast, SECOND_UPSTREAM))
    with tools.closing(second):
        first = upstream(lambda asked: [(0.15, slow(asked))], others=[SECOND_UPSTREAM])
        for i in range(60):
            addresses(f"n{i}.example")
        assert len(second.asked) > 3 * len(first.asked), (len(first.asked), len(second.asked))


def test_rfc6891_7_a_resolver_that_knows_no_edns_is_asked_without(upstream):
    zone = Zone(f"six.example. 300 IN AAAA {n.V6ONLY}")

    def answers(asked):
        return reply(asked, rcode="FORMERR", edns=False) if asked.message.edns >= 0 else zone(asked)

    r = upstream(answers)
    assert dig("six.example", "AAAA").data("AAAA") == [n.V6ONLY]
    assert [a.message.edns >= 0 for a in r.asked] == [True, False]


def test_rfc7766_5_a_cut_answer_is_fetched_over_tcp(upstream):
    zone = Zone(f"six.example. 300 IN AAAA {n.V6ONLY}")
    r = upstream(lambda asked: zone(asked) if asked.tcp else reply(asked, tc=True))
    with counted(dns64_upstream_truncated=1):
        assert dig("six.example", "AAAA").data("AAAA") == [n.V6ONLY]
    assert [a.tcp for a in r.asked] == [False, True]


def test_a_late_answer_after_a_retry_elsewhere_still_counts(upstream):
    (second,) = serve((lambda _asked: None, SECOND_UPSTREAM))
    zone = Zone(f"six.example. 300 IN AAAA {n.V6ONLY}")
    with tools.closing(second):
        upstream(lambda asked: [(1.2, zone(asked))], others=[SECOND_UPSTREAM])
        assert dig("six.example", "AAAA").data("AAAA") == [n.V6ONLY]


# --- upstreams that lie ----------------------------------------------------------------------------


def wrong(changes):
    """First a wrong answer, then the right one."""

    def answers(asked):
        good = Zone(f"six.example. 300 IN AAAA {n.V6ONLY}")(asked)
        return [reply(asked, ["six.example. 300 IN AAAA 2001:db8:bad::1"], **changes(asked)), (0.1, good)]

    return answers


@pytest.mark.parametrize(
    "reason, changes",
    [
        ("drop_dns64_upstream_id", lambda asked: {"id": asked.message.id ^ 1}),
        ("drop_dns64_upstream_question", lambda asked: {"question": ("seven.example.", "AAAA")}),
        ("drop_dns64_upstream_question", lambda asked: {"question": (asked.name, "A")}),
        ("drop_dns64_upstream_not_answer", lambda asked: {"qr": False}),
    ],
)
def test_rfc5452_9_1_a_wrong_answer_is_refused_and_the_right_one_taken(upstream, reason, changes):
    upstream(wrong(changes))
    with counted(**{reason: 1}):
        assert dig("six.example", "AAAA").data("AAAA") == [n.V6ONLY]
    assert dig("six.example", "AAAA").data("AAAA") == [n.V6ONLY]


def test_rfc5452_9_1_an_answer_from_another_address_or_port_is_refused(upstream):
    zone = Zone(f"six.example. 300 IN AAAA {n.V6ONLY}")
    with tools.closing(tools.udp(n.INET, n.V4ONLY, 53), tools.udp(n.INET, UPSTREAM, 5353)) as liars:

        def answers(asked):
            for liar in liars:
                liar.sendto(reply(asked, ["six.example. 300 IN AAAA 2001:db8:bad::1"]), asked.peer)
            return [(0.1, zone(asked))]

        upstream(answers)
        with counted(drop_dns64_upstream_source=2):
            assert dig("six.example", "AAAA").data("AAAA") == [n.V6ONLY]


def test_answers_to_a_port_that_no_question_is_open_at_are_refused(upstream):
    r = upstream(Zone(f"six.example. 300 IN AAAA {n.V6ONLY}"))
    dig("six.example", "AAAA")
    (asked,) = r.asked
    # As to any port of the gateway's at which nobody listens.
    with counted(drop_local_no_service=1, drop_dns64_upstream_port=0, icmp_errors_sent=1):
        r.udp.sendto(reply(asked, ["six.example. 300 IN AAAA 2001:db8:bad::1"]), asked.peer)


def test_many_wrong_answers_to_one_question_end_in_tcp_or_in_failure(upstream):
    """RFC 5452 9.2: who guesses IDs gets few guesses."""

    def answers(asked):
        if asked.tcp:
            return Zone(f"six.example. 300 IN AAAA {n.V6ONLY}")(asked)
        bad = ["six.example. 300 IN AAAA 2001:db8:bad::1"]
        return [reply(asked, bad, id=(asked.message.id + 1 + i) & 0xFFFF) for i in range(200)]

    r = upstream(answers)
    before = gw.counters().get("dns64-upstream-guessed", 0)
    got = dig("six.example", "AAAA")
    assert got.status == "SERVFAIL" or got.data("AAAA") == [n.V6ONLY], got.text
    assert gw.counters().get("dns64-upstream-guessed", 0) > before
    assert any(a.tcp for a in r.asked)


VICTIM = "victim.test. 300 IN A 203.0.113.66"


@pytest.mark.parametrize("section", ["answer", "authority", "additional"])
def test_records_that_do_not_belong_there_are_left_out_and_never_cached(upstream, section):
    rows = {"answer": [], "authority": [dnstools.SOA], "additional": []}
    rows[section].append(VICTIM)
    rows["authority"].append("test. 300 IN NS ns.evil.test.")
    truth = Zone("victim.test. 300 IN A 198.51.100.77", "ns.evil.test. 300 IN A 203.0.113.67")

    def answers(asked):
        if asked.key[0] != "six.example.":
            return truth(asked)
        return reply(asked, [f"six.example. 300 IN AAAA {n.V6ONLY}", *rows["answer"]], rows["authority"], rows["additional"])

    r = upstream(answers)
    before = gw.counters().get("dns64-upstream-scrubbed", 0)
    got = dig("six.example", "AAAA")
    assert got.data("AAAA") == [n.V6ONLY] and "victim" not in got.text and "evil" not in got.text, got.text
    assert gw.counters().get("dns64-upstream-scrubbed", 0) >= before + 2
    assert dig("victim.test", "A").data("A") == ["198.51.100.77"]
    assert ("victim.test.", "A") in r.keys()


@pytest.mark.parametrize(
    "rows",
    [
        ["a.example. 300 IN CNAME b.example.", "b.example. 300 IN CNAME a.example."],
        [f"c{i}.example. 300 IN CNAME c{i + 1}.example." for i in range(40)] + ["a.example. 300 IN CNAME c0.example."],
        ["a.example. 300 IN CNAME a.example."],
    ],
)
def test_chains_without_end_are_refused(upstream, rows):
    r = upstream(lambda asked: reply(asked, rows))
    for _ in range(2):
        assert dig("a.example", "AAAA").status == "SERVFAIL"
    assert len(r.asked) <= 12


def test_rfc6672_a_cname_that_does_not_follow_from_its_dname_is_refused(upstream):
    rows = ["d.example. 300 IN DNAME e.example.", "a.d.example. 300 IN CNAME a.evil.test.", f"a.evil.test. 300 IN AAAA {n.V6ONLY}"]
    upstream(lambda asked: reply(asked, rows))
    got = dig("a.d.example", "AAAA")
    assert "evil" not in got.text, got.text


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"])
def test_nothing_is_made_of_addresses_that_are_no_hosts(upstream, address):
    upstream(Zone(f"bad.example. 300 IN A {address}"))
    with counted(dns64_address_refused=1):
        got = dig("bad.example", "AAAA")
    assert got.status == "NOERROR" and not got.answer, got.text


def test_aaaa_inside_the_prefix_are_left_out(upstream):
    upstream(Zone(f"in.example. 300 IN AAAA {n.nat64('10.0.0.1')}", f"in.example. 300 IN A {n.V4ONLY}"))
    with counted(dns64_aaaa_in_prefix=1):
        assert dig("in.example", "AAAA").data("AAAA") == [SYNTHESISED]


def test_rfc2181_8_a_ttl_with_the_top_bit_set_is_zero(upstream):
    def answers(asked):
        octets = reply(asked, [f"six.example. 7777 IN AAAA {n.V6ONLY}"])
        return octets.replace((7777).to_bytes(4, "big"), (1 << 31).to_bytes(4, "big"))

    r = upstream(answers)
    for _ in range(2):
        assert dig("six.example", "AAAA").ttl("AAAA") == 0
    assert len(r.asked) == 2


def broken(asked):
    """Messages that begin as an answer does, and are none."""
    good = reply(asked, [f"six.example. 300 IN AAAA {n.V6ONLY}"], edns=False)
    end = 12 + len(dnstools.wire_name(asked.name)) + 4
    head, question = good[:12], good[12:end]
    record = b"\xc0\x0c" + good[end + 2 :]
    one = head[:6] + b"\0\1\0\0\0\0"
    return {
        "cut in the record": good[:-7],
        "only a header": head,
        "a name that points at itself": one + question + bytes((0xC0, end)) + record[2:],
        "a name that points beyond the end": one + question + b"\xff\xff" + record[2:],
        "names that point at each other": one + question + bytes((0xC0, end + 2, 0xC0, end)) + record[2:],
        "a label that is too long": one + question + b"\x7f" + b"a" * 20,
        "a count that is a lie": head[:6] + b"\xff\xff\0\0\0\0" + question + record,
        "data of another length": one + question + record[:10] + b"\0\x0f" + record[12:],
        "255 labels": one + question + b"\1a" * 255 + b"\0" + record[2:],
    }


class _Sample:
    """A question to name the broken answers by."""

    def __init__(self):
        import dns.message

        self.message = dns.message.make_query("six.example.", "AAAA")
        self.name = "six.example."


@pytest.mark.parametrize("what", sorted(broken(_Sample())))
def test_answers_that_cannot_be_read_are_counted_and_never_cached(upstream, what):
    good = Zone(f"six.example. 300 IN AAAA {n.V6ONLY}")
    sent = []

    def answers(asked):
        # Broken for the first question, whole for what follows.
        if len(sent) < 1:
            sent.append(asked)
            return broken(asked)[what]
        return good(asked)

    upstream(answers, keys='timeout = "3s"')
    before = gw.drops()
    got = dig("six.example", "AAAA")
    after = gw.drops()
    grown = {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0) and k.startswith("dns64-upstream")}
    assert sum(grown.values()) >= 1, grown
    assert got.status == "SERVFAIL" or got.data("AAAA") == [n.V6ONLY], got.text


def test_noise_from_upstream_ends_nothing(upstream):
    """Random octets, and changed answers, one after the other; then it still works."""
    import random

    chance = random.Random(5)
    zone = Zone(*(f"n{i}.example. 300 IN AAAA {n.V6ONLY}" for i in range(100)), V4)

    def answers(asked):
        octets = bytearray(zone(asked))
        for _ in range(chance.randrange(1, 6)):
            octets[chance.randrange(2, len(octets))] = chance.randrange(256)
        return [bytes(octets), chance.randbytes(chance.randrange(0, 300)), (0.05, zone(asked))]

    r = upstream(answers, keys='timeout = "1s"')
    for i in range(100):
        assert addresses(f"n{i}.example") is not None
    r.answers = zone
    tools.wait_until(lambda: dig("v4.example", "AAAA").data("AAAA") == [SYNTHESISED], 15)


def test_rfc6891_6_2_3_an_answer_longer_than_we_take_is_refused(upstream):
    """Over UDP: one whole datagram of more than was said, and one in fragments. (Over TCP it would be taken.)"""
    for count in (45, 139):
        rows = [f"many{count}.example. 300 IN AAAA 2001:db8:6::{i:x}" for i in range(1, count + 1)]
        r = upstream(lambda asked, rows=rows: reply(asked, rows), keys='timeout = "1s"')
        assert len(reply(_Sample(), rows)) > 1232
        before = sum(gw.drops().values())
        assert dig(f"many{count}.example", "AAAA").status == "SERVFAIL"
        assert sum(gw.drops().values()) > before
        # What is cut instead is fetched over TCP.
        r.answers = lambda asked, rows=rows: reply(asked, rows) if asked.tcp else reply(asked, tc=True)
        dnstools.flush()
        assert len(dig(f"many{count}.example", "AAAA").data("AAAA")) == count
        r.close()


class TestOtherSettingsOfTheCache:
    """They need a restart."""

    @pytest.fixture(scope="class", autouse=True)
    def settings(self, shared, tmp_path_factory):
        keys = 'max-ttl = "1h"\nmax-negative-ttl = "10s"\nstale = "1h"\nstale-after = "500ms"\ntimeout = "2s"'

        def change(text):
            return text.replace(dnstools.UPSTREAMS, f'upstreams = ["{UPSTREAM}"]\n{keys}')

        yield from dnstools.restarted(shared, tmp_path_factory.mktemp("cache"), change)

    @pytest.fixture
    def upstream(self):
        made = []

        def make(answers):
            made.append(Resolver(answers))
            dnstools.flush()
            return made[-1]

        yield make
        for m in made:
            m.close()

    def test_the_longest_ttls_are_capped(self, upstream):
        upstream(Zone(f"six.example. 2000000000 IN AAAA {n.V6ONLY}"))
        assert 3590 <= dig("six.example", "AAAA").ttl("AAAA") <= 3600
        assert dig("nx.example", "AAAA").authority[0].ttl <= 10

    def test_rfc8767_an_old_answer_is_given_when_there_is_no_fresh_one(self, upstream):
        r = upstream(Zone(f"old.example. 1 IN AAAA {n.V6ONLY}"))
        assert dig("old.example", "AAAA").data("AAAA") == [n.V6ONLY]
        r.answers = lambda _asked: None
        time.sleep(2.2)
        with counted(dns64_stale=1):
            began = time.monotonic()
            got = dig("old.example", "AAAA")
            assert got.data("AAAA") == [n.V6ONLY] and got.ttl("AAAA") == 30, got.text
            assert 0.3 < time.monotonic() - began < 1.8
        # RFC 8914 4.4: it says so.
        assert "3 (Stale Answer)" in got.text
        # Once upstream is back, a fresh one.
        r.answers = Zone(f"old.example. 77 IN AAAA 2001:db8:6::77")
        tools.wait_until(lambda: dig("old.example", "AAAA").data("AAAA") == ["2001:db8:6::77"], 15)


# --- real resolvers --------------------------------------------------------------------------------


@pytest.fixture(params=["unbound", "bind"])
def real(request, live):
    """A validating resolver of another kind, which asks the lab's; the gateway asks it."""
    folder = n.RUN / f"upstream-{request.param}"
    anchors = n.RUN / "resolver/anchors"
    if request.param == "bind":
        server = resolvers.named("upstream", n.INET, folder, [UPSTREAM], anchors=anchors)
    else:
        forward = f'forward-zone:\n    name: "."\n    forward-addr: {n.RESOLVER}\n'
        settings = "\n".join([f"    trust-anchor-file: {anchors}", *(f"    local-zone: {z} nodefault" for z in (*resolvers.OWN_REVERSE, "test."))])
        server = resolvers.unbound("upstream", n.INET, folder, [UPSTREAM], settings, forward)
    process = lab_module.start_process(server.name, server.ns, server.command)
    try:
        lab_module.wait_for(lambda: lab_module.connects(n.INET, UPSTREAM, 53), 10, lambda: lab_module.tail(server.name))
        live.dns(upstreams=[UPSTREAM])
        yield request.param
    finally:
        netns.end(process.pid)


def test_unbound_and_bind_as_upstreams(real):
    assert dig("v4only.example", "AAAA").data("AAAA") == [SYNTHESISED]
    assert dig("dual.example", "AAAA").data("AAAA") == [n.V6ONLY]
    assert dig("nx.example", "AAAA").status == "NXDOMAIN"
    assert dig("chain1.example", "AAAA").data("AAAA") == [SYNTHESISED]
    assert dig("v4only.moved.example", "AAAA").data("AAAA") == [SYNTHESISED]
    assert len(dig("many.example", "AAAA").data("AAAA")) == 60
    assert len(dig("big.example", "TXT").data("TXT")) == 12


@pytest.mark.parametrize("zone", ["signed.example", "nsec3.example"])
def test_signed_zones_through_validating_upstreams(real, zone):
    got = dig(f"v4only.{zone}", "AAAA", "+dnssec")
    assert got.data("AAAA") == [SYNTHESISED] and "ad" not in got.flags and "RRSIG" not in got.types()
    got = dig(f"dual.{zone}", "AAAA", "+dnssec")
    assert got.types() == {"AAAA", "RRSIG"} and "ad" in got.flags, got.text
    got = dig(f"nx.{zone}", "AAAA", "+dnssec")
    assert got.status == "NXDOMAIN" and "ad" in got.flags
    assert ({"NSEC"} if zone.startswith("signed") else {"NSEC3"}) <= got.types("authority")
    # A validator behind us gets what it needs: the proof that there is no AAAA record, and the signed A record.
    got = dig(f"v4only.{zone}", "AAAA", "+dnssec", "+cdflag")
    assert not got.data("AAAA") and "RRSIG" in got.types("authority")
    assert "RRSIG" in dig(f"v4only.{zone}", "A", "+dnssec", "+cdflag").types()


def test_bogus_names_fail_through_validating_upstreams(real):
    for kind in ("A", "AAAA"):
        assert dig("v4only.bogus.example", kind).status == "SERVFAIL"
    assert dig("dual.bogus.example", "AAAA").status == "SERVFAIL"


def test_delv_validates_what_the_gateway_passes(real):
    """A validator on a host behind the gateway: signed names are secure, changed ones are refused."""
    anchor = n.RUN / "delv-anchors"
    rows = []
    for line in (n.RUN / "resolver/anchors").read_text().splitlines():
        words = line.partition(";")[0].split()
        if "DNSKEY" in words and words[0] == "signed.example.":
            at = words.index("DNSKEY")
            rows.append(f'{words[0]} static-key {" ".join(words[at + 1 : at + 4])} "{"".join(words[at + 4 :])}";')
    anchor.write_text(f"trust-anchors {{ {' '.join(rows)} }};\n")
    command = ["delv", f"@{n.DNS64}", "-a", anchor, "+root=signed.example", "-6"]
    assert "fully validated" in tools.vm1(*command, "dual.signed.example", "AAAA")
    assert "fully validated" in tools.vm1(*command, "v4only.signed.example", "A")
    # RFC 6147 5.5: one that validates says so with CD, and gets the proof that there is no AAAA record. Without CD it gets
    # what no signature is for.
    proof = netns.ns_run(n.VM1, *command, "+cdflag", "v4only.signed.example", "AAAA")
    assert "negative response, fully validated" in proof.stdout + proof.stderr
    made = netns.ns_run(n.VM1, *command, "v4only.signed.example", "AAAA", check=False)
    assert "insecurity proof failed" in made.stdout + made.stderr

"""Parts of the DNS tests that need no lab: what dig printed, the zones, and how answers are compared."""

import dns.message
import dnsask
import dnscompare
import dnstools
import dnszones
import network as n
import pytest
from dnsask import Question

DIG = """
; <<>> DiG 9.18 <<>> +tries=1 @2001:db8:64::53 alias.example AAAA
;; Got answer:
;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 3156
;; flags: qr rd ra; QUERY: 1, ANSWER: 2, AUTHORITY: 0, ADDITIONAL: 1

;; OPT PSEUDOSECTION:
; EDNS: version: 0, flags: do; udp: 1232
; COOKIE: 14956f6bdf0e906d010000006b0495438fc5c159c5be7ed5 (good)
; EDE: 3 (Stale Answer)
;; QUESTION SECTION:
;alias.example.\t\t\tIN\tAAAA

;; ANSWER SECTION:
alias.example.\t\t300\tIN\tCNAME\tv4only.example.
v4only.example.\t\t120\tIN\tAAAA\t2001:db8:64:ff9b::c633:640a

;; Query time: 0 msec
"""


def test_what_dig_prints_is_read():
    got = dnstools.parse_dig(DIG)
    assert (got.status, got.flags) == ("NOERROR", {"qr", "rd", "ra"})
    assert got.edns["version"] == 0 and got.edns["flags"] == ["do"] and got.edns["udp"] == 1232
    assert got.edns["COOKIE"].endswith("(good)") and got.edns["EDE"] == "3 (Stale Answer)"
    assert got.data("CNAME") == ["v4only.example."] and got.ttl("AAAA") == 120
    assert got.types() == {"CNAME", "AAAA"} and got.authority == []


def test_names_as_long_as_they_may_be():
    assert len(dnstools.wire_name(dnszones.LONG)) == len(dnstools.wire_name(dnszones.LABELS)) == 255
    assert max(len(label) for label in dnszones.LONG.split(".")) == 63
    assert dnszones.LABELS.count(".") == 124


def asked(name="a.example.", kind="AAAA"):
    message = dns.message.make_query(name, kind)
    return dnstools.Asked(message.to_wire(), ("198.51.100.1", 5), False, 0.0, message)


def test_zones_of_tests_answer_follow_and_deny():
    zone = dnstools.Zone("a.example. 300 IN CNAME b.example.", f"b.example. 60 IN A {n.V4ONLY}")
    got = dns.message.from_wire(zone(asked(kind="A")))
    assert [s.to_text() for s in got.answer] == ["a.example. 300 IN CNAME b.example.", f"b.example. 60 IN A {n.V4ONLY}"]
    got = dns.message.from_wire(zone(asked()))
    assert got.rcode() == 0 and len(got.answer) == 1 and "SOA" in got.authority[0].to_text()
    assert dns.message.from_wire(zone(asked("nx.example."))).rcode() == 3


def in_short(rows, **changes):
    return dnsask.in_short(dns.message.from_wire(dnstools.reply(asked(), rows, **changes)), False)


@pytest.mark.parametrize(
    "other, wanted",
    [
        (in_short(["a.example. 301 IN AAAA 2001:db8::1"]), set()),
        (in_short(["a.example. 200 IN AAAA 2001:db8::1"]), {"ttls"}),
        (in_short(["a.example. 300 IN AAAA 2001:db8::2"]), {"answer"}),
        (in_short(["a.example. 300 IN AAAA 2001:db8::1"], ad=True), {"flags"}),
        (in_short([], rcode="SERVFAIL"), {"answer", "rcode"}),
        (None, {"silence"}),
    ],
)
def test_in_which_respects_answers_differ(other, wanted):
    assert dnscompare.differences(in_short(["a.example. 300 IN AAAA 2001:db8::1"]), other) == wanted


def test_questions_are_sent_as_they_are_meant():
    message = Question("a.example.", "A", do=True, cd=True).message()
    assert message.flags == 0x0110 and message.ednsflags == 0x8000 and message.payload == 1232
    assert Question("a.example.", edns=None).message().edns == -1
    assert Question("a.example.", rd=False).message().flags == 0


def test_a_difference_that_nobody_explained_has_no_reason():
    ours, theirs = in_short([]), in_short([], rcode="REFUSED")
    case = dnscompare.Case(Question("strange.example.", "LOC"), "unbound", {"rcode"}, ours, theirs)
    assert dnscompare.explain(case) is None

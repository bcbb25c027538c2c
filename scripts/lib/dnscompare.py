"""The same 1,000 questions to unbound's dns64, BIND's dns64 and Causeway, all of which forward to the lab's resolver.
Every difference has a reason (`REASONS`), which appliance/docs/dns64-comparison.md explains; what has none is a failure.
"""

import contextlib
from collections import Counter
from dataclasses import dataclass, field

import dnsask
import dnszones
import lab
import netns
import network as n
import resolvers
from dnsask import Asker, Question

COUNT = 1000

# Names that exist in zones, and some that do not; all are asked for several types and with several flags.
NAMES = [
    *(
        f"{label}.example."
        for label in (
            *("v4only", "dual", "v6only", "nodata", "between", "two", "longttl", "shortttl", "zerottl", "x.wild", "nx"),
            *("a.b.nx", "alias", "alias-dual", "alias-v6only", "alias-nodata", "alias-nx", "alias-short", "alias-other"),
            *("chain1", "loop1", "self", "moved", "v4only.moved", "dual.moved", "nx.moved"),
            *("mapped", "mapped-alone", "mixed", "inside"),
            *("zero", "loopback", "multicast", "private", "linklocal", "broadcast"),
            *("mail", "_ldap._tcp", "svc", "caa", "unknown", "big", "many"),
        )
    ),
    dnszones.LONG,
    dnszones.LABELS,
    "V4oNLy.ExAmPlE.",
    "v4only.short.example.",
    "nodata.short.example.",
    "v4only.other.test.",
    "dual.other.test.",
    "nx.nowhere.",
    "example.",
    ".",
    *(
        f"{label}.{zone}"
        for zone in dnszones.SIGNED
        for label in ("v4only", "dual", "v6only", "nodata", "alias", "alias-plain", "mapped", "x.wild", "nx")
    ),
]
FLAGS = ({}, {"do": True}, {"cd": True}, {"do": True, "cd": True})


def reverse(address):
    """The name of an address under in-addr.arpa or ip6.arpa."""
    import ipaddress

    return ipaddress.ip_address(address).reverse_pointer + "."


SPECIAL = [
    *(Question("ipv4only.arpa.", t, **f) for t in ("A", "AAAA", "TXT", "SOA", "NS") for f in ({}, {"do": True})),
    *(Question("x.ipv4only.arpa.", t) for t in ("A", "AAAA")),
    *(Question(reverse(a), "PTR", **f) for a in (n.V4ONLY, n.V6ONLY, n.nat64(n.V4ONLY), n.nat64(n.CLIENT4), n.nat64("198.51.100.77")) for f in FLAGS[:2]),
    Question(reverse(n.nat64(n.V4ONLY)), "AAAA"),
    Question(reverse(n.nat64(n.V4ONLY)), "TXT"),
    Question(reverse(n.nat64(n.V4ONLY)).partition(".")[2], "PTR"),
    *(Question(name, "ANY", **f) for name in ("v4only.example.", "dual.example.", "nx.example.") for f in FLAGS[:2]),
    *(Question(name, "TXT", "CH") for name in ("version.bind.", "id.server.", "hostname.bind.")),
    Question("v4only.example.", "AAAA", "CH"),
    Question("v4only.example.", "AAAA", rd=False),
    Question("never-asked.example.", "AAAA", rd=False),
    *(Question("v4only.signed.example.", t, ad=True) for t in ("A", "AAAA")),
    Question("dual.signed.example.", "AAAA", ad=True),
    *(Question(name, t, edns=None) for name in ("v4only.example.", "many.example.", "big.example.") for t in ("AAAA", "TXT")),
    *(Question("v4only.example.", t) for t in ("SOA", "NS", "DNSKEY", "DS", "SRV", "HTTPS", "TYPE65400", "TYPE0")),
]


def questions():
    """1,000 different questions, always the same ones."""
    out = [Question(name, "AAAA", **f) for name in NAMES for f in FLAGS]
    out += [Question(name, "A", **f) for name in NAMES for f in FLAGS[:2]]
    out += [Question(name, t) for name in NAMES for t in ("TXT", "MX")]
    out += SPECIAL
    out = list(dict.fromkeys(out))
    bulk = [Question(f"bulk{i}.example.", t) for t in ("AAAA", "A") for i in range(dnszones.BULK)]
    out += bulk[: COUNT - len(out)]
    assert len(set(out)) == COUNT, len(set(out))
    return out


# Where the peers are, in cw-inet.
PEERS = {"unbound": "2001:db8:6::64", "bind": "2001:db8:6::65"}


@contextlib.contextmanager
def peers():
    """Starts both in the lab that is up. Gives who asks: by server."""
    anchors = n.RUN / "resolver/anchors"
    started = []
    try:
        for address in PEERS.values():
            netns.run("ip", "-n", n.INET, "address", "add", f"{address}/128", "dev", "lo")
        for name, make in (("unbound", resolvers.unbound_dns64), ("bind", resolvers.named_dns64)):
            folder = n.RUN / f"peer-{name}"
            server = make(f"peer-{name}", n.INET, folder, [PEERS[name]], anchors=anchors)
            process = lab.start_process(server.name, server.ns, server.command)
            started.append(process)
            lab.wait_for(
                lambda name=name: lab.connects(n.INET, PEERS[name], 53), 10, lambda s=server: lab.tail(s.name)
            )
        yield {"causeway": Asker(n.VM1, n.DNS64)} | {name: Asker(n.INET, a) for name, a in PEERS.items()}
    finally:
        for process in started:
            netns.end(process.pid)
        for address in PEERS.values():
            netns.run("ip", "-n", n.INET, "address", "del", f"{address}/128", "dev", "lo", check=False)


def differences(one, other, grain=2):
    """In which respects two answers differ; TTLs may by so many seconds."""
    if one is None or other is None:
        return set() if one is other else {"silence"}
    out = {k for k in ("rcode", "flags", "answer", "authority", "additional", "tcp") if one[k] != other[k]}
    if any(abs(ttl - other["ttls"].get(k, ttl)) > grain for k, ttl in one["ttls"].items()):
        out.add("ttls")
    return out


@dataclass
class Case:
    """A question that a peer answers otherwise than Causeway."""

    question: Question
    peer: str
    differs: set
    ours: dict
    theirs: dict
    reason: str | None = None

    @property
    def name(self):
        return self.question.name.lower()

    @property
    def synthesised(self):
        """True if we made AAAA records."""
        return self.ours is not None and any(PREFIX_TEXT in r for r in self.ours["answer"])

    @property
    def synthesised_there(self):
        return self.theirs is not None and any(PREFIX_TEXT in r for r in self.theirs["answer"])

    def __str__(self):
        lines = [f"{self.question}: {self.peer}: {', '.join(sorted(self.differs))}"]
        for what in sorted(self.differs):
            lines += [f"    {what}: ours   {self.ours and self.ours.get(what)}", f"    {what}: theirs {self.theirs and self.theirs.get(what)}"]
        return "\n".join(lines)


PREFIX_TEXT = f"AAAA {n.NAT64_PREFIX}"


@dataclass
class Found:
    """What came of it."""

    cases: list = field(default_factory=list)
    answers: dict = field(default_factory=dict)

    @property
    def unexplained(self):
        return [c for c in self.cases if c.reason is None]

    def counts(self):
        """How many questions each peer answers as Causeway does, otherwise, and without a reason."""
        out = {}
        for peer in PEERS:
            cases = [c for c in self.cases if c.peer == peer]
            out |= {f"{peer}_same": COUNT - len(cases), f"{peer}_differ": len(cases)}
        return out | {"unexplained": len(self.unexplained)}

    def by_reason(self):
        """(reason, peer) to the number of questions."""
        return Counter((c.reason or "unexplained", c.peer) for c in self.cases)


# --- why answers differ ----------------------------------------------------------------------------

REASONS = {}


def reason(key):
    """Registers why an answer may differ. The first that holds counts."""

    def register(function):
        REASONS[key] = function
        return function

    return register


def starts(case, *labels):
    """True if the question is about one of these names of the lab."""
    return case.name.startswith(tuple(f"{label}." for label in labels))


@reason("The lifetime of what was made")
def _(c):
    # unbound gives the A record's TTL, whatever the SOA record says.
    return c.peer == "unbound" and c.differs == {"ttls"} and c.synthesised


@reason("AAAA records that do not count")
def _(c):
    return c.peer == "unbound" and starts(c, "mapped", "mapped-alone", "mixed")


@reason("AAAA records inside the prefix")
def _(c):
    return starts(c, "inside")


@reason("Addresses that are no hosts")
def _(c):
    return starts(c, "zero", "loopback", "multicast", "broadcast", "linklocal") and not c.synthesised


@reason("CD without DO, and CD with DO for unsigned names")
def _(c):
    made = c.synthesised_there and not c.synthesised
    return c.peer == "bind" and c.question.cd and (made or starts(c, "mapped-alone", "mixed"))


@reason("DO for signed names")
def _(c):
    # BIND passes the proof that there is no AAAA record, unless `break-dnssec` is on.
    return c.peer == "bind" and c.question.do and not c.question.cd and c.synthesised and not c.synthesised_there


@reason("AD on what was made")
def _(c):
    return c.synthesised and "AD" in c.theirs["flags"].split() and "AD" not in c.ours["flags"].split()


@reason("The lifetime of what a DNAME record makes")
def _(c):
    return c.peer == "bind" and c.differs == {"ttls"} and c.name.endswith(".moved.example.")


@reason("The lifetime of signed wildcards")
def _(c):
    # BIND lets what was made of a wildcard live no longer than the proof that the name itself does not exist.
    return c.peer == "bind" and c.differs == {"ttls"} and starts(c, "x.wild") and c.question.qtype == "A"


@reason("ipv4only.arpa")
def _(c):
    return c.name.endswith("ipv4only.arpa.")


@reason("Names of addresses under the prefix")
def _(c):
    return c.name.endswith(reverse(n.NAT64_PREFIX).partition("0.0.0.0.0.0.0.0.")[2])


@reason("All types at once")
def _(c):
    return c.question.qtype == "ANY"


@reason("Other classes")
def _(c):
    return c.question.qclass != "IN"


@reason("Questions without RD")
def _(c):
    return not c.question.rd


@reason("Types that are no data")
def _(c):
    return c.question.qtype == "TYPE0"


@reason("Additional records")
def _(c):
    return c.differs == {"additional"}


@reason("Spelling of names")
def _(c):
    return c.question.name != c.name and c.differs <= {"answer", "authority"}


def explain(case):
    return next((key for key, holds in REASONS.items() if holds(case)), None)


def compare(askers, say=lambda _text: None):
    """Asks all servers each question in turn, so that what is in caches is of the same age, and compares."""
    found = Found()
    asked = questions()
    for i, q in enumerate(asked):
        found.answers[q] = {name: dnsask.in_short(*asker.ask(q)) for name, asker in askers.items()}
        if i % 100 == 99:
            say(f"{i + 1} of {len(asked)}")
    for q, got in found.answers.items():
        for peer in PEERS:
            if differs := differences(got["causeway"], got[peer]):
                case = Case(q, peer, differs, got["causeway"], got[peer])
                case.reason = explain(case)
                found.cases.append(case)
    return found


def table(found):
    """How many questions each peer answers otherwise, by reason."""
    counts = found.by_reason()
    lines = ["| reason | unbound | BIND |", "| --- | ---: | ---: |"]
    for key in [*REASONS, "unexplained"]:
        if any(counts[key, peer] for peer in PEERS):
            lines.append(f"| {key} | {counts[key, 'unbound']} | {counts[key, 'bind']} |")
    same = found.counts()
    lines.append(f"| (the same answer) | {same['unbound_same']} | {same['bind_same']} |")
    return "\n".join(lines)

"""The same 1,000 questions to unbound's dns64, BIND's dns64 and Causeway, all of which forward to the lab's resolver."""

import dnsask
import dnszones
import network as n
from dnsask import Question

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


def ask_all(asked, askers):
    """Each question to each server, one after the other: by server, by question."""
    return {name: {q: dnsask.in_short(*asker.ask(q)) for q in asked} for name, asker in askers.items()}


def differences(one, other, grain=2):
    """In which respects two answers differ; TTLs may by so many seconds."""
    if one is None or other is None:
        return set() if one is other else {"silence"}
    out = {k for k in ("rcode", "flags", "answer", "authority", "additional", "tcp") if one[k] != other[k]}
    if any(abs(ttl - other["ttls"].get(k, ttl)) > grain for k, ttl in one["ttls"].items()):
        out.add("ttls")
    return out

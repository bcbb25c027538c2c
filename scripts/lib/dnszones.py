"""The zones of the lab's resolver: names for every rule of DNS64, signed, wrongly signed and plain.

| zone | what it is for |
| --- | --- |
| example | everything that needs no signatures; unsigned |
| short.example | its SOA makes negative answers short-lived: 20 s |
| signed.example, nsec3.example | signed, with a trust anchor at the resolver |
| bogus.example | signed, and then changed: validation fails |
| other.test | where CNAME records out of `example` lead |
| 100.51.198.in-addr.arpa, 8.b.d.0.1.0.0.2.ip6.arpa | reverse |
| . | nothing: all other names do not exist |
"""

import shutil
from pathlib import Path

import netns
import network as n

SOA = "@ 300 SOA ns.example. hostmaster.example. 1 3600 600 86400 {minimum}\n@ 300 NS ns.example.\n"

# Octets of the large TXT record set: more than any UDP answer that is not cut into fragments.
BIG_TEXTS, BIG_TEXT_OCTETS = 12, 250
MANY = 60
# Names `bulk0.example` and on have A records only; every tenth has an AAAA record too.
BULK = 250


def bulk_address(i):
    """The IPv4 address of `bulkI.example`."""
    return f"198.51.100.{i % 250 + 1}"


def long_name(octets=255, label=63):
    """A name under `example.` of so many octets in wire form, with labels of at most `label` octets."""
    left, labels = octets - len(b"\x07example\x00"), []
    while left > 1:
        size = min(label, left - 1)
        # Never leave a single octet, which is no label.
        if left - 1 - size == 1:
            size -= 1
        labels.append("l" * size)
        left -= size + 1
    return ".".join([*labels, "example."])


LONG = long_name()
# As many labels as fit: 123 of one octet and `example`.
LABELS = long_name(255, 1)

EXAMPLE = (
    SOA.format(minimum=120)
    + f"""\
ns 300 A {n.RESOLVER}

; --- what there is ---
v4only 300 A {n.V4ONLY}
v4only 300 TXT "IPv4 only"
dual 300 A {n.V4ONLY}
dual 300 AAAA {n.V6ONLY}
v6only 300 AAAA {n.V6ONLY}
; A name without addresses, and one that only stands between others.
nodata 300 TXT "no addresses"
leaf.between 300 TXT "the name above has no records"
two 300 A {n.V4ONLY}
two 300 A {n.CLIENT4}
longttl 86400 A {n.V4ONLY}
*.longttl 86400 A {n.V4ONLY}
shortttl 5 A {n.V4ONLY}
zerottl 0 A {n.V4ONLY}
*.wild 300 A {n.V4ONLY}

; --- aliases ---
alias 300 CNAME v4only
alias-dual 300 CNAME dual
alias-v6only 300 CNAME v6only
alias-nodata 300 CNAME nodata
alias-nx 300 CNAME nx
alias-short 30 CNAME v4only
alias-other 300 CNAME v4only.other.test.
chain1 300 CNAME chain2
chain2 300 CNAME chain3
chain3 300 CNAME chain4
chain4 300 CNAME v4only
loop1 300 CNAME loop2
loop2 300 CNAME loop1
self 300 CNAME self
moved 300 DNAME new.example.
v4only.new 300 A {n.V4ONLY}
dual.new 300 A {n.V4ONLY}
dual.new 300 AAAA {n.V6ONLY}

; --- AAAA records that do not count, and A records that make none ---
mapped 300 A {n.V4ONLY}
mapped 300 AAAA ::ffff:{n.V4ONLY}
mapped-alone 300 AAAA ::ffff:{n.V4ONLY}
mixed 300 A {n.V4ONLY}
mixed 300 AAAA ::ffff:{n.V4ONLY}
mixed 300 AAAA {n.V6ONLY}
inside 300 A {n.CLIENT4}
inside 300 AAAA {n.nat64(n.V4ONLY)}
zero 300 A 0.0.0.0
loopback 300 A 127.0.0.1
multicast 300 A 224.0.0.1
private 300 A 10.0.0.1
linklocal 300 A 169.254.0.1
broadcast 300 A 255.255.255.255

; --- other types ---
mail 300 MX 10 v4only
mail 300 MX 20 dual
_ldap._tcp 300 SRV 0 0 389 v4only
svc 300 HTTPS 1 . alpn=h2 ipv4hint={n.V4ONLY}
svc 300 A {n.V4ONLY}
caa 300 CAA 0 issue "example"
unknown 300 TYPE65400 \\# 4 01020304

; --- sites behind the gateway's splicer: IPv6 to the servers themselves ---
site1 300 A {n.PROXY}
site1 300 AAAA {n.VM1_ADDR}
site2 300 A {n.PROXY}
site2 300 AAAA {n.VM2_ADDR}
*.on-vm1 300 A {n.PROXY}
*.on-vm2 300 A {n.PROXY}
; Where certificates come from.
acme 300 A {n.V4ONLY}

; --- for policies ---
registry 300 A {n.V4ONLY}
registry 300 AAAA {n.V6ONLY}
never 300 A {n.V4ONLY}
blocked 300 A {n.V4ONLY}
under.blocked 300 A {n.V4ONLY}
mirror 300 A {n.V4ONLY}

; --- long names ---
{LONG} 300 A {n.V4ONLY}
{LABELS} 300 A {n.V4ONLY}
"""
    + "".join(f'big 300 TXT "{chr(97 + i) * BIG_TEXT_OCTETS}"\n' for i in range(BIG_TEXTS))
    + "".join(f"many 300 A 198.51.100.{i + 1}\n" for i in range(MANY))
    + "".join(f"bulk{i} 3600 A {bulk_address(i)}\n" for i in range(BULK))
    + "".join(f"bulk{i} 3600 AAAA 2001:db8:6::{i + 1:x}\n" for i in range(0, BULK, 10))
)

SHORT = SOA.format(minimum=20) + f"v4only 3600 A {n.V4ONLY}\n* 3600 A {n.V4ONLY}\nnodata 3600 TXT none\n"

SECURE = (
    SOA.format(minimum=120)
    + f"""\
v4only 300 A {n.V4ONLY}
dual 300 A {n.V4ONLY}
dual 300 AAAA {n.V6ONLY}
v6only 300 AAAA {n.V6ONLY}
nodata 300 TXT "no addresses"
alias 300 CNAME v4only
alias-plain 300 CNAME v4only.example.
mapped 300 A {n.V4ONLY}
mapped 300 AAAA ::ffff:{n.V4ONLY}
*.wild 300 A {n.V4ONLY}
"""
)
# What is changed in bogus.example after it was signed.
FORGED, FORGED6 = "198.51.100.66", "2001:db8:6::66"

OTHER = SOA.format(minimum=120) + f"v4only 200 A {n.V4ONLY}\ndual 200 A {n.V4ONLY}\ndual 200 AAAA {n.V6ONLY}\n"

REVERSE4 = (
    SOA.format(minimum=120)
    + f"{n.V4ONLY.rpartition('.')[2]} 300 PTR v4only.example.\n{n.CLIENT4.rpartition('.')[2]} 300 PTR client.example.\n"
)
# 2001:db8:6::10
REVERSE6 = SOA.format(minimum=120) + f"0.1.{'0.' * 18}6.0.0.0 300 PTR v6only.example.\n"

ROOT = SOA.format(minimum=120)

PLAIN = {
    ".": ROOT,
    "example.": EXAMPLE,
    "short.example.": SHORT,
    "other.test.": OTHER,
    "100.51.198.in-addr.arpa.": REVERSE4,
    "8.b.d.0.1.0.0.2.ip6.arpa.": REVERSE6,
}
SIGNED = ("signed.example.", "nsec3.example.", "bogus.example.")


def write(folder, extra=()):
    """Writes all zones, and `extra` ones (name, text), into a folder. Gives the files by zone, and the trust anchors,
    one record a line."""
    files = {}
    for zone, text in [*PLAIN.items(), *extra]:
        files[zone] = folder / ("root.zone" if zone == "." else f"{zone}zone")
        files[zone].write_text(f"$ORIGIN {zone}\n{text}")
    anchors = []
    for zone in SIGNED:
        files[zone], anchor = sign(folder, zone, SECURE)
        anchors.append(anchor)
    return files, "".join(anchors)


def sign(folder, zone, text):
    """A signed zone with a key of its own: the file, and the trust anchor."""
    keys = folder / f"{zone}keys"
    shutil.rmtree(keys, ignore_errors=True)
    keys.mkdir()
    key = netns.run(
        *("dnssec-keygen", "-q", "-K", keys, "-a", "ECDSAP256SHA256", "-f", "KSK", zone.rstrip("."))
    ).stdout.strip()
    plain, done = folder / f"{zone}unsigned", folder / f"{zone}zone"
    plain.write_text(f"$ORIGIN {zone}\n{text}$INCLUDE {keys / key}.key\n")
    # An hour ago to a month from now; NSEC, or NSEC3 without salt and iterations (RFC 9276 3.1).
    denial = ["-3", "-", "-H", "0"] if zone.startswith("nsec3.") else []
    netns.run(
        *("dnssec-signzone", "-q", "-z", "-K", keys, "-d", folder, "-o", zone, "-O", "full", *denial, "-f", done, plain)
    )
    if zone.startswith("bogus."):
        text = done.read_text()
        assert n.V4ONLY in text
        done.write_text(text.replace(n.V4ONLY, FORGED).replace(n.V6ONLY, FORGED6))
    return done, Path(keys / f"{key}.key").read_text()

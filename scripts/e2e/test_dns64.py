"""DNS64 in the lab, as programs see it: dig for every rule of RFC 6147, 7050 and 8880 that can be seen from outside,
then getent, curl, apt-get, Python and Node by name. unbound is the upstream resolver."""

import ipaddress
import json
import re
import socket
import time

import dnscompare
import dnstools
import dnszones
import gateway as gw
import netns
import network as n
import pytest
import servers
import tools
from dnstools import dig
from live import counted

pytestmark = pytest.mark.usefixtures("lab")

SYNTHESISED = n.nat64(n.V4ONLY)
MADE_OF_CLIENT4 = n.nat64(n.CLIENT4)
WELL_KNOWN = ["192.0.0.170", "192.0.0.171"]


def row(sentence, args, status="NOERROR", absent=(), **wanted):
    """A question as dig's arguments, and what must be in the answer section: data by type, and nothing of `absent`."""
    return pytest.param(args.split(), status, wanted, absent, id=sentence.replace(" ", "_"))


RULES = [
    # --- RFC 6147 5.1: when to synthesise ---
    row("5_1_6 a name with only A gets AAAA", "v4only.example AAAA", AAAA=[SYNTHESISED]),
    row("5_1_6 each A makes one AAAA", "two.example AAAA", AAAA=[SYNTHESISED, MADE_OF_CLIENT4]),
    row("5_1_1 a name with AAAA keeps it", "dual.example AAAA", AAAA=[n.V6ONLY]),
    row("5_1_1 a name with only AAAA keeps it", "v6only.example AAAA", AAAA=[n.V6ONLY]),
    row("5_1 a question about A is answered as it is", "v4only.example A", A=[n.V4ONLY]),
    row("5_1 a wildcard's A makes AAAA", "any.wild.example AAAA", AAAA=[SYNTHESISED]),
    row("5_1_2 NXDOMAIN stays NXDOMAIN", "nx.example AAAA", "NXDOMAIN"),
    row("5_1_2 NXDOMAIN of A too", "nx.example A", "NXDOMAIN"),
    row("5_1_2 NXDOMAIN under another", "a.b.nx.example AAAA", "NXDOMAIN"),
    row("5_1_2 unknown top level", "nowhere.invalid-tld AAAA", "NXDOMAIN"),
    row("5_1_6 no A and no AAAA is an empty answer", "nodata.example AAAA"),
    row("5_1_6 an empty non-terminal is an empty answer", "between.example AAAA"),
    # --- RFC 6147 5.1.4: AAAA records that do not count ---
    row("5_1_4 an excluded AAAA does not count", "mapped.example AAAA", AAAA=[SYNTHESISED]),
    row("5_1_4 an excluded AAAA alone is an empty answer", "mapped-alone.example AAAA"),
    row("5_1_4 only what is excluded is taken from a mixed answer", "mixed.example AAAA", AAAA=[n.V6ONLY]),
    row("an AAAA inside the prefix does not count either", "inside.example AAAA", AAAA=[MADE_OF_CLIENT4]),
    # --- RFC 6147 5.1.5: chains ---
    row("5_1_5 CNAME to a name with only A", "alias.example AAAA", CNAME=["v4only.example."], AAAA=[SYNTHESISED]),
    row("5_1_5 CNAME to a name with both", "alias-dual.example AAAA", CNAME=["dual.example."], AAAA=[n.V6ONLY]),
    row("5_1_5 CNAME to a name with AAAA", "alias-v6only.example AAAA", CNAME=["v6only.example."], AAAA=[n.V6ONLY]),
    row("5_1_5 CNAME to a name without addresses", "alias-nodata.example AAAA", CNAME=["nodata.example."]),
    row("5_1_5 CNAME to a name that does not exist", "alias-nx.example AAAA", "NXDOMAIN", CNAME=["nx.example."]),
    row(
        "5_1_5 CNAME into another zone",
        "alias-other.example AAAA",
        CNAME=["v4only.other.test."],
        AAAA=[SYNTHESISED],
    ),
    row(
        "5_1_5 a chain of four",
        "chain1.example AAAA",
        CNAME=["chain2.example.", "chain3.example.", "chain4.example.", "v4only.example."],
        AAAA=[SYNTHESISED],
    ),
    row(
        "5_1_5 DNAME to a name with only A",
        "v4only.moved.example AAAA",
        DNAME=["new.example."],
        CNAME=["v4only.new.example."],
        AAAA=[SYNTHESISED],
    ),
    row(
        "5_1_5 DNAME to a name with both",
        "dual.moved.example AAAA",
        DNAME=["new.example."],
        CNAME=["dual.new.example."],
        AAAA=[n.V6ONLY],
    ),
    row("5_1_5 DNAME to a name that does not exist", "nx.moved.example AAAA", "NXDOMAIN", absent=["AAAA", "A"]),
    row("5_1_5 a loop is a failure", "loop1.example AAAA", "SERVFAIL"),
    row("5_1_5 a name that is its own alias is a failure", "self.example AAAA", "SERVFAIL"),
    # --- A records of which no AAAA records are made ---
    row("A of 0.0.0.0 makes nothing", "zero.example AAAA", absent=["AAAA"]),
    row("A of 127.0.0.1 makes nothing", "loopback.example AAAA", absent=["AAAA"]),
    row("A of a group makes nothing", "multicast.example AAAA", absent=["AAAA"]),
    row("A of the broadcast address makes nothing", "broadcast.example AAAA", absent=["AAAA"]),
    row("A of 0.0.0.0 is told to who asks for A", "zero.example A", A=["0.0.0.0"]),
    # --- RFC 6147 5.2, 5.3.3: other types and sections ---
    row("5_3_3 TXT is passed", "v4only.example TXT", TXT=['"IPv4 only"']),
    row("5_3_3 MX is passed", "mail.example MX", MX=["10 v4only.example.", "20 dual.example."]),
    row("5_3_3 SRV is passed", "_ldap._tcp.example SRV", SRV=["0 0 389 v4only.example."]),
    row("5_3_3 HTTPS is passed", "svc.example HTTPS", HTTPS=[f"1 . alpn=\"h2\" ipv4hint={n.V4ONLY}"]),
    row("5_3_3 an unknown type is passed", "unknown.example TYPE65400", TYPE65400=["\\# 4 01020304"]),
    row("5_3_3 an unknown type that is not there", "v4only.example TYPE65401"),
    # --- RFC 6147 5.3.1: reverse ---
    row("5_3_1 PTR of a native address", f"-x {n.V6ONLY}", PTR=["v6only.example."]),
    row("5_3_1 PTR of an IPv4 address", f"-x {n.V4ONLY}", PTR=["v4only.example."]),
    row(
        "5_3_1 PTR under the prefix leads to in-addr.arpa",
        f"-x {SYNTHESISED}",
        CNAME=["10.100.51.198.in-addr.arpa."],
        PTR=["v4only.example."],
    ),
    row("5_3_1 PTR under the prefix without IPv4 PTR", f"-x {n.nat64('198.51.100.77')}", "NXDOMAIN", absent=["PTR"]),
    # --- RFC 6147 5.5: DNSSEC ---
    row("5_5 DO without CD: what is signed is synthesised", "v4only.signed.example AAAA +dnssec", AAAA=[SYNTHESISED], absent=["RRSIG"]),
    row("5_5 CD and DO: nothing is synthesised", "v4only.signed.example AAAA +dnssec +cdflag", absent=["AAAA"]),
    row("5_5 CD and DO of an unsigned name: nothing is synthesised", "v4only.example AAAA +dnssec +cdflag", absent=["AAAA"]),
    row("5_5 CD without DO: nothing is synthesised either", "v4only.example AAAA +cdflag"),
    row("5_5 CD of a name that has AAAA", "dual.example AAAA +cdflag", AAAA=[n.V6ONLY]),
    row("5_5 bogus is a failure", "v4only.bogus.example AAAA", "SERVFAIL"),
    row("5_5 bogus is a failure for A too", "v4only.bogus.example A", "SERVFAIL"),
    row("5_5 bogus AAAA is a failure with DO", "dual.bogus.example AAAA +dnssec", "SERVFAIL"),
    row("5_5 NXDOMAIN of a signed zone", "nx.signed.example AAAA +dnssec", "NXDOMAIN"),
    row("5_5 NXDOMAIN of a zone with NSEC3", "nx.nsec3.example AAAA +dnssec", "NXDOMAIN"),
    # --- RFC 7050, 8880 ---
    row("rfc7050 the AAAA of ipv4only.arpa tell the prefix", "ipv4only.arpa AAAA", AAAA=[n.nat64(a) for a in WELL_KNOWN]),
    row("rfc7050 the A of ipv4only.arpa", "ipv4only.arpa A", A=WELL_KNOWN),
    row("rfc8880 with CD and DO too", "ipv4only.arpa AAAA +dnssec +cdflag", AAAA=[n.nat64(a) for a in WELL_KNOWN]),
    row("rfc8880 other types of ipv4only.arpa are empty", "ipv4only.arpa TXT"),
    row("rfc8880 there is nothing under ipv4only.arpa", "x.ipv4only.arpa AAAA", "NXDOMAIN"),
    row("rfc8880 the addresses of ipv4only.arpa have its name", f"-x {n.nat64('192.0.0.170')}", PTR=["ipv4only.arpa."]),
    # --- names that never leave a host's network ---
    row("rfc6761 localhost", "localhost AAAA", AAAA=["::1"]),
    row("rfc6761 invalid", "some.invalid A", "NXDOMAIN"),
    row("rfc7686 onion", "some.onion AAAA", "NXDOMAIN"),
    # --- names ---
    row("a name of 255 octets", f"{dnszones.LONG} AAAA", AAAA=[SYNTHESISED]),
    row("a name of 124 labels", f"{dnszones.LABELS} AAAA", AAAA=[SYNTHESISED]),
]


def is_ours(args):
    """True if the gateway answers by itself, and says so."""
    ours = ("ipv4only.arpa", "localhost", "some.invalid", "some.onion", n.nat64("192.0.0.170"))
    return any(a.endswith(ours) for a in args)


@pytest.mark.parametrize("args, status, wanted, absent", RULES)
def test_rfc6147(args, status, wanted, absent):
    """Twice: fetched, and from the cache. Both are the same but for the TTL."""
    for _ in range(2):
        got = dig(*args)
        assert got.status == status, got.text
        assert "ra" in got.flags and ("aa" in got.flags) == is_ours(args), got.text
        for kind, data in wanted.items():
            assert got.data(kind) == sorted(data), got.text
        for kind in absent:
            assert kind not in got.types(), got.text
        if not absent:
            assert got.types() - {"RRSIG"} == set(wanted), got.text
        if status == "NXDOMAIN" or (status == "NOERROR" and not wanted):
            # RFC 2308 2: what makes it negative says for how long.
            assert "SOA" in got.types("authority"), got.text


def test_rfc6147_5_5_ad_is_never_set_on_a_synthesised_answer():
    for flags in ([], ["+dnssec"], ["+adflag"]):
        assert "ad" not in dig("v4only.signed.example", "AAAA", *flags).flags
        assert "ad" not in dig("alias.signed.example", "AAAA", *flags).flags
    for flags in (["+dnssec"], ["+adflag"]):
        # What is passed as it is keeps it: signed, and validated by upstream.
        assert "ad" in dig("dual.signed.example", "AAAA", *flags).flags
        assert "ad" in dig("v4only.signed.example", "A", *flags).flags
        assert "ad" not in dig("dual.example", "AAAA", *flags).flags
    # RFC 6840 5.8: who asks for neither does not get it.
    assert "ad" not in dig("dual.signed.example", "AAAA", "+noadflag").flags


def test_rfc6147_5_5_signatures_of_what_is_passed_stay():
    got = dig("dual.signed.example", "AAAA", "+dnssec")
    assert got.types() == {"AAAA", "RRSIG"} and got.edns["flags"] == ["do"]
    assert re.match(r"AAAA 13 3 ", got.data("RRSIG")[0]), got.text
    assert dig("dual.signed.example", "AAAA", "+adflag").types() == {"AAAA"}
    # With CD and DO a validator gets the proof that there is no AAAA record.
    got = dig("v4only.signed.example", "AAAA", "+dnssec", "+cdflag")
    assert {"SOA", "NSEC", "RRSIG"} <= got.types("authority"), got.text


def test_rfc6147_5_5_a_signed_cname_keeps_its_signature_and_what_is_made_has_none():
    got = dig("alias.signed.example", "AAAA", "+dnssec")
    assert got.data("AAAA") == [SYNTHESISED]
    covered = {r.data.split()[0] for r in got.answer if r.type == "RRSIG"}
    assert covered <= {"CNAME"}, got.text
    assert "ad" not in got.flags


def test_rfc4035_3_2_2_with_cd_bogus_data_is_passed():
    assert dig("v4only.bogus.example", "A", "+cdflag").data("A") == [dnszones.FORGED]


def ttl(*args):
    return dig(*args).ttl("AAAA")


def test_rfc6147_5_1_7_ttl_is_the_smaller_of_a_and_soa():
    """(Upstream's SOA records age in its cache, so that there are no lower bounds here.)"""
    name = f"t{time.monotonic_ns()}"
    # The zone's SOA says 120, and the A record 86400.
    assert ttl(f"{name}.longttl.example", "AAAA") <= 120
    # The zone's SOA says 20, and the A record 3600.
    assert ttl(f"{name}.short.example", "AAAA") <= 20
    # The zone's SOA says 120, and the A record 5.
    assert ttl("shortttl.example", "AAAA") <= 5
    assert ttl("zerottl.example", "AAAA") == 0


def test_rfc2308_5_ttl_decays_in_the_cache():
    first = ttl("v4only.other.test", "AAAA")
    negative = dig("nodata.short.example", "AAAA").authority[0].ttl
    time.sleep(3)
    assert first - 5 <= ttl("v4only.other.test", "AAAA") <= first - 2
    assert negative - 5 <= dig("nodata.short.example", "AAAA").authority[0].ttl <= negative - 2


def test_rfc2308_a_second_question_is_answered_from_the_cache():
    dig("v4only.example", "AAAA")
    with counted(dns64_queries=3, dns64_cache_hits=3, dns64_cache_misses=0, dns64_answered_synthesised=3, dns64_noerror=3):
        for _ in range(3):
            dig("v4only.example", "AAAA")


def test_rfc1035_2_3_3_case_does_not_matter_and_is_given_back():
    dig("v4only.example", "AAAA")
    with counted(dns64_cache_hits=1):
        got = dig("V4oNLy.ExAmPlE", "AAAA")
    assert got.data("AAAA") == [SYNTHESISED]
    assert got.answer[0].name == "V4oNLy.ExAmPlE."


# --- EDNS ------------------------------------------------------------------------------------------


def test_rfc6891_6_1_1_an_answer_has_edns_only_if_the_question_had():
    assert dig("v4only.example", "AAAA").edns["version"] == 0
    assert dig("v4only.example", "AAAA", "+noedns").edns is None


def test_rfc6891_6_1_3_version_1_is_badvers():
    got = dig("v4only.example", "AAAA", "+edns=1", "+noednsnegotiation")
    assert got.status == "BADVERS" and got.edns["version"] == 0 and not got.answer


def test_rfc6891_unknown_options_and_flags_do_no_harm():
    got = dig("v4only.example", "AAAA", "+ednsopt=65001:0102", "+ednsflags=0x40", "+nsid")
    assert got.status == "NOERROR" and got.data("AAAA") == [SYNTHESISED]
    assert "NSID" not in got.edns


def test_rfc7873_a_cookie_is_answered_and_then_recognised():
    first = dig("v4only.example", "AAAA", "+cookie=0102030405060708").edns["COOKIE"]
    whole, judged = first.split(maxsplit=1) if " " in first else (first, "")
    assert whole.startswith("0102030405060708") and 32 <= len(whole) <= 80, first
    # RFC 9018 4: version 1, reserved, timestamp, hash.
    assert len(whole) == 48 and whole[16:24] == "01000000", first
    assert "good" in judged, first
    again = dig("v4only.example", "AAAA", f"+cookie={whole}")
    assert again.status == "NOERROR" and "good" in again.edns["COOKIE"]


def test_rfc7830_padding_is_answered_with_padding():
    # Only over a channel that hides it would padding serve; what counts is that the option does no harm.
    got = dig("v4only.example", "AAAA", "+padding=128")
    assert got.status == "NOERROR" and got.data("AAAA") == [SYNTHESISED]


def test_rfc6891_6_2_5_an_answer_that_is_too_long_is_cut_and_then_fetched_over_tcp():
    with counted(dns64_truncated=1, dns64_queries_tcp=1):
        got = dig("many.example", "AAAA")
    assert len(got.data("AAAA")) == dnszones.MANY and "tc" not in got.flags
    cut = dig("many.example", "AAAA", "+ignore")
    assert "tc" in cut.flags and not cut.answer
    # RFC 1035 4.2.1: without EDNS there are 512 octets.
    assert "tc" in dig("many.example", "AAAA", "+ignore", "+noedns").flags
    # RFC 2181 9, and RFC 6891 6.2.3: a smaller number than 512 counts as 512.
    assert dig("v4only.example", "AAAA", "+bufsize=100", "+ignore").data("AAAA") == [SYNTHESISED]


def test_rfc7766_a_long_answer_that_is_cut_upstream_is_fetched_over_tcp():
    got = dig("big.example", "TXT")
    assert len(got.data("TXT")) == dnszones.BIG_TEXTS
    assert {len(t) for t in got.data("TXT")} == {dnszones.BIG_TEXT_OCTETS + 2}


def test_rfc7766_questions_over_tcp():
    with counted(dns64_queries_tcp=1):
        assert dig("v4only.example", "AAAA", "+tcp").data("AAAA") == [SYNTHESISED]


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["version.bind", "id.server", "hostname.bind", "version.server", "authors.bind"])
def test_chaos_names_are_refused(name):
    with counted(dns64_refused=1):
        assert dig(name, "TXT", "CH").status == "REFUSED"


def test_other_classes_are_refused():
    assert dig("v4only.example", "AAAA", "-c", "HS").status in ("REFUSED", "NOTIMP")


@pytest.mark.parametrize("opcode", ["NOTIFY", "UPDATE", "STATUS", "IQUERY"])
def test_rfc1035_other_opcodes_are_not_implemented(opcode):
    with counted(dns64_notimp=1):
        assert dig("v4only.example", "SOA", f"+opcode={opcode}").status == "NOTIMP"


def test_rfc8482_any_is_answered_with_one_record_that_says_why():
    with counted(dns64_any=1):
        assert dig("v4only.example", "ANY", "+notcp").data("HINFO") == ['"RFC8482" ""']


def test_zone_transfers_are_refused():
    done = tools.vm1("dig", "+tries=1", "+time=3", f"@{n.DNS64}", "example", "AXFR", check=False)
    assert "Transfer failed" in done and "hostmaster" not in done, done


@pytest.mark.parametrize("kind, status", [("TYPE0", "FORMERR"), ("OPT", "FORMERR"), ("TSIG", "FORMERR"), ("MAILA", "NOTIMP"), ("TYPE251", "REFUSED")])
def test_types_that_are_no_data(kind, status):
    number = {"OPT": "TYPE41", "TSIG": "TYPE250", "MAILA": "TYPE254"}.get(kind, kind)
    octets = dnstools.exchange(dnstools.query(qtype=int(number.removeprefix("TYPE"))))
    assert dnstools.rcode_of(octets) == {"FORMERR": 1, "NOTIMP": 4, "REFUSED": 5}[status]


def test_without_rd_nothing_is_told():
    """What others asked for is nobody's business."""
    dig("v4only.example", "AAAA")
    assert dig("v4only.example", "AAAA", "+norecurse").status == "REFUSED"


def test_nobody_but_clients_is_answered():
    """Not an open resolver: cw-inet reaches the address, and hears nothing."""
    tools.ping(n.INET, n.DNS64, count=1)
    with counted(drop_dns64_not_client=1):
        assert dig("v4only.example", "AAAA", "+time=1", ns=n.INET, check=False) is None
    with pytest.raises(OSError):
        tools.tcp_client(n.INET, n.DNS64, 53, timeout=2)


# --- programs --------------------------------------------------------------------------------------


@pytest.fixture
def resolver_told():
    """vm1 asks the gateway for names: DHCPv6 told it so."""
    told = tools.vm1("cat", "/etc/resolv.conf")
    assert f"nameserver {n.DNS64}" in told and "search example" in told


@pytest.mark.parametrize("name", ["v4only.example", "v4only"])
def test_getent_finds_a_name_and_completes_a_short_one(resolver_told, name):
    found = tools.vm1("getent", "ahostsv6", name).split("\n")
    assert {line.split()[0] for line in found if line} == {SYNTHESISED}


@pytest.mark.parametrize("name, address", [("v4only.example", SYNTHESISED), ("dual.example", n.V6ONLY), ("v6only.example", n.V6ONLY)])
def test_curl_fetches_by_name(resolver_told, capture, name, address):
    inside = capture(n.VM1, "eth0")
    done = tools.vm1("curl", "-6", "-sS", "--fail", "--max-time", "20", "-w", "\n%{remote_ip}", f"http://{name}/")
    page, _, remote = done.rpartition("\n")
    assert page == servers.page("inet") and remote == address
    inside.strict("dns && udp.port == 53")


def test_ping_by_name(resolver_told):
    assert "3 received" in tools.vm1("ping", "-n", "-c3", "-i", "0.1", "-W2", "v4only.example")


PYTHON = """
import json, socket, sys, urllib.request
found = socket.getaddrinfo(sys.argv[1], 80, type=socket.SOCK_STREAM)
page = urllib.request.urlopen(f"http://{sys.argv[1]}/", timeout=10).read().decode()
print(json.dumps([sorted({f[4][0] for f in found if f[0] == socket.AF_INET6}), page]))
"""
NODE = """
const dns = require("dns"), http = require("http");
dns.resolve6(process.argv[1], (e, direct) => {
  if (e) throw e;
  dns.lookup(process.argv[1], {family: 6, all: true}, (e, found) => {
    if (e) throw e;
    http.get({host: process.argv[1], family: 6, path: "/"}, r => {
      let page = "";
      r.on("data", d => page += d);
      r.on("end", () => console.log(JSON.stringify([direct, found.map(f => f.address), page])));
    });
  });
});
"""


@pytest.mark.parametrize("name, address", [("v4only.example", SYNTHESISED), ("dual.example", n.V6ONLY)])
def test_python_finds_and_fetches(resolver_told, name, address):
    found, page = json.loads(tools.vm1("/usr/bin/python3", "-c", PYTHON, name))
    assert found == [address] and page == servers.page("inet")


@pytest.mark.parametrize("name, address", [("v4only.example", SYNTHESISED), ("dual.example", n.V6ONLY)])
def test_node_finds_and_fetches(resolver_told, name, address):
    """Both ways that Node has: its own resolver (c-ares), and the system's."""
    direct, found, page = json.loads(tools.vm1("node", "-e", NODE, "--", name))
    assert direct == [address] and set(found) == {address} and page == servers.page("inet")


@pytest.fixture
def mirror(tmp_path):
    """A Debian repository with one package, on the IPv4-only server."""
    www = n.RUN / "web-inet/www/debian"
    package = tmp_path / "package"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN/control").write_text(
        "Package: causeway-lab-test\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\n"
        "Description: shows that apt-get works\n"
    )
    (package / "content").write_text("over NAT64\n")
    www.mkdir(exist_ok=True)
    netns.run("dpkg-deb", "--root-owner-group", "--build", package, www / "causeway-lab-test_1.0_all.deb")
    packages = netns.run("dpkg-scanpackages", "--multiversion", ".", cwd=www).stdout
    (www / "Packages").write_text(packages)
    return "http://mirror.example/debian"


def test_apt_get_updates_and_downloads_from_an_ipv4_only_mirror(resolver_told, mirror, tmp_path):
    """With lists, cache and settings of its own: nothing of the machine is touched."""
    root = tmp_path / "apt"
    for folder in ("lists/partial", "cache/archives/partial", "dpkg", "etc"):
        (root / folder).mkdir(parents=True)
    (root / "dpkg/status").write_text("")
    (root / "sources").write_text(f"deb [trusted=yes] {mirror} ./\n")
    options = {
        "Dir::Etc": root / "etc",
        "Dir::Etc::sourcelist": root / "sources",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": root / "lists",
        "Dir::State::status": root / "dpkg/status",
        "Dir::Cache": root / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::http::Proxy": "false",
        "Acquire::Retries": "0",
    }
    apt = ["apt-get", *(x for k, v in options.items() for x in ("-o", f"{k}={v}"))]
    said = tools.vm1(*apt, "update")
    assert mirror in said
    done = netns.run(*netns.in_ns(n.VM1, *apt, "download", "causeway-lab-test"), cwd=root)
    assert (root / "causeway-lab-test_1.0_all.deb").read_bytes()[:7] == b"!<arch>", done.stdout


def test_vm2_asks_too_and_gets_what_vm1_had_fetched():
    dig("v4only.example", "AAAA")
    with counted(dns64_cache_hits=1):
        assert dig("v4only.example", "AAAA", ns=n.VM2).data("AAAA") == [SYNTHESISED]


def test_tshark_sees_no_malformed_message(capture):
    """Questions of many kinds over UDP and TCP, on both sides of the gateway."""
    inside, outside = capture(n.VM1, "eth0", "port 53"), capture(n.INET, "up0", "port 53")
    gw.causeway("dns", "flush", "--socket", n.SOCKET)
    for args, *_ in (p.values for p in RULES):
        dig(*args, "+dnssec")
        dig(*args, "+noedns")
    for name in ("many.example", "v4only.example", "v4only.signed.example"):
        dig(name, "AAAA", "+tcp")
    for side in (inside, outside):
        side.strict("dns", "tcp.desegment_tcp_streams:TRUE")
    # Upstream is reached by the gateway's own uplink address (RFC 5452 9.2: from ports that cannot be guessed).
    sources = {tuple(r) for r in outside.packets(f"dns.flags.response == 0 && ip.dst == {n.RESOLVER}", "ip.src")}
    assert len(sources) == 1 and ipaddress.ip_address(next(iter(sources))[0]) in ipaddress.ip_network("192.0.2.0/24")


def test_the_command_line_explains_an_answer():
    told = json.loads(gw.causeway("dns", "lookup", "v4only.example", "AAAA", "--json", "--socket", n.SOCKET).stdout)
    assert SYNTHESISED in json.dumps(told)
    text = gw.causeway("dns", "lookup", "v4only.example", "--socket", n.SOCKET).stdout
    assert SYNTHESISED in text and "v4only.example" in text
    assert n.RESOLVER in gw.show_text("dns")


def test_reverse_names_are_written_right():
    """The questions of the comparison are what they should be."""
    assert dnscompare.reverse(n.V4ONLY) == "10.100.51.198.in-addr.arpa."
    assert socket.inet_pton(socket.AF_INET6, SYNTHESISED)[-4:] == socket.inet_aton(n.V4ONLY)
    assert dnstools.wire_name("a.bc.") == b"\x01a\x02bc\x00"

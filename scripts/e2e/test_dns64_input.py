"""DNS64 and what strangers send it: messages that are none, and DNS over TCP as it should and should not be used."""

import random
import socket
import struct
import time

import dns.message
import dns.rcode
import dnstools
import gateway as gw
import lab as lab_module
import network as n
import pytest
import tools
from dnstools import dig, exchange, framed, opt, option, query, rcode_of, read_framed, wire_name
from live import counted

SYNTHESISED = n.nat64(n.V4ONLY)
FORMERR, NOTIMP, REFUSED, BADVERS = 1, 4, 5, 16


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    yield from dnstools.labs(tmp_path_factory, "input")


@pytest.fixture
def live(shared):
    yield shared
    shared.dns()


@pytest.fixture(autouse=True)
def still_works(shared):
    """After each of these the next question is answered as before."""
    yield
    assert dig("v4only.example", "AAAA").data("AAAA") == [SYNTHESISED]


# --- over UDP --------------------------------------------------------------------------------------

NAME = wire_name("v4only.example")
HEAD = query()[:12]
TAIL = struct.pack("!HH", 28, 1)


@pytest.mark.parametrize(
    "sentence, octets",
    [
        ("one octet", b"\x12"),
        ("half a header", query()[:7]),
        ("a header without its last octet", query()[:11]),
        ("a response", query(flags=0x8100)),
        ("a response that says it failed", query(flags=0x8182)),
    ],
    ids=["one_octet", "half_a_header", "a_header_without_its_last_octet", "a_response", "a_failure"],
)
def test_what_cannot_be_answered_is_dropped(sentence, octets):
    with counted(drop_dns64_unanswerable=1, dns64_cache_hits=0, dns64_cache_misses=0):
        assert exchange(octets, timeout=0.5) is None


MALFORMED = [
    ("a name that is cut", HEAD + NAME[:5]),
    ("no type and class", HEAD + NAME),
    ("half a class", HEAD + NAME + TAIL[:3]),
    ("no question at all", query(counts=(0, 0, 0, 0))[:12]),
    ("a count of questions that is a lie", HEAD[:4] + b"\0\0" + HEAD[6:] + NAME + TAIL),
    ("two questions", HEAD[:4] + b"\0\2" + HEAD[6:] + (NAME + TAIL) * 2),
    ("65,535 questions", HEAD[:4] + b"\xff\xff" + HEAD[6:] + NAME + TAIL),
    ("a name that points at itself", HEAD + b"\xc0\x0c" + TAIL),
    ("a name that points at the header", HEAD + b"\x01a\xc0\x00" + TAIL),
    ("a name that points beyond the end", HEAD + b"\xff\xff" + TAIL),
    ("a label of 64 octets", HEAD + b"\x40" + b"a" * 64 + b"\0" + TAIL),
    ("a label of an extended type", HEAD + b"\x41" + b"a" * 65 + b"\0" + TAIL),
    ("a name of 256 octets", HEAD + (b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"a" * 62 + b"\0" + TAIL),
    ("a name of 255 labels", HEAD + b"\x01a" * 255 + b"\0" + TAIL),
    ("a record in the answer section", query(counts=(1, 1, 0, 0), tail=NAME + struct.pack("!HHIH", 1, 1, 0, 4) + b"\1\2\3\4")),
    ("octets after the end", query(tail=b"\0")),
    ("two OPT records", query(counts=(1, 0, 0, 2), tail=opt() * 2)),
    ("an OPT record with a name", query(counts=(1, 0, 0, 1), tail=opt(name=b"\1a\0"))),
    ("an OPT record that is cut", query(counts=(1, 0, 0, 1), tail=opt()[:9])),
    ("an OPT record longer than the message", query(counts=(1, 0, 0, 1), tail=opt(length=40))),
    ("an option that is cut", query(counts=(1, 0, 0, 1), tail=opt(b"\0\x0a\0"))),
    ("an option longer than its record", query(counts=(1, 0, 0, 1), tail=opt(b"\0\x0a\0\x20abc"))),
    # RFC 7873 5.2.2: a cookie is of 8 octets, or of 16 to 40.
    ("a cookie of 7 octets", query(counts=(1, 0, 0, 1), tail=opt(option(10, b"7" * 7)))),
    ("a cookie of 12 octets", query(counts=(1, 0, 0, 1), tail=opt(option(10, b"1" * 12)))),
    ("a cookie of 41 octets", query(counts=(1, 0, 0, 1), tail=opt(option(10, b"4" * 41)))),
]


@pytest.mark.parametrize("sentence, octets", MALFORMED, ids=[s.replace(" ", "_") for s, _ in MALFORMED])
def test_rfc1035_4_1_1_malformed_questions_are_format_errors(sentence, octets, capture):
    with counted(dns64_formerr=1, dns64_upstream_asked=0):
        got = exchange(octets)
    assert got and got[:2] == octets[:2] and rcode_of(got) == FORMERR and got[2] & 0x80
    # It can be read, and is not longer than what it answers.
    dns.message.from_wire(got, ignore_trailing=False)
    assert len(got) <= max(len(octets), 12) + 11


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 6, 15])
def test_rfc1035_4_1_1_other_opcodes(opcode):
    with counted(dns64_notimp=1):
        assert rcode_of(exchange(query(flags=opcode << 11))) == NOTIMP


@pytest.mark.parametrize("qclass", [0, 3, 4, 254, 255, 65535])
def test_other_classes_are_refused(qclass):
    with counted(dns64_refused=1, dns64_upstream_asked=0):
        assert rcode_of(exchange(query(qclass=qclass))) == REFUSED


def test_rfc6891_6_1_3_other_versions_of_edns():
    for version in (1, 255):
        got = dns.message.from_wire(exchange(query(counts=(1, 0, 0, 1), tail=opt(version=version))))
        assert got.rcode() == dns.rcode.BADVERS and got.edns == 0


def test_names_with_any_octets_are_asked_as_they_are():
    name = b"\x05\x00\xff\x80\x20." + wire_name("wild.example")
    got = dns.message.from_wire(exchange(query(name)))
    assert got.rcode() == 0 and len(got.answer) == 1


def test_questions_as_long_as_they_are_looked_at_and_longer():
    """With padding (RFC 7830): 1,232 octets at most."""
    whole = query(counts=(1, 0, 0, 1), tail=opt(option(12, b"")))
    for octets, looked_at in ((1232, True), (1233, False), (1400, False)):
        padded = query(counts=(1, 0, 0, 1), tail=opt(option(12, bytes(octets - len(whole)))))
        assert len(padded) == octets
        with counted(drop_dns64_too_long=int(not looked_at)):
            got = exchange(padded, timeout=0.7)
        assert (got is not None) == looked_at
    assert rcode_of(got or exchange(whole)) == 0


def test_an_answer_is_never_more_than_a_client_takes():
    for udp, most in ((None, 512), (0, 512), (600, 600), (65535, 1232)):
        tail = b"" if udp is None else opt(udp=udp)
        got = exchange(query("many.example", counts=(1, 0, 0, int(udp is not None)), tail=tail))
        assert len(got) <= most, (udp, len(got))


def test_random_octets_never_end_it():
    chance = random.Random(53)
    whole = query(counts=(1, 0, 0, 1), tail=opt(option(10, b"12345678")))
    with dnstools.udp_client() as s:
        for i in range(4000):
            if i % 2:
                octets = bytearray(whole)
                for _ in range(chance.randrange(1, 5)):
                    octets[chance.randrange(len(octets))] = chance.randrange(256)
                octets = bytes(octets[: chance.randrange(1, len(octets) + 1)])
            else:
                octets = chance.randbytes(chance.randrange(1, 600))
            s.send(octets)
            if i % 100 == 0:
                time.sleep(0.01)
    assert lab_module.read_pid(lab_module.GATEWAY)


def test_datagrams_that_contradict_themselves(quiet_wire):
    """A UDP length that is a lie, a wrong checksum, and none at all (RFC 8200 8.1)."""
    from scapy.layers.inet import UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw

    def frame(**udp):
        mac = n.VRRP_MAC6
        return bytes(
            Ether(src=n.VM1_MAC, dst=mac)
            / IPv6(src=n.VM1_ADDR, dst=n.DNS64)
            / UDP(sport=40000, dport=53, **udp)
            / Raw(query())
        )

    whole = frame()
    at = 14 + 40 + 6
    wrong = bytearray(whole)
    wrong[at] ^= 0x55
    none = bytearray(whole)
    none[at : at + 2] = b"\0\0"
    for octets, reason in ((bytes(wrong), "drop.dns64-bad-checksum"), (bytes(none), "drop.dns64-bad-checksum"), (frame(len=7), "drop.dns64-bad-udp"), (frame(len=400), "drop.dns64-bad-udp")):
        got = quiet_wire.exchange(("tenant", octets))
        assert got.out == [] and got.counters.get(reason) == 1, (reason, got)


@pytest.fixture
def quiet_wire(shared):
    wire = tools.Wire()
    yield wire
    wire.close()


# --- over TCP --------------------------------------------------------------------------------------


@pytest.fixture
def tcp(shared):
    """Opens TCP connections from vm1."""
    made = []

    def connect(ns=n.VM1, **kw):
        made.append(tools.tcp_client(ns, n.DNS64, 53, **kw))
        return made[-1]

    yield connect
    for s in made:
        s.close()


def answered(sock):
    return dns.message.from_wire(read_framed(sock))


def test_rfc7766_6_2_1_several_questions_on_one_connection(tcp):
    s = tcp()
    for i in range(5):
        s.sendall(framed(query(ident=i)))
        assert answered(s).id == i


def test_rfc7766_6_2_1_1_pipelined_questions_are_answered_as_answers_come(live, tcp):
    """The slow one does not hold up the others."""
    zone = dnstools.Zone(*(f"n{i}.example. 300 IN AAAA {n.V6ONLY}" for i in range(20)), f"slow.example. 300 IN AAAA {n.V6ONLY}")
    upstream = dnstools.Resolver(lambda asked: [(0.7 if asked.key[0] == "slow.example." else 0.0, zone(asked))])
    with tools.closing(upstream):
        live.dns(upstreams=[dnstools.UPSTREAM])
        s = tcp()
        s.sendall(framed(query("slow.example", ident=999)) + b"".join(framed(query(f"n{i}.example", ident=i)) for i in range(20)))
        ids = [answered(s).id for _ in range(21)]
        assert ids[-1] == 999 and set(ids[:-1]) == set(range(20))


def test_rfc7766_8_a_message_may_come_in_any_pieces(tcp):
    s = tcp()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for octet in framed(query(ident=1)):
        s.sendall(bytes([octet]))
        time.sleep(0.005)
    assert answered(s).id == 1
    both = framed(query(ident=2)) + framed(query(ident=3))
    s.sendall(both[:33])
    time.sleep(0.05)
    s.sendall(both[33:])
    assert {answered(s).id, answered(s).id} == {2, 3}


def test_rfc7766_a_half_closed_connection_still_gets_its_answer(tcp):
    s = tcp()
    s.sendall(framed(query(ident=7)))
    s.shutdown(socket.SHUT_WR)
    assert answered(s).id == 7
    assert s.recv(1) == b""


def test_rfc7766_6_2_3_an_idle_connection_is_closed(live, tcp):
    live.dns(sections='[dns64.tcp]\nidle = "2s"\n')
    s = tcp()
    s.sendall(framed(query()))
    answered(s)
    began = time.monotonic()
    s.settimeout(10)
    assert s.recv(1) == b""
    assert 1 < time.monotonic() - began < 5


def test_a_response_over_tcp_is_not_answered_and_the_next_question_is(tcp):
    with counted(drop_dns64_unanswerable=1):
        s = tcp()
        s.sendall(framed(query(flags=0x8100, ident=1)) + framed(query(ident=2)))
        assert answered(s).id == 2


@pytest.mark.parametrize("octets", [b"\0\0", b"\0\5hello", framed(query()[:11])], ids=["empty", "short", "half_a_header"])
def test_what_is_no_message_ends_the_connection(tcp, octets):
    s = tcp()
    s.sendall(octets)
    s.settimeout(5)
    try:
        assert s.recv(100) == b""
    except ConnectionResetError:
        pass


def test_malformed_questions_over_tcp_are_format_errors(tcp):
    for _, octets in MALFORMED:
        s = tcp()
        s.sendall(framed(octets))
        got = read_framed(s)
        # Too short to be a question, or a format error.
        assert got is None or rcode_of(got) == FORMERR
        s.close()


def test_a_slow_sender_is_not_waited_for_for_ever(live, tcp):
    live.dns(sections='[dns64.tcp]\nidle = "2s"\n')
    s = tcp()
    s.settimeout(0.4)
    message, ended = framed(query()), False
    began = time.monotonic()
    for octet in message:
        try:
            s.sendall(bytes([octet]))
            if s.recv(10) == b"":
                ended = True
        except TimeoutError:
            continue
        except OSError:
            ended = True
        if ended:
            break
    assert ended and time.monotonic() - began < 12


def test_a_slow_reader_costs_a_bounded_amount(shared):
    """It asks for much and reads nothing: after a while nothing more is taken from it, and others are served."""
    with tools.closing(netns_socket()) as (s,):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(5)
        s.connect((n.DNS64, 53))
        s.settimeout(0.2)
        sent = 0
        big = framed(query("big.example", qtype=16))
        try:
            for _ in range(20000):
                s.sendall(big)
                sent += 1
        except OSError:
            pass
        assert sent < 20000
        for _ in range(5):
            assert dig("v4only.example", "AAAA", "+tcp", ns=n.VM2).data("AAAA") == [SYNTHESISED]


def netns_socket():
    import netns

    return netns.open_socket(n.VM1, socket.AF_INET6, socket.SOCK_STREAM)


def test_connections_of_a_client_are_bounded_and_others_are_served(live):
    """Of one client as many as it may have; more of them push out its own oldest idle ones, or are refused."""
    live.dns("client-length = 128", sections="[dns64.tcp]\nper-client = 8\n")
    open_ones, refused = [], 0
    for _ in range(40):
        try:
            s = tools.tcp_client(n.VM1, n.DNS64, 53, timeout=2)
            s.sendall(framed(query()))
            open_ones.append(s)
        except OSError:
            refused += 1
    time.sleep(0.3)
    alive = 0
    for s in open_ones:
        s.settimeout(0.3)
        try:
            read_framed(s)
            alive += s.recv(1) != b""
        except TimeoutError:
            alive += 1
        except OSError:
            pass
    assert alive <= 8, alive
    assert dig("v4only.example", "AAAA", "+tcp", ns=n.VM2).data("AAAA") == [SYNTHESISED]
    for s in open_ones:
        s.close()


def test_half_open_connections_do_not_push_out_others(shared, tcp):
    """3,000 SYNs whose senders never say more."""
    from scapy.layers.inet import TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    # (Made beforehand: that takes longer than a connection may be idle.)
    ether = Ether(src=n.VM1_MAC, dst=n.VRRP_MAC6)
    frames = [
        bytes(ether / IPv6(src=n.VM1_ADDR, dst=n.DNS64) / TCP(sport=1024 + i, dport=53, flags="S", seq=i))
        for i in range(3000)
    ]
    s = tcp(ns=n.VM2)
    s.sendall(framed(query(ident=1)))
    assert answered(s).id == 1
    wire = tools.Wire()
    try:
        for i, frame in enumerate(frames):
            if i % 500 == 0:
                time.sleep(0.02)
            wire.send("tenant", frame)
    finally:
        wire.close()
    s.sendall(framed(query(ident=2)))
    assert answered(s).id == 2
    assert dig("v4only.example", "AAAA", "+tcp", ns=n.VM2).data("AAAA") == [SYNTHESISED]


def test_a_connection_to_a_port_that_is_not_dns_is_not_answered_as_one(shared):
    with pytest.raises(OSError):
        tools.tcp_client(n.VM1, n.DNS64, 54, timeout=2)


def test_nothing_of_this_is_in_the_log_as_an_error(shared):
    assert tools.log_complaints() == []
    counters = gw.counters()
    assert counters["dns64-formerr"] > 20 and counters["drop.dns64-unanswerable"] >= 5

"""What strangers can send to the splicer that is no proper hello, request or segment, and servers that fail: answered in the
words of the protocol or ended, bounded in time and number, and counted; and nobody else notices."""

import contextlib
import random
import socket
import struct
import time

import gateway as gw
import netns
import network as n
import pytest
import servers
import splicertools as st
import tools
from splicertools import curl

pytestmark = pytest.mark.usefixtures("splicer", "others")

# Why nobody is asked further.
CAUSES = {f"splice-{x}" for x in ("bad-protocol", "bad-hello", "hello-too-long", "bad-server-name", "no-name", "unknown-name")}
# How long the peek's timeouts may take (2 s; see `splicertools`).
PATIENCE = 5.0


def grown(before):
    """The counters of the splicer that grew, drops included."""
    after = gw.counters()
    return {k: v - before.get(k, 0) for k, v in after.items() if "splice" in k and v != before.get(k, 0)}


@pytest.fixture
def others():
    """An honest connection before, during and after; and it is counted what happens."""
    before = {} if st.STAND_IN else gw.counters()
    with st.connect(7007) as held:
        held.sendall(b"before")
        assert held.recv(10) == b"before"
        yield before
        held.sendall(b"after")
        assert held.recv(10) == b"after"
    assert curl("site1.example", scheme="http") == servers.page("vm1")
    assert st.STAND_IN or grown(before), "nothing of it was counted"


def said(octets, port=443, then=None, timeout=PATIENCE):
    """What comes of octets that somebody sends: the answer, and how it ends."""
    with st.connect(port, timeout=timeout) as s:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            s.sendall(octets)
            if then == "close":
                s.shutdown(socket.SHUT_WR)
        return st.ending(s)


# --- hellos ----------------------------------------------------------------------------------------


def test_a_hello_cut_at_every_octet_is_put_together():
    """In two segments each; and in records of one octet."""
    whole = st.hello("own.on-vm1.example", st.alpn("h2"))
    with st.serving(st.Recorder(9443, after=len(whole))) as server:
        for at in range(1, len(whole)):
            with st.connect(443) as s:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                s.sendall(whole[:at])
                time.sleep(0.001)
                s.sendall(whole[at:])
                assert s.recv(100) == server.answer, at
        assert {bytes(g) for g in server.got} == {whole} and len(server.got) == len(whole) - 1
    tiny = st.hello("own.on-vm1.example", sizes=[1] * 120)
    with st.serving(st.Recorder(9443, after=len(tiny))) as server:
        with st.connect(443) as s:
            s.sendall(tiny)
            assert s.recv(100) == server.answer
        assert bytes(server.got[0]) == tiny


def test_a_request_cut_at_every_octet_is_put_together():
    whole = b"GET /x HTTP/1.1\r\nHost: own.on-vm1.example\r\nX: y\r\n\r\n"
    with st.serving(st.Recorder(9080, after=len(whole))) as server:
        for at in range(1, len(whole)):
            with st.connect(80) as s:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                s.sendall(whole[:at])
                time.sleep(0.001)
                s.sendall(whole[at:])
                assert s.recv(100) == server.answer, at
        assert {bytes(g) for g in server.got} == {whole}


def test_a_hello_that_ends_early_ends_the_connection():
    whole = st.hello("site1.example")
    for at in (1, 4, 5, 6, 9, 40, len(whole) - 1):
        got, _ = said(whole[:at], then="close")
        assert not got or st.alert(got) is not None


def broken_hellos():
    whole = bytearray(st.hello("site1.example"))

    def changed(at, octets):
        out = bytearray(whole)
        out[at : at + len(octets)] = octets
        return bytes(out)

    message = st.handshake("site1.example")
    yield "a record of no length", st.record(b"") + bytes(whole)
    yield "a record longer than may be", b"\x16\x03\x01\xff\xff" + bytes(0xFFFF)
    yield "another handshake message", changed(5, b"\x02")
    yield "a session of 255 octets", changed(9 + 34, b"\xff")
    yield "suites of an odd length", st.record(message[:71] + b"\x00\x03" + message[73:])
    yield "extensions longer than the message", changed(9 + 34 + 33 + 6 + 2, b"\xff\xff")
    yield "a name longer than its extension", bytes(whole).replace(b"\x00\x00\x0dsite1", b"\x00\xff\xffsite1")
    yield "an alert", b"\x15\x03\x01\x00\x02\x02\x28"
    yield "application data", st.record(b"x" * 100, 23)
    yield "SSL 2", b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10" + bytes(37)
    yield "nothing but noise", random.Random(1).randbytes(4000)
    yield "HTTP", b"GET / HTTP/1.1\r\nHost: site1.example\r\n\r\n"
    for what, name in (
        ("an IPv4 address", "203.0.113.80"),
        ("a NUL", b"site1.example\0"),
        ("nothing", b""),
        ("256 octets", b"a." * 128),
        ("an octet that is no letter", b"s\xefte1.example"),
        ("a line", b"site1.example\r\n"),
    ):
        yield f"a name that is {what}", st.hello(name)
    yield "two names", st.hello("site1.example", st.server_name("site2.example"))


@pytest.mark.parametrize("what, octets", [pytest.param(*x, id=x[0].replace(" ", "_")) for x in broken_hellos()])
def test_a_hello_that_is_none_is_refused(what, octets, others):
    got, how = said(octets)
    assert how in ("end", "reset"), how
    assert not got or st.alert(got) is not None, got[:50]
    if not st.STAND_IN:
        # One connection, one cause.
        causes = {k: v for k, v in grown(others).items() if k in CAUSES}
        assert sum(causes.values()) == 1, grown(others)


def test_rfc8446_5_1_hellos_up_to_64_kib_and_no_further():
    with st.serving(st.Recorder(9443)) as server, st.connect(443) as s:
        s.sendall(st.hello("own.on-vm1.example", pad=64_000))
        assert s.recv(100) == server.answer
    # Endless extensions.
    message = st.handshake("own.on-vm1.example")
    endless = message[:1] + b"\xff\xff\xff" + message[4:]
    with st.connect(443, timeout=PATIENCE) as s, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for _ in range(30):
            s.sendall(st.record(endless[:4] + bytes(16_000)))
        st.ending(s)


# --- requests --------------------------------------------------------------------------------------

SMUGGLED = {
    "a bare line feed in the head": b"GET / HTTP/1.1\nHost: site1.example\n\n",
    "a NUL in a field": b"GET / HTTP/1.1\r\nHost: site1.example\r\nX: a\0b\r\n\r\n",
    "a carriage return in a field": b"GET / HTTP/1.1\r\nHost: site1.example\r\nX: a\rb\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: site1.example\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a length and chunks": b"POST / HTTP/1.1\r\nHost: site1.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: site1.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: site1.example\r\nHost: site1.example\r\n\r\n",
    "a host with a path": b"GET / HTTP/1.1\r\nHost: site1.example/x\r\n\r\n",
    "a user in the host": b"GET / HTTP/1.1\r\nHost: a@site1.example\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "a version that is none": b"GET / HTTP/7.3\r\nHost: site1.example\r\n\r\n",
    "a blank at the begin of a line": b"GET / HTTP/1.1\r\n Host: site1.example\r\n\r\n",
    "CONNECT": b"CONNECT site1.example:443 HTTP/1.1\r\nHost: site1.example:443\r\n\r\n",
}
# What is passed on as it came: a server can only answer it as it would any client.
MAY_PASS = {"CONNECT"}


@pytest.mark.parametrize("what", SMUGGLED)
def test_rfc9112_11_2_shapes_of_smuggled_requests(what):
    got, how = said(SMUGGLED[what], 80, then="close")
    if what in MAY_PASS:
        assert how in ("end", "reset")
        return
    assert how == "end" and got.startswith(b"HTTP/1.1 400 "), (got[:100], how)


def test_a_head_without_end_is_refused():
    got, how = said(b"GET / HTTP/1.1\r\n" + b"".join(b"X-%06d: y\r\n" % i for i in range(4000)), 80)
    assert how in ("end", "reset") and (not got or got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))), got[:100]


# --- time ------------------------------------------------------------------------------------------


def test_whoever_says_nothing_or_too_little_is_not_waited_for():
    """In each phase: nothing at all, half a hello, half a head; and dribbling, which does not buy time."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        waiting = {}
        for what, port, octets in (
            ("nothing to TLS", 443, b""),
            ("nothing to HTTP", 80, b""),
            ("half a hello", 443, st.hello("site1.example")[:50]),
            ("half a head", 80, b"GET / HTTP/1.1\r\nHo"),
        ):
            s = waiting[what] = stack.enter_context(st.connect(port, timeout=PATIENCE))
            s.sendall(octets)
        slow = {p: stack.enter_context(st.connect(p, timeout=PATIENCE)) for p in (80, 443)}
        left = {80: b"GET / HTTP/1.1\r\nX: " + bytes(100).replace(b"\0", b"y"), 443: st.hello("site1.example")[:100]}
        ended = {}
        while time.monotonic() - began < PATIENCE and len(ended) < 2:
            for port, s in slow.items():
                if port in ended:
                    continue
                try:
                    s.sendall(left[port][:1])
                    left[port] = left[port][1:]
                except OSError:
                    ended[port] = time.monotonic() - began
                s.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    try:
                        if not s.recv(1000):
                            ended[port] = time.monotonic() - began
                    except ConnectionResetError:
                        ended[port] = time.monotonic() - began
                s.setblocking(True)
            time.sleep(0.05)
        assert set(ended) == {80, 443}, ended
        for what, s in waiting.items():
            s.settimeout(max(0.1, began + PATIENCE - time.monotonic()))
            assert st.ending(s)[1] in ("end", "reset"), what


def test_one_client_cannot_keep_everybody_else_out(splicer):
    """Of one address only so many may be undecided; others are served meanwhile."""
    splicer.splicer(limits="per-client = 20")
    splicer.reload()
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                s = stack.enter_context(netns.open_socket(n.INET, socket.AF_INET, socket.SOCK_STREAM))
                s.setblocking(False)
                s.bind((n.CLIENT4, 0))
                s.connect_ex((n.PROXY, 443))
            time.sleep(0.5)
            # From another address.
            with tools.tcp_client(n.INET, n.PROXY, 80, source=n.V4ONLY) as other:
                other.sendall(b"GET / HTTP/1.1\r\nHost: site1.example\r\nConnection: close\r\n\r\n")
                assert servers.page("vm1").encode() in tools.receive_all(other)
    finally:
        splicer.splicer()
        splicer.reload()


# --- servers ---------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_given_up(splicer):
    """An address that nobody has, and one that does not answer."""
    import splicing

    name = "gone.on-vm1.example"
    splicer.splicer(sites=(*st.SITES, splicing.Site(name, (splicing.Backend("2001:db8:64::dead"),))))
    splicer.reload()
    try:
        began = time.monotonic()
        got, _ = said(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode(), 80, timeout=2 * PATIENCE)
        assert got[:12] in (b"HTTP/1.1 503", b"HTTP/1.1 504", b"HTTP/1.1 502"), got[:100]
        assert time.monotonic() - began < 2 * PATIENCE
        netns.ns_run(n.VM1, "ip", "-6", "route", "add", "blackhole", f"{n.GW_TENANT}/128", check=False)
        got, _ = said(b"GET / HTTP/1.1\r\nHost: site1.example\r\n\r\n", 80, timeout=2 * PATIENCE)
        assert got[:12] in (b"HTTP/1.1 503", b"HTTP/1.1 504", b"HTTP/1.1 502"), got[:100]
    finally:
        netns.ns_run(n.VM1, "ip", "-6", "route", "del", "blackhole", f"{n.GW_TENANT}/128", check=False)
        splicer.splicer()
        splicer.reload()


# --- segments --------------------------------------------------------------------------------------


def raw(flags, seq=1000, ack=0, sport=None, options=b"", data=b"", source=n.CLIENT4, port=443):
    """A TCP segment to the proxy address, as an IPv4 packet."""
    words = 5 + len(options) // 4
    tcp = struct.pack("!HHIIBBHHH", sport or random.randrange(1024, 65536), port, seq, ack, words << 4, flags, 1000, 0, 0)
    tcp += options + data
    addresses = socket.inet_aton(source) + socket.inet_aton(n.PROXY)
    tcp = tcp[:16] + struct.pack("!H", checksum(addresses + struct.pack("!HH", 6, len(tcp)) + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + addresses
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + tcp


def checksum(octets):
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets[: len(octets) & ~1])) + (octets[-1] << 8 if len(octets) & 1 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def throw(packets):
    """Sends IPv4 packets octet by octet."""
    with netns.open_socket(n.INET, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        for p in packets:
            s.sendto(p, (n.PROXY, 0))


def test_segments_of_no_connection_make_nothing():
    """Every combination of flags, with options of every bad shape."""
    shapes = (b"", b"\x02\x00\x00\x00", b"\x03\xff\x00\x00", b"\x02\x04\x00\x00", b"\x08\x0a" + bytes(10), b"\x05\x06" + bytes(6), b"\x05\x03\x00\x00")
    throw(raw(flags, options=o, data=d, ack=5) for flags in range(64) for o in shapes for d in (b"", b"x"))
    tools.wait_until(lambda: curl("site1.example", scheme="http") == servers.page("vm1"))


def test_a_flood_of_syns_leaves_honest_connections_alone():
    """20,000 SYNs with forged sources: they make no state, and connections succeed meanwhile."""
    rng = random.Random(2)
    flood = tools.Background(
        throw,
        [raw(2, rng.randrange(1 << 32), source=f"198.51.100.{rng.randrange(128, 250)}", options=b"\x02\x04\x05\xb4") for _ in range(20_000)],
    )
    served = 0
    while flood.thread.is_alive() or served < 10:
        assert curl("site1.example", scheme="http", seconds=5) == servers.page("vm1")
        served += 1
    flood.result()


def test_forged_segments_do_not_end_a_connection():
    """RFC 5961 3, 4: a reset or a SYN of somebody who guesses."""
    with st.connect(7007) as s:
        s.sendall(b"one")
        assert s.recv(10) == b"one"
        port = s.getsockname()[1]
        throw(raw(flags, seq=seq, ack=seq, sport=port, port=7007) for flags in (4, 20, 2, 18, 17) for seq in range(0, 1 << 32, 1 << 27))
        time.sleep(0.2)
        s.sendall(b"two")
        assert s.recv(10) == b"two"

"""Connections through the splicer as TCP: whatever happens to a stream from its first octet to its last happens as if both
ends spoke directly, before, during and after the moment of the splice. Captures on both sides are looked through for
segments that no TCP would send (see `tcpcheck`)."""

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import time

import netns
import network as n
import pytest
import splicertools as st
import tcpcheck
import tools
import websockets
from splicertools import curl, needs_gateway

pytestmark = pytest.mark.usefixtures("splicer")

ECHO = 7007
# What tshark sees only where something was lost, or said wrongly. (Of a stream that waits for a reader, the rest is
# normal.)
SUSPICIOUS = " || ".join(
    f"tcp.analysis.{x}" for x in ("lost_segment", "ack_lost_segment", "out_of_order", "retransmission", "fast_retransmission")
)


@pytest.fixture
def both_sides(tmp_path):
    """Captures of the client's and of the servers' links, looked through at the end."""
    sides = ((n.INET, "up0", f"tcp and host {n.PROXY}"), (n.VM1, "eth0", "tcp and not port 22"))
    with contextlib.ExitStack() as stack:
        made = []
        for i, (ns, dev, expression) in enumerate(sides):
            made.append(tools.Capture(ns, dev, tmp_path / f"{i}.pcap", expression))
            stack.callback(made[-1].stop)
        yield made
        for c in made:
            c.stop()
            found = tcpcheck.check(c.path)
            assert found.segments, f"{c.where}: nothing was captured"
            assert found.complaints == [], f"{c.where}: {len(found.complaints)}: {found.complaints[:20]}"


def there_and_back(octets, port=ECHO, write=1 << 16, timeout=30):
    """Sends to an echo server, closes that half, and reads to the end."""
    with st.connect(port, timeout=timeout) as s:
        reader = tools.Background(tools.receive_all, s)
        for i in range(0, len(octets), write):
            s.sendall(octets[i : i + write])
        s.shutdown(socket.SHUT_WR)
        got = reader.result(timeout)
    assert hashlib.sha256(got).digest() == hashlib.sha256(octets).digest(), f"{len(got)} of {len(octets)} octets"


def page(octets, host="vm1"):
    """A page of random octets of a web server: its path and its digest."""
    path = n.RUN / f"web-{host}/www/page-{octets}"
    digest = hashlib.sha256()
    with open(path, "wb") as f:
        for left in range(octets, 0, -(1 << 20)):
            block = os.urandom(min(left, 1 << 20))
            digest.update(block)
            f.write(block)
    return f"/{path.name}", digest.hexdigest()


def fetched(name, path, file, *options, scheme="http"):
    curl(name, path, "-o", file, *options, scheme=scheme, seconds=300)
    digest = hashlib.sha256()
    with open(file, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# --- content ---------------------------------------------------------------------------------------


def test_pages_compare_equal(tmp_path, both_sides):
    """Of sizes around what fits into one segment, a window, and a buffer."""
    for octets in (1, 1000, 1380, 1440, 1441, 2881, 16_384, 65_535, 65_537):
        path, digest = page(octets)
        assert fetched("site1.example", path, tmp_path / "got") == digest, octets
    assert curl("site1.example", scheme="https")
    for c in both_sides:
        assert c.packets(SUSPICIOUS, "frame.number", "tcp.stream", "_ws.expert.message") == []


def test_larger_pages_compare_equal(tmp_path, both_sides):
    for octets, scheme in ((1_000_003, "http"), (3_000_001, "https")):
        path, digest = page(octets)
        assert fetched("site1.example", path, tmp_path / "got", scheme=scheme) == digest


def test_pages_by_way_of_a_proxy_header_compare_equal(tmp_path):
    for octets in (1, 65_537, 1_000_003):
        path, digest = page(octets, "vm2")
        assert fetched("site2.example", path, tmp_path / "got", "--http1.1", scheme="https") == digest


@pytest.mark.uncaptured
def test_a_large_page_compares_equal(tmp_path):
    """64 MB, or 1 GB with CAUSEWAY_LONG=1."""
    path, digest = page(1_000_000_000 if os.environ.get("CAUSEWAY_LONG") else 64_000_000)
    assert fetched("site1.example", path, tmp_path / "got") == digest
    (n.RUN / f"web-vm1/www{path}").unlink()


def test_uploads_compare_equal(tmp_path, both_sides):
    for octets in (1, 1441, 65_537, 2_000_003):
        (tmp_path / "up").write_bytes(os.urandom(octets))
        for scheme in ("http", "https"):
            curl("site1.example", "/upload/spliced", "-T", tmp_path / "up", scheme=scheme)
            assert (n.RUN / "web-vm1/www/upload/spliced").read_bytes() == (tmp_path / "up").read_bytes()


async def short(address, port, octets):
    """One short connection on its own; gives what came until its end."""
    loop = asyncio.get_running_loop()
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setblocking(False)
    try:
        s.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        s.bind((n.CLIENT4, 0))
        await loop.sock_connect(s, (address, port))
        await loop.sock_sendall(s, octets)
        got = b""
        while data := await loop.sock_recv(s, 65536):
            got += data
        return got
    finally:
        s.close()


def many(count, at_once, octets, port=80):
    """So many short connections; gives their answers, counted."""
    answers = {}

    async def run():
        left = iter(range(count))

        async def one():
            for _ in left:
                try:
                    got = await asyncio.wait_for(short(n.PROXY, port, octets), 20)
                except (OSError, TimeoutError) as e:
                    got = repr(e).encode()
                # What differs from one to the next.
                key = b"\n".join(x for x in got.split(b"\r\n") if not x.lower().startswith((b"date:", b"etag:", b"last-mod")))
                answers[key] = answers.get(key, 0) + 1

        await asyncio.gather(*(one() for _ in range(at_once)))

    netns.call_in(n.INET, asyncio.run, run())
    return answers


@pytest.mark.uncaptured
def test_short_connections_without_one_error():
    """3,000, or 100,000 with CAUSEWAY_LONG=1."""
    count = 100_000 if os.environ.get("CAUSEWAY_LONG") else 3000
    answers = many(count, 50, b"GET / HTTP/1.1\r\nHost: site1.example\r\nConnection: close\r\n\r\n")
    assert list(answers.values()) == [count], {k[:200]: v for k, v in answers.items()}
    assert next(iter(answers)).startswith(b"HTTP/1.1 200")


# --- ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("octets", [1, 1000, 100_000, 2_000_000])
def test_a_half_close_by_the_client_leaves_the_other_half_open(octets, both_sides):
    there_and_back(os.urandom(octets))


def test_a_half_close_by_the_server_leaves_the_other_half_open(both_sides):
    told = os.urandom(300_000)
    got = []

    def first_its_own_end(conn, _peer):
        conn.sendall(b"that is all\n")
        conn.shutdown(socket.SHUT_WR)
        got.append(tools.receive_all(conn))

    with st.serving(st.Server(9007, first_its_own_end)), st.connect(7008) as s:
        assert st.ending(s) == (b"that is all\n", "end")
        s.sendall(told)
        s.shutdown(socket.SHUT_WR)
        tools.wait_until(lambda: got)
        assert got == [told]


def test_a_close_with_the_hello_and_one_without_any():
    """FIN on the segment of the hello itself, and before any octet."""
    with st.serving(st.Recorder(9443)) as server:
        with st.connect(443) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            s.sendall(st.hello("own.on-vm1.example"))
            s.shutdown(socket.SHUT_WR)
            assert st.ending(s) == (server.answer, "end")
        assert bytes(server.got[0]) == st.hello("own.on-vm1.example")
        with st.connect(443) as s:
            s.shutdown(socket.SHUT_WR)
            assert st.ending(s)[0] == b""
        assert len(server.got) == 1


@pytest.mark.parametrize("after", ["hello", "answer"])
def test_a_reset_by_the_client_reaches_the_server(after):
    seen = []

    def wait(conn, _peer):
        conn.recv(1 << 16)
        conn.sendall(b"answer")
        seen.append(st.ending(conn)[1])

    with st.serving(st.Server(9443, wait)):
        s = st.connect(443)
        s.sendall(st.hello("own.on-vm1.example"))
        if after == "answer":
            assert s.recv(100) == b"answer"
        else:
            time.sleep(0.3)
        st.reset_at_close(s)
        s.close()
        tools.wait_until(lambda: seen)
        # (A proxy closes its own connection in its own way.)
        assert seen == ["reset"] or st.STAND_IN


@pytest.mark.parametrize("after", ["accept", "hello", "answer"])
def test_a_reset_by_the_server_reaches_the_client(after):
    def reset(conn, _peer):
        if after != "accept":
            conn.recv(1 << 16)
        if after == "answer":
            conn.sendall(b"answer")
            time.sleep(0.2)
        st.reset_at_close(conn)

    with st.serving(st.Server(9443, reset)), st.connect(443) as s:
        s.sendall(st.hello("own.on-vm1.example"))
        got, how = st.ending(s)
        assert got == (b"answer" if after == "answer" else b"")
        assert how == "reset" or st.STAND_IN


def test_a_server_that_closes_at_once():
    with st.serving(st.Server(9443, lambda conn, _peer: None)), st.connect(443) as s:
        s.sendall(st.hello("own.on-vm1.example"))
        assert st.ending(s)[0] == b""


def test_a_server_that_speaks_before_it_heard_anything():
    """Its octets come while the client's are still on their way."""

    # (HAProxy takes none that is longer than its buffer.)
    said = st.hello("own.on-vm1.example", pad=0 if st.STAND_IN else 30_000)

    def eager(conn, _peer):
        conn.sendall(os.urandom(5) + bytes(100_000))
        assert tools.receive_all(conn) == said

    with st.serving(st.Server(9443, eager)) as server, st.connect(443) as s:
        s.sendall(said)
        s.shutdown(socket.SHUT_WR)
        got = tools.receive_all(s)
        assert len(got) == 100_005 and not any(got[5:])
        tools.wait_until(lambda: not server.open)
        assert server.errors == []


# --- slow and idle ---------------------------------------------------------------------------------


def test_a_client_that_reads_slowly_closes_the_window_and_gets_everything(both_sides):
    sent = os.urandom(600_000)

    def pour(conn, _peer):
        conn.recv(1 << 16)
        conn.sendall(sent)

    with st.serving(st.Server(9443, pour)):
        s = netns.open_socket(n.INET, socket.AF_INET, socket.SOCK_STREAM)
        with s:
            s.settimeout(20)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            s.bind((n.CLIENT4, 0))
            s.connect((n.PROXY, 443))
            s.sendall(st.hello("own.on-vm1.example"))
            time.sleep(0.7)
            got = bytearray()
            while data := s.recv(20_000):
                got += data
                time.sleep(0.003)
        assert bytes(got) == sent
    client, _ = both_sides
    assert client.packets("tcp.analysis.zero_window || tcp.analysis.window_full"), "the window was never closed"


def test_a_server_that_reads_slowly_gets_everything(both_sides):
    sent, got = st.hello("own.on-vm1.example") + os.urandom(600_000), bytearray()

    def sip(conn, _peer):
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        time.sleep(0.7)
        while data := conn.recv(20_000):
            got.extend(data)
            time.sleep(0.003)

    with st.serving(st.Server(9443, sip)), st.connect(443, timeout=20) as s:
        s.sendall(sent)
        s.shutdown(socket.SHUT_WR)
        assert st.ending(s) == (b"", "end")
    assert bytes(got) == sent


def test_a_client_that_dribbles_its_hello_is_waited_for(both_sides):
    said = st.hello("own.on-vm1.example", st.alpn("h2"))
    with st.serving(st.Recorder(9443, after=len(said))) as server, st.connect(443) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(said)):
            s.sendall(said[i : i + 1])
            time.sleep(0.002)
        assert s.recv(100) == server.answer
        assert bytes(server.got[0]) == said


def test_what_is_idle_outlives_every_timeout_of_the_peek():
    """A websocket, ssh's kind of silence, and keep-alive probes (which would end it if nobody answered). The timeouts of
    the peek are 2 s here."""
    listening = tools.tcp_server(n.VM1, n.VM1_ADDR, 9080)
    plain, probing = st.connect(ECHO), st.connect(ECHO)
    probing.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)):
        probing.setsockopt(socket.IPPROTO_TCP, option, value)
    for s in (plain, probing):
        s.sendall(b"before")
        assert s.recv(10) == b"before"
    silent = st.connect(80)

    async def talk():
        async def shout(socket_):
            async for text in socket_:
                await socket_.send(text.upper())

        async with websockets.serve(shout, sock=listening, ping_interval=None):
            async with websockets.connect(
                "ws://own.on-vm1.example/", sock=silent, ping_interval=None, open_timeout=5
            ) as client:
                await client.send("before")
                assert await client.recv() == "BEFORE"
                await asyncio.sleep(6)
                await client.send("after")
                assert await asyncio.wait_for(client.recv(), 5) == "AFTER"

    silent.setblocking(False)
    listening.setblocking(False)
    asyncio.run(talk())
    for s in (plain, probing):
        s.sendall(b"after")
        assert s.recv(10) == b"after"
        s.close()


# --- options ---------------------------------------------------------------------------------------

FEATURES = ("tcp_timestamps", "tcp_sack", "tcp_window_scaling")


@contextlib.contextmanager
def without(ns, *features):
    """TCP options that hosts of a namespace neither offer nor agree to."""
    if features:
        netns.sysctl(ns, {f"net.ipv4.{f}": 0 for f in features})
    try:
        yield
    finally:
        if features:
            netns.sysctl(ns, {f"net.ipv4.{f}": 1 for f in features})


TS, SACK, SCALING = ((f,) for f in FEATURES)


@pytest.mark.parametrize(
    "client, server",
    [((), TS), ((), SACK), ((), SCALING), ((), FEATURES), (TS, ()), (SACK, ()), (SCALING, ()), (FEATURES, ()), (FEATURES, FEATURES)],
)
def test_options_that_one_end_lacks(client, server, both_sides):
    """Whatever each of them can: what cannot be spliced is passed on all the same."""
    with without(n.INET, *client), without(n.VM1, *server):
        there_and_back(os.urandom(150_000))
        there_and_back(os.urandom(100))


def test_a_path_of_1400_octets_is_kept_to():
    """The client's SYN says so itself."""
    for far in tools.far_host(1400):
        with tools.tcp_client(far, n.PROXY, ECHO) as s:
            octets = os.urandom(400_000)
            reader = tools.Background(tools.receive_all, s)
            s.sendall(octets)
            s.shutdown(socket.SHUT_WR)
            assert reader.result(20) == octets


@pytest.mark.skipif(st.STAND_IN, reason="HAProxy stands in for the gateway")
def test_a_path_that_becomes_smaller_afterwards(both_sides):
    """RFC 1191 4: the router's error reaches the server in its own words, and makes its segments smaller."""
    for far in tools.far_host(1500):
        with tools.tcp_client(far, n.PROXY, ECHO) as s:
            s.sendall(b"spliced")
            assert s.recv(10) == b"spliced"
            for ns, dev in ((n.INET, "far0"), (far, "eth0")):
                netns.run("ip", "-n", ns, "link", "set", dev, "mtu", 1300)
            octets = os.urandom(200_000)
            reader = tools.Background(tools.receive_all, s, len(octets))
            s.sendall(octets)
            assert reader.result(20) == octets


# --- loss, reordering, duplication -----------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_loss_reordering_and_duplication_on_both_sides(seed, both_sides):
    options = ("--loss", "0.01", "--double", "0.02", "--reorder", "0.03")
    with st.impaired("uplink", *options, seed=seed) as outside, st.impaired("tenant", *options, seed=seed + 10) as inside:
        octets = [os.urandom(k) for k in (1, 700, 20_000, 20_000, 300_000, 1_500_000)]
        jobs = [tools.Background(there_and_back, o) for o in octets]
        said = st.hello("own.on-vm1.example", pad=9000)
        with st.serving(st.Recorder(9443, after=len(said))) as server:
            for _ in range(10):
                with st.connect(443, timeout=20) as s:
                    s.sendall(said)
                    assert s.recv(100) == server.answer
            assert {bytes(g) for g in server.got} == {said}
        for job in jobs:
            job.result(60)
    for did in (outside, inside):
        for way in ("from_a", "from_b"):
            assert min(did[way].values()) > 0, f"the relay did nothing: {did}"
        assert did["unsent"] == 0


@pytest.mark.parametrize("lost", range(1, 7))
def test_the_loss_of_any_early_segment_is_made_good(lost, both_sides):
    """Of each of the first segments of both directions, that one alone; with the client, and with the server."""
    for side in ("uplink", "tenant"):
        with st.impaired(side, "--lose-only", str(lost)) as did:
            there_and_back(os.urandom(5000), timeout=20)
        assert did["from_a"]["seen"] >= lost <= did["from_b"]["seen"]


# --- what the gateway says of it -------------------------------------------------------------------


def test_a_spliced_connection_is_a_flow_and_no_longer_terminated():
    needs_gateway()
    import gateway as gw

    before = gw.counters()
    with st.connect(ECHO) as s:
        s.sendall(b"x")
        assert s.recv(10) == b"x"
        state = json.dumps(gw.show("splicer"))
        assert state
        for _ in range(50):
            s.sendall(b"x")
            assert s.recv(10) == b"x"
    grown = {k: v - before.get(k, 0) for k, v in gw.counters().items() if k.startswith("splice")}
    assert grown, "no counter of the splicer moved"


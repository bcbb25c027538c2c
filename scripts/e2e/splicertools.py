"""What the tests of the splicer use: clients, hellos made octet by octet, servers that keep what they were sent, the
impairing relay, and the gateway's configuration in pieces."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

import gateway as gw
import live as live_lab
import netns
import network as n
import pytest
import splicing
import tools
from splicing import Backend, Listener, Site

# With this, HAProxy runs in the gateway's place: what fails then is the test's fault, or another way of Causeway's.
STAND_IN = os.environ.get("CAUSEWAY_STAND_IN") == "haproxy"

# --- clients ---------------------------------------------------------------------------------------


def curl(name, path="/", *options, scheme="https", port=None, check=True, seconds=20):
    """Fetches from a site as the IPv4-only client does; gives the body, or with `check` off the whole process."""
    port = port or {"https": 443, "http": 80}[scheme]
    given = "" if port == {"https": 443, "http": 80}[scheme] else f":{port}"
    done = netns.ns_run(
        n.INET,
        *("curl", "-sS", "--interface", n.CLIENT4, "--max-time", str(seconds), "--cacert", n.CA),
        *("--resolve", f"{name}:{port}:{n.PROXY}", *(["--fail"] if check else []), *options),
        f"{scheme}://{name}{given}{path}",
        check=check,
        timeout=seconds + 10,
    )
    return done.stdout if check else done


def connect(port, timeout=10, address=n.PROXY):
    """A connection of the IPv4-only client to a port of the proxy address."""
    return tools.tcp_client(n.INET, address, port, source=n.CLIENT4, timeout=timeout)


def ending(sock):
    """How a connection ends: what still comes, and "end" or "reset"."""
    got = b""
    while True:
        try:
            data = sock.recv(65536)
        except ConnectionResetError:
            return got, "reset"
        if not data:
            return got, "end"
        got += data


# --- ClientHellos ----------------------------------------------------------------------------------


def vector(size, octets):
    """Octets behind their length, which has `size` octets."""
    return len(octets).to_bytes(size, "big") + octets


def extension(kind, octets):
    return struct.pack("!H", kind) + vector(2, octets)


def server_name(name):
    """The extension of RFC 6066 3. `name` may be octets."""
    octets = name if isinstance(name, bytes) else name.encode()
    return extension(0, vector(2, b"\0" + vector(2, octets)))


def alpn(*protocols):
    """The extension of RFC 7301 3.1."""
    return extension(16, vector(2, b"".join(vector(1, p.encode()) for p in protocols)))


def handshake(name=None, *extensions, pad=0):
    """A ClientHello as a handshake message (RFC 8446 4.1.2); `pad` octets in an extension of padding (RFC 7685)."""
    parts = [server_name(name)] if name is not None else []
    parts += [*extensions, extension(43, b"\x02\x03\x04"), extension(10, vector(2, b"\x00\x1d"))]
    parts += [extension(21, bytes(pad))] if pad else []
    body = b"\x03\x03" + bytes(range(32)) + vector(1, bytes(32)) + vector(2, b"\x13\x01\x13\x02") + b"\x01\x00"
    return b"\x01" + vector(3, body + vector(2, b"".join(parts)))


def record(octets, kind=22, version=b"\x03\x01"):
    return bytes([kind]) + version + vector(2, octets)


def hello(name=None, *extensions, pad=0, sizes=()):
    """A ClientHello in records: of these sizes, and the rest in as few as possible."""
    left, out = handshake(name, *extensions, pad=pad), b""
    for size in sizes:
        out, left = out + record(left[:size]), left[size:]
    while left:
        out, left = out + record(left[:16384]), left[16384:]
    return out


def alert(octets):
    """The description of the fatal alert that a TLS answer is (RFC 8446 6); nothing if it is none."""
    if len(octets) == 7 and octets[0] == 21 and octets[3:6] == b"\x00\x02\x02":
        return octets[6]
    return None


UNRECOGNIZED_NAME = 112


# --- servers ---------------------------------------------------------------------------------------


class Server:
    """A TCP server that does with each connection what a function says, in a thread of its own: `function(socket, peer)`."""

    def __init__(self, port, function, ns=n.VM1, address=n.VM1_ADDR, backlog=256):
        self.function, self.peers, self.errors = function, [], []
        self.listener = netns.open_socket(ns, socket.AF_INET6, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen(backlog)
        self.open = set()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                conn, peer = self.listener.accept()
            except OSError:
                return
            self.peers.append(peer)
            self.open.add(conn)
            threading.Thread(target=self.one, args=(conn, peer), daemon=True).start()

    def one(self, conn, peer):
        try:
            conn.settimeout(30)
            self.function(conn, peer)
        except Exception as e:
            self.errors.append(e)
        finally:
            self.open.discard(conn)
            conn.close()

    def close(self):
        # The thread sleeps in accept().
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for conn in list(self.open):
            with contextlib.suppress(OSError):
                conn.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)


class Recorder(Server):
    """Keeps all octets of each connection until its end; answers each with a fixed text once there are `after` octets."""

    def __init__(self, port, after=1, answer=b"hello from the server\n", **kw):
        self.got, self.after, self.answer = [], after, answer
        super().__init__(port, self.keep, **kw)

    def keep(self, conn, _peer):
        kept = bytearray()
        self.got.append(kept)
        answered = False
        while data := conn.recv(65536):
            kept += data
            if not answered and len(kept) >= self.after:
                answered = True
                conn.sendall(self.answer)


@contextlib.contextmanager
def serving(server):
    try:
        yield server
    finally:
        server.close()


def reset_at_close(sock):
    """Closing the socket resets the connection."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# --- the PROXY protocol ----------------------------------------------------------------------------

PROXY2 = b"\r\n\r\n\x00\r\nQUIT\n"
PP2_ALPN, PP2_AUTHORITY = 1, 2


def proxy2(octets):
    """A header of version 2: (family, source, target, TLVs as a dictionary, what follows it)."""
    assert octets[:12] == PROXY2 and octets[12] == 0x21, octets[:40]
    (size,) = struct.unpack_from("!H", octets, 14)
    body, rest = octets[16 : 16 + size], octets[16 + size :]
    assert octets[13] == 0x11, octets[:40]
    source = (socket.inet_ntoa(body[:4]), struct.unpack_from("!H", body, 8)[0])
    target = (socket.inet_ntoa(body[4:8]), struct.unpack_from("!H", body, 10)[0])
    tlvs, at = {}, 12
    while at < len(body):
        kind, length = struct.unpack_from("!BH", body, at)
        tlvs[kind] = body[at + 3 : at + 3 + length]
        at += 3 + length
    assert at == len(body), octets
    return source, target, tlvs, rest


# --- the relay -------------------------------------------------------------------------------------


@contextlib.contextmanager
def impaired(side, *options, seed=1):
    """All TCP segments of the gateway's link of a side ("tenant", "uplink") pass a relay that loses, doubles and reorders;
    gives a dictionary, in which afterwards stands what it did."""
    end, bridge = {"tenant": (n.FIRST.tenant_end, "br0"), "uplink": (n.FIRST.uplink_end, "br1")}[side]
    near, far = f"rl-{side[:3]}0", f"rl-{side[:3]}1"
    did = {}
    netns.veth(n.BRIDGE, near, "02:00:00:00:ee:01", n.BRIDGE, far)
    process = None
    try:
        for dev in (near, far):
            netns.run("ip", "-n", n.BRIDGE, "link", "set", dev, "up")
        command = [sys.executable, "-B", n.ROOT / "scripts/lib/relay.py", end, near, "--seed", str(seed), *options]
        process = subprocess.Popen(
            netns.in_ns(n.BRIDGE, *command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        netns.run("ip", "-n", n.BRIDGE, "link", "set", end, "nomaster")
        netns.run("ip", "-n", n.BRIDGE, "link", "set", far, "master", bridge)
        yield did
    finally:
        netns.run("ip", "-n", n.BRIDGE, "link", "set", end, "master", bridge)
        if process:
            process.terminate()
            text, _ = process.communicate(timeout=10)
            did |= json.loads(text)
        netns.run("ip", "-n", n.BRIDGE, "link", "del", near)


# --- the gateway -----------------------------------------------------------------------------------

# Servers of the tests' own in cw-vm1 and cw-vm2, by the listener's port.
OWN_PORTS = ((80, 9080), (443, 9443))
SITES = (
    # The lab's web servers, told in other ways.
    Site("proxy1.on-vm2.example", (splicing.VM2,), "proxy1"),
    Site("embedded.on-vm1.example", (splicing.VM1,), "embedded"),
    Site("secure.on-vm1.example", (splicing.VM1,), extra="redirect = true"),
    # Servers that tests start.
    Site("own.on-vm1.example", (Backend(n.VM1_ADDR, OWN_PORTS),)),
    Site("own1.on-vm1.example", (Backend(n.VM1_ADDR, OWN_PORTS),), "proxy1"),
    Site("own2.on-vm1.example", (Backend(n.VM1_ADDR, OWN_PORTS),), "proxy2"),
    Site("ownem.on-vm1.example", (Backend(n.VM1_ADDR, OWN_PORTS),), "embedded"),
    Site(
        "two.on-vm1.example",
        (Backend(n.VM1_ADDR, ((80, 9081),), weight=100), Backend(n.VM1_ADDR, ((80, 9082),), weight=300)),
    ),
    Site(
        "challenge.on-vm1.example",
        (Backend(n.VM1_ADDR),),
        alpn=(("acme-tls/1", (Backend(n.VM1_ADDR, ((443, 9444),)),)),),
    ),
    Site("echo.on-vm1.example", (Backend(n.VM1_ADDR, ((7007, n.ECHO_PORT), (7008, 9007))),)),
    Site("closed.on-vm1.example", (Backend(n.VM1_ADDR, ((80, 9), (443, 9), (7009, 9))),)),
)
LISTENERS = (
    Listener(n.H2C_PORT, http=True),
    Listener(8443, tls=True, http=True, default="site1.example"),
    Listener(7007, default="echo.on-vm1.example"),
    Listener(7008, default="echo.on-vm1.example"),
)
# Times of the peek: short, so that what outlives them was spliced.
# (To open a connection takes three seconds if both its first segments are lost.)
TIMEOUTS = 'first-octet = "2s"\nhello = "2s"\nconnect = "4s"\nhandover = "4s"\n'


class Live(live_lab.Live):
    """A gateway whose splicer's settings change."""

    def splicer(self, sites=SITES, listeners=LISTENERS, keys="", timeouts=TIMEOUTS, limits="", sections="", replace=()):
        """Makes the gateway adopt sites and listeners beside the lab's own, further keys of `[splicer]`, and times."""
        replace = list(replace)
        if keys:
            replace.append(("[splicer]\n", f"[splicer]\n{keys}\n"))
        parts = [f"[splicer.timeouts]\n{timeouts}", f"[splicer.limits]\n{limits}", splicing.toml(sites, listeners), sections]
        self.write(sections="\n".join(parts), replace=replace)
        return self.path


class StandIn:
    """HAProxy in the gateway's place."""

    def splicer(self, *args, **kw):
        pytest.skip("HAProxy stands in for the gateway")

    reload = splicer


def needs_gateway():
    """Skips a test that is about more than any proxy does."""
    if STAND_IN:
        pytest.skip("HAProxy stands in for the gateway")


def counter(name):
    return gw.counters().get(name, 0)


class Slow:
    """Waits for no longer than it must: `with Slow(seconds)` fails if the block took longer."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        self.began = time.monotonic()
        return self

    def __exit__(self, kind, *_):
        took = time.monotonic() - self.began
        assert kind or took < self.seconds, f"took {took:.1f} s instead of at most {self.seconds}"

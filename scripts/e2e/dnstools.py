"""What the tests of DNS64 use: dig and what it printed, resolvers that do what a test wants, and the configuration
in pieces."""

import contextlib
import re
import secrets
import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import lab as lab_module
import live as live_lab
import netns
import network as n
import tools

# --- dig -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """A record as dig prints it."""

    name: str
    ttl: int
    type: str
    data: str


@dataclass
class Dug:
    """What dig printed about one answer."""

    text: str
    status: str | None = None
    flags: set = field(default_factory=set)
    sections: dict = field(default_factory=dict)
    # Of OPT: version, flags and UDP octets; then everything else by its name.
    edns: dict | None = None

    def __getattr__(self, name):
        if name in ("answer", "authority", "additional", "question"):
            return self.sections.get(name.upper(), [])
        raise AttributeError(name)

    def data(self, kind, section="answer"):
        """The data of all records of a type, sorted."""
        return sorted(r.data for r in getattr(self, section) if r.type == kind)

    def ttl(self, kind):
        """The TTL that all records of a type have."""
        (ttl,) = {r.ttl for r in self.answer if r.type == kind}
        return ttl

    def types(self, section="answer"):
        return {r.type for r in getattr(self, section)}


def dig(*args, ns=n.VM1, server=None, check=True):
    """Asks with dig; one try of 6 s. Without an answer it fails, or with `check` off gives nothing."""
    command = ["dig", "+tries=1", "+time=6", f"@{server or n.DNS64}", *args]
    done = netns.ns_run(ns, *command, check=False)
    if done.returncode != 0 or ";; ->>HEADER<<-" not in done.stdout:
        assert not check, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return None
    return parse_dig(done.stdout)


def parse_dig(text):
    got = Dug(text)
    section = None
    for line in text.splitlines():
        if m := re.match(r";; ->>HEADER<<- opcode: (\w+), status: (\w+), id: (\d+)", line):
            got.status = m[2]
        elif m := re.match(r";; flags: ([a-z ]*);", line):
            got.flags = set(m[1].split())
        elif m := re.match(r";; (\w+) SECTION:", line):
            section = m[1]
            got.sections[section] = []
        elif m := re.match(r"; EDNS: version: (\d+), flags:([^;]*); (?:MBZ: \S+, )?udp: (\d+)", line):
            got.edns = {"version": int(m[1]), "flags": m[2].split(), "udp": int(m[3])}
        elif got.edns is not None and (m := re.match(r"; ([A-Z][\w. -]*?):? (.*)", line)) and section != "QUESTION":
            got.edns[m[1]] = m[2]
        elif not line.strip():
            section = section if section == "PSEUDOSECTION" else None
        elif section and not line.startswith(";"):
            name, ttl, _, kind, data = line.split(None, 4)
            got.sections[section].append(Record(name, int(ttl), kind, data))
    return got


# --- resolvers that do what a test wants -----------------------------------------------------------

# Where they listen: hosts that are there already, at which nobody listens on port 53.
UPSTREAM, SECOND_UPSTREAM, UPSTREAM6 = n.CLIENT4, n.V4ONLY, n.V6ONLY
SOA = "example. 120 IN SOA ns.example. hostmaster.example. 1 3600 600 86400 120"


@dataclass
class Asked:
    """A question that reached a resolver."""

    wire: bytes
    peer: tuple
    tcp: bool
    at: float
    message: dns.message.Message

    @property
    def name(self):
        """As it was sent."""
        return self.message.question[0].name.to_text()

    @property
    def key(self):
        """In lower case, with the type."""
        q = self.message.question[0]
        return q.name.to_text().lower(), dns.rdatatype.to_text(q.rdtype)


def reply(asked, answer=(), authority=(), additional=(), rcode="NOERROR", aa=False, edns=True, **changes):
    """An answer in wire form: records as texts. `changes`: `id`, `tc`, `qr`, `question` (name, type), `ad`."""
    m = dns.message.make_response(asked.message, recursion_available=True)
    if not edns:
        m.use_edns(False)
    m.set_rcode(dns.rcode.from_text(rcode))
    m.id = changes.get("id", m.id)
    for flag, bit in (("aa", dns.flags.AA), ("tc", dns.flags.TC), ("ad", dns.flags.AD)):
        if changes.get(flag, aa if flag == "aa" else False):
            m.flags |= bit
    if not changes.get("qr", True):
        m.flags &= ~dns.flags.QR
    if "question" in changes:
        name, kind = changes["question"]
        m.question = [dns.rrset.RRset(dns.name.from_text(name), dns.rdataclass.IN, dns.rdatatype.from_text(kind))]
    for section, rows in ((m.answer, answer), (m.authority, authority), (m.additional, additional)):
        section += [dns.rrset.from_text(*row.split(None, 4)[:1], *_rest(row)) for row in rows]
    return m.to_wire(max_size=65535)


def _rest(row):
    _, ttl, klass, kind, data = row.split(None, 4)
    return int(ttl), klass, kind, data


class Zone:
    """Answers from records given as texts (`name ttl IN type data`); CNAME records are followed."""

    def __init__(self, *rows, soa=SOA):
        self.rows, self.soa = {}, [soa] if soa else []
        self.names = set()
        for row in rows:
            name, _, _, kind, _ = row.split(None, 4)
            self.rows.setdefault((name, kind), []).append(row)
            self.names.add(name)

    def __call__(self, asked):
        name, kind = asked.key
        answer = []
        for _ in range(20):
            if found := self.rows.get((name, kind)):
                return reply(asked, [*answer, *found])
            alias = self.rows.get((name, "CNAME"))
            if not alias:
                break
            answer += alias
            name = alias[0].split()[-1]
        rcode = "NOERROR" if name in self.names else "NXDOMAIN"
        return reply(asked, answer, self.soa, rcode=rcode)


class Resolver:
    """A resolver in cw-inet, over UDP and TCP, that answers as a function says: octets, a list of (seconds to wait,
    octets), or nothing. What it was asked is kept."""

    def __init__(self, answers, address=UPSTREAM, ns=n.INET, port=53):
        self.answers, self.address, self.asked = answers, address, []
        self.lock = threading.Lock()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.udp = netns.open_socket(ns, family, socket.SOCK_DGRAM)
        self.listener = netns.open_socket(ns, family, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for s in (self.udp, self.listener):
            s.bind((address, port))
            s.setblocking(False)
        self.listener.listen(32)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.udp, selectors.EVENT_READ, self.on_udp)
        self.selector.register(self.listener, selectors.EVENT_READ, self.on_connection)
        self.over, self.later, self.buffers = threading.Event(), [], {}
        self.errors = []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while not self.over.is_set():
            for key, _ in self.selector.select(0.02):
                try:
                    key.data(key.fileobj)
                except OSError:
                    pass
                except Exception as e:
                    self.errors.append(e)
            now = time.monotonic()
            due = [x for x in self.later if x[0] <= now]
            self.later = [x for x in self.later if x[0] > now]
            for _, send, octets in due:
                with contextlib.suppress(OSError):
                    send(octets)

    def on_udp(self, sock):
        wire, peer = sock.recvfrom(65536)
        self.handle(wire, peer, False, lambda octets: sock.sendto(octets, peer))

    def on_connection(self, sock):
        conn, peer = sock.accept()
        self.buffers[conn] = b""
        self.selector.register(conn, selectors.EVENT_READ, lambda c: self.on_stream(c, peer))

    def on_stream(self, conn, peer):
        data = conn.recv(65536)
        if not data:
            self.selector.unregister(conn)
            conn.close()
            return
        self.buffers[conn] += data
        while len(have := self.buffers[conn]) >= 2 and len(have) >= 2 + struct.unpack("!H", have[:2])[0]:
            end = 2 + struct.unpack("!H", have[:2])[0]
            self.buffers[conn] = have[end:]
            self.handle(have[2:end], peer, True, lambda o: conn.sendall(struct.pack("!H", len(o)) + o))

    def handle(self, wire, peer, tcp, send):
        asked = Asked(wire, peer, tcp, time.monotonic(), dns.message.from_wire(wire))
        with self.lock:
            self.asked.append(asked)
        what = self.answers(asked)
        for item in [what] if isinstance(what, bytes) else what or []:
            wait, octets = item if isinstance(item, tuple) else (0, item)
            if wait:
                self.later.append((time.monotonic() + wait, send, octets))
            else:
                send(octets)

    def keys(self, name=None):
        """What was asked, (name, type) in lower case, in order; of one name if given."""
        with self.lock:
            return [a.key for a in self.asked if name is None or a.key[0] == name]

    def forget(self):
        with self.lock:
            self.asked.clear()

    def close(self):
        self.over.set()
        self.thread.join(5)
        for s in (self.udp, self.listener, *self.buffers):
            s.close()
        assert not self.errors, self.errors


# --- configuration ---------------------------------------------------------------------------------

UPSTREAMS = f'upstreams = ["{n.RESOLVER}"]'


class Live(live_lab.Live):
    """A gateway whose DNS64 settings change. (The cache's contents stay, but for what depends on the settings.)"""

    def dns(self, keys="", sections="", upstreams=None, replace=()):
        """Makes the gateway adopt further keys of `[dns64]`, sections, and other upstreams."""
        replace = list(replace)
        if upstreams is not None:
            listed = ", ".join(f'"{u}"' for u in upstreams)
            replace.append((UPSTREAMS, f"upstreams = [{listed}]"))
        if keys:
            replace.append(("[dns64]\n", f"[dns64]\n{keys}\n"))
        changed = self.set(sections=sections, replace=replace)
        flush()
        return changed


def restarted(shared, folder, change):
    """The gateway of a `Live` with another configuration for a while: the lab's, changed by a function."""
    from conftest import lab_command

    config = folder / "lab.toml"
    text = change(n.CONFIG.read_text())
    assert text != n.CONFIG.read_text()
    config.write_text(text)
    lab_command("gateway", "stop")
    lab_module.start_gateway(config)
    yield
    lab_command("gateway", "stop")
    lab_module.start_gateway(shared.path)


def flush(*args):
    """Empties the cache, or forgets a name and what is under it."""
    import gateway as gw

    gw.causeway("dns", "flush", *args, "--socket", n.SOCKET)


def labs(tmp_path_factory, name):
    """A lab for one module, with a `Live` on its configuration."""
    from conftest import lab_of

    live = Live(tmp_path_factory.mktemp(name) / "lab.toml")
    with contextlib.contextmanager(lab_of)(config=live.path):
        yield live


# --- messages octet by octet -----------------------------------------------------------------------


def wire_name(name):
    """A name in wire form (no escapes)."""
    return b"".join(bytes([len(x)]) + x.encode() for x in name.rstrip(".").split(".") if x) + b"\0"


def query(name="v4only.example", qtype=28, qclass=1, ident=0x1234, flags=0x0100, counts=(1, 0, 0, 0), tail=b""):
    """A question octet by octet. `name` may be octets."""
    octets = name if isinstance(name, bytes) else wire_name(name)
    return struct.pack("!HHHHHH", ident, flags, *counts) + octets + struct.pack("!HH", qtype, qclass) + tail


def opt(options=b"", udp=1232, version=0, flags=0, name=b"\0", rcode=0, length=None):
    """An OPT record; `options` in wire form."""
    size = len(options) if length is None else length
    return name + struct.pack("!HHBBHH", 41, udp, rcode, version, flags, size) + options


def option(code, data=b""):
    return struct.pack("!HH", code, len(data)) + data


@contextlib.contextmanager
def udp_client(ns=n.VM1, server=None, timeout=2.0):
    """A socket that speaks to the gateway's DNS."""
    with tools.udp(ns, timeout=timeout) as s:
        s.connect((server or n.DNS64, 53))
        yield s


def exchange(payload, ns=n.VM1, timeout=2.0):
    """Sends octets; gives the answer's octets, or nothing."""
    with udp_client(ns, timeout=timeout) as s:
        s.send(payload)
        try:
            return s.recv(65536)
        except TimeoutError:
            return None


def addresses(name, kind="AAAA", ns=n.VM1):
    """Asks without dig, which is much faster: the addresses that come, sorted; nothing (None) if there is no answer, and
    the response code's name if that says so."""
    qtype = dns.rdatatype.from_text(kind)
    octets = exchange(query(name, qtype, ident=secrets.randbelow(65536)), ns, 6.0)
    if octets is None:
        return None
    got = dns.message.from_wire(octets)
    if got.rcode():
        return dns.rcode.to_text(got.rcode())
    return sorted(r.address for s in got.answer if s.rdtype == qtype for r in s)


def rcode_of(octets):
    return octets[3] & 15


def framed(message):
    """A message as it goes over TCP (RFC 1035 4.2.2)."""
    return struct.pack("!H", len(message)) + message


def read_framed(sock):
    """One message from a TCP connection; nothing at its end."""
    head = tools.receive_all(sock, 2)
    if len(head) < 2:
        return None
    (size,) = struct.unpack("!H", head)
    return tools.receive_all(sock, size)

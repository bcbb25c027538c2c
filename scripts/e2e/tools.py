"""What several end-to-end tests use: captures, raw frames with whole counter differences, sockets."""

import contextlib
import select
import signal
import socket
import struct
import subprocess
import threading
import time

import gateway as gw
import netns
import network as n

ETH_P_ALL = 0x0003


# --- programs --------------------------------------------------------------------------------------


def vm1(*args, **kw):
    """Runs a program in cw-vm1; gives back what it printed."""
    return netns.ns_run(n.VM1, *args, **kw).stdout


def curl(ns, url, *args):
    return netns.ns_run(ns, "curl", "-sS", "--fail", "--max-time", "20", *args, url).stdout


def ping(ns, address, *args, count=3):
    """Pings; fails unless every request is answered."""
    done = netns.ns_run(ns, "ping", "-n", "-c", count, "-i", "0.1", "-W", "2", *args, address, check=False)
    assert f"{count} packets transmitted, {count} received" in done.stdout, done.stdout + done.stderr
    return done.stdout


def log_complaints():
    """Lines of the gateways' logs that should not be there. (That a reload was refused is no complaint of
    the gateway about itself.)"""
    bad = []
    for which in n.GATEWAYS.values():
        text = which.log.read_text(errors="replace") if which.log.exists() else ""
        bad += [line for line in text.splitlines() if "panicked" in line or "ERROR" in line]
    return [line for line in bad if "not reloaded" not in line and "lab.toml:" not in line]


def wait_until(what, seconds=5.0, why="it did not happen"):
    """Waits until `what()` is true, and gives back what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        got = what()
        if got:
            return got
        assert time.monotonic() < deadline, why() if callable(why) else why
        time.sleep(0.02)


# --- captures --------------------------------------------------------------------------------------

# Linux sends a TCP checksum that comes out as zero as all ones, which is the same number; tshark notes it
# with an expert item of its own (RFC 1624), and it is no error.
BAD = " || ".join(
    ["_ws.malformed", "_ws.short", '(tcp.checksum.status == "Bad" && !tcp.checksum.ffff)']
    + [f'{p}.checksum.status == "Bad"' for p in ("ip", "udp", "icmp", "icmpv6")]
)
TSHARK = (
    "tshark",
    "-n",
    "-o",
    "ip.check_checksum:TRUE",
    "-o",
    "tcp.check_checksum:TRUE",
    "-o",
    "udp.check_checksum:TRUE",
    "-o",
    "tcp.desegment_tcp_streams:FALSE",
    # What the echo server is sent is no protocol: only look at headers.
    "--disable-protocol",
    "http",
    "--disable-protocol",
    "echo",
    "--disable-protocol",
    "ssh",
)
# What tests send over UDP and TCP is arbitrary, and so are most ports; now and then tshark takes it for a protocol,
# by a port that is registered for one or by its first octets. So headers are looked at in all frames, with all that
# follows UDP and TCP taken as data, and more only in frames of the protocols that the gateway speaks.
HEADERS_ONLY = ("-d", "udp.port==0-65535,data", "-d", "tcp.port==0-65535,data")
SPOKEN = "arp || icmp || icmpv6 || vrrp || dhcpv6 || dns"



class Capture:
    """A tcpdump of one link end, running from here until `stop`."""

    def __init__(self, ns, dev, path, expression=""):
        self.path, self.where = path, f"{ns} {dev}"
        command = netns.in_ns(
            ns, "tcpdump", "-i", dev, "-n", "-U", "--immediate-mode", "-B", "16384", "-Z", "root", "-w", path
        )
        self.process = subprocess.Popen(
            [*command, *expression.split()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        # It says that it listens once it does.
        line = self.process.stderr.readline()
        while line and "listening on" not in line:
            line = self.process.stderr.readline()
        assert line, f"tcpdump in {self.where} ended at once"

    def stop(self):
        if self.process.poll() is None:
            time.sleep(0.1)
            self.process.send_signal(signal.SIGINT)
            self.process.wait(10)
        self.process.stderr.close()

    def packets(self, display_filter="", *fields):
        """The fields of the packets that the filter lets through, one list per packet."""
        self.stop()
        command = [*TSHARK, "-r", self.path, "-Y", display_filter, "-T", "fields"]
        for f in fields or ("frame.number",):
            command += ["-e", f]
        return [line.split("\t") for line in netns.run(*command, timeout=300).stdout.splitlines()]

    def strict(self, display_filter, *preferences):
        """Fails if tshark has a warning or an error about one of these packets, or if there is none of them.
        Gives back how many there are."""
        self.stop()
        options = [o for p in preferences for o in ("-o", p)]
        both = [*TSHARK, *options, "-r", self.path, "-Y"]
        text = netns.run(*both, f"({display_filter}) && _ws.expert.severity >= 0x600000", timeout=300).stdout
        assert not text.strip(), f"{self.where}: tshark does not like:\n{text[:2000]}"
        count = len(netns.run(*both, display_filter, timeout=300).stdout.splitlines())
        assert count, f"{self.where}: nothing was captured that is {display_filter}"
        return count


def bad_packets(path):
    """What tshark says of malformed packets and bad checksums in a file."""
    passes = ((HEADERS_ONLY, BAD), ((), f"({SPOKEN}) && ({BAD})"))
    said = [netns.run(*TSHARK, *o, "-r", path, "-Y", bad, timeout=300).stdout for o, bad in passes]
    return "".join(said).strip()


def complaints(captures, merged):
    """What is wrong with captures (by name; they have ended): bad packets, or that there is none at all.

    tshark takes longer to start than to look at what a test captured, so it is given all of them in one file, which is
    written to `merged`, and each by itself only if there is something to find."""
    found = {name: "nothing was captured" for name, c in captures.items() if c.path.stat().st_size <= 24}
    netns.run("mergecap", "-a", "-w", merged, *(c.path for c in captures.values()))
    if bad_packets(merged):
        found |= {name: f"bad packets:\n{text}" for name, c in captures.items() if (text := bad_packets(c.path))}
    return found


# --- sockets in namespaces -------------------------------------------------------------------------


def udp(ns, address=None, port=0, timeout=2.0):
    """A UDP socket of a namespace, bound if an address is given. Its family follows the address."""
    family = socket.AF_INET if address and ":" not in address else socket.AF_INET6
    s = netns.open_socket(ns, family, socket.SOCK_DGRAM)
    s.settimeout(timeout)
    if address:
        s.bind((address, port))
    return s


def tcp_server(ns, address, port=0):
    family = socket.AF_INET if ":" not in address else socket.AF_INET6
    s = netns.open_socket(ns, family, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    s.listen(16)
    s.settimeout(10)
    return s


def tcp_client(ns, address, port, source=None, timeout=10):
    family = socket.AF_INET if ":" not in address else socket.AF_INET6
    s = netns.open_socket(ns, family, socket.SOCK_STREAM)
    s.settimeout(timeout)
    if source:
        s.bind((source, 0))
    s.connect((address, port))
    return s


def receive_all(sock, octets=None):
    """Reads until the end, or until so many octets."""
    parts, have = [], 0
    while octets is None or have < octets:
        data = sock.recv(1 << 16 if octets is None else min(1 << 16, octets - have))
        if not data:
            break
        parts.append(data)
        have += len(data)
    return b"".join(parts)


def receive_line(sock):
    """Reads up to the first newline."""
    line = b""
    while not line.endswith(b"\n"):
        data = sock.recv(1)
        if not data:
            break
        line += data
    return line


class Background:
    """Runs a function in a thread; `result` waits for it and raises what it raised."""

    def __init__(self, function, *args):
        self.value = self.error = None

        def body():
            try:
                self.value = function(*args)
            except BaseException as e:
                self.error = e

        self.thread = threading.Thread(target=body, daemon=True)
        self.thread.start()

    def result(self, seconds=60):
        self.thread.join(seconds)
        assert not self.thread.is_alive(), f"not done after {seconds} s"
        if self.error:
            raise self.error
        return self.value


# --- raw frames ------------------------------------------------------------------------------------

SOL_PACKET, PACKET_AUXDATA, PACKET_OUTGOING = 263, 8, 4
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 1 << 4, 1 << 6

# The far ends of the gateway's two links: what leaves them goes straight into the gateway's port, and
# what the gateway sends comes in there. (The bridge itself would not let every bad frame through.)
ENDS = {"tenant": (n.BRIDGE, n.FIRST.tenant_end), "uplink": (n.BRIDGE, n.FIRST.uplink_end)}

# Change all the time, and say nothing about a packet; octets follow from the frames that are compared.
NOT_COMPARED = {"busy-polls", "idle-polls", "rx-octets", "tx-octets", "rx-frames", "tx-frames"}


def is_vrrp(data):
    """True if a frame is a VRRP advertisement."""
    kind = data[12:14]
    return (kind == b"\x86\xdd" and data[20:21] == b"\x70") or (kind == b"\x08\x00" and data[23:24] == b"\x70")


class _LinkEnd:
    """A packet socket on a link end that tells what goes in each direction."""

    def __init__(self, side):
        ns, dev = ENDS[side]
        self.side = side
        self.watcher = netns.open_socket(ns, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.watcher.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.watcher.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.watcher.bind((dev, ETH_P_ALL))
        self.watcher.setblocking(False)
        # Protocol 0: sends only.
        self.sender = netns.open_socket(ns, socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.sender.bind((dev, 0))

    def read(self):
        """Frames since the last call, as (to_gateway, octets)."""
        out = []
        while True:
            try:
                data, ancillary, _, address = self.watcher.recvmsg(65536, 256)
            except BlockingIOError:
                return out
            for level, kind, value in ancillary:
                if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                    status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", value[:20])
                    if status & TP_STATUS_VLAN_VALID:
                        # The kernel keeps the tag beside the frame: put it back.
                        tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                        data = data[:12] + struct.pack("!HH", tpid, tci) + data[12:]
            out.append((address[2] == PACKET_OUTGOING, data))

    def close(self):
        self.watcher.close()
        self.sender.close()


class Exchange:
    """What came of sending frames: the whole counter difference, and every frame that left."""

    def __init__(self, counters, out):
        self.counters = counters
        # (side, octets) of each frame that the gateway sent.
        self.out = out

    def __repr__(self):
        return f"Exchange({self.counters}, out={[(s, f.hex()) for s, f in self.out]})"


class Wire:
    """Sends frames into the gateway's ports and tells exactly what that did.

    Hosts talk now and then by themselves. A measurement in which any other frame reached the gateway is
    thrown away and made again, so that counter differences can be compared whole.
    """

    def __init__(self):
        self.ends = {side: _LinkEnd(side) for side in ENDS}

    def close(self):
        for end in self.ends.values():
            end.close()

    def send(self, side, frame):
        """Puts one frame (octets) on the wire."""
        self.ends[side].sender.send(bytes(frame))

    def _read(self):
        return [
            (side, to_gateway, data) for side, end in self.ends.items() for to_gateway, data in end.read()
        ]

    def _settle(self, quiet_seconds, limit):
        """Collects frames until none has passed for a while, the gateway's VRRP advertisements aside."""
        seen, deadline = [], time.monotonic() + limit
        sockets = [end.watcher for end in self.ends.values()]
        quiet_at = time.monotonic() + quiet_seconds
        while (now := time.monotonic()) < min(quiet_at, deadline):
            select.select(sockets, [], [], quiet_at - now)
            new = [f for f in self._read() if f[1] or not is_vrrp(f[2])]
            if new:
                quiet_at = time.monotonic() + quiet_seconds
            seen += new
        return seen

    def exchange(self, *frames, settle=0.15, attempts=12):
        """Sends (side, octets) pairs, in order; gives back the `Exchange`."""
        frames = [(side, bytes(data)) for side, data in frames]
        noise = []
        for _ in range(attempts):
            self._settle(settle, 3)
            before = gw.counters()
            for side, data in frames:
                self.send(side, data)
            seen = self._settle(settle, 3)
            after = gw.counters()
            seen += [f for f in self._read() if f[1] or not is_vrrp(f[2])]
            came = [(side, data) for side, to_gateway, data in seen if to_gateway]
            left = [(side, data) for side, to_gateway, data in seen if not to_gateway]
            noise = [f for f in came if f not in frames]
            diff = {k: after.get(k, 0) - before.get(k, 0) for k in after | before}
            if (
                noise
                or len(came) != len(frames)
                or diff.get("rx-frames", 0) != len(frames)
                or self._asks(left)
            ):
                continue
            # Its VRRP advertisements go on meanwhile.
            sent = diff.get("tx-frames", 0) - diff.pop("vrrp-adverts-sent", 0)
            if sent < 0:
                # An advertisement was counted, and the counters were read before it had left.
                continue
            assert sent == len(left), f"tx-frames says {sent}, but {len(left)} frames left"
            assert diff.get("rx-octets", 0) == sum(len(d) for _, d in frames), "rx-octets"
            return Exchange({k: v for k, v in diff.items() if v and k not in NOT_COMPARED}, left)
        raise AssertionError(
            f"never quiet; the last disturbance: {[(s, d.hex()) for s, d in noise]}; difference: {diff}"
        )

    @staticmethod
    def _asks(left):
        """True if the gateway used the moment to look for a neighbour on its own account, or to advertise itself
        as a router."""
        for _, data in left:
            if data[12:14] == b"\x08\x06" and data[20:22] == b"\x00\x01":
                return True
            if data[12:14] == b"\x86\xdd" and len(data) > 54 and data[20] == 58 and data[54] in (134, 135):
                return True
        return False


# --- a host behind a further router ----------------------------------------------------------------

FAR = "cw-far"
FAR4, FAR6 = "198.51.100.130", "2001:db8:7::10"


def far_host(mtu):
    """Adds cw-far behind cw-inet; the link between them carries at most `mtu` octets."""
    netns.run("ip", "netns", "add", FAR)
    try:
        netns.sysctl(FAR, {"net.ipv6.conf.default.accept_dad": 0, "net.ipv6.conf.default.accept_ra": 0})
        netns.veth(n.INET, "far0", "02:00:00:00:07:01", FAR, "eth0", "02:00:00:00:07:02")
        for ns, dev, v4, v6 in (
            (n.INET, "far0", "198.51.100.129/25", "2001:db8:7::1/64"),
            (FAR, "eth0", f"{FAR4}/25", f"{FAR6}/64"),
        ):
            netns.run("ip", "-n", ns, "link", "set", dev, "mtu", mtu, "up")
            netns.run("ip", "-n", ns, "address", "add", v4, "dev", dev)
            netns.run("ip", "-n", ns, "address", "add", v6, "dev", dev, "nodad")
        netns.run("ip", "-n", FAR, "route", "add", "default", "via", "198.51.100.129")
        netns.run("ip", "-n", FAR, "route", "add", "default", "via", "2001:db8:7::1")
        yield FAR
    finally:
        netns.run("ip", "-n", n.INET, "link", "del", "far0", check=False)
        netns.run("ip", "netns", "del", FAR, check=False)
        flush_route_caches()


def flush_route_caches():
    """Forgets path MTUs that hosts have learned."""
    for ns in (n.VM1, n.VM2, n.INET):
        for family in ("-4", "-6"):
            netns.run("ip", "-n", ns, family, "route", "flush", "cache", check=False)


@contextlib.contextmanager
def closing(*things):
    """Closes all of them at the end."""
    try:
        yield things
    finally:
        for t in things:
            t.close()

"""What the tests of the first hop use: the lab's configuration in pieces, hosts of their own on the tenants' link,
unmodified DHCPv6 clients, and a client that sends what a test wants octet by octet."""

import contextlib
import ipaddress
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import clients
import gateway as gw
import lab as lab_module
import netns
import network as n
import tools
from conftest import lab_of
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

ALL_SERVERS_AND_RELAYS, ALL_SERVERS = "ff02::1:2", "ff05::1:3"

# --- configuration ---------------------------------------------------------------------------------

HEAD = """\
[gateway]
name = "{name}"
profile = "veth"
{gateway}

[[port]]
name = "tenant0"
device = "net_af_packet0,iface=tenant0"

[[port]]
name = "uplink0"
device = "net_af_packet1,iface=uplink0"

[dns]
{dns}

[[network]]
name = "tenant0"
port = "tenant0"
role = "tenant"
{tenant}
{network}

{ra}

{dhcpv6}

{reservations}

[[network]]
name = "uplink0"
port = "uplink0"
role = "uplink"
{uplink}

[[route]]
prefix = "::/0"
via = "2001:db8:ffff::1"

[[route]]
prefix = "0.0.0.0/0"
via = "192.0.2.1"

[nat64]
prefixes = ["2001:db8:64:ff9b::/96"]
pool = ["203.0.113.0/28"]

[nat64.subscribers]
prefix-length = 128
"""

# (A name of one label would have tshark warn that it is seldom of use.)
SEARCH = "lab.example"
DNS = f'servers = ["{n.DNS64}"]\nsearch = ["{SEARCH}"]'
RA = "[network.ra]\nmanaged = true\nother = true\n"
DHCPV6 = f"""\
[network.dhcpv6]
pools = ["{n.DHCP_POOL[0]}-{n.DHCP_POOL[1]}"]
delegate = [{{ prefix = "{n.DELEGATED}", length = 64 }}]
"""
SERVER = ""
# Settings of tests that want no DHCPv6: the lab's servers then have their addresses by hand.
NO_DHCPV6 = {"dhcpv6": "", "reservations": ""}


def reservation(mac, *addresses, **keys):
    """A `[[network.reservation]]` by MAC address."""
    lines = [f'mac = "{mac}"', f"addresses = {json.dumps(list(addresses))}"]
    return "\n".join(["[[network.reservation]]", *lines, *(f"{k} = {json.dumps(v)}" for k, v in keys.items()), ""])


RESERVED = reservation(n.VM1_MAC, n.VM1_ADDR) + reservation(n.VM2_MAC, n.VM2_ADDR)

# What a gateway of a pair has of its own, and what both share.
TENANT_ALONE = f'addresses6 = ["{n.GW_TENANT}/64"]\nlink-local = "{n.GW_TENANT_LL}"'
UPLINK_ALONE = f'addresses6 = ["{n.GW_UPLINK6}/64"]\naddresses4 = ["{n.GW_UPLINK4}/24"]'
TENANT_OF_A_PAIR = f'on-link = ["{n.TENANT_PREFIX}"]'
UPLINK_OF_A_PAIR = 'addresses6 = ["{own6}/64"]\naddresses4 = ["{own4}/24"]'
OWN = {n.GW: (n.GW_OWN4, n.GW_OWN6), n.GW2: (n.GW2_OWN4, n.GW2_OWN6)}
VRRP = f"""
[vrrp]
{{keys}}

[[vrrp.router]]
network = "tenant0"
vrid = {n.VRID}
addresses = ["{n.GW_TENANT_LL}", "{n.GW_TENANT}", "{n.DNS64}"]

[[vrrp.router]]
network = "uplink0"
vrid = {n.VRID}
addresses = ["{n.GW_UPLINK_LL}", "{n.GW_UPLINK6}"]

[[vrrp.router]]
network = "uplink0"
vrid = {n.VRID}
addresses = ["{n.GW_UPLINK4}"]
"""


def write(
    path,
    which=n.FIRST,
    *,
    vrrp=None,
    gateway="",
    dns=DNS,
    network="",
    ra=RA,
    dhcpv6=DHCPV6,
    reservations=RESERVED,
    server=SERVER,
    sections="",
):
    """Writes a configuration of the lab. `vrrp` is the keys of `[vrrp]` (nothing: no VRRP), `server` those of
    `[dhcpv6]`, `sections` goes to the end. Leases are kept beside the file. Gives back the path."""
    own4, own6 = OWN[which.ns]
    text = HEAD.format(
        name=which.ns,
        gateway=gateway,
        dns=dns,
        tenant=TENANT_ALONE if vrrp is None else TENANT_OF_A_PAIR,
        uplink=UPLINK_ALONE if vrrp is None else UPLINK_OF_A_PAIR.format(own4=own4, own6=own6),
        network=network,
        ra=ra,
        dhcpv6=dhcpv6,
        reservations=reservations,
    )
    if dhcpv6:
        leases = "" if "leases =" in server else f'leases = "{path.parent}/{which.ns}.leases.db"\n'
        text += f"\n[dhcpv6]\n{leases}{server}\n"
    if vrrp is not None:
        text += VRRP.format(keys=vrrp)
    path.write_text(text + sections)
    return path


@contextlib.contextmanager
def folder_of(name):
    """A folder for configurations and leases. Below /var/tmp, as leases are to be on a disk and not in memory."""
    path = Path(tempfile.mkdtemp(prefix=f"causeway-e2e-{name}-", dir="/var/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def lab_with(path, *options, allowed=(), **settings):
    """A lab without servers whose gateway has these settings (see `write`); gives the path of its configuration."""
    config = write(path / "lab.toml", **settings)
    with contextlib.contextmanager(lab_of)("--bare", *options, config=config, allowed=allowed):
        yield config


class Labs:
    """The lab of a module whose tests want different settings: it is made anew when they change."""

    def __init__(self, folder):
        self.folder = folder
        self.current = self.config = None
        self.stack = contextlib.ExitStack()

    def want(self, settings):
        """A lab with these settings (see `lab_with`; `options` are those of `scripts/lab up`)."""
        if settings != self.current:
            self.close()
            rest = dict(settings)
            options = rest.pop("options", ())
            self.config = self.stack.enter_context(lab_with(self.folder, *options, **rest))
            self.current = settings
        return self.config

    def close(self):
        self.current = self.config = None
        try:
            self.stack.close()
        finally:
            # The next one begins without leases.
            for old in self.folder.glob("*.db*"):
                old.unlink()


def reload():
    """Makes the gateway read its configuration again; gives back the keys that changed."""
    done = gw.causeway("reload", "--json", "--socket", n.SOCKET)
    return {change["key"] for change in json.loads(done.stdout)["changes"]}


# --- hosts -----------------------------------------------------------------------------------------


class Host:
    """A namespace of the test's own with one link, `eth0`, to a bridge. It is as a fresh Linux machine is: the
    kernel's defaults, nothing configured; its link is down until `up`."""

    def __init__(self, name, mac, bridge="br0", *, dad=False):
        self.ns, self.mac, self.port, self.bridge = f"cw-{name}", mac, name, bridge
        self.address = None
        self.dad = dad

    def make(self):
        netns.run("ip", "netns", "add", self.ns)
        settings = {"accept_ra": 1, "autoconf": 1, "accept_dad": int(self.dad), "forwarding": 0}
        netns.sysctl(self.ns, {f"net.ipv6.conf.default.{k}": v for k, v in settings.items()})
        netns.run("ip", "-n", self.ns, "link", "set", "lo", "up")
        netns.veth(self.ns, "eth0", self.mac, n.BRIDGE, self.port)
        netns.run("ip", "-n", n.BRIDGE, "link", "set", self.port, "master", self.bridge, "up")
        clients.resolver_file(self.ns)
        return self

    def up(self):
        """Plugs it in; returns when it has a link-local address that it may use."""
        netns.run("ip", "-n", self.ns, "link", "set", "eth0", "up")
        tools.wait_until(self.link_local, 5, f"{self.ns} got no link-local address")
        return self

    def down(self):
        netns.run("ip", "-n", self.ns, "link", "set", "eth0", "down")

    def link_local(self):
        rows = json.loads(netns.run("ip", "-n", self.ns, "-6", "-j", "address", "show", "dev", "eth0").stdout)
        found = [a for r in rows for a in r.get("addr_info", []) if a.get("scope") == "link"]
        return next((a["local"] for a in found if not a.get("tentative")), None)

    def addresses(self):
        return clients.addresses(self.ns)

    def run(self, *args, **kw):
        return netns.ns_run(self.ns, *args, **kw)

    def remove(self):
        for pid in netns.pids(self.ns):
            netns.end(pid, patience=3)
        netns.run("ip", "-n", self.ns, "link", "del", "eth0", check=False)
        netns.run("ip", "netns", "del", self.ns, check=False)
        shutil.rmtree(Path("/etc/netns") / self.ns, ignore_errors=True)


@contextlib.contextmanager
def host(name, mac, **kw):
    """A `Host` for the length of a block."""
    h = Host(name, mac, **kw)
    try:
        yield h.make()
    finally:
        h.remove()


def has_gateway(ns, via=n.GW_TENANT_LL):
    """True if the namespace has a default route through the gateway."""
    return any(r.get("gateway") == via for r in clients.default_routes(ns))


# --- unmodified clients ----------------------------------------------------------------------------


class Program:
    """A client that runs in a host, its log and its files."""

    # Folders that the program takes for the machine's; here each client gets its own.
    PRIVATE = ()

    def __init__(self, host, folder, tag=""):
        self.host = host
        self.folder = folder / f"{type(self).__name__.lower()}{tag}-{host.ns}"
        self.folder.mkdir()
        self.process = None

    def command(self):
        raise NotImplementedError

    def start(self):
        """Starts it in a mount namespace in which the machine's folders are its own."""
        mounts = [f"mkdir -p {d}; mount -t tmpfs none {d}" for d in self.PRIVATE]
        line = "; ".join(["mount --make-rprivate /", *mounts, *self.prepare(), 'exec "$@"'])
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                netns.in_ns(self.host.ns, "unshare", "-m", "sh", "-c", line, "sh", *self.command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def prepare(self):
        """Further shell commands in the mount namespace."""
        return []

    def said(self):
        return (self.folder / "log").read_text(errors="replace")

    def bound(self, wanted, seconds=25):
        """Waits until the host has an address for which `wanted` is true, and a default route; gives the address."""

        def done():
            assert self.process.poll() is None, f"it ended ({self.process.returncode}): {self.said()[-2000:]}"
            found = [a for a in self.host.addresses() if wanted(a)]
            return found[0] if found and has_gateway(self.host.ns) else None

        return tools.wait_until(
            done,
            seconds,
            lambda: (
                f"{self.host.ns} has {self.host.addresses()}, default {clients.default_routes(self.host.ns)}; "
                f"log:\n{self.said()[-3000:]}"
            ),
        )

    def stop(self, sig=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def told(self):
        """DNS servers and search list as the client understood them."""
        return clients.told_resolvers(self.host.ns)


class Dhclient(Program):
    """ISC dhclient. The script that it runs is the lab's (see `clients`)."""

    def __init__(self, host, folder, tag="", *, extra=(), conf=clients.CONF):
        super().__init__(host, folder, tag)
        self.extra, self.conf = extra, conf

    def base(self, *flags):
        script = self.folder / "script"
        script.write_text(clients.SCRIPT.format(resolver=f"/etc/netns/{self.host.ns}/resolv.conf"))
        script.chmod(0o755)
        (self.folder / "conf").write_text(self.conf)
        (self.folder / "leases").touch()
        files = ["-cf", self.folder / "conf", "-lf", self.folder / "leases", "-pf", self.folder / "pid"]
        return ["dhclient", "-6", "-v", *flags, *self.extra, *files, "-sf", script, "eth0"]

    def command(self):
        return self.base("-d")

    def release(self):
        """Ends it and gives its lease back."""
        self.stop()
        return self.host.run(*self.base("-r", "-d"), timeout=30, check=False)


class Dhcpcd(Program):
    """dhcpcd, which hears router advertisements itself. Its hook writes down what it was told."""

    PRIVATE = ("/var/lib/dhcpcd", "/run/dhcpcd")
    HOOK = """\
#!/bin/sh
env >>{folder}/env
[ -z "$new_dhcp6_name_servers" ] || {{
    for s in $new_dhcp6_name_servers; do echo "nameserver $s"; done
    echo "search $new_dhcp6_domain_search"
}} >/etc/netns/{ns}/resolv.conf
exit 0
"""

    def command(self):
        hook = self.folder / "hook"
        hook.write_text(self.HOOK.format(folder=self.folder, ns=self.host.ns))
        hook.chmod(0o755)
        conf = self.folder / "conf"
        conf.write_text("duid\npersistent\nslaac hwaddr\noption dhcp6_name_servers, dhcp6_domain_search\n")
        return ["dhcpcd", "-B", "-d", "-6", "-f", conf, "-c", hook, "eth0"]


class Dhcp6c(Program):
    """WIDE dhcp6c: an address, and (with `prefix`) a delegated prefix. The kernel hears router advertisements."""

    PRIVATE = ("/var/lib/dhcpv6",)

    def __init__(self, host, folder, tag="", *, prefix=False):
        super().__init__(host, folder, tag)
        self.prefix = prefix

    def command(self):
        script = self.folder / "script"
        script.write_text(
            "#!/bin/sh\n{ [ -z \"$new_domain_name\" ] || echo \"search ${new_domain_name%.}\"\n"
            f'for s in $new_domain_name_servers; do echo "nameserver $s"; done; }} >/etc/netns/{self.host.ns}/resolv.conf\n'
        )
        script.chmod(0o755)
        conf = self.folder / "conf"
        conf.write_text(
            "interface eth0 {\n  send ia-na 1;\n"
            + ("  send ia-pd 2;\n" if self.prefix else "")
            + f'  request domain-name-servers;\n  request domain-name;\n  script "{script}";\n}};\n'
            + "id-assoc na 1 { };\n"
            + ("id-assoc pd 2 { prefix-interface lan0 { sla-id 0; sla-len 0; }; };\n" if self.prefix else "")
        )
        return ["dhcp6c", "-f", "-D", "-c", conf, "-p", self.folder / "pid", "eth0"]


class Networkd(Program):
    """systemd-networkd, by itself: no udev (that it takes from a read-only /sys), no D-Bus, no service manager."""

    PRIVATE = ("/run/systemd", "/etc/systemd/network", "/run/dbus")

    def prepare(self):
        unit = self.folder / "eth0.network"
        unit.write_text(
            "[Match]\nName=eth0\n[Network]\nDHCP=ipv6\nIPv6AcceptRA=yes\nLinkLocalAddressing=ipv6\n"
            "[DHCPv6]\nUseDomains=yes\n[IPv6AcceptRA]\nUseDomains=yes\n"
        )
        return [
            "mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases",
            "chown -R systemd-network /run/systemd/netif",
            f"cp {unit} /run/systemd/network/",
            "mount -o remount,ro /sys",
            f"(while sleep 0.3; do cat /run/systemd/netif/links/* /run/systemd/netif/state >{self.folder}/links.new "
            f"2>/dev/null; mv {self.folder}/links.new {self.folder}/links; done) & true",
        ]

    def start(self):
        os.environ["SYSTEMD_LOG_LEVEL"] = "debug"
        try:
            return super().start()
        finally:
            del os.environ["SYSTEMD_LOG_LEVEL"]

    def command(self):
        return ["/lib/systemd/systemd-networkd"]

    def told(self):
        text = (self.folder / "links").read_text() if (self.folder / "links").exists() else ""
        values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
        return values.get("DNS", "").split(), values.get("DOMAINS", "").split()


# --- a client octet by octet -----------------------------------------------------------------------

(SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE) = range(1, 10)
INFORMATION, RELAY_FORWARD, RELAY_REPLY = 11, 12, 13
CLIENT_ID, SERVER_ID, IA_NA, IA_TA, IA_ADDR, ORO, PREFERENCE, ELAPSED, RELAY_MSG = range(1, 10)
STATUS, RAPID_COMMIT, INTERFACE_ID, DNS_SERVERS, DOMAIN_LIST, IA_PD, IA_PREFIX = 13, 14, 18, 23, 24, 25, 26
REFRESH, NTP, BOOT_URL, CLIENT_MAC, SOL_MAX_RT, INF_MAX_RT, CAPTIVE, DNR = 32, 56, 59, 79, 82, 83, 103, 144
SUCCESS, UNSPEC_FAIL, NO_ADDRS, NO_BINDING, NOT_ON_LINK, USE_MULTICAST, NO_PREFIX = range(7)


def option(code, content=b""):
    return struct.pack("!HH", code, len(content)) + content


def parse_options(octets):
    """Options as (code, content); fails on anything that is left over."""
    out, at = [], 0
    while at < len(octets):
        code, length = struct.unpack_from("!HH", octets, at)
        assert at + 4 + length <= len(octets), f"option {code} is cut: {octets.hex()}"
        out.append((code, octets[at + 4 : at + 4 + length]))
        at += 4 + length
    return out


def packed(address):
    return ipaddress.IPv6Address(address).packed


def ia_na(iaid, *addresses, t1=0, t2=0):
    inner = b"".join(option(IA_ADDR, packed(a) + struct.pack("!II", 0, 0)) for a in addresses)
    return option(IA_NA, struct.pack("!III", iaid, t1, t2) + inner)


def ia_pd(iaid, *prefixes):
    inner = b""
    for p in map(ipaddress.IPv6Network, prefixes):
        inner += option(IA_PREFIX, struct.pack("!IIB", 0, 0, p.prefixlen) + p.network_address.packed)
    return option(IA_PD, struct.pack("!III", iaid, 0, 0) + inner)


class Ia:
    """An identity association of a reply: addresses (or prefixes) with (preferred, valid), and its status."""

    def __init__(self, content, is_prefix):
        self.iaid, self.t1, self.t2 = struct.unpack_from("!III", content)
        self.status, self.leases = None, {}
        for code, inner in parse_options(content[12:]):
            if code == STATUS:
                self.status = struct.unpack_from("!H", inner)[0]
            elif code == IA_ADDR and not is_prefix:
                self.leases[str(ipaddress.IPv6Address(inner[:16]))] = struct.unpack_from("!II", inner, 16)
            elif code == IA_PREFIX and is_prefix:
                prefix = f"{ipaddress.IPv6Address(inner[9:25])}/{inner[8]}"
                self.leases[prefix] = struct.unpack_from("!II", inner)

    def __repr__(self):
        return f"Ia({self.iaid}, {self.leases}, status={self.status})"


class Message:
    """A message of the server: kind, transaction, options."""

    def __init__(self, octets, packet=None):
        self.octets, self.packet = octets, packet
        self.kind, self.transaction = octets[0], int.from_bytes(octets[1:4], "big")
        self.options = parse_options(octets[4:])

    def all(self, code):
        return [content for c, content in self.options if c == code]

    def one(self, code):
        found = self.all(code)
        assert len(found) <= 1, f"option {code} is there {len(found)} times"
        return found[0] if found else None

    @property
    def status(self):
        content = self.one(STATUS)
        return None if content is None else struct.unpack_from("!H", content)[0]

    @property
    def ias(self):
        return [Ia(c, False) for c in self.all(IA_NA)]

    @property
    def pds(self):
        return [Ia(c, True) for c in self.all(IA_PD)]

    @property
    def leases(self):
        """All addresses and prefixes that live (a valid lifetime above zero)."""
        return [a for ia in self.ias + self.pds for a, (_, valid) in ia.leases.items() if valid]

    def __repr__(self):
        return f"Message(kind={self.kind}, status={self.status}, ias={self.ias}, pds={self.pds}, {self.octets.hex()})"


class Raw:
    """A DHCPv6 client on a link end of a namespace: any MAC address, any octets.

    The kernel of the namespace has no part in it; its frames leave through a packet socket.
    """

    def __init__(self, ns, mac, duid=None, dev="eth0"):
        self.ns, self.mac, self.dev = ns, mac, dev
        # DUID-LL of the MAC address (RFC 9915 11.4), unless told otherwise.
        self.duid = bytes.fromhex("00030001") + bytes.fromhex(mac.replace(":", "")) if duid is None else duid
        low = bytes.fromhex(mac.replace(":", ""))
        eui = bytes([low[0] ^ 2, low[1], low[2], 0xFF, 0xFE, *low[3:]])
        self.link_local = str(ipaddress.IPv6Address(bytes.fromhex("fe80000000000000") + eui))
        self.server_id = None
        self.next = int.from_bytes(os.urandom(3), "big")
        self.socket = netns.open_socket(ns, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.bind((dev, 3))
        self.socket.setblocking(False)
        # What else came for this MAC address while it waited: router advertisements and the like.
        self.heard = []

    def close(self):
        self.socket.close()

    def message(self, kind, *options, client_id=True, server_id=False, elapsed=True):
        """The octets of a message of this client."""
        self.next = (self.next + 1) & 0xFFFFFF
        out = bytes([kind]) + self.next.to_bytes(3, "big")
        if client_id:
            out += option(CLIENT_ID, self.duid)
        if server_id:
            out += option(SERVER_ID, self.server_id)
        if elapsed:
            out += option(ELAPSED, b"\0\0")
        return out + b"".join(options)

    def frame(self, payload, *, dst=ALL_SERVERS_AND_RELAYS, dst_mac=None, src=None, sport=546, dport=547, hlim=1, **udp):
        if dst_mac is None:
            tail = packed(dst)[12:]
            dst_mac = "33:33:" + ":".join(f"{b:02x}" for b in tail) if dst.startswith("ff") else n.GW_TENANT_MAC
        return bytes(
            Ether(src=self.mac, dst=dst_mac)
            / IPv6(src=src or self.link_local, dst=dst, hlim=hlim)
            / UDP(sport=sport, dport=dport, **udp)
            / payload
        )

    def put(self, frame):
        """Sends a frame (octets)."""
        self.socket.send(frame)

    def send(self, payload, **kw):
        self.put(self.frame(payload, **kw))

    def frames(self, seconds):
        """Frames for this client's MAC address (or a group) that come within so long, as they come."""
        own = bytes.fromhex(self.mac.replace(":", ""))
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.socket], [], [], left)[0]:
                return
            try:
                data, (_, _, kind, _, _) = self.socket.recvfrom(65536)
            except BlockingIOError:
                continue
            if kind == tools.PACKET_OUTGOING or not (data[:6] == own or data[0] & 1):
                continue
            yield data

    def replies(self, seconds=1.0, transaction=None, port=546):
        """Messages of servers to this client that come within so long."""
        for data in self.frames(seconds):
            packet = Ether(data)
            if UDP in packet and packet[UDP].dport == port and data[:6] == bytes.fromhex(self.mac.replace(":", "")):
                message = Message(bytes(packet[UDP].payload), packet)
                if transaction in (None, message.transaction) or port != 546:
                    yield message
            else:
                self.heard.append((time.monotonic(), data))

    def ask(self, payload, seconds=2.0, tries=3, **kw):
        """Sends a message and gives the first answer to it (nothing if none comes). A message may be lost, or come
        before the gateway has seen us: it is sent again as a client would."""
        transaction = int.from_bytes(payload[1:4], "big")
        for _ in range(tries):
            self.send(payload, **kw)
            for message in self.replies(seconds, transaction):
                return message
        return None

    def silent(self, payload, seconds=0.7, **kw):
        """True if nothing answers it."""
        return self.ask(payload, seconds, tries=1, **kw) is None

    def solicit(self, *options):
        got = self.ask(self.message(SOLICIT, *options))
        assert got is not None, f"{self.mac}: no Advertise"
        self.server_id = got.one(SERVER_ID)
        return got

    def request(self, *options):
        got = self.ask(self.message(REQUEST, *options, server_id=True))
        assert got is not None and got.kind == REPLY, f"{self.mac}: no Reply: {got}"
        return got

    def bind(self, iaid=1, *more):
        """Solicit and Request of one address; gives it and the Reply."""
        advertise = self.solicit(ia_na(iaid), *more)
        assert advertise.kind == ADVERTISE and advertise.ias, f"{self.mac}: {advertise}"
        offered = [a for ia in advertise.ias for a in ia.leases]
        assert offered, f"{self.mac}: nothing was offered: {advertise}"
        reply = self.request(ia_na(iaid, *offered[:1]), *more)
        assert reply.leases, f"{self.mac}: {reply}"
        return reply.leases[0], reply

    def renew(self, address, iaid=1, kind=RENEW):
        """Renew (or another kind) of one address; gives the answer."""
        return self.ask(self.message(kind, ia_na(iaid, address), server_id=kind in (RENEW, RELEASE, DECLINE)))


def in_pool(address, first=n.DHCP_POOL[0], last=n.DHCP_POOL[1]):
    low, at, high = (int(ipaddress.IPv6Address(a)) for a in (first, address, last))
    return low <= at <= high


# --- counters and the log --------------------------------------------------------------------------


# What hosts say by themselves now and then (MLD reports, questions for each other) is dropped for these.
NOISE = {"multicast-not-ours", "nd-not-ours"}


@contextlib.contextmanager
def one_drop(count=1, seconds=3.0):
    """Fails unless the block makes exactly so many packets be dropped, all for one reason; that is put into the
    list that the block gets."""
    before, reasons = gw.drops(), []
    yield reasons

    def difference():
        after = gw.drops()
        return {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0) and k not in NOISE}

    tools.wait_until(lambda: sum(difference().values()) >= count, seconds, lambda: f"dropped: {difference()}")
    time.sleep(0.05)
    got = difference()
    assert list(got.values()) == [count], f"dropped: {got}, not {count} for one reason"
    reasons.extend(got)


def log_has(*pieces, which=n.FIRST):
    """True if a line of the gateway's log has all of these."""
    text = which.log.read_text(errors="replace")
    return any(all(p in line for p in pieces) for line in text.splitlines())


def leases(*args, which=n.FIRST):
    """The rows of `causeway show leases`."""
    done = netns.run(lab_module.binary(), "show", "leases", "--json", "--socket", which.socket, *args)
    return json.loads(done.stdout)["leases"]


def stop(which=n.FIRST):
    """Stops a gateway in order; fails if it had to be killed."""
    said = []
    lab_module.stop_process(which.process, said.append)
    assert not said, said

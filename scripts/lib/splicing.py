"""Sites and listeners of the splicer as values: as sections of Causeway's configuration, and as a configuration of HAProxy,
which stands in for the gateway where the two are compared (and where it is to be known that a test works).
"""

import contextlib
from dataclasses import dataclass

import lab
import netns
import network as n


@dataclass(frozen=True)
class Listener:
    """A port of the proxy address. `default` is the name of a site."""

    port: int
    tls: bool = False
    http: bool = False
    default: str | None = None
    redirect: bool = False

    def toml(self):
        lines = ["[[splicer.listener]]", f'address = "{n.PROXY}"', f"port = {self.port}"]
        lines += [f"{key} = true" for key in ("tls", "http", "redirect") if getattr(self, key)]
        return "\n".join(lines + ([f'default-site = "{self.default}"'] if self.default else [])) + "\n"


@dataclass(frozen=True)
class Backend:
    """A server of a site. `ports` are the server's by those of listeners; a listener's port that is not there is the
    server's too."""

    address: str
    ports: tuple = ()
    weight: int | None = None
    draining: bool = False

    def toml(self, section):
        lines = [f"[[{section}.backend]]", f'address = "{self.address}"']
        lines += [f"ports = [{', '.join(f'[{a}, {b}]' for a, b in self.ports)}]"] if self.ports else []
        lines += [f"weight = {self.weight}"] if self.weight is not None else []
        return "\n".join([*lines, *(["draining = true"] if self.draining else [])]) + "\n"

    def port(self, listener):
        return dict(self.ports).get(listener, listener)


@dataclass(frozen=True)
class Site:
    """A site. `extra` are further keys; `alpn` pairs of a protocol and its servers."""

    name: str
    backends: tuple
    identity: str = "none"
    extra: str = ""
    alpn: tuple = ()

    def toml(self):
        out = f'[[splicer.site]]\nname = "{self.name}"\nidentity = "{self.identity}"\n{self.extra}\n'
        out += "".join(b.toml("splicer.site") for b in self.backends)
        for protocol, backends in self.alpn:
            out += f'[[splicer.site.alpn]]\nprotocol = "{protocol}"\n'
            out += "".join(b.toml("splicer.site.alpn") for b in backends)
        return out


VM1, VM2 = Backend(n.VM1_ADDR), Backend(n.VM2_ADDR)
# What the lab's own configuration has.
SITES = (Site("site1.example", (VM1,)), Site("site2.example", (VM2,), "proxy2"), Site("*.wild.example", (VM1,)))
LISTENERS = (Listener(80, http=True), Listener(443, tls=True))


def toml(sites=(), listeners=()):
    """Sections to be put behind the lab's own."""
    return "\n".join(x.toml() for x in (*listeners, *sites))


# --- HAProxy in the gateway's place ----------------------------------------------------------------

HAPROXY = """\
global
    nbthread 1
    maxconn 4000
    log stdout format raw local0 warning
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout tunnel 2h
    option splice-auto
"""


def haproxy_config(sites=SITES, listeners=LISTENERS, maps=()):
    """HAProxy's configuration: TLS passed on by SNI, HTTP by Host, ports by number. `maps`: (port, address, port)."""
    out = [HAPROXY]
    for s in sites:
        for listener in listeners:
            proxy = {"proxy1": " send-proxy", "proxy2": " send-proxy-v2"}.get(s.identity, "")
            out.append(f"backend {place(s.name)}-{listener.port}")
            out.append("    mode http" if listener.http and not listener.tls else "    mode tcp")
            for i, b in enumerate(s.backends):
                out.append(f"    server s{i} [{b.address}]:{b.port(listener.port)}{proxy}")
    for listener in listeners:
        out.append(f"frontend f{listener.port}\n    bind {n.PROXY}:{listener.port}")
        if listener.tls:
            out.append("    tcp-request inspect-delay 5s\n    tcp-request content accept if { req.ssl_hello_type 1 }")
            ask = "req.ssl_sni,lower"
        elif listener.http:
            out.append("    mode http\n    timeout http-request 5s")
            ask = "req.hdr(host),field(1,:),lower"
        else:
            ask = None
        # Exact names before wildcards.
        for s in sorted(sites, key=lambda s: s.name.startswith("*")) if ask else ():
            test = f"-m end {s.name[1:]}" if s.name.startswith("*") else f"-m str {s.name}"
            out.append(f"    use_backend {place(s.name)}-{listener.port} if {{ {ask} {test} }}")
        if listener.default:
            out.append(f"    default_backend {place(listener.default)}-{listener.port}")
    for outside, address, port in maps:
        out.append(f"listen m{outside}\n    bind {n.PROXY}:{outside}\n    server s [{address}]:{port}")
    return "\n".join(out) + "\n"


def place(name):
    return name.replace("*", "any")


def kernel_gateway():
    """The kernel of cw-gw as a host with the gateway's addresses (of a lab without gateway)."""

    def ip(*args):
        netns.run("ip", "-n", n.GW, *args)

    off = {f"net.ipv6.conf.{name}.disable_ipv6": 0 for name in ("all", "default", "tenant0", "uplink0", "lo")}
    netns.sysctl(n.GW, off | {"net.ipv6.conf.all.forwarding": 1, "net.ipv4.ip_local_port_range": "1024 65535"})
    ip("link", "set", "lo", "up")
    ip("address", "add", f"{n.PROXY}/32", "dev", "lo")
    ip("address", "add", f"{n.GW_TENANT_LL}/64", "dev", "tenant0", "nodad")
    ip("address", "add", f"{n.GW_TENANT}/64", "dev", "tenant0", "nodad")
    ip("address", "add", f"{n.GW_UPLINK6}/64", "dev", "uplink0", "nodad")
    ip("address", "add", f"{n.GW_UPLINK4}/24", "dev", "uplink0")
    ip("route", "add", "default", "via", n.INET_UP4)
    ip("route", "add", "default", "via", n.INET_UP6)
    for ns in (n.VM1, n.VM2, n.INET):
        netns.run("ip", "-n", ns, "neighbor", "flush", "all")


@contextlib.contextmanager
def haproxy(config):
    """HAProxy in cw-gw; gives its process."""
    path = n.RUN / "haproxy.cfg"
    path.write_text(config)
    netns.run("haproxy", "-c", "-q", "-f", path)
    process = lab.start_process("haproxy", n.GW, ["haproxy", "-db", "-f", path])
    try:
        lab.wait_for(
            lambda: process.poll() is not None or lab.connects(n.GW, n.PROXY, 443), 10, lambda: lab.tail("haproxy")
        )
        if process.poll() is not None:
            raise netns.Failure(f"haproxy ended ({process.returncode}): {lab.tail('haproxy')}")
        yield process
    finally:
        lab.stop_process("haproxy", lambda _text: None)

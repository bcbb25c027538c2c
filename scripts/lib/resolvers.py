"""DNS servers: the lab's resolver, which is the authority for its zones too, and the peers that Causeway's DNS64 is
compared with: unbound's dns64 module and BIND's `dns64`."""

import dnszones
import network as n
from servers import Server

# Zones that unbound answers by itself, as RFC 6303 and others want, unless told that the lab has them.
OWN_REVERSE = ("100.51.198.in-addr.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa.")

UNBOUND = """\
server:
    directory: "{dir}"
    username: ""
    chroot: ""
    pidfile: ""
    use-syslog: no
    logfile: ""
    verbosity: 0
    num-threads: 1
    port: {port}
{interfaces}
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    do-not-query-localhost: no
    hide-identity: yes
    hide-version: yes
    edns-buffer-size: 1232
    # (A lab's link is its own: no need to shift ports about.)
    so-reuseport: no
    msg-cache-size: 64m
    rrset-cache-size: 128m
{server}
remote-control:
    control-enable: no
"""


def unbound(name, ns, folder, addresses, server="", zones="", port=53):
    """unbound with its own configuration and folder. `server` goes into its section, `zones` after it."""
    folder.mkdir(parents=True, exist_ok=True)
    interfaces = "\n".join(f"    interface: {a}" for a in addresses)
    conf = folder / "unbound.conf"
    text = UNBOUND.format(dir=folder, port=port, interfaces=interfaces, server=server.rstrip("\n"))
    conf.write_text(f"{text}{zones}")
    return Server(name, ns, ["/usr/sbin/unbound", "-d", "-p", "-c", conf], [(a, port) for a in addresses])


def authority(name, ns, folder, addresses, server="", extra=()):
    """unbound as the lab's resolver: recursive, validating, and with the lab's zones at hand, and `extra` ones (name,
    text)."""
    folder.mkdir(parents=True, exist_ok=True)
    files, anchors = dnszones.write(folder, extra)
    (folder / "anchors").write_text(anchors)
    settings = [f"    trust-anchor-file: {folder / 'anchors'}", '    module-config: "validator iterator"']
    settings += [f"    local-zone: {zone} nodefault" for zone in (*OWN_REVERSE, "test.")]
    # Everything that it asks is at hand; what cannot be had fails at once.
    zones = "".join(
        f'auth-zone:\n    name: "{zone}"\n    zonefile: "{path}"\n    for-upstream: yes\n    for-downstream: no\n'
        "    fallback-enabled: no\n"
        for zone, path in files.items()
    )
    return unbound(name, ns, folder, addresses, "\n".join([*settings, server.rstrip("\n")]), zones)


def lab_resolver():
    """The resolver of the lab, at 198.51.100.53."""
    return authority("resolver", n.INET, n.RUN / "resolver", [n.RESOLVER])


def unbound_dns64(name, ns, folder, addresses, upstream=n.RESOLVER, anchors=None, server=""):
    """unbound as a DNS64 that asks the lab's resolver; validating if it has trust anchors."""
    modules = "dns64 validator iterator" if anchors else "dns64 iterator"
    settings = [f'    module-config: "{modules}"', f"    dns64-prefix: {n.NAT64_PREFIX}/96"]
    settings += [f"    local-zone: {zone} nodefault" for zone in (*OWN_REVERSE, "test.")]
    if anchors:
        settings.append(f"    trust-anchor-file: {anchors}")
    forward = f'forward-zone:\n    name: "."\n    forward-addr: {upstream}\n'
    return unbound(name, ns, folder, addresses, "\n".join([*settings, server.rstrip("\n")]), forward)


NAMED = """\
options {{
    directory "{dir}";
    pid-file none;
    session-keyfile none;
    {listen}
    recursion yes;
    allow-query {{ any; }};
    allow-recursion {{ any; }};
    allow-query-cache {{ any; }};
    forward only;
    forwarders {{ {upstream}; }};
    dnssec-validation {validation};
    empty-zones-enable no;
    notify no;
    version none;
    {options}
}};
controls {{ }};
{more}
logging {{ category default {{ default_stderr; }}; }};
"""


def named(name, ns, folder, addresses, upstream=n.RESOLVER, anchors=None, options="", port=53):
    """BIND's named with its own configuration and folder, forwarding to a resolver; validating if it has trust
    anchors (DNSKEY records, one a line)."""
    folder.mkdir(parents=True, exist_ok=True)
    listen = []
    for key, family in (("listen-on", [a for a in addresses if ":" not in a]), ("listen-on-v6", [a for a in addresses if ":" in a])):
        chosen = " ".join(f"{a};" for a in family) or "none;"
        listen.append(f"{key} port {port} {{ {chosen} }};")
    more = ""
    if anchors:
        rows = []
        for line in anchors.read_text().splitlines():
            words = line.partition(";")[0].split()
            if "DNSKEY" in words:
                at = words.index("DNSKEY")
                flags, protocol, algorithm = words[at + 1 : at + 4]
                rows.append(f'{words[0]} static-key {flags} {protocol} {algorithm} "{"".join(words[at + 4 :])}";')
        more = f"trust-anchors {{ {' '.join(rows)} }};"
    conf = folder / "named.conf"
    conf.write_text(
        NAMED.format(
            dir=folder,
            listen="\n    ".join(listen),
            upstream=upstream,
            validation="yes" if anchors else "no",
            options=options,
            more=more,
        )
    )
    return Server(name, ns, ["/usr/sbin/named", "-f", "-n", "1", "-c", conf], [(a, port) for a in addresses])


def named_dns64(name, ns, folder, addresses, **kw):
    """named as a DNS64 with BIND's own defaults, for all clients and addresses."""
    dns64 = f"dns64 {n.NAT64_PREFIX}/96 {{ clients {{ any; }}; }};"
    return named(name, ns, folder, addresses, options=dns64, **kw)

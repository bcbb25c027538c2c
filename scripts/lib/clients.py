"""The servers of the lab as hosts that were just installed: the kernel hears router advertisements, and ISC
dhclient asks for an address. Nothing else is configured.

Lease files, configuration and logs are in /run/causeway-lab; the name servers that a host was told are in
/etc/netns/NAMESPACE/resolv.conf, which `ip netns exec` shows it as its /etc/resolv.conf.
"""

import json
import shutil
from pathlib import Path

import netns
import network as n
from netns import Failure

# How long a host has from its link coming up until it has its address and its gateway.
BOOT_SECONDS = 20

# What dhclient runs when something happens. (Debian's own replaces /etc/resolv.conf by renaming another file
# over it, which cannot be done in a namespace: there it is a mount.)
SCRIPT = """\
#!/bin/sh
# Written by scripts/lab.
resolver() {{
    {{
        [ -z "$new_dhcp6_domain_search" ] || echo "search $new_dhcp6_domain_search"
        for server in $new_dhcp6_name_servers; do echo "nameserver $server"; done
    }} >{resolver}
}}
case $reason in
PREINIT6)
    ip link set "$interface" up
    # dhclient sends from the link-local address.
    for try in 1 2 3 4 5 6 7 8 9 10; do
        [ -n "$(ip -6 -o address show dev "$interface" scope link -tentative)" ] && break
        sleep 0.1
    done
    ;;
BOUND6 | RENEW6 | REBIND6)
    if [ -n "$old_ip6_address" ] && [ "$old_ip6_address" != "$new_ip6_address" ]; then
        ip -6 address del "$old_ip6_address/128" dev "$interface" 2>/dev/null
    fi
    if [ -n "$new_ip6_address" ]; then
        ip -6 address replace "$new_ip6_address/128" dev "$interface" scope global \\
            valid_lft "$new_max_life" preferred_lft "$new_preferred_life" || exit 2
    fi
    resolver
    ;;
DEPREF6)
    ip -6 address change "$cur_ip6_address/128" dev "$interface" scope global preferred_lft 0
    ;;
EXPIRE6 | RELEASE6 | STOP6)
    [ -z "$old_ip6_address" ] || ip -6 address del "$old_ip6_address/128" dev "$interface"
    ;;
esac
exit 0
"""
CONF = "request dhcp6.name-servers, dhcp6.domain-search;\ntimeout 30;\n"


def resolver_file(ns):
    """Makes the file that the host sees as its /etc/resolv.conf, empty: it has been told nothing yet."""
    path = Path("/etc/netns") / ns / "resolv.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def forget_resolver_files():
    """Removes what `resolver_file` made, and nothing else."""
    for ns in n.NAMESPACES:
        folder = Path("/etc/netns") / ns
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
    if Path("/etc/netns").is_dir() and not any(Path("/etc/netns").iterdir()):
        Path("/etc/netns").rmdir()


def told_resolvers(ns):
    """The host's /etc/resolv.conf as lists: name servers and search list."""
    servers, search = [], []
    for line in (Path("/etc/netns") / ns / "resolv.conf").read_text().splitlines():
        words = line.split()
        if words[:1] == ["nameserver"]:
            servers += words[1:2]
        elif words[:1] == ["search"]:
            search += words[1:]
    return servers, search


def addresses(ns, dev="eth0"):
    """The global IPv6 addresses of a link end that are in use (no longer tentative)."""
    rows = json.loads(netns.run("ip", "-n", ns, "-6", "-j", "address", "show", "dev", dev).stdout)
    found = [a for row in rows for a in row.get("addr_info", []) if a.get("scope") == "global"]
    return [a["local"] for a in found if not a.get("tentative")]


def default_routes(ns):
    """The host's IPv6 default routes."""
    return json.loads(netns.run("ip", "-n", ns, "-6", "-j", "route", "show", "default").stdout)


def dhclient(ns, dev="eth0", tag="", *, extra=(), conf=CONF):
    """The command line of a dhclient that stays in the foreground, and its files."""
    name = f"dhclient-{ns.removeprefix('cw-')}{tag}"
    script = n.RUN / f"{name}.script"
    script.write_text(SCRIPT.format(resolver=f"/etc/netns/{ns}/resolv.conf"))
    script.chmod(0o755)
    (n.RUN / f"{name}.conf").write_text(conf)
    lease = n.RUN / f"{name}.leases"
    lease.touch()
    command = ["dhclient", "-6", "-d", "-v", *extra, "-cf", n.RUN / f"{name}.conf", "-lf", lease]
    # Its own pid file is not the lab's (which has the start time too).
    return name, [*command, "-pf", n.RUN / f"{name}.own-pid", "-sf", script, dev]


def boot(hosts):
    """Starts the hosts: namespace to the address that it is to get. Gives back the names of what runs."""
    import lab

    started = {}
    for ns in hosts:
        # As on a machine that nobody configured. (The lab's namespaces begin with it off.)
        netns.sysctl(ns, {"net.ipv6.conf.eth0.accept_ra": 1, "net.ipv6.conf.eth0.autoconf": 1})
        netns.run("ip", "-n", ns, "link", "set", "eth0", "up")
        name, command = dhclient(ns)
        started[ns] = (name, lab.start_process(name, ns, command))
    for ns, address in hosts.items():
        name, process = started[ns]

        def missing(ns=ns, address=address):
            out = [] if address in addresses(ns) else [f"it has {addresses(ns) or 'no address'}"]
            return out + ([] if default_routes(ns) else ["it has no default route"])

        lab.wait_for(
            lambda process=process, missing=missing: process.poll() is not None or not missing(),
            BOOT_SECONDS,
            lambda ns=ns, address=address, name=name, missing=missing: (
                f"{ns} did not get {address} and a gateway within {BOOT_SECONDS} s: "
                f"{', '.join(missing())}; dhclient's log:\n{lab.tail(name)}"
            ),
        )
        if process.poll() is not None:
            raise Failure(f"{name} ended ({process.returncode}); its log:\n{lab.tail(name)}")
    return [name for name, _ in started.values()]


def reinstall(ns, address):
    """Makes a host fresh (no lease, no address, no route, no resolver) and boots it. Gives the seconds from its link
    coming up until it has its address and its gateway."""
    import time

    import lab

    name, _ = dhclient(ns)
    lab.stop_process(name, lambda _text: None)
    for left in n.RUN.glob(f"{name}.*"):
        if left.suffix != ".log":
            left.unlink()
    netns.run("ip", "-n", ns, "link", "set", "eth0", "down")
    netns.run("ip", "-n", ns, "-6", "address", "flush", "dev", "eth0")
    resolver_file(ns)
    if addresses(ns) or default_routes(ns):
        raise Failure(f"{ns} still has {addresses(ns)} and {default_routes(ns)}")
    began = time.monotonic()
    boot({ns: address})
    return time.monotonic() - began

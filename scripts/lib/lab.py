"""Builds the lab network from namespaces and veth pairs, and starts Causeway on it.

    cw-vm1 --\\                                                   cw-inet
    cw-vm2 ---- br0 ---- tenant0 [cw-gw: causeway]  uplink0 -- br1 -- up0: 192.0.2.1/24, 2001:db8:ffff::1/64
                  \\---- tenant0 [cw-gw2: causeway] uplink0 --/       198.51.100.10    IPv4-only server
                                                                     198.51.100.53    resolver, example.
           (both bridges are in cw-br)                               198.51.100.99    IPv4-only client
                                                                     2001:db8:6::10   IPv6 server

The second gateway (cw-gw2) runs only when asked for: `scripts/lab up --pair`, or `scripts/lab gateway start
--name cw-gw2`. Where the gateway's configuration has DHCPv6, the servers in cw-vm1 and cw-vm2 boot as
unmodified hosts do: the kernel hears router advertisements, and ISC dhclient asks for an address. Otherwise,
and with --no-gateway, they have their addresses by hand.

Servers in cw-inet (198.51.100.10 and 2001:db8:6::10), cw-vm1 and cw-vm2: web (port 80; cw-vm1 and cw-vm2 also 443
and 8080, cw-vm2 with PROXY protocol headers only), echo over UDP and TCP (7), ssh (22, key
/run/causeway-lab/client_key) and iperf3 (5201). A resolver (unbound) at 198.51.100.53,
which is the authority for example. and other zones of its own (see dnszones.py). Logs and pid files are in
/run/causeway-lab. There is one lab a machine. Must be run as root.

Exit codes: 0 done, 1 failed, 2 wrong usage; `status`: 0 up, 1 broken or half made, 3 down.
"""

import argparse
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import clients
import netns
import network as n
import resolvers
import servers
from netns import Failure

GATEWAY = n.FIRST.process
STATE = n.RUN / "state.json"
# How long the gateway has from its start until it forwards: DPDK's own start takes most of it.
READY_SECONDS = 60
# How long it has to give back ports and memory.
STOP_SECONDS = 15


def binary():
    return Path(os.environ.get("CAUSEWAY_BIN") or n.DEFAULT_BINARY)


# --- the network -----------------------------------------------------------------------------------

# Set in every namespace. The first group is inherited from the machine otherwise.
COMMON = {
    "net.ipv4.ip_forward": 0,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    # Addresses are unique by construction; waiting for duplicate address detection only costs time.
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.default.accept_ra": 0,
}
# No kernel may speak where only Causeway (or nobody) should.
SILENT = {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1}
ROUTER = {
    "net.ipv4.ip_forward": 1,
    "net.ipv6.conf.all.forwarding": 1,
    # Every ICMP error counts in a lab: no rate limit.
    "net.ipv4.icmp_ratelimit": 0,
    "net.ipv6.icmp.ratelimit": 0,
}


def build_network(static=True):
    """All namespaces, links, addresses and routes. With `static` false the servers are not started yet (see
    `clients`): they have no address, and their links are down."""

    def ip(ns, *args):
        netns.run("ip", "-n", ns, *args)

    for ns in n.NAMESPACES:
        netns.run("ip", "netns", "add", ns)
        netns.sysctl(ns, COMMON | (SILENT if ns in (n.GW, n.GW2, n.BRIDGE) else {}))
        if ns not in n.GATEWAYS:
            ip(ns, "link", "set", "lo", "up")

    # The tenants' segment and that of the uplinks.
    bridge = ["type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0"]
    for name in ("br0", "br1"):
        ip(n.BRIDGE, "link", "add", name, *bridge)
    for host, mac in ((n.VM1, n.VM1_MAC), (n.VM2, n.VM2_MAC)):
        netns.veth(host, "eth0", mac, n.BRIDGE, host.removeprefix("cw-"))
    for g in n.GATEWAYS.values():
        netns.veth(g.ns, "tenant0", g.tenant_mac, n.BRIDGE, g.tenant_end)
        netns.veth(g.ns, "uplink0", g.uplink_mac, n.BRIDGE, g.uplink_end)
    netns.veth(n.INET, "up0", n.INET_MAC, n.BRIDGE, "inet")
    for name, ports in (
        ("br0", ["vm1", "vm2", *(g.tenant_end for g in n.GATEWAYS.values())]),
        ("br1", ["inet", *(g.uplink_end for g in n.GATEWAYS.values())]),
    ):
        for port in ports:
            ip(n.BRIDGE, "link", "set", port, "master", name, "up")
        ip(n.BRIDGE, "link", "set", name, "up")

    ends = [(n.INET, "up0")]
    for host, address in ((n.VM1, n.VM1_ADDR), (n.VM2, n.VM2_ADDR)):
        clients.resolver_file(host)
        if static:
            ip(host, "link", "set", "eth0", "up")
            ip(host, "address", "add", f"{address}/64", "dev", "eth0", "nodad")
            ip(host, "route", "add", "default", "via", n.GW_TENANT_LL, "dev", "eth0")
            ends.append((host, "eth0"))

    # Only Causeway answers there: no addresses, and IPv6 is off (SILENT).
    for ns in n.GATEWAYS:
        for port in ("tenant0", "uplink0"):
            ip(ns, "link", "set", port, "up")
            ends.append((ns, port))

    netns.sysctl(n.INET, ROUTER)
    ip(n.INET, "link", "set", "up0", "up")
    for address in (f"{n.INET_UP4}/24", f"{n.INET_UP6}/64"):
        ip(n.INET, "address", "add", address, "dev", "up0", *(["nodad"] if ":" in address else []))
    for address in (n.V4ONLY, n.RESOLVER, n.CLIENT4, n.V6ONLY):
        ip(n.INET, "address", "add", address + ("/128" if ":" in address else "/32"), "dev", "lo")
    ip(n.INET, "route", "add", n.ROUTED4, "via", n.GW_UPLINK4)
    ip(n.INET, "route", "add", n.ROUTED6, "via", n.GW_UPLINK6)
    for ns, dev in ends:
        wait_for(lambda ns=ns, dev=dev: carrier(ns, dev), 5, f"{ns}: {dev} has no carrier")


def carrier(ns, dev):
    done = netns.run("ip", "-n", ns, "-j", "link", "show", "dev", dev, check=False)
    return done.returncode == 0 and json.loads(done.stdout)[0]["operstate"] == "UP"


def wait_for(what, seconds, complaint):
    """Waits until `what()` is true; `complaint` (text, or a function giving it) is the failure."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise Failure(complaint() if callable(complaint) else complaint)
        time.sleep(0.02)


def tear_down(say):
    """Ends every process of the lab and removes everything that it made, whole or half made."""
    gateways = [g.process for g in n.GATEWAYS.values()]
    for name in [*gateways, *sorted(p.stem for p in n.RUN.glob("*.pid") if p.stem not in gateways)]:
        stop_process(name, say)
    # Whoever else lives in the namespaces (a shell of `lab exec`, say) would keep them alive. Not
    # ourselves, and not who called us.
    own = ancestors()
    for ns in n.NAMESPACES:
        if not (Path("/run/netns") / ns).exists():
            continue
        for pid in netns.pids(ns):
            if pid not in own:
                netns.end(pid, patience=2)
    links = [(ns, dev) for ns in n.GATEWAYS for dev in ("tenant0", "uplink0")]
    links += [(n.VM1, "eth0"), (n.VM2, "eth0"), (n.INET, "up0"), (n.BRIDGE, "br0"), (n.BRIDGE, "br1")]
    for ns, dev in links:
        if (Path("/run/netns") / ns).exists():
            netns.run("ip", "-n", ns, "link", "del", dev, check=False)
    failed = []
    for ns in n.NAMESPACES:
        if (Path("/run/netns") / ns).exists():
            netns.run("ip", "netns", "del", ns, check=False)
            if (Path("/run/netns") / ns).exists():
                failed.append(ns)
    clients.forget_resolver_files()
    forget_leases()
    # Logs that say something stay for whoever wants to know what happened.
    if n.RUN.is_dir():
        for entry in n.RUN.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.suffix != ".log" or entry.stat().st_size == 0:
                entry.unlink(missing_ok=True)
    if failed:
        raise Failure(f"namespaces that could not be removed: {', '.join(failed)}")


def forget_leases():
    """Removes the leases that the lab's gateways keep where a gateway keeps them: each lab begins without."""
    for g in n.GATEWAYS.values():
        shutil.rmtree(g.leases, ignore_errors=True)


def ancestors():
    """This process and those above it."""
    out, pid = set(), os.getpid()
    while pid > 1 and pid not in out:
        out.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return out


# --- processes -------------------------------------------------------------------------------------


def start_process(name, ns, command, env=None):
    """Starts a program in a namespace, with a log and a pid file named after it."""
    log = open(n.RUN / f"{name}.log", "wb")
    try:
        process = subprocess.Popen(
            netns.in_ns(ns, *command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env=env,
        )
    finally:
        log.close()
    # `ip netns exec` becomes the program: one process id from start to end.
    (n.RUN / f"{name}.pid").write_text(f"{process.pid}\n{netns.start_time(process.pid)}\n")
    return process


def read_pid(name):
    """Process id and start time from the pid file of a program; nothing if it does not run."""
    try:
        pid, started = (n.RUN / f"{name}.pid").read_text().split()
        pid, started = int(pid), int(started)
    except (OSError, ValueError):
        return None
    return (pid, started) if netns.start_time(pid) == started else None


def stop_process(name, say):
    """Ends a program by its pid file."""
    found = read_pid(name)
    if found:
        pid, started = found
        which = next((g for g in n.GATEWAYS.values() if g.process == name), None)
        patience = STOP_SECONDS if which else 3
        if not netns.end(pid, started, patience):
            say(
                f"{name} (process {pid}) did not end within {patience} s and was killed; log: {n.RUN / name}.log"
            )
            if which:
                which.socket.unlink(missing_ok=True)
    (n.RUN / f"{name}.pid").unlink(missing_ok=True)


def tail(name, lines=20):
    """The end of a program's log."""
    try:
        text = (n.RUN / f"{name}.log").read_text(errors="replace")
    except OSError:
        return "  (no log)"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (its log is empty)"


def connects(ns, address, port):
    """True if a TCP connection from the namespace to itself comes about."""
    import socket

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with netns.open_socket(ns, family, socket.SOCK_STREAM) as s:
        s.settimeout(1)
        return s.connect_ex((address, port)) == 0


def start_servers():
    wanted = [*servers.all_servers(), resolvers.lab_resolver()]
    started = [(s, start_process(s.name, s.ns, s.command)) for s in wanted]
    for server, process in started:
        for address, port in server.ready:
            wait_for(
                lambda: process.poll() is not None or connects(server.ns, address, port),
                15,
                lambda: (
                    f"{server.name} does not answer on {address} port {port}; its log:\n{tail(server.name)}"
                ),
            )
            if process.poll() is not None:
                raise Failure(
                    f"{server.name} ended at once ({process.returncode}); its log:\n{tail(server.name)}"
                )
    return [s.name for s, _ in started]


# --- the gateway -----------------------------------------------------------------------------------


def settings(config):
    """What of a configuration decides how the lab comes up: whether servers get their addresses by DHCPv6,
    whether there is VRRP, and the gateway's own addresses on the uplink. (Whether it is any good, the
    appliance says.)"""
    networks, vrrp = [], None
    # What is wrong with the file, the appliance says when it is started.
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
        read = tomllib.loads(config.read_text())
        networks, vrrp = list(read.get("network", [])), read.get("vrrp")
    uplinks = [x for x in networks if x.get("role") == "uplink"]
    own = [a for x in uplinks for key in ("addresses4", "addresses6") for a in x.get(key, [])]
    return {
        "dhcp": any("dhcpv6" in x for x in networks),
        "vrrp": vrrp is not None,
        # Without accept mode nobody answers an echo request for a virtual address.
        "accept": not isinstance(vrrp, dict) or vrrp.get("accept", True),
        "own": [str(a).partition("/")[0] for a in own],
    }


def start_gateway(config, which=n.FIRST):
    """Starts the appliance and returns when it forwards (the second gateway of a pair: when it answers)."""
    program = binary()
    if not os.access(program, os.X_OK):
        raise Failure(
            f"{program} does not exist. Build it with `cargo build --release --locked -p causeway`, "
            "or name another one in CAUSEWAY_BIN, or leave it out with --no-gateway"
        )
    if not config.is_file():
        raise Failure(f"the configuration {config} does not exist")
    old = which.log.with_name(f"{which.process}.previous.log")
    if which.log.exists():
        which.log.replace(old)
    process = start_process(which.process, which.ns, [program, "run", "--config", config])
    deadline = time.monotonic() + READY_SECONDS
    missing = "its control socket does not answer"
    while time.monotonic() < deadline:
        code = process.poll()
        if code is not None:
            raise Failure(
                f"causeway ended with exit code {code}; the end of {which.log}:\n{tail(which.process)}"
            )
        missing = not_ready(program, config, which)
        if missing is None:
            return
        time.sleep(0.05)
    raise Failure(
        f"causeway is not ready after {READY_SECONDS} s: {missing}; the end of {which.log}:\n{tail(which.process)}"
    )


def not_ready(program, config=n.CONFIG, which=n.FIRST):
    """What keeps the gateway from being ready; nothing if it is."""
    done = netns.run(program, "show", "ports", "--json", "--socket", which.socket, check=False, timeout=10)
    if done.returncode != 0:
        return f"its control socket {which.socket} does not answer: {done.stderr.strip()}"
    try:
        json.loads(done.stdout)
    except ValueError:
        return f"`causeway show ports --json` gave no JSON: {done.stdout[:200]!r}"
    known = settings(config)
    asked = [(n.INET, address) for address in known["own"]]
    if known["accept"]:
        # One of a pair is active, and that may be the other.
        if carrier(n.VM1, "eth0"):
            asked.append((n.VM1, f"{n.GW_TENANT_LL}%eth0"))
        asked += [(n.INET, n.GW_UPLINK4), (n.INET, n.GW_UPLINK6)]
    for ns, address in dict.fromkeys(asked):
        done = netns.ns_run(ns, "ping", "-n", "-c1", "-W1", address, check=False)
        if done.returncode != 0:
            return f"{address} does not answer ping from {ns}"
    return None


# --- commands --------------------------------------------------------------------------------------


def describe():
    """The state of the lab, as `status --json` prints it."""
    present = {ns: netns.exists(ns) for ns in n.NAMESPACES}
    try:
        made = json.loads(STATE.read_text())
    except (OSError, ValueError):
        made = None
    problems = []
    programs = []
    for name in (made or {}).get("servers", []):
        found = read_pid(name)
        programs.append(
            {
                "name": name,
                "pid": found and found[0],
                "running": bool(found),
                "log": str(n.RUN / f"{name}.log"),
            }
        )
        if not found:
            problems.append(f"{name} does not run; log: {n.RUN / name}.log")
    gateway = None
    if made and made["gateway"]:
        found = read_pid(GATEWAY)
        gateway = {"pid": found and found[0], "running": bool(found), "log": str(n.GATEWAY_LOG)}
        gateway |= {"socket": str(n.SOCKET), "config": made["config"], "binary": made["binary"]}
        if not found:
            problems.append(f"causeway does not run; log: {n.GATEWAY_LOG}")
    second = None
    if made and made.get("second"):
        found = read_pid(n.SECOND.process)
        second = {"pid": found and found[0], "running": bool(found), "log": str(n.SECOND.log)}
        second |= {"socket": str(n.SECOND.socket), "config": made["second"], "binary": made["binary"]}
        if not found:
            problems.append(f"{n.SECOND.process} does not run; log: {n.SECOND.log}")
    if not any(present.values()) and not made:
        state = "down"
    elif made and all(present.values()) and not problems:
        state = "up"
    else:
        state = "broken"
        if not made:
            problems.append("the lab is half made")
        problems += [f"namespace {ns} is missing" for ns, there in present.items() if not there]
    return {
        "state": state,
        "namespaces": present,
        "gateway": gateway,
        "second_gateway": second,
        "servers": programs,
        "options": made and {k: made[k] for k in ("bare", "gateway")} | {"pair": bool(made.get("second"))},
        "problems": problems,
        "run_dir": str(n.RUN),
    }


def up(args, say):
    now = describe()
    if now["state"] == "up":
        wanted = {"bare": args.bare, "gateway": not args.no_gateway, "pair": args.pair}
        if now["options"] != wanted:
            raise Failure(
                f"the lab is up, with other options ({now['options']}): run `scripts/lab down` first"
            )
        say("the lab is already up")
        return
    if now["state"] == "broken":
        raise Failure(f"there is a broken lab ({'; '.join(now['problems'])}): run `scripts/lab down` first")
    program, config, second = binary(), args.config.resolve(), args.config2.resolve()
    dhcp = not args.no_gateway and settings(config)["dhcp"]
    try:
        n.RUN.mkdir(mode=0o755, exist_ok=True)
        # What a second gateway of an earlier lab said.
        n.SECOND.log.unlink(missing_ok=True)
        forget_leases()
        # What the gateways of a pair know each other by.
        n.SECRET.touch(mode=0o600)
        n.SECRET.write_text(secrets.token_hex(32))
        say("making namespaces and links")
        build_network(static=not dhcp)
        names = []

        def start_all_servers():
            if not args.bare:
                say("starting servers")
                names.extend(start_servers())

        def start_gateways():
            if not args.no_gateway:
                say(f"starting {program}")
                start_gateway(config)
                if args.pair:
                    start_gateway(second, n.SECOND)

        if dhcp:
            # They listen on addresses that the gateway gives.
            start_gateways()
            say("the servers ask for their addresses")
            names += clients.boot({n.VM1: n.VM1_ADDR, n.VM2: n.VM2_ADDR})
            start_all_servers()
        else:
            start_all_servers()
            start_gateways()
        made = {"bare": args.bare, "gateway": not args.no_gateway, "servers": names}
        made |= {"second": str(second) if args.pair else None}
        STATE.write_text(json.dumps(made | {"config": str(config), "binary": str(program)}))
    except BaseException:
        if not args.keep:
            say("failed: taking down what was made (logs stay in /run/causeway-lab)")
            tear_down(say)
        raise
    say("the lab is up; try: scripts/lab exec cw-vm1 -- ping " + n.nat64(n.V4ONLY))


def status(args):
    now = describe()
    if args.json:
        print(json.dumps(now, indent=2))
    else:
        print(f"lab: {now['state']}")
        if now["state"] != "down":
            for ns, there in now["namespaces"].items():
                print(f"  namespace {ns:8} {'there' if there else 'MISSING'}")
            gateways = [(now["gateway"], n.FIRST), (now["second_gateway"], n.SECOND)]
            for program in [g | {"name": which.process} for g, which in gateways if g] + now["servers"]:
                what = (
                    f"process {program['pid']}"
                    if program["running"]
                    else f"NOT RUNNING, log {program['log']}"
                )
                print(f"  {program['name']:16} {what}")
        for problem in now["problems"]:
            print(f"  problem: {problem}")
    return {"up": 0, "broken": 1, "down": 3}[now["state"]]


def gateway(args, say):
    now = describe()
    if now["gateway"] is None:
        raise Failure("there is no lab with a gateway: run `scripts/lab up` first")
    which = n.GATEWAYS[args.name]
    if args.action in ("stop", "restart"):
        stop_process(which.process, say)
    elif args.action == "kill":
        kill_gateway(which)
    if args.action in ("start", "restart"):
        if read_pid(which.process):
            say("the gateway runs already")
            return
        known = now["gateway"] if which is n.FIRST else now["second_gateway"]
        config = args.config.resolve() if args.config else Path(known["config"]) if known else which.config
        start_gateway(config, which)
        if which is n.SECOND:
            STATE.write_text(json.dumps(json.loads(STATE.read_text()) | {"second": str(config)}))
    say(f"gateway {which.ns}: {args.action} done")


def kill_gateway(which):
    """Ends a gateway as a power cut would: nothing is said to anybody (SIGKILL)."""
    found = read_pid(which.process)
    if not found:
        raise Failure(f"{which.process} does not run")
    pid, started = found
    os.kill(pid, signal.SIGKILL)

    def gone():
        # Its first thread may be a zombie already while the kernel still ends the others.
        netns.reap(pid)
        try:
            return len(os.listdir(f"/proc/{pid}/task")) <= 1 and netns.start_time(pid) != started
        except OSError:
            return True

    wait_for(gone, 5, f"process {pid} outlives SIGKILL")


def fail_over(args, say):
    """The failover demo, on the lab that is up, or on one of its own."""
    import failover

    now = describe()
    own = now["state"] == "down"
    if own:
        with tempfile.TemporaryDirectory(prefix="causeway-lab-") as folder:
            config, second = n.CONFIG, n.CONFIG2
            if args.interval:
                config = failover.with_interval(config, args.interval, Path(folder, "lab.toml"))
                second = failover.with_interval(second, args.interval, Path(folder, "lab-gw2.toml"))
            up(parse(["up", "--pair", "--config", str(config), "--config2", str(second)]), say)
            try:
                rows = failover.steps(say)
            finally:
                tear_down(say)
    else:
        if now["state"] != "up" or not now["options"]["pair"]:
            raise Failure("the lab that is up has not two gateways that run: see `scripts/lab status`")
        if args.interval:
            raise Failure("--interval needs a lab of its own: run `scripts/lab down` first")
        rows = failover.steps(say)
    if args.json:
        print(json.dumps({"spacing_ms": failover.SPACING_MS, "interval": args.interval, "rows": rows}, indent=2))


def execute(args):
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise Failure("exec needs a command: scripts/lab exec cw-vm1 -- ping -c1 2001:db8:64::1")
    ns = args.namespace if args.namespace.startswith("cw-") else f"cw-{args.namespace}"
    if not netns.exists(ns):
        raise Failure(f"there is no namespace {ns}: is the lab up? (scripts/lab status)")
    os.execvp("ip", netns.in_ns(ns, *command))


def parse(argv):
    p = argparse.ArgumentParser(
        "scripts/lab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sub = p.add_subparsers(dest="action_name", required=True, metavar="up|down|status|gateway|failover|exec")
    c = sub.add_parser(
        "up", help="build the network, start servers and the gateway; returns when it forwards"
    )
    c.add_argument("--bare", action="store_true", help="no servers: the caller brings its own")
    c.add_argument(
        "--no-gateway", action="store_true", help="the network without Causeway: nothing runs in cw-gw"
    )
    c.add_argument(
        "--config", type=Path, default=n.CONFIG, help="configuration of the gateway (default: %(default)s)"
    )
    c.add_argument("--pair", action="store_true", help="start the second gateway (cw-gw2) too")
    c.add_argument(
        "--config2",
        type=Path,
        default=n.CONFIG2,
        help="configuration of the second gateway (default: %(default)s)",
    )
    c.add_argument(
        "--keep", action="store_true", help="leave a half-made lab for looking at when something fails"
    )
    c.add_argument("--quiet", "-q", action="store_true", help="say nothing unless something fails")
    c = sub.add_parser("down", help="end every process of the lab and remove everything, half-made labs too")
    c.add_argument("--quiet", "-q", action="store_true", help="say nothing unless something fails")
    c = sub.add_parser("status", help="what is there and what runs")
    c.add_argument("--json", action="store_true")
    c = sub.add_parser("gateway", help="stop, start or kill a gateway of a lab that is up")
    c.add_argument("action", choices=("start", "stop", "restart", "kill"))
    c.add_argument("--name", choices=tuple(n.GATEWAYS), default=n.GW, help="which (default: %(default)s)")
    c.add_argument("--config", type=Path, help="another configuration than that of `up`")
    c.add_argument("--quiet", "-q", action="store_true", help="say nothing unless something fails")
    c = sub.add_parser(
        "failover",
        help="pings through the pair while the active gateway is stopped, started and killed (a lab of its own "
        "if none is up)",
    )
    c.add_argument("--interval", help="another VRRP interval, as in 100ms (lab of its own only)")
    c.add_argument("--json", action="store_true", help="the figures as JSON on standard output")
    c.add_argument("--quiet", "-q", action="store_true", help="say nothing unless something fails")
    c = sub.add_parser("exec", help="run a command in a namespace: exec NS -- CMD ...")
    c.add_argument("namespace", help=", ".join(n.NAMESPACES))
    c.add_argument("command", nargs=argparse.REMAINDER)
    return p.parse_args(argv)


def main(argv):
    args = parse(argv)
    if os.geteuid() != 0:
        print("lab: error: must be run as root: it makes network namespaces", file=sys.stderr)
        return 1

    # Ended by SIGTERM, we clean up as if by Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))

    def say(text):
        if not args.quiet:
            # Standard output may be for JSON.
            print(f"lab: {text}", flush=True, file=sys.stderr if getattr(args, "json", False) else sys.stdout)

    try:
        if args.action_name == "exec":
            return execute(args)
        if args.action_name == "status":
            return status(args)
        with open(n.LOCK, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another scripts/lab to finish")
                fcntl.flock(lock, fcntl.LOCK_EX)
            # Programs that we start must not keep the lock.
            os.set_inheritable(lock.fileno(), False)
            if args.action_name == "up":
                up(args, say)
            elif args.action_name == "gateway":
                gateway(args, say)
            elif args.action_name == "failover":
                fail_over(args, say)
            else:
                tear_down(say)
                say("the lab is down")
    except Failure as e:
        print(f"lab: error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

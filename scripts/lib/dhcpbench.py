"""Kea (memfile backend, persistent) against Causeway as DHCPv6 servers, under `perfdhcp`, in one run.

Each server is alone in a namespace, with `perfdhcp` in another at the far end of a veth pair; each keeps its leases
in a file on the same disk. `perfdhcp` plays a relay (`-A 1`): by itself it sends for all of its clients from
one MAC address, which Causeway takes for one server. The highest clean rate is the most exchanges of four
messages a second (started, over some seconds) of which every one ended within a second.

Kea writes its file without asking that it be on the disk; Causeway's Reply leaves when the lease is there
(SQLite, synchronous=FULL). Both servers and `perfdhcp` share the machine's cores, so that `perfdhcp` may be what
is measured: whether its own process was busy all the time is in the rows (`perfdhcp_cpu`).
"""

import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import lab
import netns
from netns import Failure

SERVER, CLIENT = "cw-bs", "cw-bc"
PREFIX = "2001:db8:b::"
POOL = f"{PREFIX}1:0:0-{PREFIX}1:f:ffff"
SECONDS = 6
# Different clients: nearly each exchange is a new lease.
CLIENTS = 1_000_000
# What is tried first; then half as much again while it is clean, then halves of what is left.
FIRST_RATE, FACTOR, HALVINGS, MOST = 1000, 1.5, 2, 200_000


@contextlib.contextmanager
def link():
    """A server's namespace with `tenant0` (and `uplink0`, which leads nowhere), and perfdhcp's with `c0`."""
    there = [ns for ns in (SERVER, CLIENT) if Path("/run/netns", ns).exists()]
    if there:
        # Somebody else's run, which is not to be disturbed; or the rest of one that was killed.
        raise Failure(f"{', '.join(there)} exists: another run of this bench goes on (or: ip netns del {' '.join(there)})")
    try:
        for ns in (SERVER, CLIENT):
            netns.run("ip", "netns", "add", ns)
            netns.run("ip", "-n", ns, "link", "set", "lo", "up")
        netns.veth(SERVER, "tenant0", "02:00:00:00:b0:01", CLIENT, "c0", "02:00:00:00:b0:02")
        netns.veth(SERVER, "uplink0", "02:00:00:00:b0:03", CLIENT, "u0", "02:00:00:00:b0:04")
        for ns, dev in ((SERVER, "tenant0"), (SERVER, "uplink0"), (CLIENT, "c0"), (CLIENT, "u0")):
            netns.run("ip", "-n", ns, "link", "set", dev, "up")
        netns.run("ip", "-n", CLIENT, "address", "add", f"{PREFIX}2/64", "dev", "c0", "nodad")
        yield
    finally:
        for ns in (SERVER, CLIENT):
            for pid in netns.pids(ns):
                netns.end(pid, patience=5)
            netns.run("ip", "netns", "del", ns, check=False)


class Server:
    """A server that runs, and the processor time that it has used."""

    def __init__(self, command, folder, ready, env=None):
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen(
            netns.in_ns(SERVER, *command),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env=os.environ | (env or {}),
        )
        try:
            lab.wait_for(
                lambda: self.process.poll() is not None or ready(),
                60,
                lambda: f"{command[0]} is not ready: {self.said()}",
            )
            if self.process.poll() is not None:
                raise Failure(f"{command[0]} ended ({self.process.returncode}): {self.said()}")
        except BaseException:
            self.end()
            raise

    def said(self):
        return Path(self.log.name).read_text(errors="replace")[-2000:]

    def cpu(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s*(\d+)", status)[1]) // 1024

    def end(self):
        netns.end(self.process.pid, patience=15)
        self.process.wait()
        self.log.close()


def kea(folder):
    """Kea as a server of one link, with its leases in `folder`."""
    netns.run("ip", "-n", SERVER, "address", "add", f"{PREFIX}1/64", "dev", "tenant0", "nodad")
    config = {
        "interfaces-config": {"interfaces": ["tenant0"]},
        "lease-database": {"type": "memfile", "persist": True, "name": f"{folder}/leases.csv", "lfc-interval": 0},
        "data-directory": str(folder),
        "preferred-lifetime": 28800,
        "valid-lifetime": 43200,
        "subnet6": [{"id": 1, "subnet": f"{PREFIX}/64", "interface": "tenant0", "pools": [{"pool": POOL}]}],
        "loggers": [
            {"name": "kea-dhcp6", "severity": "WARN", "output_options": [{"output": "stdout"}]},
            # Says so for each exchange otherwise, when addresses become few.
            {"name": "kea-dhcp6.alloc-engine", "severity": "ERROR", "output_options": [{"output": "stdout"}]},
        ],
    }
    (folder / "kea.json").write_text(json.dumps({"Dhcp6": config}))
    # Its defaults are folders of the package's service.
    env = {"KEA_PIDFILE_DIR": str(folder), "KEA_LOCKFILE_DIR": str(folder)}

    def ready():
        return ":547" in netns.ns_run(SERVER, "ss", "-Hlun", "sport", "=", ":547").stdout

    # A bound link-local address is needed, which takes a moment (duplicate address detection).
    time.sleep(2)
    return Server(["kea-dhcp6", "-c", folder / "kea.json"], folder, ready, env)


CAUSEWAY = """\
[gateway]
name = "cw-bench"
profile = "veth"

[[port]]
name = "tenant0"
device = "net_af_packet0,iface=tenant0"

[[port]]
name = "uplink0"
device = "net_af_packet1,iface=uplink0"

[[network]]
name = "tenant0"
port = "tenant0"
role = "tenant"
addresses6 = ["{prefix}1/64"]
link-local = "fe80::1"

[network.dhcpv6]
pools = ["{pool}"]

[[network]]
name = "uplink0"
port = "uplink0"
role = "uplink"
addresses6 = ["2001:db8:ffff::2/64"]

[[route]]
prefix = "::/0"
via = "2001:db8:ffff::1"

[dhcpv6]
leases = "{folder}/leases.db"
rate = {most}
burst = 10000
client-rate = {most}
client-burst = 10000
"""


def causeway(folder):
    """Causeway as the gateway of one link, with its leases in `folder`."""
    netns.sysctl(SERVER, lab.SILENT)
    config = folder / "causeway.toml"
    config.write_text(CAUSEWAY.format(prefix=PREFIX, pool=POOL, folder=folder, most=MOST))

    def ready():
        done = netns.ns_run(CLIENT, "ping", "-n", "-c1", "-W1", f"{PREFIX}1", check=False)
        return done.returncode == 0

    return Server([lab.binary(), "run", "--config", config], folder, ready)


def perfdhcp(rate, seconds=SECONDS):
    """One run. Gives the exchanges begun and ended, the delays, and the share of a core that perfdhcp used."""
    command = ["perfdhcp", "-6", "-A", "1", "-l", "c0", "-r", rate, "-p", seconds, "-R", CLIENTS]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    # Codes 2 and 3 say that exchanges were lost; that is in its report as well.
    done = netns.ns_run(CLIENT, *command, "-W", 1_000_000, check=False, timeout=seconds * 3 + 60)
    took = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = done.stdout
    sections = re.findall(
        r"Statistics for: (\S+)\*+\nsent packets: (\d+)\nreceived packets: (\d+)\n.*?avg delay: ([\d.]+|-?nan|n/a)", text, re.S
    )
    if len(sections) != 2:
        raise Failure(f"perfdhcp ({done.returncode}) gave no report: {text[-500:]}{done.stderr[-500:]}")
    begun, ended = int(sections[0][1]), int(sections[1][2])
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "asked": rate,
        "begun": begun,
        "ended": ended,
        "per_second": round(begun / seconds),
        "solicit_ms": sections[0][3],
        "request_ms": sections[1][3],
        "perfdhcp_cpu": round(used / took, 2),
    }


def clean(row):
    """Every exchange that was begun ended; and as many were begun as were asked for, but for the clock's grain."""
    return row["ended"] == row["begun"] and row["per_second"] >= 0.95 * row["asked"]


def search(server, out):
    """The highest clean rate: its row."""
    best, rate, bad = None, FIRST_RATE, None
    halvings = HALVINGS
    while rate <= MOST:
        cpu, began = server.cpu(), time.monotonic()
        row = perfdhcp(rate)
        # perfdhcp waits a second at its end.
        row["server_cpu"] = round((server.cpu() - cpu) / min(time.monotonic() - began, SECONDS), 2)
        print(f"   {rate}/s: {'clean' if clean(row) else 'NOT clean'} {row}", file=out, flush=True)
        if clean(row):
            best = row
        else:
            bad = rate
        if bad is None:
            rate = int(rate * FACTOR)
            continue
        if not halvings:
            break
        halvings -= 1
        rate = (bad + (best["asked"] if best else bad // 2)) // 2
    return best


def run(out):
    """Both servers; gives the exit code and the rows."""
    if os.geteuid() != 0:
        raise Failure("must be run as root: it makes network namespaces")
    rows = []
    for name, start in (("kea", kea), ("causeway", causeway)):
        # Not below /run or /tmp, which may be memory.
        folder = Path(tempfile.mkdtemp(prefix=f"causeway-bench-{name}-", dir="/var/tmp"))
        try:
            with link():
                print(f"\n== DHCPv6: {name}", file=out, flush=True)
                server = start(folder)
                try:
                    best = search(server, out)
                    memory = server.memory_mib()
                finally:
                    server.end()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if best is None:
            raise Failure(f"{name}: no rate was clean, not even {FIRST_RATE} exchanges a second")
        # What a whole core of its own would do, for where perfdhcp and the server share too few.
        best |= {"per_core_second": round(best["per_second"] / max(best["server_cpu"], 0.01)), "memory_mib": memory}
        rows.append({"what": name} | best)
    ratio = round(rows[1]["per_second"] / rows[0]["per_second"], 2)
    cores = os.cpu_count() or 1
    busy = [r["server_cpu"] + r["perfdhcp_cpu"] > 0.8 * cores for r in rows]
    limit = "perfdhcp and the machine" if busy[1] and rows[1]["perfdhcp_cpu"] > rows[1]["server_cpu"] else "the server"
    rows.append({"what": "causeway over kea", "limit": limit, "ratio": ratio, "goal": 5, "goal_ratio": "met" if ratio >= 5 else "missed"})
    return rows

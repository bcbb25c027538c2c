"""Kea (memfile backend, persistent) against Causeway as DHCPv6 servers, under `perfdhcp`, in one run.

Each server is alone in a namespace, with `perfdhcp` in another at the far end of a veth pair; each keeps its leases
in a file on the same disk. `perfdhcp` plays a relay (`-A 1`): by itself it sends for all of its clients from
one MAC address, which Causeway takes for one server. The highest clean rate is the most exchanges of four
messages a second (started, over some seconds) of which less than one in a thousand was lost: not over within a
second.

Kea writes its file without asking that it be on the disk; Causeway's Reply leaves when the lease is there
(SQLite, synchronous=FULL).

Both servers and `perfdhcp` share the machine's cores with whatever else runs, so that the server may not be what is
measured. In the midst of each run it is seen how much of a core the server, `perfdhcp` and all others used, and how
much was left over; what the limit was is judged by the run above the highest clean rate, and said. The servers
are compared by rate, and by exchanges for each second of processor time (`per_cpu_second`), which counts where the
server was not the limit. Causeway's worker polls whether there is something to do or not, and all of that counts as
used: `unasked_cpu` is what the server used when nobody asked.
"""

import contextlib
import json
import os
import re
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
# Of exchanges that were begun, so many may be lost.
LOST = 0.001
# When processor time is looked at, in seconds of the run: not while perfdhcp begins, nor when it only waits.
LOOK = (1.0, SECONDS - 0.3)
# A thread that has less than this of a core to itself is not what all others wait for.
BUSY = 0.85
# Of all cores: with less than this left over, the machine is full.
SPARE = 0.08
# Different clients: nearly each exchange is a new lease.
CLIENTS = 1_000_000
# What is tried first; then half as much again while it is clean, then halves of what is left.
FIRST_RATE, FACTOR, HALVINGS, MOST = 1000, 1.5, 2, 200_000
# How many times Kea's exchanges Causeway is to make.
GOAL = 5
# Causeway's threads that poll.
POLLING = "causeway-core"


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


TICKS = os.sysconf("SC_CLK_TCK")


def processor_time(pid):
    """Seconds that each thread of a process has used: by number, with its name."""
    times = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            head, _, rest = (task / "stat").read_text().rpartition(")")
            fields = rest.split()
            times[task.name] = (head.partition("(")[2], (int(fields[11]) + int(fields[12])) / TICKS)
    return times


def machine_time():
    """Seconds that all cores together were not used, and those that they were (the hypervisor's share is neither)."""
    fields = [int(f) / TICKS for f in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields[:3]) + sum(fields[5:7])


class Look:
    """Who used the processors between now and `end`."""

    def __init__(self, pids):
        self.at = time.monotonic()
        self.pids = pids
        self.before = [processor_time(pid) for pid in pids], machine_time()

    def end(self):
        """For each process its share of a core and its busiest thread with its own; the share of others, and what
        was left over, of all cores."""
        took = time.monotonic() - self.at
        processes, shares = [], 0.0
        for pid, before in zip(self.pids, self.before[0], strict=True):
            after = processor_time(pid)
            used = {
                task: (name, (seconds - before.get(task, ("", 0.0))[1]) / took)
                for task, (name, seconds) in after.items()
            }
            share = sum(s for _, s in used.values())
            name, most = max(used.values(), key=lambda u: u[1], default=("none", 0.0))
            by_name = {}
            for thread, s in used.values():
                by_name[thread] = by_name.get(thread, 0.0) + s
            processes.append({"cpu": share, "busiest": name, "busiest_cpu": most, "threads": by_name})
            shares += share
        idle, busy = (a - b for a, b in zip(machine_time(), self.before[1], strict=True))
        cores = os.cpu_count() or 1
        return processes, max(busy / took - shares, 0.0), idle / took / cores


class Server:
    """A server that runs, and the processor time that it has used."""

    def __init__(self, command, folder, ready, env=None, tell=dict, ns=SERVER):
        # What it can tell of itself: names and numbers that only grow.
        self.tell = tell
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen(
            netns.in_ns(ns, *command),
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
dhcpv6-relays = true

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

    return Server([lab.binary(), "run", "--config", config], folder, ready, tell=causeway_tells)


def causeway_tells():
    """Drops, messages and answers, and the disk, as Causeway counts them."""

    def show(what):
        command = [lab.binary(), "show", what, "--json", "--name", "cw-bench"]
        return json.loads(netns.run(*command).stdout)

    counted = {c["name"]: c["total"] for c in show("counters")["counters"]}
    told = {k: v for k, v in counted.items() if k.startswith(("drop.", "dhcp6-")) or k == "rx-frames"}
    disk = show("peer")["status"]["disk"]
    return told | {"commits": disk["commits"], "commits_ms": disk["all_commits_us"] // 1000}


def grown(server, before):
    """What grew, of what a server tells of itself."""
    return {k: v - before.get(k, 0) for k, v in server.tell().items() if v != before.get(k, 0)}


@contextlib.contextmanager
def room(octets=8 << 20):
    """A larger receive buffer for sockets that ask for none, for as long as this runs: a server that commits leases
    in groups answers in groups, and `perfdhcp` is to lose none of them. The setting is the machine's, so that both
    servers have it."""
    path = Path("/proc/sys/net/core/rmem_default")
    before = path.read_text()
    path.write_text(str(max(octets, int(before))))
    try:
        yield
    finally:
        path.write_text(before)


def lost_at_client():
    """Packets that reached perfdhcp's namespace and found no room in its socket; and packets that the kernel dropped
    on their way to any namespace, because a processor had too many waiting."""
    table = netns.ns_run(CLIENT, "cat", "/proc/net/snmp6").stdout
    found = re.search(r"^Udp6RcvbufErrors\s+(\d+)", table, re.M)
    waiting = sum(int(line.split()[1], 16) for line in Path("/proc/net/softnet_stat").read_text().splitlines())
    return int(found[1]) if found else 0, waiting


def perfdhcp(server, rate, seconds=SECONDS):
    """One run against a server. Gives the exchanges begun and ended, the delays, and who used the processors."""
    command = ["perfdhcp", "-6", "-A", "1", "-l", "c0", "-r", rate, "-p", seconds, "-R", CLIENTS, "-W", 1_000_000]
    lost = lost_at_client()
    with tempfile.TemporaryFile("w+") as report:
        # Its report is short; a pipe that nobody reads meanwhile has room for it all the same.
        process = subprocess.Popen(
            netns.in_ns(CLIENT, *command), stdin=subprocess.DEVNULL, stdout=report, stderr=subprocess.STDOUT
        )
        try:
            time.sleep(LOOK[0])
            look = Look([server.process.pid, process.pid])
            time.sleep(LOOK[1] - LOOK[0])
            (ours, its), others, spare = look.end()
            # Codes 2 and 3 say that exchanges were lost; that is in its report as well.
            code = process.wait(timeout=seconds * 3 + 60)
        except subprocess.TimeoutExpired as e:
            raise Failure(f"perfdhcp did not end: {e}") from e
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        report.seek(0)
        text = report.read()
    sections = re.findall(
        r"Statistics for: (\S+)\*+\nsent packets: (\d+)\nreceived packets: (\d+)\n.*?avg delay: ([\d.]+|-?nan|n/a)",
        text,
        re.S,
    )
    if len(sections) != 2:
        raise Failure(f"perfdhcp ({code}) gave no report: {text[-800:]}")
    begun, ended = int(sections[0][1]), int(sections[1][2])
    at_client, in_kernel = (a - b for a, b in zip(lost_at_client(), lost, strict=True))
    return {
        "asked": rate,
        "begun": begun,
        "ended": ended,
        "lost": round(1 - ended / begun, 5) if begun else 1.0,
        "no_room_at_perfdhcp": at_client,
        "no_room_in_kernel": in_kernel,
        # Each exchange that ended; perfdhcp begins none after the end.
        "per_second": round(ended / seconds),
        "solicit_ms": sections[0][3],
        "request_ms": sections[1][3],
        "server_cpu": round(ours["cpu"], 2),
        "server_thread": f"{ours['busiest']}:{ours['busiest_cpu']:.2f}",
        "perfdhcp_cpu": round(its["cpu"], 2),
        "perfdhcp_thread": f"{its['busiest']}:{its['busiest_cpu']:.2f}",
        "others_cpu": round(others, 2),
        "spare": round(spare, 2),
    }, ours["threads"]


def clean(row):
    """Hardly an exchange was lost; and as many were begun as were asked for, but for the clock's grain."""
    return row["lost"] < LOST and row["begun"] >= 0.95 * row["asked"] * SECONDS


def share(text):
    return float(text.rpartition(":")[2])


def limit(row, polling):
    """What kept the run from being clean, in plain words. `polling` names a thread that is always busy."""
    if row is None:
        return "nothing: the highest rate that is tried"
    if row["no_room_at_perfdhcp"] + row["no_room_in_kernel"] >= row["begun"] - row["ended"] > 0:
        return "perfdhcp and the veth link: answers were sent and found no room on their way to it or at its socket"
    full = row["spare"] < SPARE
    used = f"server {row['server_cpu']}, perfdhcp {row['perfdhcp_cpu']}, others {row['others_cpu']} of {os.cpu_count()} cores"
    if row["refused"] >= 0.9 * (row["begun"] - row["ended"]) > 0:
        why = f"the server: it refused {row['refused']} messages, and spent {row['committing']} of the time in commits"
        return f"{why}, while no processor time was left over ({used})" if full else why
    short = row["begun"] < 0.95 * row["asked"] * SECONDS
    if share(row["perfdhcp_thread"]) >= BUSY and short:
        return "perfdhcp: it did not begin as many as it was asked for, with a thread of its busy all the time"
    if full:
        return f"the machine: no processor time was left over ({used})"
    if share(row["perfdhcp_thread"]) >= BUSY:
        return "perfdhcp: a thread of its was busy all the time"
    if share(row["server_thread"]) >= BUSY and not row["server_thread"].startswith(polling or "\0"):
        return "the server: its busiest thread had a core to itself"
    return "the server's waiting (disk, or queues between it and perfdhcp): processor time was left over"


def search(server, out):
    """The highest clean rate: its row, what each thread of the server used, and the lowest rate above it that was
    not clean."""
    best, rate, bad, worse = None, FIRST_RATE, None, None
    halvings = HALVINGS

    def one():
        before = server.tell()
        row, threads = perfdhcp(server, rate)
        grew = grown(server, before)
        row["refused"] = sum(v for k, v in grew.items() if k.startswith("drop.dhcp6-"))
        row["committing"] = round(grew.get("commits_ms", 0) / 1000 / SECONDS, 2)
        good = clean(row)
        why = f", of it: {grew}" if grew and not good else ""
        print(f"   {rate}/s: {'clean' if good else 'NOT clean'} {row}{why}", file=out, flush=True)
        return row, threads, good

    while rate <= MOST:
        row, threads, good = one()
        if not good:
            # Once more: others may have taken the processors away for a moment.
            row, threads, good = one()
        if good:
            best = (row, threads)
        else:
            bad, worse = rate, row
        if bad is None:
            rate = int(rate * FACTOR)
            continue
        if not halvings:
            break
        halvings -= 1
        rate = (bad + (best[0]["asked"] if best else bad // 2)) // 2
    return best, worse


def unasked(server, seconds=2.0):
    """What a server uses of a core while nobody asks."""
    look = Look([server.process.pid])
    time.sleep(seconds)
    (ours,), _, _ = look.end()
    return round(ours["cpu"], 2)


def run(out):
    """Both servers; gives the rows."""
    if os.geteuid() != 0:
        raise Failure("must be run as root: it makes network namespaces")
    rows = []
    for name, start, polling in (("kea", kea, None), ("causeway", causeway, POLLING)):
        # Not below /run or /tmp, which may be memory.
        folder = Path(tempfile.mkdtemp(prefix=f"causeway-bench-{name}-", dir="/var/tmp"))
        try:
            with room(), link():
                print(f"\n== DHCPv6: {name}", file=out, flush=True)
                server = start(folder)
                try:
                    idle = unasked(server)
                    best, worse = search(server, out)
                    memory = server.memory_mib()
                finally:
                    server.end()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if best is None:
            raise Failure(f"{name}: no rate was clean, not even a quarter of {FIRST_RATE} exchanges a second")
        row, threads = best
        used = "+".join(f"{t}:{s:.2f}" for t, s in sorted(threads.items(), key=lambda u: -u[1]) if s >= 0.005)
        row |= {
            "unasked_cpu": idle,
            "server_threads": used or "none",
            "per_cpu_second": round(row["per_second"] / max(row["server_cpu"], 0.01)),
            "memory_mib": memory,
            "limit": limit(worse, polling),
        }
        print(f"   {name}: {row['per_second']} exchanges a second; the limit was {row['limit']}", file=out, flush=True)
        rows.append({"what": name} | row)
    by_rate, by_time = (
        round(rows[1][key] / max(rows[0][key], 1), 2) for key in ("per_second", "per_cpu_second")
    )
    own = rows[1]["limit"].startswith("the server")
    rows.append(
        {
            "what": "causeway over kea",
            "ratio": by_rate,
            "ratio_per_cpu_second": by_time,
            "causeway_was_the_limit": own,
            "goal": GOAL,
            "goal_by_rate": "met" if by_rate >= GOAL else "missed",
            # What counts where something else kept Causeway from more.
            "goal_by_cpu_second": "met" if by_time >= GOAL else "missed",
        }
    )
    return rows

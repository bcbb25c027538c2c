"""DNS64 under `dnsperf`, in one run: unbound's dns64, BIND's dns64 and Causeway, each alone in a namespace with
`dnsperf` in another at the far end of a veth pair; then the same 1,000 questions to all three, and how their answers
differ (see dnscompare).

50,000 names have A records only; they are asked for at random, all from the cache. The rate is what `dnsperf` gets with
100 questions under way; the latencies are those of each answer at a fixed rate that all three keep up with, for which
server and `dnsperf` have real-time priority.

Server and `dnsperf` share the machine's cores with whatever else runs: in the midst of a run it is seen how much of a core
each used. Causeway's worker polls whether there is something to do or not: `unasked_cpu` is what the server used when
nobody asked. unbound and BIND run with one thread, Causeway with one worker.
"""

import contextlib
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import dhcpbench
import dnscompare
import dnsask
import lab
import netns
import network as n
import resolvers
from dhcpbench import CLIENT, SERVER, Look
from netns import Failure

PREFIX = dhcpbench.PREFIX
ADDRESS = f"{PREFIX}1"
NAMES = 50_000
SECONDS = 6
# The fixed rate, and its run.
STEADY, STEADY_SECONDS = 10_000, 5
# The best of so many runs of each server counts: what others do on the machine is not to be measured.
ROUNDS = 3
UPLINK4, UPSTREAM_UP4 = "192.0.2.2", "192.0.2.1"

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

[dns]
servers = ["{address}"]

[[network]]
name = "tenant0"
port = "tenant0"
role = "tenant"
addresses6 = ["{address}/64"]
link-local = "fe80::1"

[[network]]
name = "uplink0"
port = "uplink0"
role = "uplink"
addresses4 = ["{uplink}/24"]
addresses6 = ["2001:db8:ffff::2/64"]

[[route]]
prefix = "0.0.0.0/0"
via = "{up}"

[nat64]
prefixes = ["{nat64}/96"]
pool = ["203.0.113.0/28"]

[dns64]
upstreams = ["{resolver}"]
client-rate = 1000000
client-burst = 1000000
client-in-flight = 4096
"""


@contextlib.contextmanager
def link():
    """The namespaces of `dhcpbench`, with the resolver that all servers ask at the far end of the uplink."""
    with dhcpbench.link():
        for dev, address in (("u0", f"{UPSTREAM_UP4}/24"), ("lo", f"{n.RESOLVER}/32")):
            netns.run("ip", "-n", CLIENT, "address", "add", address, "dev", dev)
        yield


class Running(dhcpbench.Server):
    """A server of `resolvers`, or any command, which answers a question when it is ready."""

    def __init__(self, command, folder, ns=SERVER, at=ADDRESS):
        asker = dnsask.Asker(CLIENT, at, timeout=1.0)
        ready = lambda: asker.ask(dnsask.Question("v4only.example."))[0] is not None  # noqa: E731
        self.ns = ns
        super().__init__(command, folder, ready, ns=ns)


def by_kernel():
    """Addresses and routes of a server that uses the kernel's stack."""
    netns.run("ip", "-n", SERVER, "address", "add", f"{ADDRESS}/64", "dev", "tenant0", "nodad")
    netns.run("ip", "-n", SERVER, "address", "add", f"{UPLINK4}/24", "dev", "uplink0")
    netns.run("ip", "-n", SERVER, "route", "add", "default", "via", UPSTREAM_UP4)


def unbound(folder):
    by_kernel()
    return resolvers.unbound_dns64("unbound", SERVER, folder, [ADDRESS]).command


def bind(folder):
    by_kernel()
    return resolvers.named_dns64("bind", SERVER, folder, [ADDRESS]).command


def causeway(folder):
    netns.sysctl(SERVER, lab.SILENT)
    config = folder / "causeway.toml"
    config.write_text(
        CAUSEWAY.format(address=ADDRESS, uplink=UPLINK4, up=UPSTREAM_UP4, nat64=n.NAT64_PREFIX, resolver=n.RESOLVER)
    )
    return [lab.binary(), "run", "--config", config]


def zone():
    """`bench.example`: names with an A record each, that live for a day."""
    rows = "".join(f"n{i} 86400 A 198.51.{i // 250 % 250}.{i % 250 + 1}\n" for i in range(NAMES))
    return "bench.example.", f"@ 86400 SOA ns.example. hostmaster.example. 1 3600 600 86400 86400\n@ 86400 NS ns.example.\n{rows}"


def dnsperf(files, *args, look=None, output=None, first=()):
    """One run; gives what it says of itself. `look` is a process to look at in the midst of it; `first` comes before the
    command."""
    command = [*first, "dnsperf", "-s", ADDRESS, "-d", files, "-c", "16", "-t", "2", *args]
    process = subprocess.Popen(
        netns.in_ns(CLIENT, *command),
        stdin=subprocess.DEVNULL,
        stdout=output or subprocess.PIPE,
        stderr=subprocess.STDOUT if output is None else subprocess.DEVNULL,
        text=True,
    )
    used = None
    try:
        if look:
            time.sleep(1.5)
            watch = Look([look, process.pid])
            time.sleep(3)
            used = watch.end()
        text, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if output is not None:
        output.seek(0)
        text = output.read()
    if process.returncode != 0:
        raise Failure(f"dnsperf failed ({process.returncode}): {text[-500:]}")
    return text, used


def figure(text, what):
    found = re.search(rf"^\s*{what}:\s+([\d.]+)", text, re.M)
    if not found:
        raise Failure(f"dnsperf did not tell {what!r}: {text[-800:]}")
    return float(found[1])


def quantile(values, q):
    return values[min(len(values) - 1, int(q * len(values)))]


def measure(name, server, files, once, out):
    """One server: the rate, and latencies at the fixed rate."""
    time.sleep(1)
    idle = dhcpbench.unasked(server)
    # Each name once, so that all is in the cache; again while answers are missing.
    for _ in range(4):
        text, _ = dnsperf(once, "-n", "1", "-q", "50")
        if not figure(text, "Queries lost"):
            break
    codes = re.search(r"Response codes:\s+(.*)", text)[1]
    if not codes.startswith("NOERROR") or "," in codes:
        raise Failure(f"{name}: not every name was answered: {codes}")
    text, used = dnsperf(files, "-l", str(SECONDS), "-q", "100", look=server.process.pid)
    (ours, its), others, spare = used
    row = {
        "what": name,
        "per_second": round(figure(text, "Queries per second")),
        "lost": round(figure(text, "Queries lost")),
        "server_cpu": round(ours["cpu"], 2),
        "unasked_cpu": idle,
        "dnsperf_cpu": round(its["cpu"], 2),
        "others_cpu": round(others, 2),
        "spare": round(spare, 2),
    }
    row["per_cpu_second"] = round(row["per_second"] / max(row["server_cpu"], 0.01))
    # Of all that runs on the machine these two come first, so that what is measured is how long an answer takes and not
    # how long others keep a processor. (Nobody is kept out: at this rate both sleep most of the time.)
    netns.run("chrt", "--all-tasks", "--rr", "--pid", "10", server.process.pid)
    with tempfile.TemporaryFile("w+") as answers:
        steady = ["-l", str(STEADY_SECONDS), "-q", "100", "-Q", str(STEADY), "-v"]
        text, _ = dnsperf(files, *steady, output=answers, first=["chrt", "--rr", "10"])
    times = sorted(float(t) for t in re.findall(r"^> \S+ \S+ \S+ ([\d.]+)$", text, re.M))
    steady = {"steady": round(len(times) / STEADY_SECONDS)}
    # Fewer, and it was not that rate.
    if steady["steady"] < STEADY * 0.8:
        raise Failure(f"{name}: {steady['steady']} answers a second instead of {STEADY}: the machine is too busy")
    steady |= {f"p{k}_us": round(quantile(times, q) * 1e6) for k, q in (("50", 0.5), ("99", 0.99), ("999", 0.999))}
    steady["memory_mib"] = server.memory_mib()
    print(f"   {row | steady}", file=out, flush=True)
    return row, steady


SERVERS = {"unbound": unbound, "bind": bind, "causeway": causeway}


def rates(out):
    """All three servers in turn, several times; of each the run with the highest rate, and that with the least p99."""
    runs = {name: [] for name in SERVERS}
    for _ in range(ROUNDS):
        for name in SERVERS:
            runs[name].append(one(name, out))
    return [
        max((row for row, _ in got), key=lambda r: r["per_second"]) | min((s for _, s in got), key=lambda s: s["p99_us"])
        for got in runs.values()
    ]


def one(name, out):
    """One run of a server, on links of its own."""
    folder = Path(tempfile.mkdtemp(prefix=f"causeway-bench-dns-{name}-", dir="/var/tmp"))
    try:
        with dhcpbench.room(), link():
            print(f"\n== DNS64: {name}", file=out, flush=True)
            numbers = list(range(NAMES))
            once, files = folder / "once", folder / "queries"
            once.write_text("".join(f"n{i}.bench.example AAAA\n" for i in numbers))
            random.Random(1).shuffle(numbers)
            files.write_text("".join(f"n{i}.bench.example AAAA\n" for i in numbers))
            for sub in ("resolver", "server"):
                (folder / sub).mkdir()
            upstream = resolvers.authority("resolver", CLIENT, folder / "resolver", [n.RESOLVER], extra=[zone()])
            asked = Running(upstream.command, folder / "resolver", CLIENT, n.RESOLVER)
            try:
                server = Running(SERVERS[name](folder / "server"), folder / "server")
                try:
                    return measure(name, server, files, once, out)
                finally:
                    server.end()
            finally:
                asked.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(out):
    """Rates and latencies, then the comparison; gives the rows."""
    if os.geteuid() != 0:
        raise Failure("must be run as root: it makes network namespaces")
    rows = rates(out)
    by = {row["what"]: row for row in rows}
    ours, theirs = by["causeway"], by["unbound"]
    rows.append(
        {
            "what": "causeway over unbound",
            "rate": round(ours["per_second"] / max(theirs["per_second"], 1), 2),
            "rate_per_cpu_second": round(ours["per_cpu_second"] / max(theirs["per_cpu_second"], 1), 2),
            "p99": round(ours["p99_us"] / max(theirs["p99_us"], 1), 2),
            "goal_rate": "met" if ours["per_second"] > theirs["per_second"] else "missed",
            "goal_p99": "met" if ours["p99_us"] < theirs["p99_us"] else "missed",
        }
    )
    return rows + compare(out)


def compare(out):
    """The 1,000 questions, in a lab of its own."""
    state = lab.describe()["state"]
    if state != "down":
        raise Failure(f"a lab is {state}: run `scripts/lab down` first")
    command = [n.ROOT / "scripts/lab"]
    netns.run(*command, "up", "-q", timeout=180)
    try:
        with dnscompare.peers() as askers:
            found = dnscompare.compare(askers)
    finally:
        netns.run(*command, "down", "-q", timeout=60)
    print(f"\n{dnscompare.table(found)}", file=out, flush=True)
    if found.unexplained:
        raise Failure(f"{len(found.unexplained)} differences that nobody has explained: {found.unexplained[:5]}")
    return [{"what": "comparison", "questions": dnscompare.COUNT} | found.counts()]

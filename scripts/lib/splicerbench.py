"""HAProxy and Causeway, each in the gateway's place of the same lab, in one run: new TLS connections passed on by SNI, and
bulk data over established ones.

Short connections: a ClientHello of 517 octets, an answer of 1,000 octets, and the end, which the server begins; as many as
come about with 64 under way (see benches/src/bin/short-connections.rs). Bulk: iperf3 from the server to the client.

HAProxy runs with one thread and the kernel's TCP, Causeway with one worker on AF_PACKET ports. Whoever loads and serves
shares the two cores with them, so that besides the rates it is seen what a connection and a gigabit cost in
processor time of the gateway (`per_cpu_second`, `gbit_per_cpu_second`). For HAProxy that is its process; what the kernel
does for its sockets outside of it (in interrupts, on the time of whoever was running) is in `others_cpu`. Causeway's worker
polls whether there is something to do or not, and all of that counts as used.
"""

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

import lab
import netns
import network as n
import splicing
from dhcpbench import Look
from netns import Failure
from splicing import Backend, Listener, Site

SECONDS, AT_ONCE, ANSWER = 6, 64, 1000
HELLO_OCTETS = 517
ROUNDS = 2
# The server's ports: several, so that the ports of the gateway's own address last.
PORTS = range(20_000, 20_008)
SOURCES = [f"198.51.100.{i}" for i in range(200, 216)]
NAME = "load.on-vm1.example"
SITES = (*splicing.SITES, Site(NAME, tuple(Backend(n.VM1_ADDR, ((443, p),)) for p in PORTS)))
LISTENERS = (*splicing.LISTENERS, Listener(n.IPERF_PORT, default="iperf.on-vm1.example"))
SITES = (*SITES, Site("iperf.on-vm1.example", (splicing.VM1,)))
# How many times HAProxy's connections Causeway is to route.
GOAL = 5


def load_program():
    """Builds the program that makes the load; gives its path."""
    command = ["cargo", "build", "--release", "--locked", "-p", "causeway-benches", "--bin", "short-connections"]
    done = subprocess.run(command, cwd=n.ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Failure(f"`{' '.join(command)}` failed ({done.returncode})")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or n.ROOT / "target")
    return target / "release/short-connections"


def client_hello():
    """A ClientHello as browsers send them: of 517 octets, padded (RFC 7685)."""

    def vector(size, octets):
        return len(octets).to_bytes(size, "big") + octets

    def extension(kind, octets):
        return kind.to_bytes(2, "big") + vector(2, octets)

    def whole(pad):
        parts = [
            extension(0, vector(2, b"\0" + vector(2, NAME.encode()))),
            extension(10, vector(2, b"\x00\x1d\x00\x17")),
            extension(13, vector(2, b"\x04\x03\x08\x04")),
            extension(16, vector(2, vector(1, b"h2") + vector(1, b"http/1.1"))),
            extension(43, b"\x02\x03\x04"),
            extension(51, vector(2, b"\x00\x1d" + vector(2, bytes(range(32))))),
            extension(21, bytes(pad)),
        ]
        body = b"\x03\x03" + bytes(range(32)) + vector(1, bytes(32)) + vector(2, b"\x13\x01\x13\x02\x13\x03") + b"\x01\x00"
        message = b"\x01" + vector(3, body + vector(2, b"".join(parts)))
        return b"\x16\x03\x01" + vector(2, message)

    return whole(HELLO_OCTETS - len(whole(0)))


@contextlib.contextmanager
def haproxy(_folder):
    """The lab with HAProxy in the gateway's place; gives the process that is measured."""
    with up("--no-gateway"):
        splicing.kernel_gateway()
        config = splicing.haproxy_config(SITES, LISTENERS).replace("inspect-delay 5s", "inspect-delay 10s")
        with splicing.haproxy(config) as process:
            yield process.pid


@contextlib.contextmanager
def causeway(folder):
    """The lab with Causeway."""
    config = folder / "lab.toml"
    own = [s for s in SITES if s not in splicing.SITES]
    listeners = [x for x in LISTENERS if x not in splicing.LISTENERS]
    # A connection that has ended in order keeps its ports for this long, which bounds how many a second can be made to the
    # same server port.
    limits = '[splicer.timeouts]\nclosing = "5s"\n\n[capacity]\nsessions = 1048576\nspliced = 524288\n'
    config.write_text(f"{n.CONFIG.read_text()}\n{limits}{splicing.toml(own, listeners)}")
    with up("--config", config):
        yield lab.read_pid(n.FIRST.process)[0]


@contextlib.contextmanager
def up(*options):
    command = [n.ROOT / "scripts/lab"]
    netns.run(*command, "up", *options, timeout=120)
    try:
        for address in SOURCES:
            netns.run("ip", "-n", n.INET, "address", "add", f"{address}/32", "dev", "lo")
        yield
    finally:
        netns.run(*command, "down", timeout=60)


def watched(process, pids):
    """Who used the processors in the midst of a process that runs for some seconds."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.5)
    look = Look(pids)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS - 3)
    used = look.end()
    text, _ = process.communicate(timeout=60)
    if process.returncode != 0:
        raise Failure(f"the load failed ({process.returncode}): {text[-500:]}")
    return text, used


def start(ns, *command):
    return subprocess.Popen(
        netns.in_ns(ns, *command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def short(program, gateway, folder):
    """New connections a second."""
    (folder / "hello").write_bytes(client_hello())
    server = start(n.VM1, program, "serve", ANSWER, *[f"[{n.VM1_ADDR}]:{p}" for p in PORTS])
    try:
        if server.stdout.readline() != "ready\n":
            raise Failure("the server of short connections did not start")
        load = start(n.INET, program, "load", SECONDS, AT_ONCE, folder / "hello", ANSWER, f"{n.PROXY}:443", *SOURCES)
        text, ((its, load_used, server_used), others, spare) = watched(load, [gateway, load.pid, server.pid])
    finally:
        server.kill()
        server.communicate()
    told = dict(word.split("=") for word in text.splitlines()[0].split())
    rate = float(told["done"]) / float(told["seconds"])
    row = {"per_second": round(rate), "failed": int(told["failed"]), "p50_us": int(told["p50_us"]), "p99_us": int(told["p99_us"])}
    row |= {"gateway_cpu": round(its["cpu"], 2), "load_cpu": round(load_used["cpu"], 2)}
    row |= {"server_cpu": round(server_used["cpu"], 2), "others_cpu": round(others, 2), "spare": round(spare, 2)}
    if int(told["failed"]):
        row["cause"] = next((x for x in text.splitlines() if x.startswith("cause: ")), "cause: unknown").removeprefix("cause: ")
    return row | {"per_cpu_second": round(rate / max(its["cpu"], 0.01))}


def bulk(gateway):
    """Gigabits a second from the server to the client."""
    command = ["iperf3", "-c", n.PROXY, "-p", n.IPERF_PORT, "-B", n.CLIENT4, "-R", "-J", "-t", SECONDS]
    load = start(n.INET, *command)
    text, ((its, _), others, spare) = watched(load, [gateway, load.pid])
    rate = json.loads(text)["end"]["sum_received"]["bits_per_second"] / 1e9
    row = {"gbit": round(rate, 2), "bulk_cpu": round(its["cpu"], 2), "bulk_others_cpu": round(others, 2), "bulk_spare": round(spare, 2)}
    return row | {"gbit_per_cpu_second": round(rate / max(its["cpu"], 0.01), 2)}


def run(out):
    """Both in turn, several times; of each the run with the most connections."""
    if os.geteuid() != 0:
        raise Failure("it makes network namespaces: run it as root")
    program = load_program()
    found = {}
    for _ in range(ROUNDS):
        for name, begin in (("haproxy", haproxy), ("causeway", causeway)):
            with tempfile.TemporaryDirectory(prefix="causeway-bench-", dir="/var/tmp") as folder:
                with begin(Path(folder)) as pid:
                    row = short(program, pid, Path(folder)) | bulk(pid)
            print(f"   {name}: {row}", file=out, flush=True)
            found.setdefault(name, []).append(row)
    best = {name: max(rows, key=lambda r: (not r["failed"], r["per_second"])) for name, rows in found.items()}
    short_keys = [k for k in best["haproxy"] if "bulk" not in k and "gbit" not in k and k != "cause"]
    rows = [{"what": f"{name}, short connections"} | {k: r[k] for k in short_keys} for name, r in best.items()]
    rows += [{"what": f"{name}, bulk"} | {k: v for k, v in r.items() if "bulk" in k or "gbit" in k} for name, r in best.items()]
    ratio = best["causeway"]["per_second"] / max(best["haproxy"]["per_second"], 1)
    by_cpu = best["causeway"]["per_cpu_second"] / max(best["haproxy"]["per_cpu_second"], 1)
    bulk_ratio = best["causeway"]["gbit_per_cpu_second"] / max(best["haproxy"]["gbit_per_cpu_second"], 0.01)
    summary = {"what": "causeway to haproxy", "connections": round(ratio, 2), "by_cpu": round(by_cpu, 2)}
    summary |= {"bulk_by_cpu": round(bulk_ratio, 2), "goal": GOAL, "goal_connections": "met" if max(ratio, by_cpu) >= GOAL else "missed"}
    return [*rows, summary]

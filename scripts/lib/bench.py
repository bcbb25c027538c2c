"""Runs the benches and collects their figures.

A bench prints lines `RESULT name=value ...`; they are shown as they come, and at the end as one table each.
Absolute figures mean something only with the machine, the profile and the commit, which are printed too. Goals that
a row has stand in it; how many were met is said at the end. A goal that is missed is no failure.

Exit codes: 0 done, 1 a bench failed, 2 wrong usage.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import dhcpbench
import dnsbench
import netns
import network as n
import rules
import splicerbench

# Comparisons with other programs, which are no cargo benches: each gives its rows. One may have the name of a cargo
# bench: then both are run.
PEERS = {"kea": dhcpbench.run, "dns": dnsbench.run, "splicer": splicerbench.run}


def machine():
    """What the figures depend on."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=n.ROOT, capture_output=True, text=True
    )
    rustc = subprocess.run(["rustc", "--version"], cwd=n.ROOT, capture_output=True, text=True)
    huge = Path("/proc/sys/vm/nr_hugepages").read_text().strip()
    return {
        "cpu": cpu.group(1) if cpu else "unknown",
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory.group(1)) / 2**20, 1) if memory else None,
        "huge_pages": int(huge or 0),
        "kernel": os.uname().release,
        "rustc": rustc.stdout.strip(),
        "cargo_profile": "bench (release, thin LTO)",
        "commit": os.environ.get("CAUSEWAY_COMMIT") or git.stdout.strip() or "unknown",
    }


def available():
    package = next(p for p in rules.metadata()["packages"] if p["name"] == "causeway-benches")
    return [t["name"] for t in package["targets"] if "bench" in t["kind"]]


def parse(line):
    """`RESULT words a=1 b="two words"` as a dictionary; numbers as numbers, words together as `what`."""
    out, words = {}, []
    for key, quoted, plain, word in re.findall(r'([\w.-]+)=(?:"([^"]*)"|(\S+))|(\S+)', line):
        if word:
            words.append(word)
            continue
        value = quoted or plain
        try:
            out[key] = json.loads(value)
        except ValueError:
            out[key] = value
    return ({"what": " ".join(words)} if words else {}) | out


def run(name, env, extra, out):
    command = ["cargo", "bench", "--locked", "-p", "causeway-benches", "--bench", name, "--", *extra]
    print(f"\n== {' '.join(command)}", file=out, flush=True)
    process = subprocess.Popen(
        command,
        cwd=n.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
        errors="replace",
        env=env,
    )
    rows = []
    for line in process.stdout:
        print(line, end="", file=out, flush=True)
        if line.startswith("RESULT "):
            rows.append(parse(line.removeprefix("RESULT ")))
    return process.wait(), rows


def tables(rows):
    """Rows with the same keys share a table; columns in the order of the first row."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append(row)
    for columns, members in groups.items():
        cells = [list(columns)] + [[str(m[c]) for c in columns] for m in members]
        widths = [max(len(r[i]) for r in cells) for i in range(len(columns))]
        numeric = [all(isinstance(m[c], (int, float)) for m in members) for c in columns]
        for r in cells:
            yield (
                "   "
                + "  ".join(
                    c.rjust(w) if num else c.ljust(w) for c, w, num in zip(r, widths, numeric, strict=True)
                ).rstrip()
            )
        yield ""


def goals(results):
    """How many goals were met, and the rows that missed one, in short."""
    judged, missed = 0, []
    for name, rows in results.items():
        for row in rows:
            verdicts = {k: v for k, v in row.items() if k.startswith("goal_") and v in ("met", "missed")}
            judged += len(verdicts)
            what = [str(row.get("what", name))]
            what += [f"{k}={row[k]}" for k in ("flows", "ending", "full", "direction", "mapping") if k in row]
            missed += [f"{name}: {' '.join(what)}: {k}" for k, v in verdicts.items() if v == "missed"]
    return judged, missed


def main(argv):
    p = argparse.ArgumentParser(
        "scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "benches",
        nargs="*",
        metavar="BENCH",
        help="which (default: all): flowtable, translate, overload, first_hop, two_workers, pipeline, capsule_style, "
        "kea (DHCPv6 under perfdhcp, Kea beside Causeway; as root, with a release build), dns (in process, and then "
        "under dnsperf, unbound and BIND beside Causeway, with the same questions to all; likewise), and splicer (short "
        "TLS connections and bulk data through HAProxy and through Causeway; likewise)",
    )
    p.add_argument("--full", action="store_true", help="also with 10 million flows (BENCH_FULL=1)")
    p.add_argument("--json", action="store_true", help="print the figures as JSON on standard output")
    p.add_argument("--args", default="", help="further arguments for the benches, in one word")
    args = p.parse_args(argv)
    try:
        cargo = available()
        known = list(dict.fromkeys([*cargo, *PEERS]))
    except (RuntimeError, StopIteration) as e:
        print(f"bench: error: {e}", file=sys.stderr)
        return 1
    unknown = [b for b in args.benches if b not in known]
    if unknown:
        p.error(f"no such bench: {', '.join(unknown)} (there are: {', '.join(known) or 'none'})")
    if not cargo:
        print("bench: error: the workspace has no bench", file=sys.stderr)
        return 1
    out = sys.stderr if args.json else sys.stdout
    where = machine()
    env = os.environ | {"CAUSEWAY_COMMIT": where["commit"]} | ({"BENCH_FULL": "1"} if args.full else {})
    results, failed = {}, []
    for name in args.benches or known:
        code, results[name] = 0, []
        if name in cargo:
            code, results[name] = run(name, env, args.args.split(), out)
        if name in PEERS:
            try:
                results[name] += PEERS[name](out)
            except (netns.Failure, OSError) as e:
                print(f"bench: error: {name}: {e}", file=sys.stderr)
                code = 1
        if code != 0:
            failed.append(name)
        elif not results[name]:
            failed.append(name)
            print(f"bench: error: {name} printed no RESULT line", file=sys.stderr)
    print("\n== figures", file=out)
    for key, value in where.items():
        print(f"   {key:14} {value}", file=out)
    for name, rows in results.items():
        print(f"\n-- {name}", file=out)
        for line in tables(rows):
            print(line, file=out)
    judged, missed = goals(results)
    if judged:
        print(f"-- goals: {judged - len(missed)} of {judged} met", file=out)
        for line in missed:
            print(f"   missed: {line}", file=out)
    if failed:
        print(f"bench: failed: {', '.join(failed)}", file=sys.stderr)
    if args.json:
        print(json.dumps({"machine": where, "benches": results, "missed": missed, "failed": failed}, indent=2))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Runs the tests, one stage after the other, and sums them up.

Stages: lint (format, clippy, import direction, unsafe code, scripts, licences), unit (unit, property and
integration tests of all crates), loom (models of the flow table), e2e (real programs in namespaces; builds
the appliance in release mode first). The last line says how many tests and checks passed and failed.

The end-to-end tests mostly wait. So the models run, and the unit tests are built, in the time that these tests
and what comes before them leave over; what they said is printed once they are done.

Exit codes: 0 everything passed, 1 something failed, 2 wrong usage.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as xml
from pathlib import Path

import network as n
import rfcstatus
import rules

SCRIPTS = n.ROOT / "scripts"
STAGES = ("lint", "unit", "loom", "e2e")
MINUTE = 60


# A program that runs before this one takes only time that nobody else wants, and so do its children.
IDLE = ("chrt", "--idle", "0")

# End-to-end tests that may be tried once more: where more of them fail, that is no matter of chance.
SECOND_ATTEMPTS = 3


class Runner:
    def __init__(self, out, before=()):
        """Writes to `out`; `before` stands in front of each command line."""
        self.out = out
        self.before = before
        self.results = []
        self.process = None

    def say(self, text):
        print(text, file=self.out, flush=True)

    def record(self, stage, name, passed, failed, skipped=0, seconds=0.0, note="", failures=()):
        """The result of a check; `failures` are the names of the tests that failed, where they are known."""
        self.results.append(
            {
                "stage": stage,
                "name": name,
                "passed": passed,
                "failed": failed,
                "skipped": skipped,
                "seconds": round(seconds, 1),
                "note": note,
                "failures": list(failures),
            }
        )

    def run(self, command, minutes, env=None, watch=None):
        """Runs a program and lets its lines through; gives its exit code (-1: it took too long)."""
        self.say(f"\n== {' '.join(str(c) for c in command)}")
        self.process = process = subprocess.Popen(
            [str(c) for c in (*self.before, *command)],
            cwd=n.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | (env or {}),
            start_new_session=True,
        )
        late = threading.Event()

        def too_long():
            late.set()
            self.end(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                self.end(signal.SIGKILL)

        timer = threading.Timer(minutes * MINUTE, too_long)
        timer.daemon = True
        timer.start()
        try:
            for line in process.stdout:
                print(line, end="", file=self.out, flush=True)
                if watch:
                    watch(line)
            code = process.wait()
        except BaseException:
            self.end(signal.SIGINT)
            process.wait()
            raise
        finally:
            timer.cancel()
        if late.is_set():
            self.say(f"== not done after {minutes} minutes: ended")
            return -1
        return code

    def end(self, sig):
        """Sends a signal to the program that runs, if one does, and to what it started: nobody else."""
        if self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sig)

    def check(self, stage, name, command, minutes=20, env=None):
        """A program that passes or fails as a whole."""
        began = time.monotonic()
        code = self.run(command, minutes, env)
        self.record(stage, name, int(code == 0), int(code != 0), seconds=time.monotonic() - began)
        return code == 0

    def findings(self, stage, name, function):
        """A check of our own: a list of what is wrong."""
        self.say(f"\n== {name}")
        try:
            found = function()
        except (OSError, RuntimeError, ValueError, rfcstatus.ListError) as e:
            found = [str(e)]
        for line in found:
            self.say(f"   {line}")
        if not found:
            self.say("   ok")
        self.record(stage, name, int(not found), int(bool(found)))

    def skip(self, stage, name, why):
        self.say(f"\n== {name}: skipped: {why}")
        self.record(stage, name, 0, 0, 1, note=why)

    def cargo_test(self, stage, name, args, minutes, env=None):
        """`cargo test`: counts what its summary lines say."""
        counts = {"passed": 0, "failed": 0, "ignored": 0}

        failures = []

        def watch(line):
            if m := re.match(r"test (.+) \.\.\. FAILED$", line):
                failures.append(m[1])
            if m := re.match(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", line):
                for key, value in zip(counts, m.groups(), strict=True):
                    counts[key] += int(value)

        began = time.monotonic()
        code = self.run(["cargo", "test", "--locked", *args], minutes, env, watch)
        # A build that fails, or a test that ends the process, prints no summary.
        failed = counts["failed"] or int(code != 0)
        if code == 0 and not counts["passed"]:
            failed = 1
            self.say("== no test ran at all: counted as a failure")
        seconds = time.monotonic() - began
        self.record(stage, name, counts["passed"], failed, counts["ignored"], seconds, failures=failures)


class Background:
    """Stages that run beside others, in time that those leave over."""

    def __init__(self, stages):
        """`stages` are names and functions."""
        self.said = tempfile.TemporaryFile("w+", prefix="causeway-test-")
        self.runner = Runner(self.said, IDLE)
        self.stopped = False
        self.thread = threading.Thread(target=self.body, args=(stages,))
        self.thread.start()

    def body(self, stages):
        for name, function in stages:
            if self.stopped:
                return
            try:
                function(self.runner)
            except Exception as e:
                # A stage that did not run is no stage that passed.
                self.runner.say(f"== {name}: {e}")
                self.runner.record(name, "beside the others", 0, 1, note=str(e))

    def join(self, r):
        """Waits for the end; what was said and found becomes that of `r`."""
        self.thread.join()
        self.said.seek(0)
        shutil.copyfileobj(self.said, r.out)
        r.results += self.runner.results

    def stop(self):
        """Ends it early, if it has not ended."""
        self.stopped = True
        while self.thread.is_alive():
            self.runner.end(signal.SIGINT)
            self.thread.join(1)


def shell_scripts():
    """Every shell script of the repository, by its first line."""
    out = []
    for folder in (SCRIPTS, n.ROOT / ".ci"):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                with open(path, "rb") as f:
                    first = f.readline()
                if first.startswith((b"#!/bin/bash", b"#!/bin/sh")) or path.suffix == ".sh":
                    out.append(path)
    return out


def python_files():
    found = []
    for path in sorted(SCRIPTS.rglob("*.py")):
        try:
            compile(path.read_text(), str(path), "exec")
        except SyntaxError as e:
            found.append(f"{path.relative_to(n.ROOT)}: {e}")
    return found


def lint(r):
    r.check("lint", "format", ["cargo", "fmt", "--all", "--check"])
    r.check(
        "lint",
        "clippy",
        ["cargo", "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"],
        30,
    )
    # A workspace of its own, which the others do not build.
    fuzz = str(n.ROOT / "pipelines/fuzz/Cargo.toml")
    r.check(
        "lint",
        "fuzz targets compile",
        ["cargo", "check", "--locked", "--all-targets", "--manifest-path", fuzz]
        + ["--target-dir", str(n.ROOT / "target/fuzz")],
        30,
    )
    r.findings("lint", "import direction", lambda: rules.imports(rules.metadata()))
    r.findings(
        "lint", "unsafe code only in flowtable and hwprofiles", lambda: rules.unsafe_code(rules.metadata())
    )
    r.findings("lint", "clauses of the RFCs against citations and tests", rfcstatus.findings)
    scripts = shell_scripts()
    r.check("lint", "shell syntax", ["bash", "-n", *scripts])
    if shutil.which("shellcheck"):
        r.check("lint", "shellcheck", ["shellcheck", "-x", "-P", n.ROOT, *scripts])
    else:
        r.skip("lint", "shellcheck", "shellcheck is not installed")
    r.findings("lint", "python syntax", python_files)
    deny(r)


def deny(r):
    """Licences, sources and bans need only the tool; advisories need a database from the network."""
    if not (n.ROOT / "deny.toml").is_file() and not (n.ROOT / ".cargo/deny.toml").is_file():
        r.skip("lint", "cargo deny", "there is no deny.toml")
        return
    if not shutil.which("cargo-deny"):
        r.skip("lint", "cargo deny", "cargo-deny is not installed (cargo install --locked cargo-deny)")
        return
    r.check(
        "lint",
        "cargo deny: licences, bans, sources",
        ["cargo", "deny", "--offline", "check", "licenses", "bans", "sources"],
    )
    databases = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    if any((databases / d).is_dir() for d in ("advisory-db", "advisory-dbs")):
        r.check("lint", "cargo deny: advisories", ["cargo", "deny", "--offline", "check", "advisories"])
    else:
        r.skip(
            "lint",
            "cargo deny: advisories",
            "the advisory database is not on this machine (cargo deny fetch)",
        )


def build_unit(r):
    """What fails here, fails again in `unit`, and is counted there."""
    r.run(["cargo", "test", "--locked", "--workspace", "--no-run"], 40)


def unit(r):
    r.cargo_test("unit", "unit, property and integration tests", ["--workspace", "--no-fail-fast"], 30)


def loom(r):
    env = {"RUSTFLAGS": "--cfg loom", "CARGO_TARGET_DIR": str(target_dir() / "loom")}
    r.cargo_test(
        "loom",
        "loom models of the flow table",
        ["-p", "causeway-flowtable", "--release", "--lib", "loom"],
        30,
        env,
    )


def target_dir():
    return Path(os.environ.get("CARGO_TARGET_DIR") or n.ROOT / "target")


def junit(report):
    """What a report of pytest says: how many tests there were and how many were skipped, and which failed."""
    suite = xml.parse(report).getroot().find("testsuite")
    bad = [
        f"{case.get('classname').rpartition('.')[2]}.py::{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    # (A test that fails and whose fixture fails afterwards is one that failed.)
    return int(suite.get("tests")), int(suite.get("skipped")), sorted(set(bad))


def e2e(r, selection):
    if not os.environ.get("CAUSEWAY_BIN"):
        if not r.check(
            "e2e", "release build", ["cargo", "build", "--locked", "--release", "-p", "causeway"], 30
        ):
            return
        os.environ["CAUSEWAY_BIN"] = str(target_dir() / "release/causeway")
    with tempfile.TemporaryDirectory(prefix="causeway-test-") as folder:

        def attempt(number, *options):
            report = Path(folder, f"e2e{number}.xml")
            command = [
                "/usr/bin/python3",
                "-B",
                "-u",
                "-m",
                "pytest",
                SCRIPTS / "e2e",
                "--junitxml",
                report,
                "--basetemp",
                Path(folder, f"tmp{number}"),
                "-o",
                f"cache_dir={folder}/cache",
                "-v",
                *options,
            ]
            code = r.run(command, 45)
            # Whatever happened in there, nothing stays.
            r.run([SCRIPTS / "lab", "down"], 1)
            try:
                return code, *junit(report)
            except (OSError, xml.ParseError, AttributeError, TypeError, ValueError):
                return code, 0, 0, ["no report of the tests"]

        began = time.monotonic()
        code, total, skipped, bad = attempt(1, *(("-k", selection) if selection else ()))
        note = ""
        # A machine whose time is stolen makes the odd deadline pass. What is broken fails twice, and what fails
        # once is named.
        if total and 0 < len(bad) <= SECOND_ATTEMPTS:
            first = bad
            code, _, _, bad = attempt(2, "--last-failed", "--last-failed-no-failures", "none")
            late = [x for x in first if x not in bad]
            if late:
                note = f"at the second attempt only: {', '.join(late)}"
        r.record(
            "e2e",
            "end-to-end tests",
            max(total - len(bad) - skipped, 0),
            len(bad) or int(code != 0),
            skipped,
            time.monotonic() - began,
            note,
            bad,
        )


def main(argv):
    p = argparse.ArgumentParser(
        "scripts/test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--only", action="append", choices=STAGES, help="this stage (may be given several times)")
    p.add_argument("-k", metavar="EXPRESSION", help="of the end-to-end tests only those (as pytest's -k)")
    p.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    args = p.parse_args(argv)
    if os.geteuid() != 0:
        print(
            "test: error: must be run as root: the end-to-end tests make network namespaces", file=sys.stderr
        )
        return 1

    def stop(*_):
        raise KeyboardInterrupt

    # (Who was started with the first one ignored hands that on to what it starts.)
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, stop)
    # In JSON mode standard output is for the result alone.
    r = Runner(sys.stderr if args.json else sys.stdout)
    began = time.monotonic()
    complete = False
    wanted = args.only or STAGES
    aside = None
    try:
        if "e2e" in wanted:
            # (Cargo itself keeps the build from the files that clippy writes, until clippy is done.)
            aside = Background([x for x in (("loom", loom), ("unit", build_unit)) if x[0] in wanted])
        if "lint" in wanted:
            lint(r)
        if aside:
            e2e(r, args.k)
            aside.join(r)
        elif "loom" in wanted:
            loom(r)
        if "unit" in wanted:
            unit(r)
        complete = True
    except KeyboardInterrupt:
        r.say("\n== interrupted")
        subprocess.run([SCRIPTS / "lab", "down"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    finally:
        if aside:
            aside.stop()
    passed, failed, skipped = (sum(x[k] for x in r.results) for k in ("passed", "failed", "skipped"))
    if not complete:
        failed += 1
    r.say("\n== summary")
    for x in sorted(r.results, key=lambda x: STAGES.index(x["stage"])):
        state = "FAILED" if x["failed"] else ("skipped" if not x["passed"] else "ok")
        counts = f"{x['passed']} passed, {x['failed']} failed" + (
            f", {x['skipped']} skipped" if x["skipped"] else ""
        )
        r.say(
            f"   {x['stage']:5} {x['name']:52} {state:8} {counts}, {x['seconds']} s"
            + (f" ({x['note']})" if x["note"] else "")
        )
        for name in x["failures"]:
            r.say(f"         failed: {name}")
    r.say(f"   {time.monotonic() - began:.0f} s in all")
    if args.json:
        print(
            json.dumps(
                {
                    "ok": not failed,
                    "passed": passed,
                    "failed": failed,
                    "skipped": skipped,
                    "checks": r.results,
                },
                indent=2,
            )
        )
    r.say(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

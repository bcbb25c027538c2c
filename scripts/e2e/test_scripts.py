"""The rules that scripts/test checks, on workspaces made for the purpose: each must be able to fail."""

import signal
import subprocess
import sys

import pytest

import bench
import network as n
import rules
import testrun
import tools


def package(name, *dependencies, kind=None):
    return {"name": name, "dependencies": [{"name": d, "kind": kind} for d in dependencies]}


@pytest.mark.parametrize(
    "name, dependency, wanted",
    [
        ("causeway-wire", "causeway-core", "imports flow"),
        ("causeway-core", "causeway-flowtable", "imports flow"),
        ("causeway-nat64", "causeway-forward", "imports flow"),
        ("causeway-hwprofiles", "causeway-flowtable", "imports flow"),
        ("causeway-flowtable", "causeway-nat64", "imports flow"),
        ("causeway", "capsule", "only causeway-hwprofiles may"),
        ("causeway-nat64", "capsule-ffi", "only causeway-hwprofiles may"),
        ("causeway-nat64", "causeway-testkit", "outside of tests"),
        ("causeway-new", "causeway-core", "in no layer"),
    ],
)
def test_a_wrong_import_is_found(name, dependency, wanted):
    found = rules.imports(
        {"packages": [package(name, dependency), *[package(p) for p in rules.ALLOWED if p != name]]}
    )
    assert len(found) == 1 and wanted in found[0]


@pytest.mark.parametrize(
    "name, dependency, kind",
    [
        ("causeway-core", "causeway-wire", None),
        ("causeway-nat64", "causeway-flowtable", None),
        ("causeway-nat64", "causeway-testkit", "dev"),
        ("causeway-hwprofiles", "capsule", None),
        ("causeway-hwprofiles", "capsule-ffi", None),
        ("causeway", "causeway-hwprofiles", None),
    ],
)
def test_a_right_import_is_not(name, dependency, kind):
    assert (
        rules.imports(
            {
                "packages": [
                    package(name, dependency, kind=kind),
                    *[package(p) for p in rules.ALLOWED if p != name],
                ]
            }
        )
        == []
    )


@pytest.mark.parametrize(
    "text, complaints",
    [
        ("#![forbid(unsafe_code)]\nfn f() {}\n", 0),
        ("fn f() {}\n", 1),
        ("// #![forbid(unsafe_code)]\n", 1),
        ("#![forbid(unsafe_code)]\nfn f() { unsafe { g() } }\n", 1),
        ("#![forbid(unsafe_code)]\nunsafe impl Send for X {}\n", 1),
        ('#![forbid(unsafe_code)]\n// unsafe { }\nconst T: &str = "unsafe { }";\n', 0),
    ],
)
def test_unsafe_code_is_found(tmp_path, monkeypatch, text, complaints):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/lib.rs").write_text(text)
    monkeypatch.setattr(n, "ROOT", tmp_path)
    meta = {
        "packages": [
            {
                "name": "causeway-x",
                "manifest_path": str(tmp_path / "Cargo.toml"),
                "targets": [{"kind": ["lib"], "src_path": str(tmp_path / "src/lib.rs")}],
            }
        ]
    }
    assert len(rules.unsafe_code(meta)) == complaints


def test_result_lines_of_benches_are_read():
    assert bench.parse('bench=x flows=1000 ns=1.5 note="two words"') == {
        "bench": "x",
        "flows": 1000,
        "ns": 1.5,
        "note": "two words",
    }
    assert bench.parse("translate up flows=7") == {"what": "translate up", "flows": 7}
    assert len(list(bench.tables([{"a": 1}, {"a": 22}, {"b": 3}]))) == 7


def test_cargos_summary_lines_are_counted(monkeypatch, tmp_path):
    """A run without any test, and one whose build fails, are failures."""
    cargo = tmp_path / "cargo"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for script, wanted in (
        (
            "echo 'test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out'\n" * 2,
            (6, 0, 2),
        ),
        (
            "echo 'test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out'\nexit 101\n",
            (3, 2, 0),
        ),
        ("echo error: could not compile; exit 101\n", (0, 1, 0)),
        ("exit 0\n", (0, 1, 0)),
    ):
        cargo.write_text("#!/bin/sh\n" + script)
        cargo.chmod(0o755)
        r = testrun.Runner(sys.stderr)
        r.cargo_test("unit", "x", [], 1)
        assert tuple(r.results[0][k] for k in ("passed", "failed", "skipped")) == wanted


class Attempts:
    """In the place of a runner: writes the reports that pytest would, one for each attempt."""

    def __init__(self, *attempts):
        self.attempts = list(attempts)
        self.commands = []
        self.results = []

    record = testrun.Runner.record

    def run(self, command, minutes):
        if "pytest" not in command:
            return 0
        self.commands.append(command)
        tests, failed = self.attempts.pop(0)
        names = [*failed, *(f"test_good{i}" for i in range(tests - len(failed)))]
        cases = "".join(
            f'<testcase classname="scripts.e2e.test_x" name="{name}">{"<failure/>" * (name in failed)}</testcase>'
            for name in names
        )
        command[command.index("--junitxml") + 1].write_text(
            f'<testsuites><testsuite tests="{tests}" skipped="0">{cases}</testsuite></testsuites>'
        )
        return int(bool(failed))


@pytest.mark.parametrize(
    ("attempts", "passed", "failed", "note"),
    [
        ([(5, [])], 5, [], ""),
        ([(5, ["a"]), (1, [])], 5, [], "at the second attempt only: test_x.py::a"),
        ([(5, ["a", "b"]), (2, ["b"])], 4, ["b"], "at the second attempt only: test_x.py::a"),
        ([(5, ["a", "b"]), (2, ["a", "b"])], 3, ["a", "b"], ""),
        ([(9, ["a", "b", "c", "d"])], 5, ["a", "b", "c", "d"], ""),
    ],
)
def test_few_failures_are_looked_at_again_and_named(monkeypatch, attempts, passed, failed, note):
    """A test that fails twice has failed, and so have many at once; one that fails once is named."""
    monkeypatch.setenv("CAUSEWAY_BIN", "/bin/true")
    r = Attempts(*attempts)
    testrun.e2e(r, "chosen")
    (result,) = r.results
    assert not r.attempts
    assert (result["passed"], result["failed"], result["note"]) == (passed, len(failed), note)
    assert result["failures"] == [f"test_x.py::{name}" for name in failed]
    assert ["chosen" in c for c in r.commands] == [True, False][: len(r.commands)]


def test_end_to_end_tests_without_a_report_have_failed(monkeypatch):
    monkeypatch.setenv("CAUSEWAY_BIN", "/bin/true")
    r = Attempts()
    r.run = lambda *_: 2
    testrun.e2e(r, None)
    assert [(x["passed"], x["failed"]) for x in r.results] == [(0, 1)]


def test_what_runs_beside_the_others_counts_as_they_do(capsys):
    """Its programs take only time that nobody wants; what they say comes at the end; a stage that breaks has failed."""

    def broken(_):
        raise FileNotFoundError("no such program")

    r = testrun.Runner(sys.stdout)
    stages = [("loom", lambda r: r.check("loom", "x", ["chrt", "-p", "0"])), ("unit", broken)]
    aside = testrun.Background(stages)
    aside.thread.join(20)
    assert capsys.readouterr().out == ""
    aside.join(r)
    assert "SCHED_IDLE" in capsys.readouterr().out
    assert [(x["stage"], x["passed"], x["failed"]) for x in r.results] == [("loom", 1, 0), ("unit", 0, 1)]


@pytest.fixture
def interruptible():
    """What is started here does not ignore SIGINT, as what runs in the background of a shell script does."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


def test_what_runs_beside_the_others_is_ended_with_them(interruptible):
    stages = [("loom", lambda r: r.check("loom", "x", ["sleep", "60"]))]
    aside = testrun.Background([*stages, ("unit", lambda r: r.check("unit", "y", ["true"]))])
    tools.wait_until(lambda: aside.runner.process)
    aside.stop()
    assert not aside.thread.is_alive()
    assert [(x["name"], x["passed"], x["failed"]) for x in aside.runner.results] == [("x", 0, 1)]


def test_a_program_that_takes_too_long_is_ended(interruptible):
    r = testrun.Runner(sys.stdout)
    assert r.run(["sleep", "60"], 0.005) == -1


def test_setup_has_nothing_left_to_do():
    done = subprocess.run([n.ROOT / "scripts/setup", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_addresses_under_the_nat64_prefix():
    assert n.nat64("198.51.100.10") == "2001:db8:64:ff9b::c633:640a"

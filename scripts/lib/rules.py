"""Rules of the workspace that no compiler checks: who may depend on whom, and where unsafe code may be."""

import json
import re
import subprocess
from pathlib import Path

import network as n

# Imports flow one way: wire -> core -> flowtable -> functions -> appliance, and core -> hwprofiles ->
# appliance. What a package may depend on, of the workspace:
FUNCTIONS = ("neighbor", "forward", "nat64", "dns64", "dhcpv6", "ra", "vrrp", "splicer")
BASE = ("causeway-wire", "causeway-core", "causeway-flowtable", "causeway-tcp")
ALLOWED = {
    "causeway-wire": (),
    "causeway-core": ("causeway-wire",),
    "causeway-flowtable": ("causeway-wire", "causeway-core"),
    # Beside the flow table: connections that end at the gateway, for the functions that have some.
    "causeway-tcp": ("causeway-wire", "causeway-core"),
    # Test helpers: everybody's dev-dependency, so they know only what is at the bottom.
    "causeway-testkit": ("causeway-wire", "causeway-core"),
    "capsule-ffi": (),
    "causeway-hwprofiles": ("causeway-wire", "causeway-core", "capsule-ffi"),
    **{f"causeway-{f}": BASE for f in FUNCTIONS},
    "causeway": (*BASE, "causeway-hwprofiles", *(f"causeway-{f}" for f in FUNCTIONS)),
    "causeway-benches": None,  # anything
}
TEST_HELPERS = {"causeway-testkit"}
# Capsule and its bindings stay below `hwprofiles`.
ONLY_HWPROFILES = {"capsule", "capsule-ffi"}
UNSAFE_MAY_BE_IN = {"causeway-flowtable", "capsule-ffi", "causeway-hwprofiles"}


def metadata():
    """The workspace as cargo sees it."""
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"]
    done = subprocess.run(command, cwd=n.ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def imports(meta):
    """What breaks the direction of imports."""
    members = {p["name"] for p in meta["packages"]}
    bad = []
    for package in meta["packages"]:
        name = package["name"]
        if name not in ALLOWED:
            bad.append(f"{name} is in no layer: add it to scripts/lib/rules.py")
            continue
        allowed = ALLOWED[name]
        for dependency in package["dependencies"]:
            to, kind = dependency["name"], dependency["kind"]
            if to in ONLY_HWPROFILES and name not in ("causeway-hwprofiles", "causeway-benches"):
                bad.append(f"{name} depends on {to}: only causeway-hwprofiles may")
            elif to in TEST_HELPERS:
                if kind != "dev" and name != "causeway-benches":
                    bad.append(f"{name} depends on {to} outside of tests")
            elif to in members and to != name and allowed is not None and to not in allowed:
                bad.append(
                    f"{name} depends on {to}: imports flow wire -> core -> flowtable -> functions -> appliance"
                )
    return bad


# `unsafe` as code: a block, function, implementation, trait or extern.
UNSAFE = re.compile(r"\bunsafe\s*(?:\{|fn\b|impl\b|trait\b|extern\b)")
FORBID = re.compile(r"^#!\[forbid\(unsafe_code\)\]", re.MULTILINE)


def without_comments(text):
    """The text with line comments and string contents taken out, roughly."""
    text = re.sub(r'"(?:\\.|[^"\\])*"', '""', text)
    return re.sub(r"//[^\n]*", "", text)


def unsafe_code(meta):
    """Where unsafe code is, or is not forbidden, although it should be."""
    bad = []
    for package in meta["packages"]:
        if package["name"] in UNSAFE_MAY_BE_IN:
            continue
        folder = Path(package["manifest_path"]).parent
        for target in package["targets"]:
            root = Path(target["src_path"])
            if set(target["kind"]) & {"lib", "bin"} and not FORBID.search(root.read_text()):
                bad.append(f"{root.relative_to(n.ROOT)} does not forbid unsafe code")
        inner = [
            Path(p["manifest_path"]).parent
            for p in meta["packages"]
            if Path(p["manifest_path"]).parent != folder
        ]
        for path in sorted(folder.rglob("*.rs")):
            # Not the packages and build results in folders below it.
            if (
                any(i.is_relative_to(folder) and path.is_relative_to(i) for i in inner)
                or "target" in path.relative_to(folder).parts
            ):
                continue
            for number, line in enumerate(without_comments(path.read_text()).splitlines(), 1):
                if UNSAFE.search(line):
                    bad.append(f"{path.relative_to(n.ROOT)}:{number}: unsafe code")
    return bad

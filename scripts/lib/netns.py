"""Network namespaces: making them, running programs and opening sockets in them."""

import ctypes
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """Something went wrong; the text is for the user."""


def run(*args, check=True, timeout=60, **kw):
    """Runs a program and gives back what it printed. Fails with its command line and stderr."""
    args = [str(a) for a in args]
    try:
        done = subprocess.run(
            args, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, **kw
        )
    except FileNotFoundError as e:
        raise Failure(f"{args[0]} is not installed (scripts/setup installs it)") from e
    except subprocess.TimeoutExpired as e:
        raise Failure(f"`{' '.join(args)}` did not end within {timeout} s") from e
    if check and done.returncode != 0:
        raise Failure(
            f"`{' '.join(args)}` failed ({done.returncode}): {(done.stderr or done.stdout).strip()}"
        )
    return done


def in_ns(ns, *args):
    """The command line that runs `args` in a namespace."""
    return ["ip", "netns", "exec", ns, *[str(a) for a in args]]


def ns_run(ns, *args, **kw):
    """Runs a program in a namespace."""
    return run(*in_ns(ns, *args), **kw)


def exists(ns):
    """True if the namespace exists (a plain file left under its name is not one)."""
    path = Path("/run/netns") / ns
    if not path.exists():
        return False
    return run("ip", "netns", "exec", ns, "true", check=False).returncode == 0


def pids(ns):
    """The processes that live in a namespace."""
    done = run("ip", "netns", "pids", ns, check=False)
    return [int(p) for p in done.stdout.split()]


def sysctl(ns, settings):
    """Writes sysctls in a namespace; each must exist and take the value."""
    ns_run(ns, "sysctl", "-q", "-w", *[f"{k}={v}" for k, v in settings.items()])


# Whatever lets a packet cross a veth pair unfinished: no checksum yet, several segments in one, or a
# VLAN tag beside the frame instead of in it.
OFFLOADS = (
    "tx",
    "rx",
    "sg",
    "tso",
    "gso",
    "gro",
    "rxvlan",
    "txvlan",
    "tx-udp-segmentation",
    "rx-gro-list",
    "rx-udp-gro-forwarding",
)
# What `ethtool -k` calls those that must be off afterwards.
MUST_BE_OFF = (
    "rx-checksumming",
    "tx-checksumming",
    "scatter-gather",
    "tcp-segmentation-offload",
    "generic-segmentation-offload",
    "generic-receive-offload",
    "rx-vlan-offload",
    "tx-vlan-offload",
)


def offloads_off(ns, dev):
    """Turns every offload of a veth end off, and checks that it is."""
    # Together; or one at a time, as a kernel that lacks one of them refuses the whole command.
    together = " ".join(f"{feature} off" for feature in OFFLOADS)
    each = f"for feature in {' '.join(OFFLOADS)}; do ethtool -K {dev} $feature off; done"
    ns_run(ns, "sh", "-c", f"ethtool -K {dev} {together} || {each}", check=False)
    left = offloads_on(ns, dev)
    if left:
        raise Failure(f"{ns}: {dev}: the kernel keeps {', '.join(left)} on")


def offloads_on(ns, dev):
    """Those of the offloads that must be off which are still on."""
    state = {}
    for line in ns_run(ns, "ethtool", "-k", dev).stdout.splitlines():
        name, _, value = line.strip().partition(": ")
        state[name] = value
    return [n for n in MUST_BE_OFF if not state.get(n, "off").startswith("off")]


def veth(ns_a, dev_a, mac_a, ns_b, dev_b, mac_b=None):
    """A veth pair, one end in each namespace, all offloads off, both ends down."""
    a = ["name", dev_a] + (["address", mac_a] if mac_a else [])
    b = ["name", dev_b] + (["address", mac_b] if mac_b else []) + ["netns", ns_b]
    run("ip", "-n", ns_a, "link", "add", *a, "type", "veth", "peer", *b)
    offloads_off(ns_a, dev_a)
    offloads_off(ns_b, dev_b)


def call_in(ns, function, *args):
    """Calls a function in a thread that is in the namespace. Sockets that it opens stay there."""
    box = {}

    def body():
        try:
            fd = os.open(f"/run/netns/{ns}", os.O_RDONLY)
            try:
                if _libc.setns(fd, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"cannot enter namespace {ns}")
            finally:
                os.close(fd)
            box["value"] = function(*args)
        except BaseException as e:  # handed to the caller
            box["error"] = e

    # A thread of its own: its namespace ends with it.
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if "error" in box:
        raise box["error"]
    return box["value"]


def open_socket(ns, family, kind, proto=0):
    """A socket of the namespace."""
    return call_in(ns, socket.socket, family, kind, proto)


def start_time(pid):
    """When a process started, in clock ticks since boot; nothing if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the name in brackets, and may hold blanks.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def end(pid, started=None, patience=5.0):
    """Ends one process by its id: asks, waits, insists. True if it went by asking (or was gone).

    `started` guards against an id that meanwhile belongs to another process.
    """
    if started is None:
        started = start_time(pid)
    for sig in (15, 9):
        if started is None or start_time(pid) != started:
            return True
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            return True
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            reap(pid)
            if start_time(pid) != started:
                return sig == 15
            time.sleep(0.02)
    return False


def reap(pid):
    """Takes the exit status of a child of ours, if it is one and has ended."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass

"""A lab whose running gateway is given other NAT64 settings, one after the other."""

import contextlib
import json

import gateway as gw
import network as n
import tools
from conftest import lab_of

SUBSCRIBERS = "[nat64.subscribers]\nprefix-length = 128\n"


class Live:
    """The configuration file of the running gateway. Each `set` begins with the lab's own file."""

    def __init__(self, path):
        self.path = path
        self.path.write_text(n.CONFIG.read_text())

    def write(self, keys="", limits="", sections="", replace=()):
        """Writes the file: further keys of `[nat64]`, further ones of `[nat64.subscribers]`, further sections,
        and pairs of texts to replace, each of which must be there."""
        text = n.CONFIG.read_text()
        for old, new in [*replace, ("[nat64]\n", f"[nat64]\n{keys}\n"), (SUBSCRIBERS, f"{SUBSCRIBERS}{limits}\n")]:
            assert old in text, f"{old!r} is not in {n.CONFIG}"
            text = text.replace(old, new, 1)
        self.path.write_text(f"{text}\n{sections}")

    def set(self, *args, **kw):
        """Writes the file and makes the gateway adopt it; gives back the keys that changed."""
        self.write(*args, **kw)
        return self.reload()

    def reload(self):
        done = gw.causeway("reload", "--json", "--socket", n.SOCKET)
        return {change["key"] for change in json.loads(done.stdout)["changes"]}


def labs(tmp_path_factory, name):
    """A lab for one module, with a `Live` on its configuration."""
    live = Live(tmp_path_factory.mktemp(name) / "lab.toml")
    with contextlib.contextmanager(lab_of)(config=live.path):
        yield live


def mapping(protocol, inside_port, inside=n.VM1_ADDR):
    """The outside address and port of a host's mapping."""
    rows = gw.show("mappings", "--limit", "0", "--protocol", protocol, "--source", inside)["mappings"]
    found = [(r["outside"], r["outside_port"]) for r in rows if r["inside_port"] == inside_port]
    assert len(found) == 1, f"{protocol} {inside} {inside_port}: {rows}"
    return found[0]


def drops(reason):
    return gw.drops().get(reason, 0)


@contextlib.contextmanager
def counted(**wanted):
    """Fails unless the block changes these counters by exactly so much (`_` in a name stands for `-`, and
    `drop_` in front for a drop reason)."""
    names = {k.replace("drop_", "drop.", 1).replace("_", "-"): v for k, v in wanted.items()}
    before = gw.counters()
    yield

    def difference():
        after = gw.counters()
        return {k: after.get(k, 0) - before.get(k, 0) for k in names}

    tools.wait_until(
        lambda: difference() == names, 5, lambda: f"counters changed by {difference()}, not {names}"
    )


def echoed(sockets, target, port=n.ECHO_PORT):
    """Those of the UDP sockets that get an answer from an echo server, when each of them asks once."""
    for i, s in enumerate(sockets):
        with contextlib.suppress(OSError):
            s.sendto(b"%d" % i, (target, port))
    got = []
    for i, s in enumerate(sockets):
        # A refused packet is told of by ICMPv6, which the next call on the socket reports.
        with contextlib.suppress(TimeoutError, OSError):
            assert s.recv(16) == b"%d" % i
            got.append(s)
    return got

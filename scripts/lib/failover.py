"""The failover demo: a server pings through the pair of gateways while the active one is stopped, started
again and killed; says how many pings were lost and for how long nothing came back.

Who is active is read from the tenants' bridge (on which port it last heard the virtual router's MAC address),
not asked of the gateways.
"""

import itertools
import json
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import lab
import netns
import network as n
from netns import Failure

# Between two requests.
SPACING_MS = 10
# How long a gateway has to become active after an event.
TAKE_OVER_SECONDS = 20
# After an event the stream goes on for so long, so that what comes late is seen as well.
AFTER_SECONDS = 2.0


def active():
    """The gateway that the tenants' bridge heard the virtual router's MAC address from; nothing if none."""
    rows = netns.run("bridge", "-n", n.BRIDGE, "fdb", "show", "br", "br0").stdout.splitlines()
    for row in rows:
        words = row.split()
        if words[0].lower() == n.VRRP_MAC6:
            dev = words[words.index("dev") + 1]
            return next((g for g in n.GATEWAYS.values() if g.tenant_end == dev), None)
    return None


class Stream:
    """Echo requests at a fixed pace, from when it is made until `stop`."""

    def __init__(self, ns, target):
        self.target = target
        program = Path(__file__).with_name("pingstream.py")
        self.process = subprocess.Popen(
            netns.in_ns(ns, sys.executable, "-B", program, target, SPACING_MS),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self):
        """Ends it; gives what `judge` makes of it."""
        self.process.send_signal(signal.SIGINT)
        text, error = self.process.communicate(timeout=30)
        if self.process.returncode != 0:
            raise Failure(f"the stream to {self.target} failed: {error.strip()[-500:]}")
        return judge(json.loads(text)) | {"target": self.target}


def judge(seen):
    """Of what a stream saw: requests sent and lost, for how long in ms requests were lost in a row, and the longest
    time in ms between two answers."""
    sent, came = seen["sent"], dict(seen["came"])
    if not came:
        raise Failure(f"none of {len(sent)} echo requests was answered")
    times = sorted(came.values())
    silence = max((b - a for a, b in itertools.pairwise(times)), default=0.0)
    row = longest = 0.0
    for number in range(len(sent)):
        if number in came:
            row = 0.0
            continue
        row += (sent[number + 1] if number + 1 < len(sent) else sent[number] + SPACING_MS / 1000) - sent[number]
        longest = max(longest, row)
    return {
        "sent": len(sent),
        "lost": len(sent) - len(came),
        "lost_for_ms": round(longest * 1000, 1),
        "longest_silence_ms": round(silence * 1000, 1),
        "duplicates": seen["twice"],
    }


def during(action, targets, wanted=None):
    """Runs streams to each of the targets from cw-vm1 around an action, until `wanted` (a gateway) is active. Gives
    one row per stream."""
    streams = [Stream(n.VM1, target) for target in targets]
    try:
        time.sleep(1.0)
        began = time.monotonic()
        action()
        seconds = time.monotonic() - began
        if wanted:
            lab.wait_for(
                lambda: active() is wanted,
                TAKE_OVER_SECONDS,
                f"{wanted.ns} was not active {TAKE_OVER_SECONDS} s later",
            )
        time.sleep(AFTER_SECONDS)
    except BaseException:
        for s in streams:
            s.process.kill()
            s.process.communicate()
        raise
    return [s.stop() | {"action_seconds": round(seconds, 2)} for s in streams]


def bound_ms(first, second):
    """How long nobody may forward when the first gateway dies without a word: three of its intervals, the skew of
    the second (RFC 9568 6.1), and 20 ms. From the configurations."""
    interval, priority = [], []
    for config in (first, second):
        vrrp = tomllib.loads(config.read_text()).get("vrrp")
        if vrrp is None:
            raise Failure(f"{config} has no section [vrrp]")
        number, unit = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", vrrp.get("interval", "1s")).groups()
        interval.append(float(number) * (1000 if unit == "s" else 1))
        priority.append(vrrp.get("priority", 100))
    return 3 * interval[0] + (256 - priority[1]) * interval[0] / 256 + 20


def with_interval(config, interval, path):
    """A copy of a configuration with another VRRP interval."""
    text, count = re.subn(r"(?m)^(\[vrrp\]\n)((?:(?!\[).*\n)*)", lambda m: m[1] + _set(m[2], interval), config.read_text())
    if count != 1:
        raise Failure(f"{config} has no section [vrrp]")
    path.write_text(text)
    return path


def _set(body, interval):
    return f'interval = "{interval}"\n' + re.sub(r"(?m)^interval\s*=.*\n", "", body)


def steps(say):
    """The demo on a lab with two gateways that run. Gives its rows."""
    first, second = n.FIRST, n.SECOND
    lab.wait_for(active, TAKE_OVER_SECONDS, "no gateway is active")
    was = active()
    other = second if was is first else first
    targets = [n.V6ONLY, n.nat64(n.V4ONLY)]
    state = lab.describe()
    config = {
        first.ns: Path(state["gateway"]["config"]),
        second.ns: Path(state["second_gateway"]["config"]),
    }
    quiet = lambda _text: None  # noqa: E731
    rows = []

    def step(what, action, wanted):
        say(f"{what} ...")
        for row in during(action, targets, wanted):
            rows.append({"what": what, "active": active().ns} | row)
            say(
                f"  ping {row['target']}: {row['lost']} of {row['sent']} lost, for {row['lost_for_ms']} ms; "
                f"longest silence {row['longest_silence_ms']} ms"
            )

    step("nothing happens", lambda: None, was)
    step(f"{was.ns} (active) is stopped in order", lambda: lab.stop_process(was.process, quiet), other)
    step(f"{was.ns} starts again", lambda: lab.start_gateway(config[was.ns], was), None)
    now = active()
    other = second if now is first else first
    step(f"{now.ns} (active) is killed", lambda: lab.kill_gateway(now), other)
    step(f"{now.ns} starts again", lambda: lab.start_gateway(config[now.ns], now), None)
    return rows

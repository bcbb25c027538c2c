"""RFC 6583: whoever scans the tenant's /64 must not take the neighbours away from those who use them."""

import itertools
import random
import re
import subprocess
import time

import pytest
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether

import gateway as gw
import netns
import network as n
import tools

pytestmark = pytest.mark.usefixtures("lab")

# Three times what may be resolved a second, and in all many times what may be in resolution at once; slow
# enough that a gateway that waits for a core loses nothing in its receive ring.
RATE_PPS, SECONDS = 3_000, 5


def scan(wire, side, source, link):
    """Sends packets to addresses of the tenant network that do not exist, each to another one."""
    rng = random.Random(6583)
    packet = bytes(link / IPv6(src=source, dst="2001:db8:64::") / ICMPv6EchoRequest(id=1, seq=1))
    sent, began = 0, time.monotonic()
    while (passed := time.monotonic() - began) < SECONDS:
        while sent < passed * RATE_PPS:
            # The interface identifier is the low half of the destination.
            wire.send(side, packet[:46] + rng.randbytes(8) + packet[54:])
            sent += 1
        time.sleep(0.001)
    return sent


@pytest.mark.parametrize("side", ["tenant", "uplink"])
def test_a_scan_does_not_disturb_who_is_known(lab, side):
    for address in (n.V6ONLY, n.nat64(n.V4ONLY)):
        tools.ping(n.VM2, address)
        tools.ping(n.VM1, address)
    before = gw.counters()
    pings = [
        subprocess.Popen(
            netns.in_ns(ns, "ping", "-n", "-i", "0.02", "-w", str(SECONDS + 1), a),
            stdout=subprocess.PIPE,
            text=True,
        )
        for ns, a in ((n.VM2, n.V6ONLY), (n.VM2, n.nat64(n.V4ONLY)), (n.INET, n.VM2_ADDR))
    ]
    wire = tools.Wire()
    try:
        if side == "tenant":
            sent = scan(wire, side, n.VM1_ADDR, Ether(src=n.VM1_MAC, dst=n.VRRP_MAC6))
        else:
            sent = scan(wire, side, n.V6ONLY, Ether(src=n.INET_MAC, dst=n.VRRP_MAC6))
        outputs = [p.communicate(timeout=20)[0] for p in pings]
    finally:
        wire.close()
        for p in pings:
            p.kill()
            p.wait()
    after = gw.counters()
    assert sent > RATE_PPS * SECONDS * 0.9, "too slow to prove anything"
    for out in outputs:
        assert "nreachable" not in out, out[-500:]
        answered = [int(m) for m in re.findall(r"icmp_seq=(\d+) ttl", out)]
        line = next(line for line in out.splitlines() if "packets transmitted" in line)
        transmitted = int(line.split()[0])
        # A neighbour that was taken away stays away for a second at least, that is, for 50 requests. A busy
        # machine may lose a few.
        gaps = [b - a for a, b in itertools.pairwise([0, *answered, transmitted + 1])]
        assert max(gaps) <= 10, line
        assert len(answered) >= transmitted * 0.95, line
    # Solicitations are rationed: a few thousand at most, not one for each packet.
    asked = after.get("ns-sent", 0) - before.get("ns-sent", 0)
    assert 0 < asked < sent / 2, asked
    refused = sum(
        after.get(f"drop.{r}", 0) - before.get(f"drop.{r}", 0)
        for r in ("next-hop-table-full", "next-hop-unreachable", "next-hop-queue-full")
    )
    assert refused > 0


def test_a_new_neighbour_is_found_again_after_a_scan(lab):
    wire = tools.Wire()
    try:
        scan(wire, "uplink", n.V6ONLY, Ether(src=n.INET_MAC, dst=n.VRRP_MAC6))
    finally:
        wire.close()
    netns.run("ip", "-n", n.VM2, "address", "add", "2001:db8:64::202/64", "dev", "eth0", "nodad")
    try:
        tools.wait_until(
            lambda: (
                netns.ns_run(n.INET, "ping", "-n", "-c1", "-W1", "2001:db8:64::202", check=False).returncode
                == 0
            ),
            15,
            "a new neighbour was not found within 15 s of the end of the scan",
        )
    finally:
        netns.run("ip", "-n", n.VM2, "address", "del", "2001:db8:64::202/64", "dev", "eth0")

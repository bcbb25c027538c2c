"""Sends ICMPv6 echo requests at a fixed pace until it is interrupted, and prints as JSON when each was sent and
when its first answer came. (`ping -i 0.01` sends a request each 17 ms or so on a machine with a coarse timer.)

    pingstream.py ADDRESS MILLISECONDS
"""

import json
import os
import select
import signal
import socket
import struct
import sys
import time

REQUEST, REPLY = 128, 129
# How long answers are waited for after the last request.
LAST_SECONDS = 0.3


def run(target, spacing):
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    # ICMP6_FILTER: only echo replies (RFC 3542 3.2).
    blocked = [0xFFFFFFFF] * 8
    blocked[REPLY >> 5] &= ~(1 << (REPLY & 31))
    s.setsockopt(socket.IPPROTO_ICMPV6, 1, struct.pack("=8I", *blocked))
    s.connect((target, 0))
    identifier = os.getpid() & 0xFFFF
    over = []
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, lambda *_: over.append(True))
    sent, came, twice = [], {}, 0
    due = time.monotonic()
    until = None
    while until is None or time.monotonic() < until:
        now = time.monotonic()
        if over and until is None:
            until = now + LAST_SECONDS
        if until is None and now >= due:
            # The kernel fills in the checksum.
            packet = struct.pack("!BBHHH", REQUEST, 0, 0, identifier, len(sent) & 0xFFFF)
            sent.append(time.time())
            try:
                s.send(packet + bytes(48))
            except OSError:
                # No route, no neighbour, an error that came back: it counts as lost.
                pass
            due += spacing
            continue
        wait = (due if until is None else until) - now
        if not select.select([s], [], [], max(wait, 0))[0]:
            continue
        try:
            data = s.recv(2048)
        except OSError:
            continue
        if data[4:6] == struct.pack("!H", identifier):
            (low,) = struct.unpack("!H", data[6:8])
            # The newest request with these 16 bits.
            number = len(sent) - 1 - ((len(sent) - 1 - low) & 0xFFFF)
            if number in came:
                twice += 1
            elif number >= 0:
                came[number] = time.time()
    json.dump({"sent": sent, "came": sorted(came.items()), "twice": twice}, sys.stdout)


if __name__ == "__main__":
    run(sys.argv[1], float(sys.argv[2]) / 1000)

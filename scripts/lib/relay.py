"""A relay between two link ends that loses, doubles and reorders TCP segments.

    python3 relay.py A B --loss 0.01 --double 0.01 --reorder 0.02 --seed 7

Whatever comes in at A leaves at B, and the other way round. Frames that are not TCP pass as they are. A frame that is
reordered leaves after so many later ones of its direction, or after some milliseconds when none come. It says `ready` when
it relays; ended by SIGTERM, it prints what it did as JSON. Same seed, same fate of the n-th TCP frame of each direction.
"""

import argparse
import json
import random
import select
import signal
import socket
import struct
import sys
import time

ETH_P_ALL, PACKET_OUTGOING = 0x0003, 4
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
# A held frame leaves after this long in any case.
HELD_SECONDS = 0.01


def is_tcp(frame):
    """True if an Ethernet frame carries a TCP segment (no fragments, no extension headers)."""
    kind = frame[12:14]
    return (kind == b"\x08\x00" and frame[23:24] == b"\x06") or (kind == b"\x86\xdd" and frame[20:21] == b"\x06")


class Fate:
    """What becomes of the frames of one direction, as a value without sockets or clocks."""

    def __init__(self, seed, loss=0.0, double=0.0, reorder=0.0, only=0, depth=3):
        self.random = random.Random(seed)
        self.loss, self.double, self.reorder, self.only, self.depth = loss, double, reorder, only, depth
        # (frames that still go ahead, when it was held, frame)
        self.held = []
        self.did = {"seen": 0, "lost": 0, "doubled": 0, "reordered": 0}

    def on(self, frame, now):
        """The frames that leave now that this one came."""
        if not is_tcp(frame):
            return [frame]
        self.did["seen"] += 1
        # One draw each, whatever comes of it: fates do not depend on each other.
        lost, doubled, late = (self.random.random() for _ in range(3))
        if lost < self.loss or self.did["seen"] == self.only:
            self.did["lost"] += 1
            return []
        if late < self.reorder:
            self.did["reordered"] += 1
            self.held.append([1 + self.random.randrange(self.depth), now, frame])
            return []
        out = [frame]
        if doubled < self.double:
            self.did["doubled"] += 1
            out.append(frame)
        for waiting in self.held:
            waiting[0] -= 1
        return out + self.due(now)

    def due(self, now):
        """The held frames that leave by now."""
        out = [f for left, since, f in self.held if left <= 0 or now - since >= HELD_SECONDS]
        self.held = [h for h in self.held if h[0] > 0 and now - h[1] < HELD_SECONDS]
        return out


def open_end(dev):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUFFORCE if hasattr(socket, "SO_RCVBUFFORCE") else 33, 1 << 24)
    s.bind((dev, ETH_P_ALL))
    # Hosts' unicast frames are for others.
    s.setsockopt(SOL_PACKET, 1, struct.pack("iHH8s", socket.if_nametoindex(dev), 1, 0, b""))
    s.setblocking(False)
    return s


def main(argv):
    p = argparse.ArgumentParser("relay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("a")
    p.add_argument("b")
    for name in ("loss", "double", "reorder"):
        p.add_argument(f"--{name}", type=float, default=0.0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--lose-only", type=int, default=0, metavar="N", help="lose the N-th TCP segment of each direction")
    args = p.parse_args(argv)
    ends = [open_end(args.a), open_end(args.b)]
    fates = [Fate(f"{args.seed}-{i}", args.loss, args.double, args.reorder, args.lose_only) for i in range(2)]
    over = []
    signal.signal(signal.SIGTERM, lambda *_: over.append(1))
    print("ready", flush=True)
    unsent = 0
    while not over:
        held = any(f.held for f in fates)
        try:
            ready, _, _ = select.select(ends, [], [], 0.002 if held else 0.2)
        except InterruptedError:
            continue
        now = time.monotonic()
        for i in range(2):
            out = []
            if ends[i] in ready:
                for _ in range(64):
                    try:
                        frame, address = ends[i].recvfrom(65536)
                    except BlockingIOError:
                        break
                    if address[2] != PACKET_OUTGOING:
                        out += fates[i].on(frame, now)
            if fates[i].held:
                out += fates[i].due(now)
            for frame in out:
                try:
                    ends[1 - i].send(frame)
                except OSError:
                    unsent += 1
    print(json.dumps({"from_a": fates[0].did, "from_b": fates[1].did, "unsent": unsent}), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Looks through a capture for TCP segments that no TCP would send: what a middle box that shifts numbers, rescales windows
and rewrites options would do wrong.

For each connection in each direction, in the order of the capture (of a link end of one of the two hosts):

| complaint | rule |
| --- | --- |
| window | no octet beyond the right edge that the other end has told (RFC 9293 3.8.6) |
| ack | nothing is acknowledged that was not sent (RFC 9293 3.10.7.4) |
| data | the same sequence number always has the same octet (RFC 9293 3.8.1) |
| fin | nothing after a FIN (RFC 9293 3.5) |
| sack | blocks are not empty, and lie between the acknowledgement and what was sent (RFC 2018 3, RFC 2883 4 for what is double) |
| tsecr | only values that the other end has sent (RFC 7323 3.2) |
| tsval | never runs back for new octets (RFC 7323 4.1) |
| options | timestamps on all segments if both SYNs had them, and on none otherwise; the same for SACK (RFC 7323 3.2) |
| syn | a SYN that is repeated says the same |
| checksum | of TCP, and of the IPv4 header |
"""

import array
import struct
from dataclasses import dataclass, field
from pathlib import Path

FIN, SYN, RST, ACK = 1, 2, 4, 16


def frames(path):
    """The Ethernet frames of a pcap file."""
    data = Path(path).read_bytes()
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    at = 24
    while at + 16 <= len(data):
        _, _, have, _ = struct.unpack_from(f"{order}IIII", data, at)
        at += 16
        if at + have > len(data):
            return
        yield data[at : at + have]
        at += have


@dataclass
class Segment:
    number: int
    source: tuple
    target: tuple
    seq: int
    ack: int
    flags: int
    window: int
    payload: bytes
    sums: tuple = ()
    mss: int | None = None
    scale: int | None = None
    sack_permitted: bool = False
    sack: list = field(default_factory=list)
    timestamps: tuple | None = None


def ones(octets):
    """The ones' complement sum of octets, in the machine's own order (RFC 1071 1 (2)(B)): all ones if it is right."""
    words = array.array("H", octets + b"\0" if len(octets) & 1 else octets)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo(source, target, size):
    """The pseudo header of either version, as far as its sum goes."""
    return source + target + struct.pack("!HH", 6, size)


def segment(number, frame):
    """The TCP segment of a frame; nothing if it has none."""
    kind = frame[12:14]
    if kind == b"\x08\x00" and frame[23] == 6:
        size = struct.unpack_from("!H", frame, 16)[0]
        at = 14 + (frame[14] & 15) * 4
        end, source, target = 14 + size, frame[26:30], frame[30:34]
    elif kind == b"\x86\xdd" and frame[20] == 6:
        at, end = 54, 54 + struct.unpack_from("!H", frame, 18)[0]
        source, target = frame[22:38], frame[38:54]
    else:
        return None
    sport, dport, seq, ack, offset, flags, window = struct.unpack_from("!HHIIBBH", frame, at)
    body = at + (offset >> 4) * 4
    out = Segment(number, (source, sport), (target, dport), seq, ack, flags, window, frame[body:end])
    wrong = ones(pseudo(source, target, end - at) + frame[at:end]) != 0xFFFF
    out.sums = (wrong, kind == b"\x08\x00" and ones(frame[14:at]) != 0xFFFF)
    options, i = frame[at + 20 : body], 0
    while i < len(options) and options[i] != 0:
        if options[i] == 1:
            i += 1
            continue
        what, value = options[i], options[i + 2 : i + options[i + 1]]
        if what == 2:
            out.mss = struct.unpack("!H", value)[0]
        elif what == 3:
            out.scale = value[0]
        elif what == 4:
            out.sack_permitted = True
        elif what == 5:
            out.sack = [struct.unpack_from("!II", value, k) for k in range(0, len(value), 8)]
        elif what == 8:
            out.timestamps = struct.unpack("!II", value)
        i += max(options[i + 1], 2)
    return out


def after(a, b):
    """How far `a` is after `b`, modulo 2^32, negative if before."""
    return (a - b + 0x8000_0000 & 0xFFFF_FFFF) - 0x8000_0000


class Way:
    """One direction of a connection."""

    def __init__(self):
        self.isn = self.syn = None
        # Relative to the SYN's number: next, right edge that the receiver has told, FIN's place.
        self.next = self.edge = 0
        self.fin = None
        self.octets = bytearray()
        self.known = bytearray()
        self.tsvals = set()
        self.latest = None
        self.reset = False


class Connection:
    def __init__(self):
        self.ways = {}
        self.complaints = []

    def complain(self, s, what, text):
        self.complaints.append(f"frame {s.number}: {what}: {text}")

    def feed(self, s):
        us = self.ways.setdefault(s.source, Way())
        them = self.ways.setdefault(s.target, Way())
        if any(s.sums):
            self.complain(s, "checksum", f"TCP {s.sums[0]}, IPv4 header {s.sums[1]}")
        if s.flags & RST:
            us.reset = True
            return
        if s.flags & SYN:
            said = (s.seq, s.mss, s.scale, s.sack_permitted, s.timestamps is not None)
            if us.syn is not None and us.syn != said:
                self.complain(s, "syn", f"{said} after {us.syn}")
            us.isn, us.syn, us.next = s.seq, said, max(us.next, 1)
        if us.isn is None:
            # It began before the capture.
            return
        self.octets(s, us)
        if s.flags & ACK and them.isn is not None:
            self.acknowledgement(s, us, them)
        self.options(s, us, them)

    def octets(self, s, us):
        begin = after(s.seq, us.isn) + (1 if s.flags & SYN else 0)
        end = begin + len(s.payload)
        if s.payload and begin > 0:
            if end > us.edge:
                # One octet is a probe of a window that is closed (RFC 9293 3.8.6.1).
                if len(s.payload) > 1:
                    self.complain(s, "window", f"ends {end - us.edge} octets beyond what was told")
            if us.fin is not None and end > us.fin:
                self.complain(s, "fin", f"{end - us.fin} octets after the FIN")
            if len(us.octets) < end:
                us.known += bytes(end - len(us.octets))
                us.octets += bytes(end - len(us.octets))
            seen = us.known[begin:end]
            if any(seen):
                was = us.octets[begin:end]
                if was != s.payload and any(k and a != b for k, a, b in zip(seen, was, s.payload, strict=True)):
                    self.complain(s, "data", f"other octets than before at {begin}")
            us.octets[begin:end] = s.payload
            us.known[begin:end] = b"\1" * len(s.payload)
        if s.flags & FIN:
            if us.fin is not None and us.fin != end:
                self.complain(s, "fin", f"a FIN at {end} after one at {us.fin}")
            us.fin = end
            end += 1
        new = end > us.next
        us.next = max(us.next, end)
        if s.timestamps:
            value = s.timestamps[0]
            us.tsvals.add(value)
            if us.latest is not None and (new or s.flags & SYN) and after(value, us.latest) < 0:
                self.complain(s, "tsval", f"{value} after {us.latest}")
            if us.latest is None or after(value, us.latest) > 0:
                us.latest = value

    def acknowledgement(self, s, us, them):
        ack = after(s.ack, them.isn)
        if ack > them.next:
            self.complain(s, "ack", f"acknowledges {ack - them.next} octets that were not sent")
        scaled = us.syn and them.syn and us.syn[2] is not None and them.syn[2] is not None and not s.flags & SYN
        them.edge = max(them.edge, ack + (s.window << (us.syn[2] if scaled else 0)))
        for left, right in s.sack:
            left, right = after(left, them.isn), after(right, them.isn)
            if left >= right or right > them.next or left < 1:
                self.complain(s, "sack", f"block {left}-{right} with {ack} acknowledged and {them.next} sent")

    def options(self, s, us, them):
        if s.flags & SYN or them.syn is None or us.syn is None:
            return
        agreed = us.syn[4] and them.syn[4]
        if agreed != (s.timestamps is not None):
            self.complain(s, "options", "timestamps are missing" if agreed else "timestamps that were not agreed to")
        if s.sack and not (us.syn[3] and them.syn[3]):
            self.complain(s, "options", "SACK that was not agreed to")
        if s.timestamps and s.flags & ACK and s.timestamps[1] not in them.tsvals:
            self.complain(s, "tsecr", f"{s.timestamps[1]} was never sent")


@dataclass
class Found:
    """What came of it."""

    complaints: list
    segments: int
    connections: int


def check(path, wanted=lambda _segment: True):
    """Looks through a capture. Connections that use the same addresses and ports one after the other count as one each."""
    open_ones, done, count = {}, [], 0
    for number, frame in enumerate(frames(path), 1):
        s = segment(number, frame) if len(frame) >= 54 else None
        if s is None or not wanted(s):
            continue
        count += 1
        key = frozenset((s.source, s.target))
        old = open_ones.get(key)
        begins = s.flags & SYN and not s.flags & ACK
        if begins and old and old.ways.get(s.source) and old.ways[s.source].isn not in (None, s.seq):
            done.append(open_ones.pop(key))
        open_ones.setdefault(key, Connection()).feed(s)
    done += open_ones.values()
    return Found([c for connection in done for c in connection.complaints], count, len(done))

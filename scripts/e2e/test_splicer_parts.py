"""The tools of the splicer's tests, without a lab: each must be able to find what it is for."""

import tomllib

import pytest
import relay
import splicertools as st
import splicing
import tcpcheck
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

CLIENT, SERVER = "198.51.100.99", "203.0.113.80"
# (Without addresses, scapy would ask the network for them.)
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("WScale", 2)]


class Talk:
    """A connection that is right, step by step; what is wrong, tests add."""

    def __init__(self, v6=False):
        self.frames = []
        self.ends = ("2001:db8::1", "2001:db8::2") if v6 else (CLIENT, SERVER)
        self.clock = 1000
        self.heard = {0: 0, 1: 0}
        self.say(0, 100, 0, "S", options=OPTIONS)
        self.say(1, 900, 101, "SA", options=OPTIONS)
        self.say(0, 101, 901, "A", window=100)

    def say(self, who, seq, ack, flags, data=b"", window=1000, options=(), ts=None, tsecr=None):
        self.clock += 1
        ts = self.clock if ts is None else ts
        stamps = [("Timestamp", (ts, self.heard[1 - who] if tsecr is None else tsecr))]
        self.heard[who] = ts
        ip = (IPv6 if ":" in self.ends[0] else IP)(src=self.ends[who], dst=self.ends[1 - who])
        ports = {"sport": (4000, 443)[who], "dport": (443, 4000)[who]}
        tcp = TCP(seq=seq, ack=ack, flags=flags, window=window, options=[*options, *stamps], **ports)
        self.frames.append(Ether(bytes(ETHER / ip / tcp / data)))

    def complaints(self, tmp_path):
        wrpcap(str(tmp_path / "x.pcap"), self.frames)
        found = tcpcheck.check(tmp_path / "x.pcap")
        assert (found.segments, found.connections) == (len(self.frames), 1)
        return [c.split(": ")[1] for c in found.complaints]


@pytest.mark.parametrize("v6", [False, True])
def test_nothing_is_said_of_what_is_right(tmp_path, v6):
    t = Talk(v6)
    t.say(0, 101, 901, "PA", b"hello")
    t.say(1, 901, 106, "A", bytes(400))
    # Sent twice, acknowledged twice, with a hole that SACK tells of.
    t.say(1, 901, 106, "A", bytes(400), ts=t.clock)
    t.say(0, 108, 1301, "A", b"later")
    t.say(1, 1301, 106, "A", options=[("SAck", (108, 113))])
    t.say(0, 106, 1301, "A", b"ab")
    t.say(0, 113, 1301, "FA")
    t.say(1, 1301, 114, "FA")
    t.say(0, 114, 1302, "A")
    assert t.complaints(tmp_path) == []


@pytest.mark.parametrize(
    "wanted, what",
    [
        ("window", {"data": bytes(401)}),
        ("ack", {"ack": 107}),
        ("sack", {"options": [("SAck", (104, 110))]}),
        ("sack", {"options": [("SAck", (104, 104))]}),
        ("tsecr", {"tsecr": 5}),
        ("tsval", {"data": b"x", "ts": 900}),
    ],
)
def test_a_segment_that_no_tcp_sends_is_found(tmp_path, wanted, what):
    t = Talk()
    t.say(0, 101, 901, "PA", b"hello", window=100)
    t.say(1, 901, what.get("ack", 106), "A", what.get("data", b""), **{k: v for k, v in what.items() if k not in ("ack", "data")})
    assert t.complaints(tmp_path) == [wanted]


def test_octets_that_change_are_found(tmp_path):
    t = Talk()
    t.say(0, 101, 901, "PA", b"hello")
    t.say(0, 103, 901, "PA", b"lLo")
    t.say(0, 106, 901, "FA")
    t.say(0, 106, 901, "PA", b"more")
    assert t.complaints(tmp_path) == ["data", "fin"]


def test_options_that_were_not_agreed_to_or_are_missing_are_found(tmp_path):
    t = Talk()
    ip, tcp = IP(src=CLIENT, dst=SERVER), TCP(sport=4000, dport=443, seq=101, ack=901, flags="A")
    t.frames.append(Ether(bytes(ETHER / ip / tcp)))
    assert t.complaints(tmp_path) == ["options"]


@pytest.mark.parametrize("at", [24, 50])
def test_a_wrong_checksum_is_found(tmp_path, at):
    t = Talk()
    broken = bytearray(bytes(t.frames[-1]))
    broken[at] ^= 1
    t.frames[-1] = Ether(bytes(broken))
    assert t.complaints(tmp_path) == ["checksum"]


def test_the_relay_does_what_it_is_told_and_the_same_again():
    frame = bytes(ETHER / IP() / TCP())
    frames = [frame + b"%06d" % i for i in range(5000)]

    def run():
        fate = relay.Fate(7, 0.01, 0.02, 0.03)
        out = [f for i, one in enumerate(frames) for f in fate.on(one, i * 0.0001)]
        return fate.did, out + fate.due(10.0)

    did, out = run()
    assert (did, out) == run()
    assert did["seen"] == 5000 and 20 < did["lost"] < 90 and 60 < did["doubled"] < 150 and 100 < did["reordered"] < 210
    assert len(out) == 5000 - did["lost"] + did["doubled"] and set(out) <= set(frames)
    # How far something comes late is bounded.
    place = {f: i for i, f in enumerate(out)}
    assert max(place[f] - i for i, f in enumerate(frames) if f in place) < 200
    assert [f for f in out if f != out[0]] != sorted(f for f in out if f != out[0])
    only = relay.Fate(7, only=3)
    assert [f for one in frames[:10] for f in only.on(one, 0.0)] == frames[:2] + frames[3:10]
    # What is not TCP passes.
    other = bytes(ETHER / IP(proto=17))
    assert relay.Fate(1, loss=1.0).on(other, 0.0) == [other]


def test_hellos_are_the_same_in_any_records():
    for sizes in ((), (1,), (5, 1, 1)):
        said = st.hello("site1.example", st.alpn("h2"), pad=300, sizes=sizes)
        kinds, joined, left = [], b"", said
        while left:
            kinds.append(left[0])
            size = int.from_bytes(left[3:5], "big")
            joined, left = joined + left[5 : 5 + size], left[5 + size :]
        assert set(kinds) == {22} and len(kinds) == len(sizes) + 1
        assert joined == st.handshake("site1.example", st.alpn("h2"), pad=300)
        assert len(joined) == 4 + int.from_bytes(joined[1:4], "big")
    assert b"site1.example" in joined


def test_sites_are_written_for_both():
    text = splicing.toml(splicing.SITES, splicing.LISTENERS)
    read = tomllib.loads(text)["splicer"]
    assert [s["name"] for s in read["site"]] == [s.name for s in splicing.SITES]
    assert read["site"][1]["identity"] == "proxy2" and read["listener"][1] == {"address": SERVER, "port": 443, "tls": True}
    config = splicing.haproxy_config(maps=[(2201, "2001:db8::1", 22)])
    assert "send-proxy-v2" in config and "bind 203.0.113.80:2201" in config

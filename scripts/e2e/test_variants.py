"""Other configurations than the lab's: two workers, VLANs, closed networks, small pools, short timeouts."""

import contextlib
import hashlib
import os
import subprocess
import time

import gateway as gw
import lab as lab_module
import netns
import network as n
import pytest
import tools
from conftest import lab_of
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import Dot1Q, Ether
from test_gateway_addresses import solicited_node

TARGET = n.nat64(n.V4ONLY)


def lab_with(folder, *replacements, append=""):
    """A lab whose configuration differs in pairs of texts, each of which must be there."""
    text = n.CONFIG.read_text()
    for old, new in zip(replacements[::2], replacements[1::2], strict=True):
        assert old in text, f"{old!r} is not in {n.CONFIG}"
        text = text.replace(old, new)
    path = folder / "lab.toml"
    path.write_text(text + append)
    return contextlib.contextmanager(lab_of)(config=path)


class TestTwoWorkers:
    """Frames of one connection may reach either worker, and the table is shared."""

    @pytest.fixture(scope="class", autouse=True)
    def two_workers(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("two")
        with lab_with(folder, 'name = "cw-gw"', 'name = "cw-gw"\nworkers = 2'):
            yield

    def test_both_workers_work(self):
        for i in range(64):
            tools.ping(n.VM1, TARGET, "-e", 1000 + i, count=1)
        rows = {c["name"]: c["workers"] for c in gw.show("counters")["counters"]}
        assert len(rows["rx-frames"]) == 2
        assert all(rows["rx-frames"]), rows["rx-frames"]

    def test_100_connections_with_data(self):
        conns = [tools.tcp_client(n.VM1 if i % 2 else n.VM2, TARGET, n.ECHO_PORT) for i in range(100)]
        with tools.closing(*conns):
            sent = [os.urandom(20_000) for _ in conns]
            readers = [tools.Background(tools.receive_all, c, 20_000) for c in conns]
            for c, data in zip(conns, sent, strict=True):
                c.sendall(data)
            for reader, data in zip(readers, sent, strict=True):
                assert reader.result() == data

    @pytest.mark.parametrize("direction", ["up", "down"])
    def test_20_megabytes(self, direction, tmp_path):
        source = os.urandom(20_000_000)
        www = n.RUN / "web-inet/www"
        if direction == "down":
            (www / "big").write_bytes(source)
            tools.curl(n.VM1, f"http://[{TARGET}]/big", "-o", tmp_path / "big", "--max-time", 120)
            got = tmp_path / "big"
        else:
            (tmp_path / "big").write_bytes(source)
            tools.curl(n.VM1, f"http://[{TARGET}]/upload/big", "-T", tmp_path / "big", "--max-time", 120)
            got = www / "upload/big"
        assert hashlib.sha256(got.read_bytes()).digest() == hashlib.sha256(source).digest()
        got.unlink()

    def test_native_and_own_addresses(self):
        tools.ping(n.VM1, n.V6ONLY, count=20)
        tools.ping(n.INET, n.VM2_ADDR, count=20)
        tools.ping(n.VM2, n.GW_TENANT, count=20)
        tools.ping(n.INET, n.GW_UPLINK4, count=20)

    def test_fragments_arrive_singly(self):
        """With several queues the kernel spreads frames over them, and would reassemble first if asked."""
        tools.ping(n.INET, n.GW_UPLINK4)
        whole = IP(src=n.INET_UP4, dst=n.GW_UPLINK4, id=4243) / ICMP(type=8, id=9, seq=1) / bytes(2000)
        with tools.closing(tools.Wire()) as (wire,):
            pieces = [
                ("uplink", Ether(src=n.INET_MAC, dst=n.VRRP_MAC4) / p)
                for p in fragment(whole, fragsize=800)
            ]
            got = wire.exchange(*pieces)
        assert (got.counters, got.out) == ({"drop.local-fragment": 3}, [])


class TestVlan:
    """Two tenant networks on one port: one untagged, one on VLAN 10."""

    MAC = "02:00:00:00:10:05"
    HOST, GATEWAY = "2001:db8:64:a::5", "2001:db8:64:a::1"
    NETWORK = """
[[network]]
name = "tenant10"
port = "tenant0"
vlan = 10
role = "tenant"
addresses6 = ["2001:db8:64:a::1/64"]
link-local = "fe80::1"
"""

    @pytest.fixture(params=[False, True], ids=["isolated", "allowed"])
    def vlan_lab(self, request, tmp_path):
        allow = '\n[isolation]\nallow = [["tenant0", "tenant10"]]\n' if request.param else ""
        with lab_with(tmp_path, append=self.NETWORK + allow), tools.closing(tools.Wire()) as (wire,):
            yield wire, request.param

    def tagged(self, packet, dst=n.GW_TENANT_MAC):
        return ("tenant", Ether(src=self.MAC, dst=dst) / Dot1Q(vlan=10) / packet)

    def test_a_host_on_the_vlan(self, vlan_lab):
        wire, allowed = vlan_lab
        tools.ping(n.VM1, n.V6ONLY)
        # It asks for its gateway, tagged; the answer is tagged.
        group, mac = solicited_node(self.GATEWAY)
        ask = (
            IPv6(src=self.HOST, dst=group, hlim=255)
            / ICMPv6ND_NS(tgt=self.GATEWAY)
            / ICMPv6NDOptSrcLLAddr(lladdr=self.MAC)
        )
        got = wire.exchange(self.tagged(ask, mac))
        assert got.counters == {"ns-answered": 1}
        answer = Ether(got.out[0][1])
        assert (answer[Dot1Q].vlan, answer.dst, answer[IPv6].src) == (10, self.MAC, self.GATEWAY)
        # Echo, tagged both ways.
        got = wire.exchange(
            self.tagged(IPv6(src=self.HOST, dst=self.GATEWAY) / ICMPv6EchoRequest(id=1, seq=1))
        )
        assert got.counters == {"echo-answered": 1}
        answer = Ether(got.out[0][1])
        assert answer[Dot1Q].vlan == 10
        assert answer[ICMPv6EchoReply].id == 1
        # The address of the other network is not its own: BCP 38 holds per network.
        got = wire.exchange(self.tagged(IPv6(src=n.VM1_ADDR, dst=n.V6ONLY, nh=59)))
        assert got.counters == {"drop.spoofed-source": 1}
        # Out to the Internet, untagged there.
        got = wire.exchange(self.tagged(IPv6(src=self.HOST, dst=n.V6ONLY, nh=59, hlim=9)))
        assert got.counters == {"forwarded6": 1}
        assert [(side, frame[12:14]) for side, frame in got.out] == [("uplink", b"\x86\xdd")]
        # To the other tenant network: only where that is allowed.
        tools.ping(n.VM1, n.GW_TENANT)
        got = wire.exchange(self.tagged(IPv6(src=self.HOST, dst=n.VM1_ADDR, nh=59, hlim=9)))
        if allowed:
            assert got.counters == {"forwarded6": 1}
            assert [(side, frame[:6].hex(":")) for side, frame in got.out] == [("tenant", n.VM1_MAC)]
        else:
            got.counters.pop("icmp-errors-sent", None)
            assert got.counters == {"drop.tenant-isolation": 1}


def test_a_closed_network_lets_only_answers_in(tmp_path):
    """Inbound closed: tenants reach out and get answers; nobody reaches them first."""
    with lab_with(tmp_path, 'role = "tenant"', 'role = "tenant"\ninbound = "closed"'):
        tools.ping(n.VM1, n.V6ONLY)
        tools.curl(n.VM1, f"http://[{n.V6ONLY}]/")
        tools.ping(n.VM1, TARGET)
        before = gw.drops()
        done = netns.ns_run(n.INET, "ping", "-n", "-c", "2", "-i", "0.1", "-W", "1", n.VM1_ADDR, check=False)
        assert " 0 received" in done.stdout
        assert gw.drops().get("inbound-closed", 0) - before.get("inbound-closed", 0) == 2
        with pytest.raises(OSError, match=r"timed out|unreachable|prohibited|denied"):
            tools.tcp_client(n.INET, n.VM1_ADDR, n.WEB_PORT, timeout=1.5)


def test_a_pool_without_free_ports_refuses_and_is_counted(tmp_path):
    """Eight ports for UDP: the ninth inside socket is refused, and counted. RFC 6888 3 REQ-8: ports of
    mappings that have expired rest before they are used again."""
    small = ['pool = ["203.0.113.0/28"]', 'pool = ["203.0.113.4/32"]\nports = "2048-2055"']
    with (
        lab_with(tmp_path, *small, append='\n[nat64.timeouts]\nudp = "3s"\n'),
        tools.closing(*[tools.udp(n.VM1, n.VM1_ADDR, timeout=0.5) for _ in range(10)]) as sockets,
    ):

        def answered(some):
            count = 0
            for s in some:
                s.sendto(b"x", (TARGET, n.ECHO_PORT))
            for s in some:
                with contextlib.suppress(TimeoutError):
                    assert s.recv(10) == b"x"
                    count += 1
            return count

        assert answered(sockets[:9]) == 8
        assert gw.drops()["nat64-pool-full"] == 1
        rows = gw.sessions("--protocol", "udp")
        assert {(r["outside"], r["outside_port"]) for r in rows} == {
            ("203.0.113.4", p) for p in range(2048, 2056)
        }
        # Each protocol has its own ports.
        tools.ping(n.VM1, TARGET)
        tools.wait_until(lambda: gw.sessions("--protocol", "udp") == [], 15, "sessions did not expire")
        counters = gw.counters()
        assert counters["nat64-mappings-ended"] == 8
        assert counters["nat64-sessions-ended"] == 8
        assert answered(sockets[9:]) == 0
        assert gw.drops()["nat64-pool-full"] == 2


def test_a_full_session_table_refuses_and_is_counted(tmp_path):
    """The table holds what was configured and a small reserve; then new flows are refused, while those that
    are there go on, and so does what needs no session."""
    with (
        lab_with(tmp_path, append="\n[capacity]\nsessions = 64\nmappings = 64\n"),
        tools.closing(tools.udp(n.VM1, n.VM1_ADDR), tools.Wire()) as (first, wire),
    ):
        first.sendto(b"x", (TARGET, n.ECHO_PORT))
        assert first.recv(10) == b"x"
        link = Ether(src=n.VM1_MAC, dst=n.VRRP_MAC6)
        for port in range(2000, 5000):
            wire.send("tenant", link / IPv6(src=n.VM1_ADDR, dst=TARGET) / UDP(sport=port, dport=9) / b"x")
        tools.wait_until(lambda: gw.drops().get("nat64-table-full", 0) > 1000, 5, "no such drops")
        assert 64 <= gw.counters()["nat64-sessions-created"] < 2000
        first.sendto(b"again", (TARGET, n.ECHO_PORT))
        assert first.recv(10) == b"again"
        tools.ping(n.VM1, n.V6ONLY)


def test_neighbours_in_use_are_confirmed_without_loss(tmp_path):
    """RFC 4861 7.3: with a reachable time of one second, eight seconds of traffic need several probes, and
    no packet is lost over them."""
    with lab_with(tmp_path, append='\n[neighbor]\nreachable-time = "1s"\n'):
        pings = [
            subprocess.Popen(
                netns.in_ns(ns, "ping", "-n", "-i", "0.02", "-c", "400", "-W", "2", address),
                stdout=subprocess.PIPE,
                text=True,
            )
            for ns, address in ((n.VM1, TARGET), (n.VM2, n.V6ONLY), (n.INET, n.VM1_ADDR))
        ]
        for p in pings:
            out = p.communicate(timeout=60)[0]
            assert "400 packets transmitted, 400 received" in out, out[-500:]
        assert gw.counters()["ns-sent"] >= 3


def test_idle_the_gateway_leaves_the_machine_alone(lab_quiet):
    """Profile `veth` backs off: an idle gateway must not take a whole core from its hosts."""
    pid = lab_quiet
    ticks = os.sysconf("SC_CLK_TCK")

    def cpu():
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    began, before = time.monotonic(), cpu()
    time.sleep(3)
    share = (cpu() - before) / (time.monotonic() - began)
    assert share < 0.6, f"{share:.0%} of a core"


@pytest.fixture
def lab_quiet(tmp_path):
    with lab_with(tmp_path):
        yield lab_module.read_pid(lab_module.GATEWAY)[0]

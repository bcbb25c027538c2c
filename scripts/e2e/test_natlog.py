"""The mapping log with real readers: IPFIX as tshark and nfdump decode it, and JSON lines.

The collectors are sockets in cw-gw's own loopback: control sends to them through the kernel, and the gateway's
ports, on which the kernel stays silent, have no part in it.
"""

import datetime
import ipaddress
import json
import shutil
import subprocess
import time

import pytest

import gateway as gw
import lab as lab_module
import netns
import network as n
import tools
from conftest import lab_of

TARGET = n.nat64(n.V4ONLY)
POOL = ipaddress.ip_network(n.POOL4)
COLLECTOR = ("127.0.0.1", 4739)

# natEvent (RFC 8158 4.3).
SESSION_CREATED, SESSION_ENDED, MAPPING_CREATED, MAPPING_ENDED = "6", "7", "10", "11"

# Sessions end soon, so that a test sees that. Below what the RFCs ask for, and `check` says so.
SHORT = '\n[nat64.timeouts]\nudp = "1s"\nicmp = "1s"\ntcp-transitory = "1s"\n'


def settings(**keys):
    """The section [nat64.log]."""
    lines = [f"{key.replace('_', '-')} = {json.dumps(value)}" for key, value in keys.items()]
    return n.CONFIG.read_text() + SHORT + "\n[nat64.log]\n" + "\n".join(lines) + '\n[log]\nformat = "json"\n'


QUIET = settings()


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The gateway's configuration, for changing."""
    path = tmp_path_factory.mktemp("natlog") / "lab.toml"
    path.write_text(QUIET)
    return path


@pytest.fixture(scope="module", autouse=True)
def log_lab(config):
    for _ in lab_of(config=config):
        # IPv4 on the loopback alone: the ports stay without addresses.
        netns.run("ip", "-n", n.GW, "link", "set", "lo", "up")
        yield


@pytest.fixture
def logging(config):
    """Sets [nat64.log] on the running gateway; off again at the end."""

    def set_log(**keys):
        # What an earlier test left over has ended.
        tools.wait_until(lambda: not gw.sessions(), 20, "sessions do not end")
        config.write_text(settings(**keys))
        gw.causeway("reload", "--socket", n.SOCKET)

    yield set_log
    config.write_text(QUIET)
    gw.causeway("reload", "--socket", n.SOCKET)


class Collector:
    """A UDP port that takes messages, and tcpdump and tshark that read them."""

    FIELDS = (
        ("event", "cflow.nat_event"),
        ("src6", "cflow.srcaddrv6"),
        ("out4", "cflow.post_natsource_ipv4_address"),
        ("protocol", "cflow.protocol"),
        ("src_port", "cflow.srcport"),
        ("out_port", "cflow.post_naptsource_transport_port"),
        ("dst6", "cflow.dstaddrv6"),
        ("dst4", "cflow.post_natdestination_ipv4_address"),
        ("dst_port", "cflow.dstport"),
        ("dst_port_after", "cflow.post_naptdestination_transport_port"),
    )

    def __init__(self, path):
        self.socket = tools.udp(n.GW, *COLLECTOR)
        self.capture = tools.Capture(n.GW, "lo", path, "udp port 4739")

    def close(self):
        self.capture.stop()
        self.socket.close()

    def tshark(self, *args):
        self.capture.stop()
        command = ["tshark", "-n", "-r", self.capture.path, "-d", "udp.port==4739,cflow", *args]
        return netns.run(*command, timeout=120).stdout

    def messages(self):
        """Sequence number, records' set ids, domain and octets of each message."""
        fields = ("cflow.sequence", "cflow.flowset_id", "cflow.od_id", "udp.length")
        out = self.tshark("-T", "fields", *[a for f in fields for a in ("-e", f)])
        return [line.split("\t") for line in out.splitlines()]

    def records(self):
        """All data records, each by the names of FIELDS, and `at`, in the order of their arrival."""
        packets = json.loads(self.tshark("-T", "json", "--no-duplicate-keys"))
        found = []
        for packet in packets:
            for key, flow in walk(packet["_source"]["layers"]["cflow"]):
                if key.startswith("Flow ") and isinstance(flow, dict):
                    row = {name: flow[field] for name, field in self.FIELDS if field in flow}
                    row["at"] = when(flow["cflow.observation_time_milliseconds"])
                    found.append(row)
        return found


def when(text):
    """Seconds since 1970 of a time as tshark prints it: to the nanosecond, in UTC or in local time."""
    text, _, zone = text.rpartition(" ")
    at = datetime.datetime.strptime(text[:-3], "%b %d, %Y %H:%M:%S.%f")
    return (at.replace(tzinfo=datetime.UTC) if zone == "UTC" else at).timestamp()


def walk(tree):
    """Every (key, value) of nested objects and arrays."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key, value
            yield from walk(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from walk(value)


@pytest.fixture
def collector(tmp_path):
    c = Collector(tmp_path / "ipfix.pcap")
    yield c
    c.close()
    assert not c.tshark("-Y", "_ws.malformed").strip()


def exported(records):
    """Waits until so many more records than now were sent; a context for what makes them."""
    before = gw.counters().get("ipfix-records-sent", 0)
    return lambda: tools.wait_until(
        lambda: gw.counters().get("ipfix-records-sent", 0) >= before + records,
        20,
        lambda: f"{gw.counters().get('ipfix-records-sent', 0) - before} of {records} records were sent",
    )


def some_traffic():
    """One flow of each protocol; gives the (protocol, port) of each inside, and what the server saw of UDP."""
    with tools.closing(tools.udp(n.VM1, n.VM1_ADDR), tools.udp(n.INET, n.V4ONLY, 9011)) as (inside, server):
        inside.sendto(b"x", (TARGET, 9011))
        mapped = server.recvfrom(10)[1]
        udp_port = inside.getsockname()[1]
    with tools.tcp_client(n.VM1, TARGET, n.ECHO_PORT) as s:
        tcp_port = s.getsockname()[1]
    tools.ping(n.VM1, TARGET, "-e", 4711, count=1)
    return [("17", udp_port), ("6", tcp_port), ("1", 4711)], mapped


def test_rfc8158_4_every_session_and_mapping_has_a_record_when_it_begins_and_when_it_ends(logging, collector):
    logging(mappings=True, sessions=True, destinations=True, collectors=["127.0.0.1:4739"])
    began = time.time()
    wait = exported(12)
    flows, mapped = some_traffic()
    wait()
    rows = collector.records()
    assert len(rows) == 12, rows
    seen = {}
    for row in rows:
        assert ipaddress.ip_address(row["src6"]) == ipaddress.ip_address(n.VM1_ADDR), row
        assert ipaddress.ip_address(row["out4"]) in POOL, row
        seen.setdefault((row["protocol"], int(row["src_port"])), []).append(row)
    assert sorted(seen) == sorted(flows)
    for (protocol, _), of_flow in seen.items():
        events = [row["event"] for row in of_flow]
        assert events == [MAPPING_CREATED, SESSION_CREATED, SESSION_ENDED, MAPPING_ENDED], of_flow
        assert len({(row["out4"], row["out_port"]) for row in of_flow}) == 1, of_flow
        for row in of_flow:
            if row["event"] in (SESSION_CREATED, SESSION_ENDED):
                assert row["dst4"] == n.V4ONLY
                assert ipaddress.ip_address(row["dst6"]) == ipaddress.ip_address(TARGET)
                wanted = {"17": "9011", "6": str(n.ECHO_PORT)}.get(protocol, row["dst_port"])
                assert row["dst_port"] == row["dst_port_after"] == wanted, row
            else:
                assert "dst4" not in row and "dst_port" not in row, row
    (udp,) = [rows for (protocol, _), rows in seen.items() if protocol == "17"]
    assert (udp[0]["out4"], int(udp[0]["out_port"])) == mapped, "what the server saw is what is logged"
    assert all(began - 1 < row["at"] < time.time() + 1 for row in rows), rows
    # UDP ends after a second of silence, and what follows it was in that order.
    assert 1 <= udp[2]["at"] - udp[1]["at"] < 15
    counters = gw.counters()
    assert "nat64-log-lost" not in counters and "ipfix-records-lost" not in counters, counters


def test_rfc7011_templates_come_first_and_sequence_numbers_count_records(logging, collector):
    logging(
        sessions=True,
        collectors=["127.0.0.1:4739"],
        observation_domain=64,
        template_interval="1s",
        packet_octets=512,
    )
    wait = exported(80)
    with tools.udp(n.VM1, n.VM1_ADDR) as inside:
        for port in range(20001, 20041):
            inside.sendto(b"x", (TARGET, port))
        wait()
    messages = collector.messages()
    sets = [m[1].split(",") for m in messages]
    assert sets[0] == sets[1] == ["2"], "templates, twice, before any record"
    assert ["2"] in sets[2:], "and again after a second"
    assert {m[2] for m in messages} == {"64"}
    # RFC 7011 10.3.3: 512 octets, with the headers of IPv6 that there might be.
    assert max(int(m[3]) for m in messages) <= 512 - 40
    # 34 octets a record: how many there are in a message follows from its length.
    count = 0
    for sequence, _, _, octets in messages:
        assert int(sequence) == count, messages
        data = int(octets) - 8 - 16 - 4
        count += data // 34 if data % 34 == 0 else 0
    assert count == 80 == len(collector.records())


def test_rfc6888_4_req_12_nobody_learns_destinations_unless_asked(logging, collector):
    logging(sessions=True, collectors=["127.0.0.1:4739"])
    wait = exported(6)
    some_traffic()
    wait()
    rows = collector.records()
    assert [r for r in rows if {"dst4", "dst6", "dst_port", "dst_port_after"} & r.keys()] == []
    assert len(rows) == 6
    raw = collector.capture.path.read_bytes()
    assert ipaddress.ip_address(n.V4ONLY).packed not in raw


def test_what_is_logged_changes_with_a_reload(logging, collector):
    logging(collectors=["127.0.0.1:4739"], mappings=True)
    wait = exported(2)
    tools.ping(n.VM1, TARGET, count=1)
    wait()
    before = gw.counters()["nat64-log-records"]
    logging(collectors=["127.0.0.1:4739"])
    tools.ping(n.VM1, TARGET, count=1)
    tools.wait_until(lambda: not gw.sessions(), 20, "sessions do not end")
    time.sleep(0.1)
    assert gw.counters()["nat64-log-records"] == before, "nothing is wanted, nothing is written"
    assert [r["event"] for r in collector.records()] == [MAPPING_CREATED, MAPPING_ENDED]


def test_a_collector_that_is_not_there_harms_nobody(logging):
    """Records are sent to nobody; the gateway forwards and control answers all the time."""
    logging(collectors=["127.0.0.1:4740", "[2001:db8:ffff:9::1]:4739"], mappings=True, sessions=True)
    for _ in range(3):
        tools.ping(n.VM1, TARGET)
    tools.wait_until(lambda: gw.counters().get("ipfix-records-lost", 0) > 0, 10, "the one without a route")
    assert any("cannot send IPFIX" in line for line in n.GATEWAY_LOG.read_text().splitlines())


def test_json_lines_say_the_same(logging):
    logging(mappings=True, sessions=True, destinations=True, trace=True)

    def lines():
        out = []
        for line in n.GATEWAY_LOG.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry.get("target") == "causeway::nat64":
                out.append(entry["fields"])
        return out

    start = len(lines())
    flows, mapped = some_traffic()
    tools.wait_until(lambda: len(lines()) >= start + 12, 20, lambda: f"{lines()[start:]}")
    rows = lines()[start:]
    names = {"17": "udp", "6": "tcp", "1": "icmp"}
    for protocol, port in flows:
        of_flow = [r for r in rows if (r["protocol"], r["src_port"]) == (names[protocol], port)]
        assert [r["event"] for r in of_flow] == [
            "mapping-created",
            "session-created",
            "session-ended",
            "mapping-ended",
        ], rows
        assert all(r["src6"] == n.VM1_ADDR and abs(r["at_ms"] / 1000 - time.time()) < 60 for r in of_flow)
        assert [r.get("dst4") for r in of_flow] == [None, n.V4ONLY, n.V4ONLY, None]
        if protocol == "17":
            assert {(r["out4"], r["out_port"]) for r in of_flow} == {mapped}
    assert len(rows) == 12


@pytest.mark.skipif(not shutil.which("nfcapd"), reason="nfdump is not installed")
def test_nfdump_stores_the_records(logging, tmp_path):
    """A second real collector: nfcapd takes the messages and nfdump prints what it stored."""
    store = tmp_path / "flows"
    store.mkdir()
    command = netns.in_ns(n.GW, "nfcapd", "-w", store, "-b", "127.0.0.1", "-p", "4739", "-t", "3600")
    nfcapd = subprocess.Popen(
        [str(c) for c in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        tools.wait_until(
            lambda: ":4739" in netns.ns_run(n.GW, "ss", "-ulnH").stdout, 10, "nfcapd does not listen"
        )
        logging(sessions=True, destinations=True, collectors=["127.0.0.1:4739"])
        wait = exported(6)
        _, mapped = some_traffic()
        wait()
        time.sleep(0.5)
    finally:
        nfcapd.terminate()
        said = nfcapd.communicate(timeout=10)[0]
    files = [str(f) for f in sorted(store.iterdir())]
    assert files, said
    out = netns.run("nfdump", "-R", store, "-o", "raw").stdout
    assert out.count(mapped[0]) >= 1 and str(mapped[1]) in out, said + out
    assert n.VM1_ADDR in out, out

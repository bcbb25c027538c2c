"""The lab itself, without Causeway: names, addresses, links, servers, coming up and going down.

A Linux router stands in for the gateway where packets have to pass.
"""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

import lab as lab_module
import netns
import network as n
import servers
import tools
from conftest import LAB, lab_command

pytestmark = pytest.mark.usefixtures("network_with_servers")


@pytest.fixture
def linux_gateway(network_with_servers):
    """The kernel of cw-gw as an IPv6 router. (That it must be silent otherwise is tested elsewhere.)"""

    def ip(*args):
        netns.run("ip", "-n", n.GW, *args)

    off = {f"net.ipv6.conf.{name}.disable_ipv6": 0 for name in ("all", "default", "tenant0", "uplink0")}
    netns.sysctl(n.GW, off | {"net.ipv6.conf.all.forwarding": 1})
    ip("address", "add", f"{n.GW_TENANT_LL}/64", "dev", "tenant0", "nodad")
    ip("address", "add", f"{n.GW_TENANT}/64", "dev", "tenant0", "nodad")
    ip("address", "add", f"{n.GW_UPLINK6}/64", "dev", "uplink0", "nodad")
    ip("address", "add", f"{n.GW_UPLINK4}/24", "dev", "uplink0")
    ip("route", "add", "default", "via", n.INET_UP6)
    # Forget that nobody answered before.
    for ns in (n.VM1, n.VM2, n.INET):
        netns.run("ip", "-n", ns, "neighbor", "flush", "all")
    yield
    for dev in ("tenant0", "uplink0"):
        ip("address", "flush", "dev", dev)
    netns.sysctl(n.GW, {"net.ipv6.conf.all.disable_ipv6": 1})


def addresses(ns, dev):
    rows = json.loads(netns.run("ip", "-n", ns, "-j", "address", "show", "dev", dev).stdout)
    return rows[0]["address"], {
        f"{a['local']}/{a['prefixlen']}" for a in rows[0]["addr_info"] if a["scope"] == "global"
    }


@pytest.mark.parametrize(
    "ns, dev, mac, wanted",
    [
        (n.VM1, "eth0", "02:00:00:00:01:01", {"2001:db8:64::101/64"}),
        (n.VM2, "eth0", "02:00:00:00:01:02", {"2001:db8:64::102/64"}),
        (n.INET, "up0", None, {"192.0.2.1/24", "2001:db8:ffff::1/64"}),
        (
            n.INET,
            "lo",
            None,
            {"198.51.100.10/32", "198.51.100.53/32", "198.51.100.99/32", "2001:db8:6::10/128"},
        ),
        (n.GW, "tenant0", "02:00:00:00:64:01", set()),
        (n.GW, "uplink0", "02:00:00:00:64:02", set()),
        (n.GW2, "tenant0", "02:00:00:00:64:03", set()),
        (n.GW2, "uplink0", "02:00:00:00:64:04", set()),
    ],
)
def test_names_and_addresses_are_the_contract(ns, dev, mac, wanted):
    has_mac, has = addresses(ns, dev)
    assert has == wanted
    assert mac in (None, has_mac)


@pytest.mark.parametrize(
    "route, ns, wanted",
    [
        ("default", n.VM1, "via fe80::1 dev eth0"),
        ("default", n.VM2, "via fe80::1 dev eth0"),
        ("203.0.113.0/24", n.INET, "via 192.0.2.2 dev up0"),
        ("2001:db8:64::/48", n.INET, "via 2001:db8:ffff::2 dev up0"),
    ],
)
def test_routes_are_the_contract(route, ns, wanted):
    family = "-4" if "." in route else "-6"
    assert wanted in netns.run("ip", "-n", ns, family, "route", "show", route).stdout


@pytest.mark.parametrize(
    "ns, dev",
    [
        (n.VM1, "eth0"),
        (n.VM2, "eth0"),
        (n.GW, "tenant0"),
        (n.GW, "uplink0"),
        (n.GW2, "tenant0"),
        (n.GW2, "uplink0"),
        (n.INET, "up0"),
        *((n.BRIDGE, port) for port in ("vm1", "vm2", "gw", "gw2", "gw-up", "gw2-up", "inet")),
    ],
)
def test_offloads_are_off_on_every_veth_end(ns, dev):
    assert netns.offloads_on(ns, dev) == []


def test_no_server_of_the_lab_listens_on_the_machine_itself():
    host = os.stat("/proc/self/ns/net").st_ino
    for program in lab_module.describe()["servers"]:
        assert os.stat(f"/proc/{program['pid']}/ns/net").st_ino != host, program


@pytest.mark.parametrize("address", [n.V4ONLY, n.V6ONLY])
def test_servers_of_the_internet_answer(address):
    assert tools.curl(n.INET, f"http://{servers.bracketed(address)}/") == servers.page("inet")
    with tools.udp(n.INET, address) as s:
        s.sendto(b"hello", (address, n.ECHO_PORT))
        data, peer = s.recvfrom(100)
        assert (data, peer[0]) == (b"hello", address)


def test_the_web_server_takes_uploads(tmp_path):
    (tmp_path / "up").write_bytes(os.urandom(100_000))
    url = f"http://{n.V4ONLY}/upload/test"
    tools.curl(n.INET, url, "-T", tmp_path / "up")
    landed = n.RUN / "web-inet/www/upload/test"
    assert landed.read_bytes() == (tmp_path / "up").read_bytes()
    landed.unlink()


def test_the_tcp_echo_returns_everything_and_then_the_end():
    sent = os.urandom(3_000_000)
    with tools.tcp_client(n.VM1, n.VM2_ADDR, n.ECHO_PORT) as s:
        reader = tools.Background(tools.receive_all, s)
        s.sendall(sent)
        s.shutdown(socket.SHUT_WR)
        assert reader.result() == sent


def test_ssh_lets_the_labs_key_in():
    options = ["-i", n.RUN / "client_key", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]
    options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5"]
    assert tools.vm1("ssh", *options, f"root@{n.VM2_ADDR}", "echo $SSH_CONNECTION").split()[0] == n.VM1_ADDR


@pytest.mark.parametrize("host, address, names", [("vm1", n.VM1_ADDR, ["site1.example", "a.wild.example"]), ("vm2", n.VM2_ADDR, ["site2.example"])])
def test_the_sites_servers_have_certificates_for_their_names(host, address, names):
    """Those of cw-vm2 want to be told who the client is, and believe it."""
    told = ["--haproxy-protocol"] if host == "vm2" else []
    for name in names:
        for scheme, port, options, version in (
            ("http", 80, [], "1.1"),
            ("https", 443, [], "2.0"),
            ("https", 443, ["--http1.1"], "1.1"),
            ("http", 8080, ["--http2-prior-knowledge"], "2.0"),
        ):
            reach = ["--cacert", n.CA, "--resolve", f"{name}:{port}:[{address}]", *options]
            got = tools.curl(n.VM1, f"{scheme}://{name}:{port}/host", *reach, *told)
            assert got == f"{scheme} {name} {port} HTTP/{version}\n"
    log = (n.RUN / f"web-{host}/access.log").read_text()
    assert f"{n.VM1_ADDR} " in log and names[0] in log
    if told:
        refused = netns.ns_run(n.VM1, "curl", "-sS", "--max-time", "5", f"http://[{address}]/", check=False)
        assert refused.returncode != 0, refused.stdout


def test_vms_see_each_other_through_the_bridge():
    tools.ping(n.VM1, n.VM2_ADDR)


def test_the_kernel_of_the_gateway_says_nothing(tmp_path):
    """What is sent to cw-gw without Causeway is answered by nobody: no ARP, no ND, no ICMP."""
    with tools.closing(tools.Wire()) as (wire,):
        # Let go by what hosts still have to say.
        wire._settle(0.3, 3)
        for ns, address in (
            (n.INET, n.GW_UPLINK4),
            (n.INET, n.GW_UPLINK6),
            (n.VM1, n.GW_TENANT_LL + "%eth0"),
            (n.VM1, n.GW_TENANT),
        ):
            assert netns.ns_run(ns, "ping", "-n", "-c1", "-W1", address, check=False).returncode != 0
        seen = wire._settle(0.3, 3)
        assert [1 for _, to_gateway, _ in seen if to_gateway], (
            "nothing reached the gateway: this test proves nothing"
        )
        assert [data.hex() for _, to_gateway, data in seen if not to_gateway] == []


def test_native_ipv6_passes_the_topology(linux_gateway, capture):
    """With any router in cw-gw, tenants reach the IPv6 Internet and are reached from it."""
    capture(n.VM1, "eth0")
    capture(n.INET, "up0")
    tools.ping(n.VM1, n.V6ONLY)
    tools.ping(n.INET, n.VM2_ADDR)
    assert tools.curl(n.VM1, f"http://[{n.V6ONLY}]/") == servers.page("inet")
    assert tools.curl(n.INET, f"http://[{n.VM1_ADDR}]/") == servers.page("vm1")


def test_up_again_changes_nothing():
    before = lab_module.describe()
    assert "already up" in lab_command("up", "--no-gateway")
    assert lab_module.describe() == before


def test_up_with_other_options_is_refused():
    done = subprocess.run([LAB, "up", "--bare", "--no-gateway"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "other options" in done.stderr


def test_status_tells_when_a_server_died():
    victim = lab_module.describe()["servers"][1]
    netns.end(victim["pid"])
    try:
        done = subprocess.run([LAB, "status", "--json"], capture_output=True, text=True)
        assert done.returncode == 1
        assert json.loads(done.stdout)["state"] == "broken"
        assert victim["name"] in " ".join(json.loads(done.stdout)["problems"])
    finally:
        server = next(s for s in all_commands() if s.name == victim["name"])
        lab_module.start_process(server.name, server.ns, server.command)


def all_commands():
    """The echo server needs no files, so it can be started again by itself."""
    return [servers.echo(n.INET, "inet", [n.V4ONLY, n.V6ONLY])]


def test_exec_passes_arguments_and_the_exit_code():
    done = subprocess.run(
        [LAB, "exec", "cw-vm1", "--", "sh", "-c", 'echo "$1"; exit 7', "sh", "two  words"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (7, "two  words\n")


def test_exec_in_no_namespace_says_so():
    done = subprocess.run([LAB, "exec", "cw-nowhere", "--", "true"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "no namespace cw-nowhere" in done.stderr


class TestDown:
    """These take the lab down, so they come last."""

    def test_a_missing_appliance_is_a_clear_error_and_leaves_nothing(self):
        lab_command("down")
        env = os.environ | {"CAUSEWAY_BIN": "/nonexistent/causeway"}
        done = subprocess.run([LAB, "up", "--bare"], capture_output=True, text=True, env=env)
        assert done.returncode == 1
        assert "/nonexistent/causeway does not exist" in done.stderr
        assert lab_module.describe()["state"] == "down"

    def test_an_appliance_that_ends_at_once_is_reported_with_its_log(self, tmp_path):
        program = tmp_path / "causeway"
        program.write_text("#!/bin/sh\necho no such port >&2\nexit 1\n")
        program.chmod(0o755)
        config = tmp_path / "lab.toml"
        config.write_text("")
        env = os.environ | {"CAUSEWAY_BIN": str(program)}
        done = subprocess.run(
            [LAB, "up", "--bare", "--config", config], capture_output=True, text=True, env=env
        )
        assert done.returncode == 1
        assert "exit code 1" in done.stderr and "no such port" in done.stderr
        assert lab_module.describe()["state"] == "down"

    def test_a_half_made_lab_is_noticed_and_taken_down(self):
        netns.run("ip", "netns", "add", n.VM1)
        sleeper = subprocess.Popen(netns.in_ns(n.VM1, "sleep", "1000"))
        try:
            deadline = time.monotonic() + 5
            while sleeper.pid not in netns.pids(n.VM1):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            done = subprocess.run([LAB, "up", "--bare", "--no-gateway"], capture_output=True, text=True)
            assert done.returncode == 1 and "broken" in done.stderr
            lab_command("down")
            assert sleeper.wait(5) != 0
        finally:
            sleeper.kill()
            sleeper.wait()
        assert lab_module.describe()["state"] == "down"

    def test_interrupted_while_coming_up_it_cleans_up(self, tmp_path):
        program = tmp_path / "causeway"
        program.write_text('#!/bin/sh\n[ "$1" = run ] || exit 1\nexec sleep 1000\n')
        program.chmod(0o755)
        config = tmp_path / "lab.toml"
        config.write_text("")
        env = os.environ | {"CAUSEWAY_BIN": str(program)}
        up = subprocess.Popen(
            [LAB, "up", "--bare", "--config", config], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
        )
        try:
            pid_file = n.RUN / "causeway.pid"
            tools.wait_until(pid_file.exists, 10)
            pid = int(tools.wait_until(lambda: pid_file.exists() and pid_file.read_text().split())[0])
            up.terminate()
            assert up.wait(20) == 1
        finally:
            up.kill()
            up.communicate()
        assert netns.start_time(pid) is None
        assert lab_module.describe()["state"] == "down"

    def test_down_leaves_no_namespace_link_or_pid_file(self):
        lab_command("up", "--no-gateway")
        running = [p["pid"] for p in lab_module.describe()["servers"]]
        lab_command("down")
        assert [ns for ns in n.NAMESPACES if Path("/run/netns", ns).exists()] == []
        assert [p for p in running if netns.start_time(p) is not None] == []
        assert [p for p in n.RUN.iterdir() if p.suffix != ".log"] == []
        lab_command("down")

"""Starting, stopping, refusing to start: exit codes, messages, and what is left behind."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time

import pytest

import lab as lab_module
import netns
import network as n
import tools

pytestmark = pytest.mark.usefixtures("bare_network")

BINARY = lab_module.binary()


class Gateway:
    """A gateway that the test runs itself, to see its exit code and what it says."""

    def __init__(self, config=n.CONFIG, ns=n.GW):
        self.log = open(n.RUN / "lifecycle.log", "w+b")
        self.process = subprocess.Popen(
            netns.in_ns(ns, BINARY, "run", "--config", config),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def ready(self):
        def it_is():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.said()}"
            return lab_module.not_ready(BINARY) is None

        tools.wait_until(
            it_is,
            lab_module.READY_SECONDS,
            lambda: f"not ready: {lab_module.not_ready(BINARY)}; {self.said()[-2000:]}",
        )
        return self

    def end(self, sig=signal.SIGTERM, seconds=lab_module.STOP_SECONDS):
        self.process.send_signal(sig)
        return self.process.wait(seconds)


@contextlib.contextmanager
def gateway(*args, **kw):
    g = Gateway(*args, **kw)
    try:
        yield g
    finally:
        if g.process.poll() is None:
            g.process.terminate()
            try:
                g.process.wait(lab_module.STOP_SECONDS)
            except subprocess.TimeoutExpired:
                g.process.kill()
                g.process.wait()
        g.log.close()


def nothing_left():
    """No control socket that answers or lies about, and no DPDK files of a primary process."""
    assert not n.SOCKET.exists()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_code_0(sig):
    with gateway() as g:
        g.ready()
        assert g.end(sig) == 0, g.said()
        said = g.said()
    assert "panicked" not in said
    nothing_left()


def test_a_signal_under_load_ends_it_with_exit_code_0():
    with gateway() as g:
        g.ready()
        flood = [
            subprocess.Popen(
                netns.in_ns(n.VM1, "ping", "-n", "-f", "-s", "1000", "-w", "20", a),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for a in (n.V6ONLY, n.nat64(n.V4ONLY))
        ]
        try:
            time.sleep(1.5)
            assert g.end() == 0, g.said()
            assert "panicked" not in g.said()
        finally:
            for f in flood:
                f.terminate()
            for f in flood:
                f.wait(5)
    nothing_left()


def test_it_starts_again_and_again():
    for _ in range(3):
        with gateway() as g:
            g.ready()
            assert g.end() == 0, g.said()


def test_a_dead_gateways_socket_is_replaced():
    """After a crash the socket file is still there; the next start takes it over."""
    with gateway() as g:
        g.ready()
        g.process.kill()
        g.process.wait()
    with gateway() as g:
        g.ready()
        assert g.end() == 0


def test_a_second_instance_is_refused_with_exit_code_1_and_the_first_goes_on():
    with gateway() as first:
        first.ready()
        second = netns.ns_run(n.GW, BINARY, "run", "--config", n.CONFIG, check=False, timeout=30)
        assert second.returncode == 1, second.stderr
        assert str(n.SOCKET) in second.stderr + second.stdout
        assert "panicked" not in second.stderr
        assert first.process.poll() is None
        tools.ping(n.VM1, n.V6ONLY)
        tools.ping(n.VM1, n.nat64(n.V4ONLY))
        assert first.end() == 0


def test_a_missing_device_is_named_with_exit_code_1(tmp_path):
    config = changed(tmp_path, "iface=uplink0", "iface=nosuch0")
    done = netns.ns_run(n.GW, BINARY, "run", "--config", config, check=False, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "nosuch0" in done.stderr + done.stdout
    assert "panicked" not in done.stderr
    nothing_left()


def test_without_permission_it_says_so_with_exit_code_1():
    done = netns.ns_run(
        n.GW,
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
        BINARY,
        "run",
        "--config",
        n.CONFIG,
        check=False,
        timeout=60,
    )
    if done.returncode in (126, 127):
        pytest.skip("the appliance lies where only root can read it")
    assert done.returncode == 1, done.stderr
    assert "ermission" in done.stderr + done.stdout
    assert "panicked" not in done.stderr


def test_questions_to_no_gateway_fail_clearly():
    done = netns.run(BINARY, "show", "ports", "--socket", n.SOCKET, check=False)
    assert done.returncode not in (0, 2), done.stderr
    assert str(n.SOCKET) in done.stderr


# --- configurations --------------------------------------------------------------------------------


def changed(folder, *replacements, append=""):
    """The lab's configuration with pairs of texts exchanged; each must be there."""
    text = n.CONFIG.read_text()
    for old, new in zip(replacements[::2], replacements[1::2], strict=True):
        assert old in text, f"{old!r} is not in {n.CONFIG}"
        text = text.replace(old, new)
    path = folder / "lab.toml"
    path.write_text(text + append)
    return path


BAD = [
    ("an unknown key", ['name = "cw-gw"', 'name = "cw-gw"\ncolour = "blue"'], "", ["gateway.colour"]),
    ("an unknown section", [], "\n[nat46]\nx = 1\n", ["nat46"]),
    ("a wrong type", ['name = "cw-gw"', "name = 5"], "", ["gateway.name", "5"]),
    ("no TOML at all", [], "\n[[[\n", []),
    ("a router that is on no link", ['via = "192.0.2.1"', 'via = "192.0.3.1"'], "", ["route", "192.0.3.1"]),
    ("bits behind a prefix", ['prefix = "0.0.0.0/0"', 'prefix = "10.0.0.1/8"'], "", ["route", "10.0.0.1/8"]),
    (
        "overlapping pools",
        ['pool = ["203.0.113.0/28"]', 'pool = ["203.0.113.0/28", "203.0.113.8/29"]'],
        "",
        ["nat64.pool[1]", "203.0.113.8/29"],
    ),
    (
        "a pool with an own address",
        ['pool = ["203.0.113.0/28"]', 'pool = ["192.0.2.0/28"]'],
        "",
        ["nat64.pool[0]", "192.0.2.3"],
    ),
    ("no room for sessions", [], "\n[capacity]\nsessions = 0\n", ["capacity.sessions", "0"]),
    (
        "a NAT64 prefix of a length that is none",
        ["2001:db8:64:ff9b::/96", "2001:db8:64:ff00::/60"],
        "",
        ["nat64.prefixes[0]", "/60"],
    ),
    (
        "the well-known prefix with a documentation pool (RFC 6052 3.1)",
        ["2001:db8:64:ff9b::/96", "64:ff9b::/96"],
        "",
        ["nat64"],
    ),
    ("an unknown profile", ['profile = "veth"', 'profile = "vath"'], "", ["gateway.profile", "vath"]),
    ("an address that is none", ['"192.0.2.3/24"', '"192.0.2.256/24"'], "", ["addresses4", "192.0.2.256/24"]),
    (
        "a link-local address that is none",
        ['on-link = ["2001:db8:64::/64"]', 'on-link = ["2001:db8:64::/64"]\nlink-local = "2001:db8::1"'],
        "",
        ["link-local", "2001:db8::1"],
    ),
    ("a port of no name", ['port = "tenant0"', 'port = "tenant7"'], "", ["port", "tenant7"]),
]


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("sentence, replacements, append, wanted", BAD, ids=[b[0] for b in BAD])
def test_a_bad_configuration_is_refused_with_exit_code_2(
    tmp_path, command, sentence, replacements, append, wanted
):
    """The message names the file, the key and the value; nothing is started."""
    config = changed(tmp_path, *replacements, append=append)
    done = netns.ns_run(n.GW, BINARY, command, "--config", config, check=False, timeout=20)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert str(config) in done.stderr
    for piece in wanted:
        assert piece in done.stderr, done.stderr
    assert "panicked" not in done.stderr
    nothing_left()


def test_a_missing_file_is_named_with_exit_code_2():
    done = netns.run(BINARY, "check", "--config", "/nonexistent.toml", check=False)
    assert done.returncode == 2
    assert "/nonexistent.toml" in done.stderr


def test_check_takes_the_labs_configuration_and_prints_the_plan():
    done = netns.run(BINARY, "check", "--config", n.CONFIG)
    for piece in ("tenant0", "uplink0", f"{n.NAT64_PREFIX}/96", n.POOL4, n.GW_TENANT):
        assert piece in done.stdout


def test_check_needs_neither_root_nor_devices():
    done = netns.run(
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
        BINARY,
        "check",
        "--config",
        n.CONFIG,
        check=False,
    )
    if done.returncode in (126, 127) or "ermission" in done.stderr:
        pytest.skip("the appliance lies where only root can read it")
    assert done.returncode == 0, done.stderr


def test_help_and_version():
    assert "run" in netns.run(BINARY, "--help").stdout
    assert re.search(r"\d+\.\d+\.\d+", netns.run(BINARY, "--version").stdout)


def test_wrong_usage_is_exit_code_2():
    assert netns.run(BINARY, "walk", check=False).returncode == 2


def test_hardware_profiles_are_listed_without_a_gateway():
    text = netns.run(BINARY, "hw", "list").stdout
    for profile in ("veth", "null", "ixgbe", "i40e", "ice", "igb", "igc"):
        assert profile in text
    assert "82599" in netns.run(BINARY, "hw", "show", "ixgbe").stdout
    assert netns.run(BINARY, "hw", "detect", check=False).returncode == 0
    assert netns.run(BINARY, "hw", "show", "nosuch", check=False).returncode != 0


# --- a smaller MTU ---------------------------------------------------------------------------------


def test_rfc4443_3_2_packet_too_big_of_the_gateway_itself(tmp_path):
    """The uplink carries less than the tenant link: the gateway says so, natively and for NAT64."""
    text = n.CONFIG.read_text()
    at = text.index('role = "uplink"')
    config = tmp_path / "lab.toml"
    config.write_text(text[:at] + "mtu = 1400\n" + text[at:])
    with gateway(config=config) as g:
        g.ready()
        for address, wanted in ((n.V6ONLY, 1400), (n.nat64(n.V4ONLY), 1420)):
            with tools.udp(n.VM1) as s:
                s.setsockopt(socket.IPPROTO_IPV6, 23, 2)  # IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO
                s.connect((address, 9))
                s.send(os.urandom(1440))

                def too_big(s=s):
                    try:
                        s.send(bytes(1440))
                    except OSError as e:
                        return e.errno == 90  # EMSGSIZE
                    return False

                tools.wait_until(too_big, 3, f"{address}: never heard of the MTU")
                assert s.getsockopt(socket.IPPROTO_IPV6, 24) == wanted  # IPV6_MTU
        tools.flush_route_caches()
        assert g.end() == 0

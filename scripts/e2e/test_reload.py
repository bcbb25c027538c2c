"""Live reload: sessions and traffic go on, what needs a restart is refused by name."""

import shutil
import signal
import time

import pytest

import gateway as gw
import lab as lab_module
import netns
import network as n
import tools
from conftest import lab_of

TARGET = n.nat64(n.V4ONLY)
EXTRA_ROUTE = '\n[[route]]\nprefix = "2001:db8:7777::/48"\nvia = "unreachable"\n'


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A copy of the lab's configuration, for changing."""
    path = tmp_path_factory.mktemp("reload") / "lab.toml"
    shutil.copy(n.CONFIG, path)
    return path


@pytest.fixture(scope="module", autouse=True)
def reload_lab(config):
    yield from lab_of(config=config)


@pytest.fixture(autouse=True)
def as_it_was(config):
    yield
    shutil.copy(n.CONFIG, config)
    reload_by_command()


def reload_by_command(check=True):
    return gw.causeway("reload", "--socket", n.SOCKET, check=check)


def reload_by_signal():
    import os

    pid, _ = lab_module.read_pid(lab_module.GATEWAY)
    os.kill(pid, signal.SIGHUP)


def unreachable(address):
    out = netns.ns_run(n.VM1, "ping", "-n", "-c1", "-W1", address, check=False).stdout
    return "Destination unreachable" in out


@pytest.mark.parametrize("by", [reload_by_command, reload_by_signal], ids=["command", "sighup"])
def test_a_changed_configuration_is_adopted_and_sessions_go_on(config, by):
    with tools.tcp_client(n.VM1, TARGET, n.ECHO_PORT) as s:
        s.sendall(b"before")
        assert tools.receive_all(s, 6) == b"before"
        port = str(s.getsockname()[1])
        config.write_text(n.CONFIG.read_text() + EXTRA_ROUTE)
        by()
        tools.wait_until(
            lambda: "2001:db8:7777::/48" in gw.causeway("show", "plan", "--socket", n.SOCKET).stdout,
            5,
            "the new plan never came",
        )
        s.sendall(b"after")
        assert tools.receive_all(s, 5) == b"after"
        assert [r for r in map(str, gw.sessions()) if port in r]
    tools.wait_until(lambda: unreachable("2001:db8:7777::1"), 5, "the new route is not in use")


def test_no_packet_is_lost_while_plans_change(config):
    """20 reloads under a running ping: every request is answered."""
    ping = tools.Background(lambda: tools.ping(n.VM1, TARGET, count=40))
    for i in range(20):
        config.write_text(n.CONFIG.read_text() + (EXTRA_ROUTE if i % 2 else ""))
        reload_by_command()
        time.sleep(0.05)
    ping.result()


def test_a_bad_configuration_is_refused_and_nothing_changes(config):
    config.write_text(n.CONFIG.read_text().replace("203.0.113.0/28", "203.0.113.1/28"))
    done = reload_by_command(check=False)
    assert done.returncode not in (0,), done.stdout
    assert "nat64.pool[0]" in done.stderr and str(config) in done.stderr
    tools.ping(n.VM1, TARGET)


def test_a_bad_configuration_at_a_signal_changes_nothing(config):
    config.write_text("[[[")
    reload_by_signal()
    time.sleep(0.5)
    tools.ping(n.VM1, TARGET)
    tools.ping(n.VM1, n.V6ONLY)
    # There is nobody else to tell: it is in the log.
    assert str(config) in n.GATEWAY_LOG.read_text()


@pytest.mark.parametrize(
    "old, new, key",
    [
        ("iface=tenant0", "iface=tenant9", "port"),
        ('name = "cw-gw"', 'name = "cw-gw"\nworkers = 2', "gateway"),
    ],
    ids=["another device", "another number of workers"],
)
def test_what_needs_a_restart_is_refused_by_name(config, old, new, key):
    text = n.CONFIG.read_text()
    assert old in text
    config.write_text(text.replace(old, new) + EXTRA_ROUTE)
    done = reload_by_command(check=False)
    assert done.returncode != 0
    assert key in done.stderr and "restart" in done.stderr
    # Nothing of it was applied, not even what could have been.
    assert "2001:db8:7777::/48" not in gw.causeway("show", "plan", "--socket", n.SOCKET).stdout
    tools.ping(n.VM1, TARGET)

"""Parts of the lab that need no lab: what is read from configurations, and how streams of pings are judged."""

import failover
import lab as lab_module
import netns
import pytest

NETWORKS = """
[[network]]
name = "t"
role = "tenant"
{tenant}

[[network]]
name = "u"
role = "uplink"
addresses6 = ["2001:db8:ffff::3/64"]
addresses4 = ["192.0.2.3/24"]
"""


@pytest.mark.parametrize(
    "text, wanted",
    [
        (NETWORKS.format(tenant=""), (False, False, ["192.0.2.3", "2001:db8:ffff::3"])),
        (NETWORKS.format(tenant="[network.dhcpv6]"), (True, False, ["192.0.2.3", "2001:db8:ffff::3"])),
        (NETWORKS.format(tenant="") + "[vrrp]\n", (False, True, ["192.0.2.3", "2001:db8:ffff::3"])),
        ("", (False, False, [])),
        ("[[[", (False, False, [])),
        ("network = 5\n", (False, False, [])),
    ],
)
def test_what_decides_how_the_lab_comes_up(tmp_path, text, wanted):
    path = tmp_path / "lab.toml"
    path.write_text(text)
    got = lab_module.settings(path)
    assert (got["dhcp"], got["vrrp"], got["own"]) == wanted


def seen(sent, lost=(), twice=0):
    """What a stream saw: so many requests 10 ms apart, each answered 1 ms later but for those that were lost."""
    times = [100 + i / 100 for i in range(sent)]
    came = [(i, at + 0.001) for i, at in enumerate(times) if i not in lost]
    return {"sent": times, "came": came, "twice": twice}


def test_a_stream_without_loss():
    got = failover.judge(seen(10))
    assert got == {"sent": 10, "lost": 0, "lost_for_ms": 0.0, "longest_silence_ms": 10.0, "duplicates": 0}


def test_the_longest_row_of_lost_ones_is_told_in_time():
    got = failover.judge(seen(60, lost=[3, *range(20, 45)], twice=1))
    assert (got["sent"], got["lost"], got["duplicates"]) == (60, 26, 1)
    assert (got["lost_for_ms"], got["longest_silence_ms"]) == (250.0, 260.0)


def test_lost_ones_at_the_end_count():
    got = failover.judge(seen(10, lost=[8, 9]))
    assert (got["lost"], got["lost_for_ms"]) == (2, 20.0)


def test_a_stream_without_any_answer_is_a_failure():
    with pytest.raises(netns.Failure, match="none of 5"):
        failover.judge(seen(5, lost=range(5)))


@pytest.mark.parametrize("keys", ['priority = 100\ninterval = "1s"', "priority = 100"])
def test_another_interval_is_put_into_the_section_and_nowhere_else(tmp_path, keys):
    path = tmp_path / "lab.toml"
    path.write_text(f'[network.ra]\ninterval = "9s"\n[vrrp]\n{keys}\n[[vrrp.router]]\nvrid = 1\n')
    text = failover.with_interval(path, "30ms", tmp_path / "other.toml").read_text()
    assert text.count('interval = "30ms"') == 1 and text.count('interval = "9s"') == 1
    assert '"1s"' not in text and "priority = 100" in text
    assert text.index("[vrrp]") < text.index('interval = "30ms"') < text.index("[[vrrp.router]]")


@pytest.mark.parametrize(
    "interval, priority, wanted", [("100ms", 100, 300 + 60.9375 + 20), ("1s", 50, 3000 + 804.6875 + 20)]
)
def test_rfc9568_6_1_how_long_the_second_may_wait(tmp_path, interval, priority, wanted):
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text(f'[vrrp]\npriority = 150\ninterval = "{interval}"\n')
    second.write_text(f'[vrrp]\npriority = {priority}\ninterval = "{interval}"\n')
    assert failover.bound_ms(first, second) == wanted


def test_without_vrrp_there_is_no_bound(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[gateway]\n")
    with pytest.raises(netns.Failure, match=r"no section \[vrrp\]"):
        failover.bound_ms(path, path)

"""Two Causeways: one group, one lease store, and a stream of pings that hardly notices when one goes."""

import contextlib
import json
import os
import time

import failover
import firsthop as f
import gateway as gw
import lab as lab_module
import netns
import network as n
import pytest
import tools
from conftest import lab_of
from scapy.layers.inet6 import ICMPv6ND_NA, IPv6
from scapy.layers.l2 import Ether

PRIORITY = {n.GW: 100, n.GW2: 90}
# What a stream may lose beyond the protocol's own time.
SLACK_MS = 20


class Pair:
    """The lab with both gateways at one interval."""

    def __init__(self, folder, interval_ms):
        self.folder, self.interval_ms = folder, interval_ms
        self.config = {}
        (folder / "secret").write_text(os.urandom(16).hex())
        (folder / "secret").chmod(0o600)

    def write(self, which, more=""):
        side = "listen" if which is n.FIRST else "connect"
        peer = (
            f'\n[dhcpv6.peer]\n{side} = "unix:{self.folder}/pair.sock"\n'
            f'secret-file = "{self.folder}/secret"\n'
        )
        self.config[which] = f.write(
            self.folder / f"{which.ns}-lab.toml",
            which,
            vrrp=f'priority = {PRIORITY[which.ns]}\ninterval = "{self.interval_ms}ms"\n{more}',
            server=peer,
        )
        return self.config[which]

    def bound_ms(self, survivor):
        """Three intervals, the skew of who takes over (RFC 9568 6.1), and what is ours."""
        skew = (256 - PRIORITY[survivor.ns]) * self.interval_ms / 256
        return 3 * self.interval_ms + skew + SLACK_MS

    def start(self, which):
        lab_module.start_gateway(self.config[which], which)

    def settle(self):
        """Both run, and the better one is active and has been for a while."""
        for which in n.GATEWAYS.values():
            if not lab_module.read_pid(which.process):
                self.start(which)
        tools.wait_until(lambda: failover.active() is n.FIRST, 15, "cw-gw is not active")
        time.sleep(0.5)


class Pairs:
    """The lab of this module, made anew when another interval is wanted."""

    def __init__(self):
        self.pair = None
        self.stack = contextlib.ExitStack()

    def want(self, interval_ms):
        if self.pair is None or self.pair.interval_ms != interval_ms:
            self.close()
            self.pair = Pair(self.stack.enter_context(f.folder_of("pair")), interval_ms)
            first, second = self.pair.write(n.FIRST), self.pair.write(n.SECOND)
            up = contextlib.contextmanager(lab_of)
            allowed = ("peer", "VRRP", "vrrp")
            self.stack.enter_context(up("--bare", "--pair", config=first, config2=second, allowed=allowed))
        return self.pair

    def close(self):
        self.pair = None
        self.stack.close()


@pytest.fixture(scope="module")
def pairs():
    made = Pairs()
    yield made
    made.close()


@pytest.fixture
def pair(pairs, request):
    """Both gateways, at the interval of the test's class (100 ms without)."""
    return pairs.want(getattr(request.cls, "INTERVAL_MS", 100))


@pytest.fixture(autouse=True)
def settled(pair):
    pair.settle()


@pytest.fixture
def raw(pair):
    """Makes clients octet by octet, each at a link end of its own."""
    from conftest import HOSTS

    with contextlib.ExitStack() as stack:

        def make():
            number = next(HOSTS)
            h = stack.enter_context(f.host(f"h{number}", f"02:00:00:00:{0x20 + number // 256:02x}:{number % 256:02x}"))
            netns.sysctl(h.ns, {f"net.ipv6.conf.eth0.{k}": 0 for k in ("accept_ra", "router_solicitations")})
            h.up()
            return stack.enter_context(contextlib.closing(f.Raw(h.ns, h.mac)))

        yield make


def judge(rows, bound):
    (row,) = rows
    assert row["lost_for_ms"] <= bound, f"{row}: more than {bound:.0f} ms"
    return row


# --- the stream ------------------------------------------------------------------------------------


class TestStream:
    INTERVAL_MS = 100

    def test_without_an_event_nothing_is_lost(self):
        (row,) = failover.during(lambda: time.sleep(1), [n.V6ONLY])
        assert (row["lost"], row["duplicates"]) == (0, 0)

    @pytest.mark.parametrize("turn", range(2))
    def test_kill_9_of_the_active_one(self, pair, turn):
        rows = failover.during(lambda: lab_module.kill_gateway(n.FIRST), [n.V6ONLY], n.SECOND)
        print(json.dumps(rows))
        judge(rows, pair.bound_ms(n.SECOND))

    @pytest.mark.parametrize("turn", range(2))
    def test_an_ordered_stop_loses_nothing(self, turn):
        rows = failover.during(f.stop, [n.V6ONLY], n.SECOND)
        print(json.dumps(rows))
        judge(rows, 0)

    def test_from_outside_as_well(self, pair):
        """What comes from the Internet finds the new gateway too: the uplink's addresses move along."""
        stream = failover.Stream(n.INET, n.VM1_ADDR)
        time.sleep(0.5)
        lab_module.kill_gateway(n.FIRST)
        tools.wait_until(lambda: failover.active() is n.SECOND, 10)
        time.sleep(1)
        judge([stream.stop()], pair.bound_ms(n.SECOND))


def test_the_better_one_comes_back(pair):
    """Preemption: both have been heard of by then; hardly anything is lost."""
    lab_module.kill_gateway(n.FIRST)
    tools.wait_until(lambda: failover.active() is n.SECOND, 10)
    rows = failover.during(lambda: pair.start(n.FIRST), [n.V6ONLY], n.FIRST)
    judge(rows, pair.bound_ms(n.FIRST))


def test_the_death_of_the_standby_is_not_noticed(pair):
    rows = failover.during(lambda: lab_module.kill_gateway(n.SECOND), [n.V6ONLY])
    judge(rows, 0)
    rows = failover.during(lambda: pair.start(n.SECOND), [n.V6ONLY])
    judge(rows, 0)
    assert failover.active() is n.FIRST


def test_nat64_goes_on_after_a_failover():
    lab_module.kill_gateway(n.FIRST)
    tools.wait_until(lambda: failover.active() is n.SECOND, 10)
    tools.ping(n.VM1, n.nat64(n.V4ONLY))


# --- the standby -----------------------------------------------------------------------------------


def test_one_is_active_and_says_so():
    states = {}
    for which in n.GATEWAYS.values():
        done = netns.run(lab_module.binary(), "show", "vrrp", "--socket", which.socket)
        states[which.ns] = done.stdout.lower()
    assert "active" in states[n.GW] and "backup" in states[n.GW2]


def test_the_standby_answers_for_its_own_addresses_only():
    tools.ping(n.INET, n.GW_OWN4)
    tools.ping(n.INET, n.GW2_OWN4)
    tools.ping(n.INET, n.GW2_OWN6)
    out = netns.ns_run(n.INET, "arping", "-c", "3", "-w", "5", "-I", "up0", n.GW_UPLINK4).stdout.lower()
    assert out.count(n.VRRP_MAC4) == 3 and "received 3 response" in out, out


def test_each_question_has_one_answer(raw):
    """Solicitations of ND and DHCPv6: the standby is silent."""
    client = raw()
    advertises = []
    client.send(client.message(f.SOLICIT, f.ia_na(1)))
    advertises = list(client.replies(1.0))
    assert len(advertises) == 1
    answers = [d for _, d in client.heard if ICMPv6ND_NA in Ether(d) and Ether(d)[IPv6].src == n.GW_TENANT_LL]
    assert len(answers) <= 1


def test_nobody_flaps():
    """In some seconds without an event nobody changes."""
    before = gw.counters()
    time.sleep(3)
    after = gw.counters()
    for name in ("vrrp-became-active", "vrrp-became-backup"):
        assert after.get(name, 0) == before.get(name, 0)


# --- leases ----------------------------------------------------------------------------------------


def lease_at(which, address):
    return [r for r in f.leases("--address", address, which=which) if r["state"] == "active"]


def test_a_lease_is_at_the_standby_before_its_reply(raw):
    for _ in range(5):
        client = raw()
        address, _ = client.bind()
        assert [r["mac"] for r in lease_at(n.SECOND, address)] == [client.mac]


def test_the_survivor_renews_what_the_other_gave(raw):
    clients = [raw() for _ in range(5)]
    told = {c: c.bind()[0] for c in clients}
    server = clients[0].server_id
    lab_module.kill_gateway(n.FIRST)
    tools.wait_until(lambda: failover.active() is n.SECOND, 10)
    for client, address in told.items():
        # One server to clients: its identifier is the same (a Renew to another would be ignored).
        assert client.renew(address).leases == [address]
    # Reservations always; and nobody gets what somebody has.
    clients[0].solicit(f.ia_na(9))
    assert clients[0].server_id == server
    # (New clients wait until it may be sure that the other is gone.)
    offered = {address for _ in range(3) for address in raw().solicit(f.ia_na(1)).leases}
    assert not offered & set(told.values())


def test_new_leases_of_the_survivor_come_back_to_the_first(pair, raw):
    lab_module.kill_gateway(n.FIRST)
    tools.wait_until(lambda: failover.active() is n.SECOND, 10)
    client = raw()

    def bound():
        # Alone it gives no new dynamic lease for a while (until it may be sure that the other is gone).
        got = client.solicit(f.ia_na(1))
        return client.request(f.ia_na(1, *got.leases)).leases if got.leases else None

    (address,) = tools.wait_until(bound, 30, "the survivor gives no new lease")
    pair.start(n.FIRST)
    tools.wait_until(lambda: failover.active() is n.FIRST, 15)
    tools.wait_until(lambda: lease_at(n.FIRST, address), 10, "the first gateway never learned of it")
    assert client.renew(address).leases == [address]


def test_a_standby_that_was_away_gets_what_it_missed(pair, raw):
    f.stop(n.SECOND)
    client = raw()

    def bound():
        got = client.solicit(f.ia_na(1))
        return client.request(f.ia_na(1, *got.leases)).leases if got.leases else None

    (address,) = tools.wait_until(bound, 30, "no new lease without the peer")
    pair.start(n.SECOND)
    tools.wait_until(lambda: lease_at(n.SECOND, address), 10, "the standby never learned of it")


def test_the_labs_servers_live_through_it():
    """Their default route and addresses are the same before and after; nothing has to be told to them."""
    before = {ns: (f.clients.addresses(ns), f.has_gateway(ns)) for ns in (n.VM1, n.VM2)}
    lab_module.kill_gateway(n.FIRST)
    tools.wait_until(lambda: failover.active() is n.SECOND, 10)
    for ns, address in ((n.VM1, n.VM1_ADDR), (n.VM2, n.VM2_ADDR)):
        assert (f.clients.addresses(ns), f.has_gateway(ns)) == before[ns] == ([address], True)
        tools.ping(ns, n.V6ONLY)


def test_show_peer_tells(pair):
    done = netns.run(lab_module.binary(), "show", "peer", "--json", "--socket", n.SOCKET)
    assert json.loads(done.stdout)


class TestStreamAt30ms(TestStream):
    INTERVAL_MS = 30

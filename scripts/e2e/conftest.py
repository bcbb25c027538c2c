"""Fixtures of the end-to-end tests: the lab, once per module, and what must hold when it goes down."""

import contextlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lib")]

import lab as lab_module
import netns
import network as n
import tools

LAB = HERE.parent / "lab"

# Numbers of the hosts that tests make: no two have the same name or MAC address.
HOSTS = itertools.count(1)


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        raise pytest.UsageError("the end-to-end tests make network namespaces: run them as root")


def lab_command(*args):
    done = subprocess.run([LAB, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"scripts/lab {' '.join(args)}: {done.stdout}{done.stderr}"
    return done.stdout


def lab_of(*options, config=None, config2=None, allowed=()):
    """A lab for one module. It goes down whatever happens, and the gateway must have ended well. `allowed` are texts
    of errors in its log that the tests bring about themselves."""
    state = lab_module.describe()["state"]
    if state == "up":
        pytest.exit("a lab is up, and it may be somebody's: run `scripts/lab down` first", returncode=1)
    if state == "broken":
        lab_command("down")
    files = [f for flag, c in (("--config", config), ("--config2", config2)) if c for f in (flag, str(c))]
    lab_command("up", *options, *files)
    try:
        yield
    finally:
        said = lab_command("down")
    # `lab down` says so when something had to be killed.
    assert "killed" not in said, said
    if "--no-gateway" not in options:
        found = [c for c in tools.log_complaints() if not any(a in c for a in allowed)]
        assert found == [], "the gateway's log has complaints"


@pytest.fixture(scope="module", autouse=True)
def devices():
    """No program under test, and none that tests it, puts a plain file in a device's place."""
    assert Path("/dev/null").is_char_device(), "/dev/null was no device before this module: scripts/setup mends it"
    yield
    assert Path("/dev/null").is_char_device(), "this module made /dev/null a plain file"


@pytest.fixture(scope="module")
def lab():
    """The whole lab: servers and gateway."""
    yield from lab_of()


@pytest.fixture(scope="module")
def bare_network():
    """The network alone: no servers, no gateway."""
    yield from lab_of("--bare", "--no-gateway")


@pytest.fixture(scope="module")
def network_with_servers():
    """The network with its servers, but no gateway."""
    yield from lab_of("--no-gateway")


@pytest.fixture(scope="module")
def labs(request):
    """Of tests of the first hop: the lab, which changes with the settings that they want."""
    import firsthop

    with firsthop.folder_of(request.module.__name__) as folder:
        made = firsthop.Labs(folder)
        yield made
        made.close()


@pytest.fixture
def first_hop(labs, request):
    """The lab with the settings of the test's class (`LAB`) or module (`SETTINGS`); gives its configuration file."""
    return labs.want(getattr(request.cls, "LAB", None) or getattr(request.module, "SETTINGS", {}))


@pytest.fixture
def fresh(first_hop):
    """Makes hosts that nobody has seen before, with one link to the tenants' bridge, not plugged in."""
    import firsthop

    with contextlib.ExitStack() as stack:

        def make(mac=None, **kw):
            number = next(HOSTS)
            mac = mac or f"02:00:00:00:{0x20 + number // 256:02x}:{number % 256:02x}"
            return stack.enter_context(firsthop.host(f"h{number}", mac, **kw))

        yield make


@pytest.fixture
def raw(fresh):
    """Makes clients octet by octet, each at a link end that nobody has seen before. The kernels there are silent."""
    import firsthop

    with contextlib.ExitStack() as stack:

        def make(mac=None, **kw):
            h = fresh(mac)
            netns.sysctl(h.ns, {f"net.ipv6.conf.eth0.{k}": 0 for k in ("accept_ra", "router_solicitations")})
            h.up()
            return stack.enter_context(contextlib.closing(firsthop.Raw(h.ns, h.mac, **kw)))

        yield make


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    """Takes a test's name and a capture that has ended. At the module's end tshark looks for malformed packets and bad
    checksums in all of them."""
    taken = {}
    yield lambda name, c: taken.setdefault(c.where, {}).update({f"{name}, {c.path.name}": c})
    found = {}
    for together in taken.values():
        found |= tools.complaints(together, tmp_path_factory.mktemp("captures") / "all.pcapng")
    assert not found, "\n".join(f"{name}: {text[:2000]}" for name, text in found.items())


@pytest.fixture
def capture(captures, request, tmp_path):
    """Captures in a namespace, which tshark looks at when the module ends (see `captures`)."""
    started = []

    def start(ns, dev, expression=""):
        c = tools.Capture(ns, dev, tmp_path / f"{ns}-{dev}-{len(started)}.pcap", expression)
        started.append(c)
        return c

    yield start
    for c in started:
        c.stop()
        captures(request.node.name, c)


@pytest.fixture
def far_host(lab):
    """A host behind a further router (cw-inet) and a link with an MTU of 1400 octets."""
    yield from tools.far_host(1400)


@pytest.fixture
def quiet(lab):
    """Counter differences over frames that a test sends itself; see `tools.Wire`."""
    wire = tools.Wire()
    yield wire
    wire.close()


class SplicerLabs:
    """The lab of the tests of the splicer. Modules that follow each other share one."""

    def __init__(self, folder):
        self.stack, self.live, self.folder = contextlib.ExitStack(), None, folder

    def want(self):
        if self.live is None:
            try:
                self.live = self.begin()
            except BaseException:
                self.close()
                raise
        return self.live

    def begin(self):
        import splicertools as st

        if not st.STAND_IN:
            live = st.Live(self.folder / "lab.toml")
            live.splicer()
            self.stack.enter_context(contextlib.contextmanager(lab_of)(config=live.path))
            return live
        import splicing

        self.stack.enter_context(contextlib.contextmanager(lab_of)("--no-gateway"))
        splicing.kernel_gateway()
        maps = [(n.SSH_MAPS[0], n.VM1_ADDR, 22), (n.SSH_MAPS[1], n.VM2_ADDR, 22)]
        config = splicing.haproxy_config((*splicing.SITES, *st.SITES), (*splicing.LISTENERS, *st.LISTENERS), maps)
        self.stack.enter_context(splicing.haproxy(config))
        return st.StandIn()

    def close(self):
        self.live = None
        self.stack.close()


@pytest.fixture(scope="session")
def splicer_labs(tmp_path_factory):
    labs = SplicerLabs(tmp_path_factory.mktemp("splicer"))
    yield labs
    labs.close()


@pytest.fixture(scope="module")
def splicer(splicer_labs, request):
    """The lab with the sites of `splicertools`; gives what changes its settings."""
    yield splicer_labs.want()
    # Other modules want the lab otherwise.
    modules = [item.path.name for item in request.session.items]
    rest = modules[len(modules) - modules[::-1].index(request.path.name) :]
    if not rest or not rest[0].startswith("test_splicer"):
        splicer_labs.close()

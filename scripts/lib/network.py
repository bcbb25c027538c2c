"""The names and addresses of the lab. They are a contract: tests and users rely on them."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = Path("/run/causeway-lab")
LOCK = Path("/run/causeway-lab.lock")
SECRET = RUN / "pair.secret"
# The lab's certificate authority.
CA = RUN / "ca.pem"
CONFIG = ROOT / "appliance/etc/lab.toml"
CONFIG2 = ROOT / "appliance/etc/lab-gw2.toml"
DEFAULT_BINARY = ROOT / "target/release/causeway"

VM1, VM2, GW, GW2, INET, BRIDGE = "cw-vm1", "cw-vm2", "cw-gw", "cw-gw2", "cw-inet", "cw-br"
NAMESPACES = (VM1, VM2, GW, GW2, INET, BRIDGE)

# The tenant network.
TENANT_PREFIX = "2001:db8:64::/64"
GW_TENANT_LL = "fe80::1"
GW_TENANT = "2001:db8:64::1"
VM1_ADDR, VM2_ADDR = "2001:db8:64::101", "2001:db8:64::102"
VM1_MAC, VM2_MAC = "02:00:00:00:01:01", "02:00:00:00:01:02"
# The gateway's ports keep the address of their veth end. Fixed, so that captures read alike.
GW_TENANT_MAC, GW_UPLINK_MAC = "02:00:00:00:64:01", "02:00:00:00:64:02"
GW2_TENANT_MAC, GW2_UPLINK_MAC = "02:00:00:00:64:03", "02:00:00:00:64:04"
# VRRP: the group of the gateways, and the MAC addresses that go with it (RFC 9568 7.3).
VRID = 64
VRRP_MAC6, VRRP_MAC4 = "00:00:5e:00:02:40", "00:00:5e:00:01:40"

# The uplink.
GW_UPLINK4, GW_UPLINK6 = "192.0.2.2", "2001:db8:ffff::2"
GW_UPLINK_LL = "fe80::2"
# What a gateway answers for by itself, active or not.
GW_OWN4, GW_OWN6 = "192.0.2.3", "2001:db8:ffff::3"
GW2_OWN4, GW2_OWN6 = "192.0.2.4", "2001:db8:ffff::4"
INET_UP4, INET_UP6 = "192.0.2.1", "2001:db8:ffff::1"
INET_MAC = "02:00:00:00:ff:01"

# What servers are told.
DNS64 = "2001:db8:64::53"
DHCP_POOL = ("2001:db8:64::1000", "2001:db8:64::1fff")
DELEGATED = "2001:db8:64:8000::/56"

# Hosts of the Internet.
V4ONLY = "198.51.100.10"
RESOLVER = "198.51.100.53"
CLIENT4 = "198.51.100.99"
V6ONLY = "2001:db8:6::10"

# NAT64.
NAT64_PREFIX = "2001:db8:64:ff9b::"
POOL4 = "203.0.113.0/28"

# The splicer: the address that all sites and port maps are reached at, and where clients' addresses are embedded.
PROXY = "203.0.113.80"
CLIENT_PREFIX = "2001:db8:64:c1::"
# The ports at which ssh of vm1 and of vm2 is reached.
SSH_MAPS = (2201, 2202)

# What the routes of cw-inet send to the gateway.
ROUTED4 = "203.0.113.0/24"
ROUTED6 = "2001:db8:64::/48"

# Free for tests: hosts behind a further router.
FREE4, FREE6 = "198.51.100.128/25", "2001:db8:7::/48"

WEB_PORT, ECHO_PORT, SSH_PORT, IPERF_PORT = 80, 7, 22, 5201
TLS_PORT, H2C_PORT = 443, 8080


@dataclass(frozen=True)
class Gateway:
    """One of the lab's two gateways."""

    ns: str
    # The name of its log and pid file.
    process: str
    config: Path
    tenant_mac: str
    uplink_mac: str
    # Where the far ends of its ports are in the bridges' namespace.
    tenant_end: str
    uplink_end: str

    @property
    def socket(self):
        """Its control socket."""
        return Path(f"/run/causeway/{self.ns}.sock")

    @property
    def leases(self):
        """Where it keeps its leases, unless told otherwise."""
        return Path(f"/var/lib/causeway/{self.ns}")

    @property
    def log(self):
        """What it says."""
        return RUN / f"{self.process}.log"


FIRST = Gateway(GW, "causeway", CONFIG, GW_TENANT_MAC, GW_UPLINK_MAC, "gw", "gw-up")
SECOND = Gateway(GW2, "causeway-gw2", CONFIG2, GW2_TENANT_MAC, GW2_UPLINK_MAC, "gw2", "gw2-up")
GATEWAYS = {g.ns: g for g in (FIRST, SECOND)}
SOCKET, GATEWAY_LOG = FIRST.socket, FIRST.log


def nat64(v4, prefix=NAT64_PREFIX):
    """The IPv6 form of an IPv4 address under the lab's NAT64 prefix, or another (RFC 6052 2.2, length 96)."""
    import ipaddress

    net = int(ipaddress.IPv6Address(prefix))
    return str(ipaddress.IPv6Address(net | int(ipaddress.IPv4Address(v4))))

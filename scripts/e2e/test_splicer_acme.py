"""A server behind the splicer gets its certificate by itself: certbot in cw-vm1, which has IPv6 alone, asks an authority that
has IPv4 alone (through DNS64 and NAT64), and the authority fetches the proof by the site's name (through the splicer)."""

import os
import subprocess
from pathlib import Path

import acmeserver
import netns
import network as n
import pytest
import servers
import splicertools as st
from splicertools import curl

pytestmark = pytest.mark.usefixtures("splicer")

PORT = 14000


def resolve(name):
    """The IPv4 address of a name, as the world sees it."""
    return netns.ns_run(n.INET, "dig", "+short", "+tries=1", f"@{n.RESOLVER}", name, "A").stdout.split()[-1]


@pytest.fixture
def authority(tmp_path):
    (tmp_path / "authority").mkdir()
    servers.certificate(tmp_path / "authority", "acme", ["acme.example"])
    running = acmeserver.Running(
        "acme.example", PORT, tmp_path / "authority/cert.pem", tmp_path / "authority/key.pem", resolve
    )
    yield running
    running.close()


def certbot(tmp_path, authority, name, host="vm1"):
    """Runs certbot on a server; gives what came of it, and the folder of the certificate."""
    ns = f"cw-{host}"
    if st.STAND_IN:
        # Nobody translates: it asks from where the authority is.
        ns = n.INET
        path = Path("/etc/netns") / ns / "resolv.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"nameserver {n.RESOLVER}\n")
    folders = [x for d in ("config", "work", "logs") for x in (f"--{d}-dir", str(tmp_path / d))]
    command = ["certbot", "certonly", "--non-interactive", "--agree-tos", "-m", f"root@{name}", "--no-eff-email"]
    command += ["--server", authority.directory, "--webroot", "-w", n.RUN / f"web-{host}/www", "-d", name, *folders]
    done = subprocess.run(
        netns.in_ns(ns, *command),
        env=os.environ | {"REQUESTS_CA_BUNDLE": str(n.CA)},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return done, tmp_path / "config/live" / name


def test_rfc8555_8_3_certbot_gets_a_certificate_and_the_server_uses_it(tmp_path, authority):
    name = "site1.example"
    done, got = certbot(tmp_path, authority, name)
    assert done.returncode == 0, done.stdout + done.stderr
    ((asked, address, proof),) = authority.acme.tried
    assert (asked, address) == (name, n.PROXY) and proof
    text = netns.run("openssl", "x509", "-in", got / "cert.pem", "-noout", "-ext", "subjectAltName").stdout
    assert f"DNS:{name}" in text
    # The server takes it into use.
    home = n.RUN / "web-vm1"
    before = {f: (home / f).read_bytes() for f in ("cert.pem", "key.pem")}
    pid = int((home / "nginx.pid").read_text())
    try:
        (home / "cert.pem").write_bytes((got / "fullchain.pem").read_bytes())
        (home / "key.pem").write_bytes((got / "privkey.pem").read_bytes())
        os.kill(pid, 1)
        serial = netns.run("openssl", "x509", "-in", got / "cert.pem", "-noout", "-serial").stdout

        def seen():
            ask = ["openssl", "s_client", "-connect", f"{n.PROXY}:443", "-servername", name]
            shown = netns.ns_run(n.INET, *ask, check=False).stdout
            begin, end = shown.find("-----BEGIN"), shown.find("-----END CERTIFICATE-----")
            done = subprocess.run(
                ["openssl", "x509", "-noout", "-serial"], input=shown[begin : end + 26], capture_output=True, text=True
            )
            return done.stdout == serial

        st.tools.wait_until(seen, 5, "the server does not show its new certificate")
        assert curl(name) == servers.page("vm1")
    finally:
        for f, octets in before.items():
            (home / f).write_bytes(octets)
        os.kill(pid, 1)


def test_a_name_that_is_not_a_site_of_the_server_gets_none(tmp_path, authority):
    """The proof is there, but the name leads to another server."""
    done, _ = certbot(tmp_path, authority, "site2.example", host="vm1")
    assert done.returncode != 0
    ((asked, _, proof),) = authority.acme.tried
    assert asked == "site2.example" and proof is None

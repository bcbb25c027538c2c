"""The servers that run in the hosts' namespaces: web, echo, iperf3, ssh."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import netns
import network as n

HERE = Path(__file__).resolve().parent

# The web server takes uploads by PUT under /upload/, and tells at /whoami whom it sees.
NGINX = """\
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr warn;
{user}
events {{ worker_connections 512; }}
http {{
    access_log off;
    default_type application/octet-stream;
    types {{ text/html html; text/plain txt; }}
    sendfile off;
    client_max_body_size 1g;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        {listens}
        root {dir}/www;
        location = /whoami {{ default_type text/plain; return 200 "$remote_addr $remote_port $server_addr\\n"; }}
        location /upload/ {{ dav_methods PUT DELETE; create_full_put_path on; }}
    }}
}}
"""

SSHD = """\
Port {port}
{listens}
HostKey {dir}/host_key
AuthorizedKeysFile {dir}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UseDNS no
PrintMotd no
"""


@dataclass
class Server:
    """A server: where it runs, how it is started, and which (address, port) answer when it is ready."""

    name: str
    ns: str
    command: list
    ready: list = field(default_factory=list)


def bracketed(address):
    return f"[{address}]" if ":" in address else address


def web(ns, host, addresses):
    """nginx with its own configuration and folder."""
    home = n.RUN / f"web-{host}"
    www = home / "www"
    (www / "upload").mkdir(parents=True)
    (www / "index.html").write_text(page(host))
    listens = "\n        ".join(f"listen {bracketed(a)}:{n.WEB_PORT};" for a in addresses)
    conf = home / "nginx.conf"
    conf.write_text(NGINX.format(dir=home, listens=listens, user="user root;" if os.getuid() == 0 else ""))
    command = ["nginx", "-p", home, "-e", "stderr", "-c", conf]
    return Server(f"web-{host}", ns, command, [(a, n.WEB_PORT) for a in addresses])


def page(host):
    """The page that a host's web server gives."""
    return f"<!doctype html><title>{host}</title><p>This is {host} of the Causeway lab.</p>\n"


def echo(ns, host, addresses):
    command = [sys.executable, "-B", HERE / "echo.py", *addresses]
    return Server(f"echo-{host}", ns, command, [(a, n.ECHO_PORT) for a in addresses])


def iperf(ns, host, address):
    family = "6" if ":" in address else "4"
    command = ["iperf3", "-s", f"-{family}", "-B", address, "-p", n.IPERF_PORT, "--forceflush"]
    return Server(f"iperf3-{host}", ns, command, [(address, n.IPERF_PORT)])


def ssh_keys():
    """A key pair for the lab's clients and one for its servers, new for each lab."""
    for key in ("host_key", "client_key"):
        netns.run(
            "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"causeway lab {key}", "-f", n.RUN / key
        )


def ssh(ns, host, addresses):
    """sshd that lets the lab's client key in (ssh -i /run/causeway-lab/client_key)."""
    home = n.RUN / f"ssh-{host}"
    home.mkdir()
    for name in ("host_key", "host_key.pub"):
        (home / name).write_bytes((n.RUN / name).read_bytes())
    (home / "host_key").chmod(0o600)
    (home / "authorized_keys").write_bytes((n.RUN / "client_key.pub").read_bytes())
    listens = "\n".join(f"ListenAddress {bracketed(a)}" for a in addresses)
    conf = home / "sshd_config"
    conf.write_text(SSHD.format(dir=home, port=n.SSH_PORT, listens=listens))
    # sshd insists on this folder; Debian makes it when the service starts.
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    command = ["/usr/sbin/sshd", "-D", "-e", "-f", conf]
    return Server(f"ssh-{host}", ns, command, [(a, n.SSH_PORT) for a in addresses])


def all_servers():
    """Every server of the lab. Makes their folders and files on the way."""
    ssh_keys()
    out = []
    for ns, host, addresses in (
        (n.INET, "inet", [n.V4ONLY, n.V6ONLY]),
        (n.VM1, "vm1", [n.VM1_ADDR]),
        (n.VM2, "vm2", [n.VM2_ADDR]),
    ):
        out += [web(ns, host, addresses), echo(ns, host, addresses), ssh(ns, host, addresses)]
        for address in addresses:
            kind = host if len(addresses) == 1 else f"{host}-v{6 if ':' in address else 4}"
            out.append(iperf(ns, kind, address))
    return out

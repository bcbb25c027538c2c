"""The servers that run in the hosts' namespaces: web, echo, iperf3, ssh.

The web servers of cw-vm1 and cw-vm2 are what the gateway's splicer leads to: HTTP on port 80, HTTPS on 443, and HTTP/2
without TLS on 8080. Those of cw-vm2 take nothing but connections that begin with a PROXY protocol header (either
version), and take the client's address from it. Their certificates are signed by the lab's own authority,
/run/causeway-lab/ca.pem; their logs (web-HOST/access.log) begin with the client's address and the site's name.
"""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import netns
import network as n

HERE = Path(__file__).resolve().parent

# The web server takes uploads by PUT under /upload/, and tells at /whoami whom it sees. Where connections begin with a
# PROXY protocol header, that is the client which the header names.
NGINX = """\
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr warn;
{user}
events {{ worker_connections 512; }}
http {{
    log_format lab '$remote_addr $remote_port $host $server_port $server_protocol "$request" $status $bytes_sent';
    access_log {access_log};
    default_type application/octet-stream;
    types {{ text/html html; text/plain txt; }}
    sendfile off;
    client_max_body_size 1g;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    keepalive_timeout 3600;
    {top}
    server {{
        {listens}
        root {dir}/www;
        location = /whoami {{ default_type text/plain; return 200 "$remote_addr $remote_port $server_addr\\n"; }}
        location = /host {{ default_type text/plain; return 200 "$scheme $host $server_port $server_protocol\\n"; }}
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


# The sites whose names each server's certificate has. `on-HOST.example` is for sites that tests make.
SITE_NAMES = {
    "vm1": ("site1.example", "*.wild.example", "*.on-vm1.example"),
    "vm2": ("site2.example", "*.on-vm2.example"),
}


def web(ns, host, addresses, names=(), proxy=False):
    """nginx with its own configuration and folder; with HTTPS if it has names. With `proxy` it takes PROXY protocol
    headers, and only connections with such a header."""
    home = n.RUN / f"web-{host}"
    www = home / "www"
    (www / "upload").mkdir(parents=True)
    (www / "index.html").write_text(page(host))
    ports, top = [(n.WEB_PORT, "")], []
    if names:
        ports += [(n.TLS_PORT, "ssl http2"), (n.H2C_PORT, "http2")]
        certificate(home, host, names)
        top += [f"ssl_certificate {home}/cert.pem;", f"ssl_certificate_key {home}/key.pem;"]
        # Tests hold requests of any kind: nothing is cut off by time.
        top += ["client_header_timeout 3600;", "client_body_timeout 3600;", "send_timeout 3600;"]
    if proxy:
        ports = [(port, f"{options} proxy_protocol".strip()) for port, options in ports]
        top += ["set_real_ip_from ::/0;", "real_ip_header proxy_protocol;"]
    listens = [f"listen {bracketed(a)}:{port} {options};" for a in addresses for port, options in ports]
    conf = home / "nginx.conf"
    conf.write_text(
        NGINX.format(
            dir=home,
            listens="\n        ".join(listens),
            top="\n    ".join(top),
            access_log=f"{home}/access.log lab" if names else "off",
            user="user root;" if os.getuid() == 0 else "",
        )
    )
    command = ["nginx", "-p", home, "-e", "stderr", "-c", conf]
    return Server(f"web-{host}", ns, command, [(a, port) for a in addresses for port, _ in ports])


def authority():
    """The lab's certificate authority, new for each lab: ca.pem and ca.key."""
    if not n.CA.exists():
        netns.run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"),
            *("-subj", "/CN=Causeway lab", "-keyout", n.RUN / "ca.key", "-out", n.CA),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )


def certificate(folder, name, names):
    """A server's key and certificate for these names: key.pem and cert.pem."""
    authority()
    request, extensions = folder / "request.pem", folder / "extensions"
    netns.run(
        *("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", f"/CN={name}", "-keyout", folder / "key.pem", "-out", request),
    )
    extensions.write_text(
        f"subjectAltName={','.join(f'DNS:{x}' for x in names)}\nbasicConstraints=CA:FALSE\n"
        "keyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n"
    )
    netns.run(
        *("openssl", "x509", "-req", "-in", request, "-CA", n.CA, "-CAkey", n.RUN / "ca.key", "-days", "30"),
        *("-CAcreateserial", "-extfile", extensions, "-out", folder / "cert.pem"),
    )


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
        out += [web(ns, host, addresses, SITE_NAMES.get(host, ()), proxy=host == "vm2"), echo(ns, host, addresses), ssh(ns, host, addresses)]
        for address in addresses:
            kind = host if len(addresses) == 1 else f"{host}-v{6 if ':' in address else 4}"
            out.append(iperf(ns, kind, address))
    return out

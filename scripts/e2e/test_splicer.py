"""The splicer as the IPv4 Internet sees it: sites by SNI and by Host, for every kind of client, and what those get that
name no site; ports that lead to one server; and whom servers see."""

import json
import os
import re
import socket
import ssl
import subprocess

import gateway as gw
import netns
import network as n
import pytest
import servers
import splicertools as st
import splicing
import tools
from live import counted
from splicertools import curl, needs_gateway

pytestmark = pytest.mark.usefixtures("splicer")

PAGES = {"site1.example": "vm1", "site2.example": "vm2", "a.wild.example": "vm1", "a.b.wild.example": "vm1"}
# What a wildcard's certificate does not cover: more than one label (RFC 6125 6.4.3).
UNCOVERED = {"a.b.wild.example": "-k"}


# --- which site ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, host", PAGES.items())
def test_tls_leads_to_the_site_that_sni_names(name, host):
    for options, version in (([], "2.0"), (["--http1.1"], "1.1"), (["--tls-max", "1.2"], "2.0")):
        if flag := UNCOVERED.get(name):
            options = [*options, flag]
        assert curl(name, "/", *options) == servers.page(host)
        assert curl(name, "/host", *options) == f"https {name} 443 HTTP/{version}\n"


@pytest.mark.parametrize("name, host", PAGES.items())
def test_http_leads_to_the_site_that_host_names(name, host):
    assert curl(name, scheme="http") == servers.page(host)
    assert curl(name, "/host", scheme="http") == f"http {name} 80 HTTP/1.1\n"


def test_names_are_compared_without_case():
    assert curl("SITE1.eXample", "/", "-k") == servers.page("vm1")
    assert curl("SITE2.eXample", scheme="http") == servers.page("vm2")


def raw_http(port, octets):
    """The answer to octets that are a request."""
    with st.connect(port) as s:
        s.sendall(octets)
        return tools.receive_all(s).decode(errors="replace")


def row(sentence, *values):
    return pytest.param(sentence, *values, id=sentence.replace(" ", "_"))


@pytest.mark.parametrize(
    "sentence, request_, host",
    [
        row("absolute form goes before Host", "GET http://site2.example/ HTTP/1.1\r\nHost: site1.example\r\n", "vm2"),
        row("absolute form with a port", "GET http://site1.example:80/ HTTP/1.1\r\nHost: site1.example:80\r\n", "vm1"),
        row("1.0 with Host", "GET / HTTP/1.0\r\nHost: site1.example\r\n", "vm1"),
        row("Host with a port", "GET / HTTP/1.1\r\nHost: site2.example:80\r\n", "vm2"),
        row("Host last of many fields", "GET / HTTP/1.1\r\n" + "".join(f"X-{i}: {i}\r\n" for i in range(40)) + "Host: site1.example\r\n", "vm1"),
        row("Host in other letters", "GET / HTTP/1.1\r\nhOsT: Site2.Example\r\n", "vm2"),
    ],
)
def test_rfc9112_3_2_forms_of_requests(sentence, request_, host):
    if "absolute" in sentence:
        needs_gateway()
    got = raw_http(80, f"{request_}Connection: close\r\n\r\n".encode())
    assert got.startswith("HTTP/1.1 200") and servers.page(host) in got, got[:300]


def test_keep_alive_stays_with_the_first_site():
    with st.connect(80) as s:
        for name in ("site1.example", "site1.example", "site2.example"):
            s.sendall(f"GET /whoami HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += s.recv(1)
            body = s.recv(int(re.search(rb"(?i)Content-Length: (\d+)", head)[1]))
            if name == "site1.example":
                assert n.VM1_ADDR.encode() in body
            elif not st.STAND_IN:
                # It is the server's to say what it does with another's name.
                assert n.VM1_ADDR.encode() in body


def test_http2_with_prior_knowledge_leads_to_the_site_of_authority():
    needs_gateway()
    for name, host in (("site1.example", "vm1"), ("site2.example", "vm2")):
        assert curl(name, "/", "--http2-prior-knowledge", scheme="http", port=n.H2C_PORT) == servers.page(host)
        assert curl(name, "/host", "--http2-prior-knowledge", scheme="http", port=n.H2C_PORT).split()[-1] == "HTTP/2.0"


def test_tls_and_http_are_told_apart_on_one_port(splicer):
    needs_gateway()
    with st.serving(st.Server(8443, answer_http)):
        # The servers' port is the listener's: one that speaks HTTP only.
        assert curl("site1.example", scheme="http", port=8443) == "plain\n"
        refused = curl("site1.example", port=8443, check=False)
        assert refused.returncode == 35, refused.stderr


def answer_http(conn, _peer):
    conn.recv(65536)
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nplain\n")


def test_a_listener_for_neither_leads_to_its_site_before_any_octet():
    def greet(conn, _peer):
        conn.sendall(b"220 hello\r\n")
        assert tools.receive_all(conn) == b"QUIT\r\n"

    with st.serving(st.Server(9007, greet)), st.connect(7008) as s:
        assert tools.receive_line(s) == b"220 hello\r\n"
        s.sendall(b"QUIT\r\n")
        s.shutdown(socket.SHUT_WR)
        assert st.ending(s) == (b"", "end")


# --- clients ---------------------------------------------------------------------------------------


def test_openssl_is_led_by_its_name_and_sees_the_servers_certificate():
    for name, wanted in (("site1.example", "vm1"), ("site2.example", "vm2")):
        done = netns.ns_run(
            n.INET,
            *("openssl", "s_client", "-bind", n.CLIENT4, "-connect", f"{n.PROXY}:443", "-servername", name),
            *("-CAfile", n.CA, "-verify_return_error", "-verify_hostname", name, "-alpn", "http/1.1"),
            check=False,
        )
        assert f"subject=CN = {wanted}" in done.stdout and "ALPN protocol: http/1.1" in done.stdout, done.stderr
        assert "Verify return code: 0 (ok)" in done.stdout


def test_gnutls_is_led_by_its_name():
    done = subprocess.run(
        [
            *netns.in_ns(n.INET, "gnutls-cli", "--x509cafile", n.CA, "--sni-hostname", "site2.example"),
            *("--verify-hostname", "site2.example", "--alpn", "http/1.1", "-p", "443", n.PROXY),
        ],
        input="GET / HTTP/1.1\r\nHost: site2.example\r\nConnection: close\r\n\r\n",
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert "Status: The certificate is trusted" in done.stdout and servers.page("vm2") in done.stdout, done.stdout


def test_python_is_led_by_its_name():
    context = ssl.create_default_context(cafile=n.CA)
    with st.connect(443) as s, context.wrap_socket(s, server_hostname="x.wild.example") as t:
        t.sendall(b"GET /host HTTP/1.1\r\nHost: x.wild.example\r\nConnection: close\r\n\r\n")
        assert b"https x.wild.example 443" in tools.receive_all(t)


NODE = """
const https = require('https'), http2 = require('http2'), fs = require('fs');
const ca = fs.readFileSync(process.argv[2]);
const lookup = (name, options, done) => options.all ? done(null, [{address: process.argv[3], family: 4}]) : done(null, process.argv[3], 4);
const localAddress = process.argv[4];
https.get({host: 'site1.example', path: '/host', ca, lookup, localAddress}, (r) => {
    r.on('data', (d) => process.stdout.write(d)).on('end', () => {
        const session = http2.connect('https://site2.example', {ca, lookup, localAddress});
        session.request({':path': '/host'}).on('data', (d) => process.stdout.write(d)).on('end', () => session.close());
    });
});
"""


def test_node_is_led_by_its_name(tmp_path):
    (tmp_path / "client.js").write_text(NODE)
    got = netns.ns_run(n.INET, "node", tmp_path / "client.js", n.CA, n.PROXY, n.CLIENT4).stdout
    assert got == "https site1.example 443 HTTP/1.1\nhttps site2.example 443 HTTP/2.0\n"


JAVA = """
import javax.net.ssl.*; import java.io.*; import java.net.*; import java.nio.file.*; import java.security.*;
import java.security.cert.*; import java.util.*;
public class Client {
    public static void main(String[] a) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(new FileInputStream(a[0])));
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        for (String name : new String[] {"site1.example", "site2.example"}) {
            SSLSocket s = (SSLSocket) context.getSocketFactory().createSocket();
            s.bind(new InetSocketAddress(a[2], 0));
            s.connect(new InetSocketAddress(a[1], 443));
            SSLParameters p = s.getSSLParameters();
            p.setServerNames(List.of(new SNIHostName(name)));
            p.setEndpointIdentificationAlgorithm(null);
            s.setSSLParameters(p);
            s.getOutputStream().write(("GET /host HTTP/1.1\\r\\nHost: " + name + "\\r\\nConnection: close\\r\\n\\r\\n").getBytes());
            String all = new String(s.getInputStream().readAllBytes());
            System.out.print(all.substring(all.indexOf("\\r\\n\\r\\n") + 4));
        }
    }
}
"""


def test_java_is_led_by_its_name(tmp_path):
    (tmp_path / "Client.java").write_text(JAVA)
    got = netns.ns_run(n.INET, "java", tmp_path / "Client.java", n.CA, n.PROXY, n.CLIENT4).stdout
    assert got == "https site1.example 443 HTTP/1.1\nhttps site2.example 443 HTTP/1.1\n"


def ssh(port, *command):
    options = ["-i", n.RUN / "client_key", "-b", n.CLIENT4, "-p", port, "-o", "BatchMode=yes"]
    options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10"]
    return netns.ns_run(n.INET, "ssh", *options, f"root@{n.PROXY}", *command).stdout


@pytest.mark.parametrize("port, server", [(n.SSH_MAPS[0], n.VM1_ADDR), (n.SSH_MAPS[1], n.VM2_ADDR)])
def test_ssh_through_a_port_map_and_the_server_sees_the_client(port, server):
    client, _, address, at = ssh(port, "echo $SSH_CONNECTION").split()
    assert (address, at) == (server, "22")
    if not st.STAND_IN:
        assert client == n.nat64(n.CLIENT4)


# --- whom servers see ------------------------------------------------------------------------------


def test_identity_none_is_an_address_of_the_gateway():
    for scheme in ("http", "https"):
        seen, _, at = curl("site1.example", "/whoami", scheme=scheme).split()
        assert (seen, at) == (n.GW_TENANT, n.VM1_ADDR)


@pytest.mark.parametrize("name", ["site2.example", "proxy1.on-vm2.example"])
def test_identity_proxy_protocol_names_the_client(name):
    for scheme in ("http", "https"):
        seen, _, at = curl(name, "/whoami", scheme=scheme).split()
        assert (seen, at) == (n.CLIENT4, n.VM2_ADDR)
    last = (n.RUN / "web-vm2/access.log").read_text().splitlines()[-1]
    assert last.startswith(f"{n.CLIENT4} ") and f" {name} 443 " in last


def test_identity_embedded_is_the_clients_address_under_the_prefix():
    needs_gateway()
    for scheme in ("http", "https"):
        seen, _, at = curl("embedded.on-vm1.example", "/whoami", scheme=scheme).split()
        assert (seen, at) == (n.nat64(n.CLIENT4, n.CLIENT_PREFIX), n.VM1_ADDR)
    assert (n.RUN / "web-vm1/access.log").read_text().splitlines()[-1].startswith(f"{seen} ")


def recorded(octets, port=443):
    """What a server of the test's own gets, and from where; and the client's own port."""
    own = dict(st.OWN_PORTS)[port]
    with st.serving(st.Recorder(own)) as server, st.connect(port) as s:
        ours = s.getsockname()
        s.sendall(octets)
        assert s.recv(100) == server.answer
        s.shutdown(socket.SHUT_WR)
        assert st.ending(s) == (b"", "end")
        return bytes(server.got[0]), server.peers[0], ours


def test_nothing_is_added_to_what_a_client_says_nor_taken_from_it():
    for pad, sizes in ((0, ()), (20_000, ()), (20_000, (1, 2, 3, 1000)), (60_000, (4, 16_000))):
        said = st.hello("own.on-vm1.example", st.alpn("h2", "http/1.1"), pad=pad, sizes=sizes)
        if st.STAND_IN and pad:
            continue
        assert recorded(said)[0] == said
    needs_gateway()
    said = b"POST /x HTTP/1.1\r\nHost: own.on-vm1.example\r\nContent-Length: 3\r\n\r\nabc"
    assert recorded(said, 80)[0] == said


def test_proxy_protocol_version_1():
    said = st.hello("own1.on-vm1.example")
    got, _, ours = recorded(said)
    line, _, rest = got.partition(b"\r\n")
    assert line == f"PROXY TCP4 {n.CLIENT4} {n.PROXY} {ours[1]} 443".encode() and rest == said


def test_proxy_protocol_version_2_with_sni_and_alpn():
    said = st.hello("own2.on-vm1.example", st.alpn("h2", "http/1.1"))
    got, _, ours = recorded(said)
    source, target, tlvs, rest = st.proxy2(got)
    assert (source, target, rest) == ((n.CLIENT4, ours[1]), (n.PROXY, 443), said)
    needs_gateway()
    assert tlvs[st.PP2_AUTHORITY] == b"own2.on-vm1.example", tlvs
    # In the form of the extension: which of them is spoken, only the server knows.
    assert tlvs[st.PP2_ALPN] == b"\0\x0c\x02h2\x08http/1.1", tlvs
    said = b"GET / HTTP/1.1\r\nHost: own2.on-vm1.example\r\n\r\n"
    got, _, ours = recorded(said, 80)
    source, target, tlvs, rest = st.proxy2(got)
    assert (source, target) == ((n.CLIENT4, ours[1]), (n.PROXY, 80)) and st.PP2_ALPN not in tlvs
    assert rest == said


def test_an_embedded_client_has_its_own_port_where_it_is_free():
    needs_gateway()
    _, peer, ours = recorded(st.hello("ownem.on-vm1.example"))
    assert peer[:2] == (n.nat64(n.CLIENT4, n.CLIENT_PREFIX), ours[1])


# --- those that are not led anywhere ----------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "nowhere.example", "wild.example", "site1.example.nowhere.example"])
def test_rfc6066_3_an_unknown_name_gets_an_alert(name):
    needs_gateway()
    with counted(splice_no_name=0 if name else 1, splice_unknown_name=1 if name else 0), st.connect(443) as s:
        s.sendall(st.hello(name))
        got, how = st.ending(s)
        assert st.alert(got) == st.UNRECOGNIZED_NAME and how == "end", (got, how)
    done = netns.ns_run(n.INET, "openssl", "s_client", "-connect", f"{n.PROXY}:443", "-servername", "nowhere.example", check=False)
    assert "unrecognized name" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "sentence, request_, status",
    [
        row("an unknown host", "GET / HTTP/1.1\r\nHost: nowhere.example\r\n\r\n", (404, 421)),
        row("an unknown host in absolute form", "GET http://nowhere.example/ HTTP/1.1\r\nHost: site1.example\r\n\r\n", (404, 421)),
        row("rfc9112 3.2: no Host", "GET / HTTP/1.1\r\n\r\n", (400,)),
        row("rfc9112 3.2: two Hosts", "GET / HTTP/1.1\r\nHost: site1.example\r\nHost: site2.example\r\n\r\n", (400,)),
        row("rfc9112 3.2: a bad Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", (400,)),
        row("rfc9112 5.1: a blank before the colon", "GET / HTTP/1.1\r\nHost : site1.example\r\n\r\n", (400,)),
        row("rfc9112 6.1: both lengths", "POST / HTTP/1.1\r\nHost: site1.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
        row("rfc9112 5.2: a folded line", "GET / HTTP/1.1\r\nHost: site1.example\r\nX: a\r\n b\r\n\r\n", (400,)),
        row("no request at all", "\x01\x02\x03\x04 garbage\r\n\r\n", (400,)),
    ],
)
def test_http_that_is_not_led_anywhere(sentence, request_, status):
    needs_gateway()
    with st.connect(80) as s:
        s.sendall(request_.encode())
        got, how = st.ending(s)
    assert how == "end" and re.match(rb"HTTP/1\.1 (\d+) ", got), (got[:100], how)
    assert int(got.split()[1]) in status and b"Connection: close" in got.replace(b"connection", b"Connection"), got[:300]


def test_a_default_site_takes_those_that_name_none_or_an_unknown_one():
    needs_gateway()
    with st.serving(st.Recorder(8443)) as server:
        for said in (
            st.hello(None),
            st.hello("nowhere.example"),
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: nowhere.example\r\n\r\n",
        ):
            with st.connect(8443) as s:
                s.sendall(said)
                assert s.recv(100) == server.answer
            tools.wait_until(lambda said=said: bytes(server.got[-1]) == said)


# --- redirects, challenges, servers ----------------------------------------------------------------


def test_a_site_redirects_http_to_https_but_for_challenges(splicer):
    needs_gateway()
    name = "secure.on-vm1.example"
    done = curl(name, "/a/b?c=d", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", scheme="http")
    code, url = done.split()
    assert code in ("301", "308") and url == f"https://{name}/a/b?c=d"
    challenge = n.RUN / "web-vm1/www/.well-known/acme-challenge"
    challenge.mkdir(parents=True, exist_ok=True)
    (challenge / "token").write_text("proof")
    # RFC 8555 8.3.
    assert curl(name, "/.well-known/acme-challenge/token", scheme="http") == "proof"
    assert curl(name) == servers.page("vm1")


def test_rfc8737_tls_alpn_01_reaches_the_sites_server_or_the_one_for_it():
    needs_gateway()
    said = st.hello("own.on-vm1.example", st.alpn("acme-tls/1"))
    assert recorded(said)[0] == said
    with st.serving(st.Recorder(9444)) as server, st.connect(443) as s:
        s.sendall(st.hello("challenge.on-vm1.example", st.alpn("acme-tls/1")))
        assert s.recv(100) == server.answer
    assert curl("challenge.on-vm1.example") == servers.page("vm1")


def test_servers_of_a_site_get_connections_by_weight_and_one_that_refuses_gets_none():
    needs_gateway()

    def fetch(count):
        for _ in range(count):
            with st.connect(80) as s:
                s.sendall(b"GET / HTTP/1.1\r\nHost: two.on-vm1.example\r\n\r\n")
                assert s.recv(100).startswith(b"hello")

    with st.serving(st.Recorder(9082)) as heavy:
        with st.serving(st.Recorder(9081)) as light:
            fetch(80)
            got = [len(light.peers), len(heavy.peers)]
            # 1 to 3: of 80, 20 +- 5 standard deviations of independent draws.
            assert sum(got) == 80 and 2 <= got[0] <= 40, got
        # The light one refuses now: nobody notices.
        fetch(20)
        assert len(heavy.peers) == got[1] + 20


def test_a_server_that_refuses_is_told_of():
    needs_gateway()
    got = raw_http(80, b"GET / HTTP/1.1\r\nHost: closed.on-vm1.example\r\n\r\n")
    assert re.match(r"HTTP/1\.1 50[234] ", got), got[:100]
    with st.connect(443) as s:
        s.sendall(st.hello("closed.on-vm1.example"))
        got, how = st.ending(s)
        assert how in ("end", "reset") and (not got or st.alert(got) is not None), (got, how)
    with st.connect(7007) as s:
        s.sendall(b"there is somebody\n")
        assert s.recv(100) == b"there is somebody\n"


# --- sites that change -----------------------------------------------------------------------------


def test_a_change_of_sites_takes_effect_and_disturbs_nobody(splicer):
    needs_gateway()
    name = "new.on-vm1.example"
    with st.connect(7007) as held:
        held.sendall(b"one")
        assert held.recv(10) == b"one"
        assert curl(name, scheme="http", check=False).stdout != servers.page("vm1")
        splicer.splicer(sites=(*st.SITES, splicing.Site(name, (splicing.VM1,))))
        splicer.reload()
        assert curl(name, scheme="http") == servers.page("vm1")
        splicer.splicer(sites=(*st.SITES, splicing.Site(name, (splicing.VM2,), "proxy2")))
        splicer.reload()
        assert curl(name, scheme="http") == servers.page("vm2")
        splicer.splicer()
        splicer.reload()
        assert curl(name, scheme="http", check=False).returncode != 0 or servers.page("vm2") not in curl(
            name, scheme="http", check=False
        ).stdout
        held.sendall(b"two")
        assert held.recv(10) == b"two"


def causeway(*args, check=True):
    return gw.causeway(*args, "--socket", n.SOCKET, check=check)


def test_sites_are_set_drained_and_removed_while_it_runs():
    """What was set counts for the very next connection."""
    needs_gateway()
    name = "set.on-vm1.example"
    listed = causeway("sites", "list", "--json").stdout
    assert all(f'"{x}"' in listed for x in ("site1.example", "site2.example", "*.wild.example", "own.on-vm1.example"))
    assert name not in listed
    causeway("sites", "set", name, "--server", n.VM1_ADDR)
    assert curl(name, scheme="http") == servers.page("vm1")
    causeway("sites", "set", name, "--server", n.VM2_ADDR, "--identity", "proxy2")
    assert curl(name, scheme="http") == servers.page("vm2")
    # Drained, it has nobody left.
    causeway("sites", "drain", name, n.VM2_ADDR)
    assert curl(name, scheme="http", check=False).stdout != servers.page("vm2")
    causeway("sites", "drain", name, n.VM2_ADDR, "--undo")
    assert curl(name, scheme="http") == servers.page("vm2")
    causeway("sites", "remove", name)
    assert curl(name, scheme="http", check=False).stdout != servers.page("vm2")
    # What the file says, the file says.
    refused = causeway("sites", "set", "site1.example", "--server", n.VM2_ADDR, check=False)
    assert refused.returncode != 0 and "site1.example" in refused.stderr, refused
    assert curl("site1.example", scheme="http") == servers.page("vm1")


def test_port_maps_are_given_out_on_request():
    needs_gateway()
    # Port 22 has a port already, by the configuration.
    had = json.loads(causeway("portmaps", "add", f"[{n.VM1_ADDR}]:{n.SSH_PORT}", "--json").stdout)
    assert (had["port_map"]["outside"], had["created"]) == (f"{n.PROXY}:{n.SSH_MAPS[0]}", False), had
    given = json.loads(causeway("portmaps", "add", f"[{n.VM1_ADDR}]:{n.ECHO_PORT}", "--json").stdout)
    port = int(re.search(rf'{re.escape(n.PROXY)}:(\d+)', json.dumps(given))[1])
    assert 30_000 <= port < 40_000
    tools.wait_until(lambda: str(port) in causeway("portmaps", "list", "--json").stdout)
    with st.connect(port) as s:
        s.sendall(b"ping")
        assert s.recv(10) == b"ping"
    udp = json.loads(causeway("portmaps", "add", f"[{n.VM2_ADDR}]:{n.ECHO_PORT}", "--udp", "--json").stdout)
    at = int(re.search(rf'{re.escape(n.PROXY)}:(\d+)', json.dumps(udp))[1])
    with tools.udp(n.INET, n.CLIENT4) as s:
        s.sendto(b"ping", (n.PROXY, at))
        assert s.recvfrom(100) == (b"ping", (n.PROXY, at))
    causeway("portmaps", "remove", f"{n.PROXY}:{port}")
    causeway("portmaps", "remove", f"{n.PROXY}:{at}", "--udp")
    with pytest.raises(OSError):
        st.connect(port, timeout=1).close()


def test_octets_that_come_with_the_first_ones_are_not_lost():
    """A client that says all it has at once, and closes."""
    size = 200_000 if not st.STAND_IN else 100
    said = st.hello("own.on-vm1.example") + os.urandom(size)
    with st.serving(st.Recorder(9443, after=len(said))) as server, st.connect(443) as s:
        s.sendall(said)
        s.shutdown(socket.SHUT_WR)
        assert st.ending(s) == (server.answer, "end")
        assert bytes(server.got[0]) == said

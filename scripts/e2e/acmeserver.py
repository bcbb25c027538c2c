"""A small ACME server (RFC 8555) for tests: accounts, orders, HTTP-01, finalization, certificates signed by the lab's
authority. It believes nothing: each request's signature, nonce and URL are checked, and a challenge counts when the name's
IPv4 address gives the right answer to an IPv4-only client.

Left out: everything that no client needs to get a certificate (revocation, key change, external accounts, paging).
"""

import base64
import datetime
import http.server
import json
import re
import secrets
import socket
import ssl
import threading

import netns
import network as n
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

PREFIX = "/acme"


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def b64(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def thumbprint(jwk):
    """RFC 7638 3."""
    members = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y")}[jwk["kty"]]
    text = json.dumps({k: jwk[k] for k in sorted(members)}, separators=(",", ":"))
    digest = hashes.Hash(hashes.SHA256())
    digest.update(text.encode())
    return b64(digest.finalize())


def verify(jwk, algorithm, octets, signature):
    """RFC 7515 5.2, with the algorithms that clients use (RFC 7518 3)."""
    number = lambda k: int.from_bytes(unb64(jwk[k]), "big")  # noqa: E731
    if algorithm == "RS256":
        key = rsa.RSAPublicNumbers(number("e"), number("n")).public_key()
        key.verify(signature, octets, padding.PKCS1v15(), hashes.SHA256())
    elif algorithm == "ES256":
        key = ec.EllipticCurvePublicNumbers(number("x"), number("y"), ec.SECP256R1()).public_key()
        r, s = (int.from_bytes(signature[i : i + 32], "big") for i in (0, 32))
        key.verify(utils.encode_dss_signature(r, s), octets, ec.ECDSA(hashes.SHA256()))
    else:
        raise Problem("badSignatureAlgorithm", algorithm)


class Problem(Exception):
    """RFC 8555 6.7."""

    def __init__(self, kind, detail, status=400):
        super().__init__(detail)
        self.kind, self.detail, self.status = kind, detail, status


class Acme:
    """The server's state, and what it does with requests that are believed."""

    def __init__(self, name, port, resolve, ns=n.INET):
        self.base, self.ns, self.resolve = f"https://{name}:{port}{PREFIX}", ns, resolve
        self.lock = threading.Lock()
        self.nonces, self.accounts, self.orders, self.certificates = set(), {}, {}, {}
        # Of each challenge that was tried: the name, the address that was asked, and what came.
        self.tried = []

    def nonce(self):
        value = secrets.token_urlsafe(16)
        with self.lock:
            self.nonces.add(value)
        return value

    def read(self, url, body):
        """RFC 8555 6.2 to 6.5: who says what. Gives the account's number (or the key of a new one) and the payload."""
        jws = json.loads(body)
        head = json.loads(unb64(jws["protected"]))
        if head.get("url") != url:
            raise Problem("unauthorized", "another URL", 401)
        with self.lock:
            if head.get("nonce") not in self.nonces:
                raise Problem("badNonce", "no such nonce")
            self.nonces.remove(head["nonce"])
        if "jwk" in head:
            jwk, who = head["jwk"], None
        else:
            who = head["kid"]
            if who not in self.accounts:
                raise Problem("accountDoesNotExist", who)
            jwk = self.accounts[who]
        try:
            verify(jwk, head["alg"], f"{jws['protected']}.{jws['payload']}".encode(), unb64(jws["signature"]))
        except InvalidSignature:
            raise Problem("malformed", "a wrong signature") from None
        payload = json.loads(unb64(jws["payload"])) if jws["payload"] else None
        return who, jwk, payload

    def directory(self):
        return {k: f"{self.base}/{v}" for k, v in (("newNonce", "nonce"), ("newAccount", "account"), ("newOrder", "order"))}

    def post(self, path, url, body):
        """The answer to a request: (status, further fields, body)."""
        who, jwk, payload = self.read(url, body)
        what, _, rest = path.removeprefix(f"{PREFIX}/").partition("/")
        if what == "account":
            return self.account(jwk, payload)
        if who is None:
            raise Problem("unauthorized", "without an account", 401)
        if what == "order" and not rest:
            return self.order(who, payload)
        number, _, action = rest.partition("/")
        order = self.orders.get(number)
        if order is None or order["account"] != who:
            raise Problem("malformed", "no such thing", 404)
        if what == "order":
            return 200, {}, self.shown(number)
        if what == "authz":
            return 200, {}, self.authorization(number, action)
        if what == "challenge":
            return self.challenge(number, action)
        if what == "finalize":
            return self.finalize(number, payload)
        if what == "certificate" and number in self.certificates:
            return 200, {"Content-Type": "application/pem-certificate-chain"}, self.certificates[number]
        raise Problem("malformed", "no such thing", 404)

    def account(self, jwk, payload):
        kid = f"{self.base}/account/{thumbprint(jwk)}"
        new = kid not in self.accounts
        if new and (payload or {}).get("onlyReturnExisting"):
            raise Problem("accountDoesNotExist", kid)
        self.accounts[kid] = jwk
        return (201 if new else 200), {"Location": kid}, {"status": "valid", "orders": f"{kid}/orders"}

    def order(self, who, payload):
        number = secrets.token_hex(8)
        names = [i["value"] for i in payload["identifiers"]]
        self.orders[number] = {
            "account": who,
            "names": names,
            "status": "pending",
            "authz": {name: {"status": "pending", "token": secrets.token_urlsafe(24)} for name in names},
        }
        return 201, {"Location": f"{self.base}/order/{number}"}, self.shown(number)

    def shown(self, number):
        order = self.orders[number]
        out = {
            "status": order["status"],
            "identifiers": [{"type": "dns", "value": name} for name in order["names"]],
            "authorizations": [f"{self.base}/authz/{number}/{name}" for name in order["names"]],
            "finalize": f"{self.base}/finalize/{number}",
        }
        if number in self.certificates:
            out["certificate"] = f"{self.base}/certificate/{number}"
        return out

    def challenge_of(self, number, name):
        authz = self.orders[number]["authz"][name]
        url = f"{self.base}/challenge/{number}/{name}"
        return {"type": "http-01", "url": url, "token": authz["token"], "status": authz["status"]}

    def authorization(self, number, name):
        status = self.orders[number]["authz"][name]["status"]
        return {"status": status, "identifier": {"type": "dns", "value": name}, "challenges": [self.challenge_of(number, name)]}

    def challenge(self, number, name):
        """RFC 8555 8.3: the file is fetched from port 80 of the name's IPv4 address."""
        order = self.orders[number]
        authz = order["authz"][name]
        wanted = f"{authz['token']}.{thumbprint(self.accounts[order['account']])}"
        address = self.resolve(name)
        got = self.fetch(address, name, f"/.well-known/acme-challenge/{authz['token']}")
        self.tried.append((name, address, got))
        authz["status"] = "valid" if got is not None and got.strip() == wanted else "invalid"
        states = {a["status"] for a in order["authz"].values()}
        order["status"] = "invalid" if "invalid" in states else "ready" if states == {"valid"} else "pending"
        up = f'<{self.base}/authz/{number}/{name}>;rel="up"'
        return 200, {"Link": up}, self.challenge_of(number, name)

    def fetch(self, address, name, path):
        try:
            with netns.open_socket(self.ns, socket.AF_INET, socket.SOCK_STREAM) as s:
                s.settimeout(10)
                s.bind((n.CLIENT4, 0))
                s.connect((address, 80))
                s.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
                got = b""
                while data := s.recv(65536):
                    got += data
        except OSError:
            return None
        head, _, body = got.partition(b"\r\n\r\n")
        return body.decode(errors="replace") if re.match(rb"HTTP/1\.1 200 ", head) else None

    def finalize(self, number, payload):
        order = self.orders[number]
        if order["status"] != "ready":
            raise Problem("orderNotReady", order["status"], 403)
        request = x509.load_der_x509_csr(unb64(payload["csr"]))
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if sorted(names.get_values_for_type(x509.DNSName)) != sorted(order["names"]) or not request.is_signature_valid:
            raise Problem("badCSR", "other names")
        authority = x509.load_pem_x509_certificate(n.CA.read_bytes())
        key = serialization.load_pem_private_key((n.RUN / "ca.key").read_bytes(), None)
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(authority.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=10))
            .add_extension(names, critical=True)
            .sign(key, hashes.SHA256())
        )
        self.certificates[number] = certificate.public_bytes(serialization.Encoding.PEM).decode() + n.CA.read_text()
        order["status"] = "valid"
        return 200, {"Location": f"{self.base}/order/{number}"}, self.shown(number)


class Running:
    """The server, running in a namespace with a certificate."""

    def __init__(self, name, port, certificate, key, resolve, ns=n.INET, address=n.V4ONLY):
        acme = self.acme = Acme(name, port, resolve, ns)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, status, fields, body):
                text = body if isinstance(body, str) else json.dumps(body)
                fields = {"Content-Type": "application/json"} | fields
                fields |= {"Replay-Nonce": acme.nonce(), "Cache-Control": "no-store", "Content-Length": str(len(text))}
                fields.setdefault("Link", f'<{acme.base}/directory>;rel="index"')
                self.send_response(status)
                for field, value in fields.items():
                    self.send_header(field, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text.encode())

            def do_GET(self):
                if self.path == f"{PREFIX}/directory":
                    self.answer(200, {}, acme.directory())
                else:
                    self.answer(200 if self.path == f"{PREFIX}/nonce" else 404, {}, "")

            do_HEAD = do_GET

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    self.answer(*acme.post(self.path, f"https://{self.headers['Host']}{self.path}", body))
                except Problem as e:
                    kind = {"Content-Type": "application/problem+json"}
                    what = {"type": f"urn:ietf:params:acme:error:{e.kind}", "detail": e.detail, "status": e.status}
                    self.answer(e.status, kind, what)

        listener = netns.open_socket(ns, socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(16)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        self.server = http.server.ThreadingHTTPServer((address, port), Handler, bind_and_activate=False)
        self.server.socket.close()
        self.server.socket = context.wrap_socket(listener, server_side=True)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    @property
    def directory(self):
        return f"{self.acme.base}/directory"

    def close(self):
        self.server.shutdown()
        self.thread.join(5)
        self.server.server_close()

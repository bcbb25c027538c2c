"""Walks through the lab with real tools, and says of each step what was expected and whether it was so.

Exit codes: 0 every step worked, 1 one did not, 2 wrong usage. The gateway's log stays in
/run/causeway-lab/causeway.log.
"""

import argparse
import hashlib
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import clients
import failover
import gateway as gw
import lab
import netns
import network as n
import servers
from netns import Failure

SCRIPTS = n.ROOT / "scripts"
TARGET = n.nat64(n.V4ONLY)
MB = 1_000_000
# What vm1 is told when it asks for names.
NAMES = {"v4only.example": TARGET, "dual.example": n.V6ONLY, "v6only.example": n.V6ONLY}


def say(text=""):
    print(text, file=sys.stderr, flush=True)


class Demo:
    def __init__(self, megabytes):
        self.size = megabytes * MB
        self.results = []
        self.lab_is_ours = False
        # Not below /run: that is memory on most machines.
        self.files = Path(tempfile.mkdtemp(prefix="causeway-demo-", dir="/var/tmp"))
        self.details = {}

    # --- how steps run ---

    def step(self, name, expected, action):
        """Runs one step. `action` gives a short text about what happened, or raises `Failure`."""
        say(f"\n-- {name}\n   expected: {expected}")
        began = time.monotonic()
        try:
            got, ok = action(), True
        except (Failure, OSError, ValueError, KeyError) as e:
            got, ok = f"{e}" if isinstance(e, Failure) else f"{type(e).__name__}: {e}", False
        seconds = time.monotonic() - began
        say(f"   {'ok' if ok else 'FAILED'} ({seconds:.1f} s): {got}")
        if not ok:
            say(f"   log: {n.GATEWAY_LOG}")
        self.results.append(
            {"step": name, "expected": expected, "ok": ok, "got": got, "seconds": round(seconds, 3)}
            | ({} if ok else {"log": str(n.GATEWAY_LOG)})
        )
        return ok

    def progress(self, command, done_octets, seconds):
        """Runs a transfer in vm1 and shows how far it is."""
        with open(self.files / "stderr", "w+b") as err, open(self.files / "stdout", "w+b") as out:
            process = subprocess.Popen(
                netns.in_ns(n.VM1, *command), stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
            try:
                began = shown = time.monotonic()
                while process.poll() is None:
                    now = time.monotonic()
                    if now - began > seconds:
                        raise Failure(
                            f"not done after {seconds} s: {done_octets() // MB} of {self.size // MB} MB"
                        )
                    if now - shown >= 1:
                        shown = now
                        say(f"   ... {done_octets() // MB} of {self.size // MB} MB")
                    time.sleep(0.05)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            out.seek(0)
            err.seek(0)
            if process.returncode != 0:
                raise Failure(
                    f"{command[0]} failed ({process.returncode}): {err.read().decode(errors='replace').strip()}"
                )
            return out.read().decode(errors="replace")

    # --- the steps ---

    def build(self):
        command = ["cargo", "build", "--release", "--locked", "-p", "causeway"]
        # Its own output is the progress.
        done = subprocess.run(command, cwd=n.ROOT, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        if done.returncode != 0:
            raise Failure(f"`{' '.join(command)}` failed ({done.returncode}); its output is above")
        if not os.access(lab.binary(), os.X_OK):
            raise Failure(f"the build made no {lab.binary()}")
        return f"{lab.binary()} ({lab.binary().stat().st_size // 1024} KiB)"

    def lab_up(self):
        state = lab.describe()["state"]
        if state == "up":
            raise Failure("a lab is up already, and it may be somebody's: run `scripts/lab down` first")
        self.lab_is_ours = True
        if state == "broken":
            say("   taking down what an earlier run left")
            self.lab_command("down")
        self.lab_command("up", "--pair")
        return "up, both gateways run, and the virtual router answers"

    @staticmethod
    def fresh_server():
        """cw-vm1 as a machine that was just installed: a kernel, dhclient, and nothing configured."""
        seconds = clients.reinstall(n.VM1, n.VM1_ADDR)
        (route,) = clients.default_routes(n.VM1)
        resolvers, _ = clients.told_resolvers(n.VM1)
        say(indent(netns.run("ip", "-n", n.VM1, "-6", "address", "show", "dev", "eth0", "scope", "global").stdout))
        say(indent(netns.run("ip", "-n", n.VM1, "-6", "route", "show", "default").stdout))
        say(indent(netns.ns_run(n.VM1, "cat", "/etc/resolv.conf").stdout))
        if clients.addresses(n.VM1) != [n.VM1_ADDR]:
            raise Failure(f"it has {clients.addresses(n.VM1)}")
        if route["gateway"] != n.GW_TENANT_LL or resolvers != [n.DNS64]:
            raise Failure(f"gateway {route['gateway']}, name servers {resolvers}")
        return f"{n.VM1_ADDR}, gateway {route['gateway']}, DNS {', '.join(resolvers)} {seconds:.1f} s after its link came up"

    def failover(self, what, action, bound_ms):
        """The stream of pings around the end of the active gateway, which starts again afterwards."""
        lab.wait_for(lambda: failover.active() is n.FIRST, 20, "cw-gw is not active")
        time.sleep(1)
        (row,) = failover.during(action, [n.V6ONLY], n.SECOND)
        self.details.setdefault("failover", []).append({"what": what} | row)
        config = Path(lab.describe()["gateway"]["config"])
        lab.start_gateway(config)
        lab.wait_for(lambda: failover.active() is n.FIRST, 20, "cw-gw did not come back")
        told = f"{row['lost']} of {row['sent']} pings lost, for {row['lost_for_ms']} ms"
        if row["lost_for_ms"] > bound_ms:
            raise Failure(f"{told}: more than {bound_ms} ms")
        return told

    def lab_down(self):
        self.lab_command("down")
        self.lab_is_ours = False
        state = lab.describe()["state"]
        if state != "down":
            raise Failure(f"the lab is {state} after `lab down`")
        return "nothing is left"

    def lab_command(self, *args):
        done = subprocess.run(
            [SCRIPTS / "lab", *args],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode != 0:
            raise Failure(done.stderr.strip())

    @staticmethod
    def ping(address):
        done = netns.ns_run(n.VM1, "ping", "-n", "-c", "5", "-i", "0.2", "-W", "2", address, check=False)
        summary = [
            line
            for line in done.stdout.splitlines()
            if "packets transmitted" in line or line.startswith("rtt")
        ]
        if done.returncode != 0 or " 0% packet loss" not in done.stdout:
            raise Failure("; ".join(summary) or done.stderr.strip() or "no answer")
        return "; ".join(summary)

    @staticmethod
    def fetch(url):
        return netns.ns_run(n.VM1, "curl", "-sS", "--fail", "--max-time", "15", url).stdout

    def page(self, address):
        got, wanted = self.fetch(f"http://[{address}]/"), servers.page("inet")
        if got != wanted:
            raise Failure(f"another page came: {got[:200]!r} instead of {wanted!r}")
        return f"{len(got)} octets, as expected"

    def resolve(self):
        """Asks for the lab's names as any program does, and with dig, which tells where the answer came from."""
        say(indent(gw.causeway("dns", "lookup", "v4only.example", "AAAA", "--socket", n.SOCKET).stdout))
        told = []
        for name, wanted in NAMES.items():
            found = {line.split()[0] for line in netns.ns_run(n.VM1, "getent", "ahostsv6", name).stdout.splitlines()}
            if found != {wanted}:
                raise Failure(f"{name} is {', '.join(sorted(found)) or 'unknown'} instead of {wanted}")
            say(f"   {name:16} {wanted}")
            told.append(name)
        gone = netns.ns_run(n.VM1, "dig", "+tries=1", "+noall", "+comments", "nowhere.example", "AAAA").stdout
        if "status: NXDOMAIN" not in gone:
            raise Failure(f"nowhere.example: {gone.strip()}")
        return f"{', '.join(told)}; nowhere.example does not exist"

    def fetch_by_name(self):
        told = []
        for name, wanted in NAMES.items():
            out = netns.ns_run(
                n.VM1, *("curl", "-6", "-sS", "--fail", "--max-time", "15", "-w", "\n%{remote_ip}", f"http://{name}/")
            ).stdout
            got, _, remote = out.rpartition("\n")
            if got != servers.page("inet") or remote != wanted:
                raise Failure(f"{name}: from {remote}: {got[:200]!r}")
            told.append(f"{name} from {remote}")
        return ", ".join(told)

    def whoami(self):
        seen, port, _ = self.fetch(f"http://[{TARGET}]/whoami").split()
        if ipaddress.ip_address(seen) not in ipaddress.ip_network(n.POOL4):
            raise Failure(f"the server saw {seen}")
        return f"the server saw {seen} port {port}"

    @staticmethod
    def fetch_site(name, path="/", scheme="https"):
        """Fetches as the IPv4-only client does, which knows nothing but the proxy address; gives the page and what it
        came from."""
        port = {"https": 443, "http": 80}[scheme]
        command = ["curl", "-4", "-sS", "--fail", "--max-time", "15", "--interface", n.CLIENT4, "--cacert", n.CA]
        command += ["--resolve", f"{name}:{port}:{n.PROXY}", "-w", "\n%{local_ip} %{remote_ip}", f"{scheme}://{name}{path}"]
        page, _, ends = netns.ns_run(n.INET, *command).stdout.rpartition("\n")
        if ends.split() != [n.CLIENT4, n.PROXY]:
            raise Failure(f"{scheme}://{name}: between {ends}")
        return page

    def fetch_sites(self):
        told = []
        for name, host in (("site1.example", "vm1"), ("site2.example", "vm2"), ("any.wild.example", "vm1")):
            for scheme in ("https", "http"):
                got = self.fetch_site(name, scheme=scheme)
                if got != servers.page(host):
                    raise Failure(f"{scheme}://{name}: another page came: {got[:200]!r}")
                say(f"   {f'{scheme}://{name}/':28} the page of {host}")
            told.append(name)
        return f"{', '.join(told)}, each with https and http"

    def logs_name_the_client(self):
        """cw-vm2 is told by PROXY protocol; for cw-vm1 a site is set whose connections have the client's address in
        theirs."""
        site = "named.on-vm1.example"
        server = ["--server", n.VM1_ADDR, "--identity", "embedded"]
        gw.causeway("sites", "set", site, *server, "--socket", n.SOCKET)
        say(indent(gw.causeway("sites", "list", "--socket", n.SOCKET).stdout))
        told = []
        for name, host, wanted in (
            ("site2.example", "vm2", n.CLIENT4),
            (site, "vm1", n.nat64(n.CLIENT4, n.CLIENT_PREFIX)),
        ):
            self.fetch_site(name)
            line = (n.RUN / f"web-{host}/access.log").read_text().splitlines()[-1]
            say(f"   {host}: {line}")
            if line.split()[0] != wanted or f" {name} " not in line:
                raise Failure(f"{host}'s log says: {line}")
            told.append(f"{host}: {wanted}")
        gw.causeway("sites", "remove", site, "--socket", n.SOCKET)
        return ", ".join(told)

    def ssh_by_port(self):
        told = []
        for port, address in zip(n.SSH_MAPS, (n.VM1_ADDR, n.VM2_ADDR), strict=True):
            options = ["-i", n.RUN / "client_key", "-b", n.CLIENT4, "-p", port, "-o", "BatchMode=yes"]
            options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
            command = ["ssh", *options, "-o", "ConnectTimeout=10", f"root@{n.PROXY}", "echo $SSH_CONNECTION"]
            seen, _, at, _ = netns.ns_run(n.INET, *command).stdout.split()
            if at != address or seen != n.nat64(n.CLIENT4):
                raise Failure(f"port {port} leads to {at}, which sees {seen}")
            told.append(f"port {port} leads to {at}, which sees {seen}")
        return "; ".join(told)

    def make_random(self, path):
        """A file of random octets; gives its digest."""
        digest, left = hashlib.sha256(), self.size
        with open(path, "wb") as f:
            while left:
                block = os.urandom(min(left, MB))
                f.write(block)
                digest.update(block)
                left -= len(block)
        return digest.hexdigest()

    @staticmethod
    def digest(path):
        digest = hashlib.sha256()
        with open(path, "rb") as f:
            while block := f.read(MB):
                digest.update(block)
        return digest.hexdigest()

    def compare(self, wanted, path, began):
        seconds = time.monotonic() - began
        octets = path.stat().st_size
        if octets != self.size:
            raise Failure(f"{octets} octets came, not {self.size}")
        got = self.digest(path)
        if got != wanted:
            raise Failure(f"the content differs: SHA-256 {got}, not {wanted}")
        return f"{octets} octets in {seconds:.1f} s ({octets * 8 / seconds / 1e6:.0f} Mbit/s), SHA-256 {got[:16]}... on both sides"

    def download(self):
        source, into = self.files / "down.bin", self.files / "came.bin"
        wanted = self.make_random(source)
        link = n.RUN / "web-inet/www/down.bin"
        link.symlink_to(source)
        began = time.monotonic()
        try:
            command = ["curl", "-sS", "--fail", "-o", into, f"http://[{TARGET}]/down.bin"]
            self.progress(command, lambda: into.stat().st_size if into.exists() else 0, 300)
            return self.compare(wanted, into, began)
        finally:
            for path in (link, source, into):
                path.unlink(missing_ok=True)

    def upload(self):
        source, home = self.files / "up.bin", n.RUN / "web-inet"
        wanted = self.make_random(source)
        landed = home / "www/upload/up.bin"
        began = time.monotonic()
        try:
            command = ["curl", "-sS", "--fail", "-T", source, f"http://[{TARGET}]/upload/up.bin"]
            self.progress(
                command, lambda: sum(f.stat().st_size for f in (home / "body").rglob("*") if f.is_file()), 300
            )
            return self.compare(wanted, landed, began)
        finally:
            for path in (landed, source):
                path.unlink(missing_ok=True)

    def udp(self):
        sizes = (1, 64, 512, 1400)
        for octets in sizes:
            sent = os.urandom(octets)
            command = netns.in_ns(
                n.VM1, "socat", "-T", "2", "-t", "1", "-b", "2048", "-", f"UDP6:[{TARGET}]:{n.ECHO_PORT}"
            )
            done = subprocess.run(command, input=sent, capture_output=True, timeout=15)
            if done.stdout != sent:
                raise Failure(
                    f"of {octets} octets {len(done.stdout)} came back"
                    + (", changed" if len(done.stdout) == octets else "")
                    + (f": {done.stderr.decode(errors='replace').strip()}" if done.stderr else "")
                )
        return f"{', '.join(map(str, sizes))} octets came back unchanged"

    def show_sessions(self):
        rows = gw.sessions()
        say(indent(gw.show_text("sessions")))
        self.details["sessions"] = len(rows)
        if not any(n.V4ONLY in json.dumps(row) for row in rows):
            raise Failure(f"{len(rows)} sessions, none of them with {n.V4ONLY}")
        return f"{len(rows)} sessions"

    def show_counters(self):
        values = gw.counters()
        say(indent(gw.show_text("counters")))
        self.details["counters"] = values
        for name in ("nat64-v6-to-v4", "nat64-v4-to-v6", "forwarded6", "nat64-sessions-created"):
            if not values.get(name):
                raise Failure(f"{name} is zero")
        return f"{values['nat64-v6-to-v4']} packets translated to IPv4, {values['nat64-v4-to-v6']} to IPv6, {values['forwarded6']} forwarded natively"

    def show_drops(self):
        found = gw.drops(self.details.get("counters"))
        self.details["drops"] = found
        for reason, count in sorted(found.items(), key=lambda x: -x[1]):
            say(f"   {count:10}  {reason}")
        return f"{sum(found.values())} packets dropped, for {len(found)} reasons"

    def log_is_clean(self):
        text = n.GATEWAY_LOG.read_text(errors="replace")
        bad = [line for line in text.splitlines() if "panicked" in line or "ERROR" in line]
        if bad:
            raise Failure(f"{len(bad)} such lines, the first: {bad[0]}")
        return f"{len(text.splitlines())} lines"

    def run(self, build):
        mb = self.size // MB
        if build and not self.step("build", "cargo builds the appliance in release mode", self.build):
            return
        if not self.step("lab up", "namespaces, servers and both gateways are up", self.lab_up):
            return
        self.step(
            "a fresh server boots",
            f"cw-vm1, with a kernel and a DHCPv6 client and nothing configured, gets {n.VM1_ADDR}, its gateway and DNS",
            self.fresh_server,
        )
        self.step("NAT64: ping", f"5 answers from {n.V4ONLY} to vm1 ({TARGET})", lambda: self.ping(TARGET))
        self.step("NAT64: web page", f"the page of {n.V4ONLY}", lambda: self.page(TARGET))
        self.step("NAT64: source address", f"the server sees an address of {n.POOL4}", self.whoami)
        self.step(f"NAT64: {mb} MB from the server", "the same SHA-256 on both sides", self.download)
        self.step(f"NAT64: {mb} MB to the server", "the same SHA-256 on both sides", self.upload)
        self.step("NAT64: UDP", "datagrams of several sizes come back unchanged", self.udp)
        self.step("native IPv6: ping", f"5 answers from {n.V6ONLY}", lambda: self.ping(n.V6ONLY))
        self.step("native IPv6: web page", f"the page of {n.V6ONLY}", lambda: self.page(n.V6ONLY))
        self.step(
            "DNS64: names",
            "IPv6 addresses for names with IPv6, under the NAT64 prefix for a name with only IPv4, none for no name",
            self.resolve,
        )
        self.step("DNS64: web pages by name", "the page of each of the three names", self.fetch_by_name)
        self.step(
            "splicer: https and http pages by name",
            f"{n.CLIENT4}, which has IPv4 alone, gets the pages of vm1 and vm2, which have IPv6 alone, from {n.PROXY}",
            self.fetch_sites,
        )
        self.step("splicer: whom servers see", "their logs name the client", self.logs_name_the_client)
        self.step(
            "splicer: ssh by port",
            f"{n.CLIENT4} runs a command on vm1 and on vm2 by ports {' and '.join(map(str, n.SSH_MAPS))} of {n.PROXY}",
            self.ssh_by_port,
        )
        self.step("session table", f"it has sessions with {n.V4ONLY}", self.show_sessions)
        self.step("counters", "packets were translated both ways and forwarded", self.show_counters)
        self.step("drops by reason", "they can be told (a few are normal)", self.show_drops)
        bound = failover.bound_ms(n.CONFIG, n.CONFIG2)
        self.step(
            "failover: the active gateway stops in order",
            f"of pings every {failover.SPACING_MS} ms none is lost",
            lambda: self.failover("ordered stop", lambda: lab.stop_process(n.FIRST.process, say), 0),
        )
        self.step(
            "failover: the active gateway is killed (kill -9)",
            f"pings every {failover.SPACING_MS} ms are lost for at most {bound:.0f} ms",
            lambda: self.failover("kill -9", lambda: lab.kill_gateway(n.FIRST), bound),
        )
        self.step("log", "no error and no panic in it", self.log_is_clean)
        self.step("lab down", "nothing is left", self.lab_down)

    def clean_up(self):
        if self.lab_is_ours:
            try:
                self.lab_command("down")
            except Failure as e:
                say(f"demo: cleaning up failed: {e}")
        shutil.rmtree(self.files, ignore_errors=True)


def indent(text):
    return "\n".join(f"   {line}" for line in text.rstrip().splitlines())


def main(argv):
    p = argparse.ArgumentParser(
        "scripts/demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--json", action="store_true", help="print a summary as JSON on standard output")
    p.add_argument(
        "--no-build", action="store_true", help="take the appliance that is there (or CAUSEWAY_BIN)"
    )
    p.add_argument(
        "--megabytes", type=int, default=100, metavar="N", help="size of the transfers (default: %(default)s)"
    )
    args = p.parse_args(argv)
    if not 1 <= args.megabytes <= 900:
        p.error("--megabytes is 1 to 900")

    def interrupted(signum, _frame):
        raise KeyboardInterrupt(signum)

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    demo = Demo(args.megabytes)
    complete = False
    try:
        demo.run(build=not args.no_build and not os.environ.get("CAUSEWAY_BIN"))
        complete = True
    except KeyboardInterrupt:
        say("\ndemo: interrupted, cleaning up")
    finally:
        # A second Ctrl-C must not leave a lab behind.
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, signal.SIG_IGN)
        demo.clean_up()
    failed = [r for r in demo.results if not r["ok"]]
    passed = len(demo.results) - len(failed)
    ok = complete and not failed
    say("\n== demo: " + ("every step worked" if ok else "NOT everything worked"))
    for r in failed:
        say(f"   failed: {r['step']}: expected {r['expected']}; {r['got'].splitlines()[0]} (log: {r['log']})")
    say(f"{passed} passed, {len(failed)} failed")
    if args.json:
        print(
            json.dumps(
                {"ok": ok, "passed": passed, "failed": len(failed), "steps": demo.results} | demo.details,
                indent=2,
            )
        )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

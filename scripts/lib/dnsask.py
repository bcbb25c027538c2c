"""Questions to DNS servers from a namespace, and their answers in a form that can be compared."""

import socket
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

import netns


@dataclass(frozen=True)
class Question:
    """What is asked, and how."""

    name: str
    qtype: str = "AAAA"
    qclass: str = "IN"
    # DNSSEC records are wanted; the server is not to validate; recursion is wanted; AD (RFC 6840 5.7).
    do: bool = False
    cd: bool = False
    rd: bool = True
    ad: bool = False
    # Octets of the largest answer over UDP; nothing for a question without EDNS.
    edns: int | None = 1232

    def message(self):
        """The message, with a random ID."""
        flags = (dns.flags.RD * self.rd) | (dns.flags.CD * self.cd) | (dns.flags.AD * self.ad)
        q = dns.message.make_query(
            self.name,
            self.qtype,
            self.qclass,
            use_edns=0 if self.edns or self.do else None,
            want_dnssec=self.do,
            payload=self.edns,
        )
        q.flags = flags
        return q

    def __str__(self):
        extra = [k for k in ("do", "cd", "ad") if getattr(self, k)] + ([] if self.rd else ["no rd"])
        extra += [] if self.edns else ["no edns"]
        extra += [] if self.qclass == "IN" else [self.qclass]
        return f"{self.name} {self.qtype}" + (f" ({', '.join(extra)})" if extra else "")


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Asker:
    """Asks one server from one namespace; over TCP again when an answer over UDP is cut."""

    def __init__(self, ns, server, port=53, timeout=8.0):
        self.ns, self.server, self.port, self.timeout = ns, server, port, timeout

    def udp(self, message):
        with netns.open_socket(self.ns, family(self.server), socket.SOCK_DGRAM) as s:
            s.setblocking(False)
            return dns.query.udp(message, self.server, self.timeout, self.port, sock=s, ignore_unexpected=True)

    def tcp(self, message):
        with netns.open_socket(self.ns, family(self.server), socket.SOCK_STREAM) as s:
            s.settimeout(self.timeout)
            s.connect((self.server, self.port))
            s.setblocking(False)
            return dns.query.tcp(message, self.server, self.timeout, self.port, sock=s)

    def ask(self, question):
        """The answer, and whether it had to be fetched over TCP; nothing if there is none in time."""
        message = question.message()
        try:
            got = self.udp(message)
            if got.flags & dns.flags.TC:
                return self.tcp(message), True
            return got, False
        except (dns.exception.Timeout, OSError):
            return None, False


def rows(section):
    """The records of a section as texts without TTL, in order of themselves."""
    return sorted(
        f"{s.name.to_text().lower()} {dns.rdatatype.to_text(s.rdtype)} {r.to_text()}" for s in section for r in s
    )


def ttls(section):
    """The TTL of each record set of a section, by owner and type."""
    return {(s.name.to_text().lower(), dns.rdatatype.to_text(s.rdtype)): s.ttl for s in section}


def in_short(message, tcp):
    """What of an answer is compared between servers."""
    if message is None:
        return None
    names = [dns.flags.to_text(getattr(dns.flags, f)) for f in ("AA", "AD", "CD", "RA", "RD") if message.flags & getattr(dns.flags, f)]
    return {
        "rcode": dns.rcode.to_text(message.rcode()),
        "flags": " ".join(names),
        "answer": rows(message.answer),
        "ttls": ttls(message.answer),
        "authority": rows(message.authority),
        "additional": rows(message.additional),
        "tcp": tcp,
    }

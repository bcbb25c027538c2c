"""An echo server for UDP and TCP on each address given, port 7 (RFC 862).

One socket per address, so that an answer leaves from the address that was asked.
"""

import selectors
import socket
import sys

PORT = 7


def listen(address):
    """The UDP and the TCP socket of one address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.bind((address, PORT))
    tcp = socket.socket(family, socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tcp.bind((address, PORT))
    tcp.listen(64)
    for s in (udp, tcp):
        s.setblocking(False)
    return udp, tcp


class Connection:
    """One TCP client: what came in goes out again, in order, and the end of it too."""

    # Stop reading when this much waits to be sent back.
    LIMIT = 1 << 20

    def __init__(self, selector, sock):
        self.selector, self.sock = selector, sock
        self.waiting, self.ended = bytearray(), False
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, self.on)

    def on(self, mask):
        try:
            if mask & selectors.EVENT_READ:
                data = self.sock.recv(65536)
                self.ended |= not data
                self.waiting += data
            if self.waiting:
                del self.waiting[: self.sock.send(self.waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self.ended and not self.waiting:
            self.close()
            return
        events = selectors.EVENT_WRITE if self.waiting else 0
        if not self.ended and len(self.waiting) < self.LIMIT:
            events |= selectors.EVENT_READ
        self.selector.modify(self.sock, events, self.on)

    def close(self):
        self.selector.unregister(self.sock)
        self.sock.close()


def main(addresses):
    selector = selectors.DefaultSelector()

    def udp_echo(sock):
        def on(_mask):
            try:
                data, peer = sock.recvfrom(65536)
                sock.sendto(data, peer)
            except OSError:
                pass  # an ICMP error about an earlier answer

        return on

    def tcp_accept(sock):
        def on(_mask):
            try:
                Connection(selector, sock.accept()[0])
            except OSError:
                pass  # gone before it was accepted

        return on

    for address in addresses:
        udp, tcp = listen(address)
        selector.register(udp, selectors.EVENT_READ, udp_echo(udp))
        selector.register(tcp, selectors.EVENT_READ, tcp_accept(tcp))
    while True:
        for key, mask in selector.select():
            key.data(mask)


if __name__ == "__main__":
    main(sys.argv[1:])

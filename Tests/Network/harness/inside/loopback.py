"""Talks to itself by the own loopback: TCP and UDP, both families.

    loopback.py PORT

Prints one line for each that works.
"""

import socket
import sys


def stream(family: socket.AddressFamily, address: str, port: int) -> bool:
    with socket.create_server((address, port), family=family) as listener, \
            socket.create_connection((address, port), timeout=20) as client:
        server, peer = listener.accept()
        with server:
            client.sendall(b"hello")
            return server.recv(100) == b"hello" and peer[0] == address


def datagram(family: socket.AddressFamily, address: str, port: int) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as server, \
            socket.socket(family, socket.SOCK_DGRAM) as client:
        server.bind((address, port))
        server.settimeout(20)
        client.sendto(b"hello", (address, port))
        words, peer = server.recvfrom(100)
        return words == b"hello" and peer[0] == address


def main() -> None:
    port = int(sys.argv[1])
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        for kind in stream, datagram:
            if kind(family, address, port):
                print(kind.__name__, address)


main()

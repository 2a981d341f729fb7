"""A SOCKS5 client of UDP ASSOCIATE (RFC 1928, section 7), written here to see every byte."""

import ipaddress
import socket
import struct
from typing import Any

from .namespaces import Namespace
from .waiting import PATIENCE

NOWHERE = b"\x01" + bytes(6)
"""The address field of 0.0.0.0:0."""


def kind(address: str) -> int:
    """The address family."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def field(address: str, port: int) -> bytes:
    """ATYP, address and port."""
    packed = ipaddress.ip_address(address).packed
    return (b"\x04" if len(packed) == 16 else b"\x01") + packed + struct.pack(">H", port)


def parse(bytes_: bytes) -> tuple[tuple[str, int], bytes]:
    """Reads an address field; returns where it leads to, and what follows it."""
    length = {1: 4, 4: 16}[bytes_[0]]
    address = str(ipaddress.ip_address(bytes_[1:1 + length]))
    (port,) = struct.unpack_from(">H", bytes_, 1 + length)
    return (address, port), bytes_[3 + length:]


class Refused(Exception):
    """The server's reply is not 0."""


class Association:
    """A control connection and a socket for datagrams. Use as a context manager."""

    def __init__(self, host: Namespace, server: str, port: int) -> None:
        self.control = host.connect(server, port)
        self.control.sendall(b"\x05\x01\x00")
        assert self.control.recv(2) == b"\x05\x00"
        self.control.sendall(b"\x05\x03\x00" + NOWHERE)
        reply = self.control.recv(262)
        if reply[1] != 0:
            raise Refused(reply[1])
        self.relay, _ = parse(reply[3:])
        self.socket = host.open_socket(kind(server), socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(self.relay)

    def __enter__(self) -> "Association":
        return self

    def __exit__(self, *_: Any) -> None:
        self.socket.close()
        self.control.close()

    def send(self, payload: bytes, address: str, port: int) -> None:
        self.socket.send(bytes(3) + field(address, port) + payload)

    def receive(self) -> tuple[tuple[str, int], bytes]:
        """The next answer: whose it is, and what it says."""
        datagram = self.socket.recv(65536)
        assert datagram[:3] == bytes(3)
        return parse(datagram[3:])

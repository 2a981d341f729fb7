"""A SOCKS5 client that associates: how a server carries UDP, seen without Sluice."""

import socket
from typing import Any

from .datagrams import Endpoint, Speaker
from .namespaces import Namespace
from .relaying import Relayed, encode, encode_address
from .upstreams import PORT
from .waiting import PATIENCE

#: A greeting with the one method that needs nothing, and its selection.
GREETING, SELECTION = b"\x05\x01\x00", b"\x05\x00"

#: The request for a relay, up to its address.
REQUEST = b"\x05\x03\x00"


class Refused(Exception):
    """The server's reply is not 0."""


class Associating:
    """One association. Use as a context manager."""

    def __init__(self, host: Namespace, address: str, port: int = PORT) -> None:
        """Raises Refused, and AssertionError where the server hangs up."""
        self.control = host.connect(address, port)
        self.control.sendall(GREETING)
        assert self._take(2) == SELECTION
        wildcard = "::" if ":" in address else "0.0.0.0"
        self.control.sendall(REQUEST + encode_address(wildcard) + bytes(2))
        reply = self._take(4)
        assert reply[0] == 5
        if reply[1] != 0:
            raise Refused(reply[1])
        length = {1: 4, 4: 16}[reply[3]]
        bound = Relayed.of(reply + self._take(length + 2)).destination
        self.relay: Endpoint = (address, bound[1]) if bound[0] in ("0.0.0.0", "::") else bound
        self.speaker = Speaker(host, "::" if ":" in self.relay[0] else "0.0.0.0")

    def __enter__(self) -> "Associating":
        return self

    def __exit__(self, *_: Any) -> None:
        self.speaker.socket.close()
        self.control.close()

    def _take(self, count: int) -> bytes:
        data = self.control.recv(count, socket.MSG_WAITALL)
        assert len(data) == count, f"the server hung up after {data!r}"
        return data

    def send(self, payload: bytes, to: Endpoint, fragment: int = 0) -> None:
        self.speaker.send(encode(to, payload, fragment), self.relay)

    def receive(self, timeout: float = PATIENCE) -> tuple[bytes, Endpoint]:
        """The next answer, and whom the server names as its source. Raises TimeoutError."""
        datagram, sender = self.speaker.receive(timeout)
        assert sender == self.relay
        relayed = Relayed.of(datagram)
        return relayed.payload, relayed.destination

    def ask(self, payload: bytes, to: Endpoint, timeout: float = PATIENCE) -> bytes:
        self.send(payload, to)
        answer, source = self.receive(timeout)
        assert source == to
        return answer

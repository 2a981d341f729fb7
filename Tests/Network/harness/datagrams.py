"""Targets for UDP, and those who talk to them.

A target answers from the very address it was asked at, on one port of every address it is given,
and writes down who came.
"""

import contextlib
import errno
import os
import selectors
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, Sequence

from .namespaces import Namespace
from .topology import ADDRESSES, Topology
from .waiting import PATIENCE

#: The largest payload of a datagram over IPv4 (RFC 768, RFC 791).
MAXIMUM = 65507

#: asm-generic/socket.h
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33

#: linux/in6.h
IPV6_FREEBIND = 78

#: Bytes of datagrams that may wait in a socket of the tests.
BUFFER = 16 << 20

#: An address and a port.
Endpoint = tuple[str, int]


def number_of(address: str) -> int:
    """The address family of an address, as socket(2) wants it."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def bind(host: Namespace, address: str, port: int = 0, shared: bool = False) -> socket.socket:
    """A UDP socket of the host at an address; `shared`: although others hold the port."""
    one = host.open_socket(number_of(address), socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    one.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
    if one.family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # An address that is the host's by a route alone (harness/crowd.py).
        one.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    if shared:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((address, port))
    return one


@dataclass(frozen=True)
class Received:
    """A datagram as a target got it."""

    sender: Endpoint
    at: str
    """Which address of the target it was sent to."""
    payload: bytes


class DatagramTarget:
    """Answers on one port. Use as a context manager.

    Without addresses it serves at all those of the topology's server.
    """

    def __init__(self, host: Namespace, addresses: Sequence[str] = (), port: int = 0) -> None:
        self.received: list[Received] = []
        """What came, in order."""
        self._sockets: dict[str, socket.socket] = {}
        for address in addresses or [one for at in ADDRESSES.values() for one in at.of_server()]:
            self._sockets[address] = bind(host, address, port)
            port = self._sockets[address].getsockname()[1]
        self.port = port
        self._selector = selectors.DefaultSelector()
        for address, one in self._sockets.items():
            one.setblocking(False)
            self._selector.register(one, selectors.EVENT_READ, address)
        self._over, self._end = os.pipe()
        self._selector.register(self._over, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        os.close(self._end)
        self._thread.join()
        self._selector.close()
        os.close(self._over)
        for one in self._sockets.values():
            one.close()

    def peers(self) -> list[str]:
        """The senders' addresses, in order."""
        return [one.sender[0] for one in self.received]

    def payloads(self) -> list[bytes]:
        return [one.payload for one in self.received]

    def send(self, payload: bytes, to: Endpoint, address: str) -> None:
        """Sends a datagram that nobody asked for, from one of its addresses."""
        self._sockets[address].sendto(payload, to)

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fd == self._over:
                    return
                self._take(self._sockets[key.data], key.data)

    def _take(self, one: socket.socket, address: str) -> None:
        while True:
            try:
                payload, sender = one.recvfrom(1 << 16)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error: somebody whom we answered is gone
                continue
            received = Received(sender[:2], address, payload)
            self.received.append(received)
            answer = self.answer(received)
            if answer is not None:
                one.sendto(answer, sender)

    def answer(self, received: Received) -> bytes | None:
        """What to send back; None for nothing."""
        raise NotImplementedError


class DatagramEcho(DatagramTarget):
    """Sends back what comes: 0 to 65,507 bytes, not one more or less."""

    def answer(self, received: Received) -> bytes:
        return received.payload


class Reflector(DatagramTarget):
    """Tells everybody which address and port it sees, as STUN servers do (RFC 8489)."""

    def answer(self, received: Received) -> bytes:
        return " ".join(map(str, received.sender)).encode()

    @staticmethod
    def decode(answer: bytes) -> Endpoint:
        address, port = answer.decode().split()
        return address, int(port)


class Speaker:
    """A UDP socket of a program that is redirected. Use as a context manager."""

    def __init__(self, host: Namespace, address: str, port: int = 0) -> None:
        """`address`: where it sends from; "0.0.0.0" or "::" leaves the choice to the kernel."""
        self.socket = bind(host, address, port)

    @classmethod
    def of(cls, topology: Topology, family: str) -> "Speaker":
        """One of the client's."""
        return cls(topology.client, "::" if family == "ipv6" else "0.0.0.0")

    def __enter__(self) -> "Speaker":
        return self

    def __exit__(self, *_: Any) -> None:
        self.socket.close()

    def send(self, payload: bytes, to: Endpoint) -> None:
        self.socket.sendto(payload, to)

    def receive(self, timeout: float = PATIENCE) -> tuple[bytes, Endpoint]:
        """The next datagram and where it came from. Raises TimeoutError."""
        self.socket.settimeout(timeout)
        payload, sender = self.socket.recvfrom(1 << 16)
        return payload, sender[:2]

    def ask(self, payload: bytes, to: Endpoint, timeout: float = PATIENCE) -> bytes:
        """Sends once, and the answer, which has to come from where it was asked for.

        Raises TimeoutError.
        """
        self.send(payload, to)
        answer, sender = self.receive(timeout)
        assert sender == to, f"asked {to}, answered by {sender}"
        return answer

    def pending(self) -> int:
        """How many datagrams have arrived and wait; takes them."""
        self.socket.setblocking(False)
        count = 0
        while True:
            try:
                self.socket.recvfrom(1 << 16)
                count += 1
            except BlockingIOError:
                return count


def ask(
    topology: Topology, family: str, port: int, payload: bytes = b"hello",
    timeout: float = PATIENCE,
) -> bytes:
    """A new flow's only question, to the server, and its answer."""
    with Speaker.of(topology, family) as speaker:
        return speaker.ask(payload, (ADDRESSES[family].server, port), timeout)


@dataclass(frozen=True)
class Fate:
    """What became of a datagram."""

    outcome: str
    """"answer", "silence" (a timeout) or the name of the errno that the sender sees."""
    seconds: float


def fate(host: Namespace, to: Endpoint, timeout: float = PATIENCE) -> Fate:
    """Sends a datagram on a connected socket, which hears of ICMP errors, and waits for the answer."""
    address, port = to
    with host.open_socket(number_of(address), socket.SOCK_DGRAM) as one:
        one.settimeout(timeout)
        began = time.monotonic()
        try:
            one.connect((address, port))
            # What the host itself rejects comes back twice, from send(2) and by ICMP: the latter
            # counts.
            with contextlib.suppress(PermissionError):
                one.send(b"hello")
            one.recv(1 << 16)
            outcome = "answer"
        except TimeoutError:
            outcome = "silence"
        except OSError as error:
            outcome = errno.errorcode[error.errno or 0]
        return Fate(outcome, time.monotonic() - began)

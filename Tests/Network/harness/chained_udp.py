"""One server that plays every hop of a chain of SOCKS5 servers that relay UDP. The relay of the first is a
socket; those of the others have addresses only, and all targets behind them send back what they get: what
the first relay is sent is, byte by byte, what it would answer then.
"""

import ipaddress
import socket
import struct
from dataclasses import dataclass

from .chained import Left, take
from .namespaces import Namespace
from .relaying import ASSOCIATE, Association, Relayed, Relaying, encode_address, open_relay
from .targets import Target, hang_up
from .upstreams import PORT

#: Where the relays of the hops behind the first are said to be: address and port by hop, from 1.
RELAYS = {1: ("192.0.2.10", 5001), 2: ("2001:db8::10", 5002)}


@dataclass
class Leg:
    """An association with a hop behind the first."""

    hop: int
    asked: list[str]
    """What led there: host:port of each hop, the first not counted."""
    requested: tuple[str, int]
    """What the client said it would send from."""
    control: socket.socket

    def hang_up(self) -> None:
        """Ends the control connection."""
        hang_up(self.control)


class DatagramChain(Target):
    """The hops, counted from 0, on the usual port of SOCKS. Use as a context manager."""

    def __init__(self, host: Namespace) -> None:
        super().__init__(host, PORT)
        self.refusals: dict[int, int | None] = {}
        """Replies of hops that do not associate; None: it hangs up."""
        self.silent: int | None = None
        """The hop that never replies to ASSOCIATE."""
        self.unreachable: int | None = None
        """The hop that the one before it cannot connect to."""
        self.closing: int | None = None
        """The hop that hangs up as soon as it has associated."""
        self.bound: dict[int, bytes] = {}
        """Type and address in a hop's reply, where it is not the true one."""
        self.single_bytes = False
        """Every byte of an answer is sent by itself."""
        self.relaying = Relaying()
        self.associations: list[Association] = []
        """With the first hop, in order."""
        self.legs: list[Leg] = []
        """With the others, in order."""

    def used(self) -> list[Association]:
        """Those that have carried something."""
        return [one for one in list(self.associations) if one.datagrams]

    def legs_to(self, hop: int) -> list[Leg]:
        return [one for one in list(self.legs) if one.hop == hop]

    def serve(self, stream: socket.socket) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        asked: list[str] = []
        try:
            while True:
                take(stream, take(stream, 2)[1])
                self._say(stream, b"\x05\x00")
                command, destination = self._request(stream)
                if command == ASSOCIATE:
                    self._associate(stream, asked, destination)
                    return
                asked.append("{}:{}".format(*destination))
                # All else is a question of the client's to the last hop, which connects to nothing.
                if len(asked) == self.unreachable or is_loopback(destination[0]):
                    self._say(stream, b"\x05\x05\x00\x01" + bytes(6))
                    return
                self._say(stream, b"\x05\x00\x00\x01" + bytes(6))
        except Left:
            return

    def _request(self, stream: socket.socket) -> tuple[int, tuple[str, int]]:
        _, command, _, kind = take(stream, 4)
        if kind == 3:
            host = take(stream, take(stream, 1)[0]).decode()
        else:
            host = str(ipaddress.ip_address(take(stream, 4 if kind == 1 else 16)))
        return command, (host, struct.unpack("!H", take(stream, 2))[0])

    def _associate(
        self, stream: socket.socket, asked: list[str], requested: tuple[str, int]
    ) -> None:
        hop = len(asked)
        if hop in self.refusals:
            code = self.refusals[hop]
            if code is not None:
                self._say(stream, bytes([5, code, 0, 1]) + bytes(6))
            return
        if hop == self.silent:
            while stream.recv(4096):
                pass
            return
        if hop == 0:
            self._relay(stream, requested)
            return
        address, port = RELAYS[hop]
        self.legs.append(Leg(hop, asked, requested, stream))
        self._reply(stream, hop, address, port)
        while hop != self.closing and stream.recv(4096):
            pass

    def _relay(self, stream: socket.socket, requested: tuple[str, int]) -> None:
        with open_relay(self.host, 0) as relay:
            association = Association(self.host, stream, relay, requested)
            own = stream.getsockname()[0].removeprefix("::ffff:")
            self.associations.append(association)
            self._reply(stream, 0, own, association.port)
            if self.closing != 0:
                association.run(self.relaying)
            association.over.set()

    def _reply(self, stream: socket.socket, hop: int, address: str, port: int) -> None:
        bound = self.bound.get(hop, encode_address(address))
        self._say(stream, b"\x05\x00\x00" + bound + struct.pack("!H", port))

    def _say(self, stream: socket.socket, answer: bytes) -> None:
        size = 1 if self.single_bytes else len(answer)
        for start in range(0, len(answer), size):
            stream.sendall(answer[start:start + size])


def is_loopback(host: str) -> bool:
    """Whether a host is the server itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def layers(datagram: Relayed, count: int) -> tuple[list[tuple[str, int]], bytes]:
    """Where each header of a datagram leads, and what is behind the last of so many."""
    places = [datagram.destination]
    for _ in range(count - 1):
        datagram = Relayed.of(datagram.payload)
        places.append(datagram.destination)
    return places, datagram.payload

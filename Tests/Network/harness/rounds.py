"""An upstream that counts the round trips that a flow waits for."""

import ipaddress
import socket
import struct
import threading
from dataclasses import dataclass, field

from .namespaces import Namespace
from .relaying import encode_address
from .targets import Target
from .upstreams import PORT

#: The target behind the server speaks first to who goes to this port; at others it answers.
SPEAKS_FIRST = 25

#: What it says first, and what it answers.
BANNER, ANSWER = b"220 ready\r\n", b"answer"

#: A good reply (RFC 1928, section 6).
REPLY = b"\x05\x00\x00" + encode_address("0.0.0.0") + bytes(2)


@dataclass
class Visit:
    """One client's connection."""

    flights: list[bytes] = field(default_factory=list)
    """What came between two answers, in order."""
    credentials: bytes = b""
    destination: tuple[str, int] | None = None
    is_admitted: bool = False
    """The client may send its request."""
    is_waiting: bool = False
    """It has heard of that, and has not sent it."""
    is_old: bool = False
    """It was there before the flow that is looked at."""

    @property
    def rounds(self) -> int:
        """How often the client has waited for us, its TCP handshake included."""
        return len(self.flights) + (0 if self.is_old else 1)


class CountingUpstream(Target):
    """A SOCKS5 server that says nothing before it has been asked, and answers all that it has been asked
    with one segment. It connects to nothing, and plays the targets itself. Use as a context manager."""

    def __init__(
        self, host: Namespace, method: int = 0, takes_pipelining: bool = True, reply: bytes = REPLY
    ) -> None:
        super().__init__(host, PORT)
        self.visits: list[Visit] = []
        self._method = method
        self._takes_pipelining = takes_pipelining
        self._reply = reply
        self._lock = threading.Lock()

    def allow_fast_open(self) -> None:
        """Gives clients cookies, with which they may send data along with the SYN."""
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)

    def admitted(self) -> list[Visit]:
        """The clients that may send a request and have not."""
        return [one for one in self.visits if one.is_waiting]

    def forget(self) -> None:
        """What has come so far is no part of the flow that is looked at next."""
        with self._lock:
            for visit in self.visits:
                visit.flights, visit.is_old = [], True

    def to(self, address: str, port: int) -> list[Visit]:
        """Who has asked for a destination."""
        return [one for one in self.visits if one.destination == (address, port)]

    def serve(self, stream: socket.socket) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        visit = Visit()
        self.visits.append(visit)
        try:
            self._converse(stream, visit)
        finally:
            visit.is_waiting = False

    def _converse(self, stream: socket.socket, visit: Visit) -> None:
        conversation, has_answered = self._conversation(visit), True
        next(conversation)
        while part := stream.recv(1 << 16):
            visit.is_waiting = False
            with self._lock:
                if has_answered or not visit.flights:
                    visit.flights.append(b"")
                visit.flights[-1] += part
                try:
                    answer = conversation.send(part)
                except StopIteration:
                    return
            has_answered = bool(answer)
            if answer:
                stream.sendall(answer)
            visit.is_waiting = visit.is_admitted and visit.destination is None

    def _conversation(self, visit: Visit):
        """Gets what the client says, piece by piece, and gives the answers; ends where it hangs up."""
        heard = said = b""

        def take(count: int):
            nonlocal heard, said
            while len(heard) < count:
                part = yield said
                said = b""
                heard += part
            taken, heard = heard[:count], heard[count:]
            return taken

        yield from take((yield from take(2))[1])
        if heard and not self._takes_pipelining:
            return
        said += bytes([5, self._method])
        if self._method == 2:
            user = yield from take((yield from take(2))[1])
            password = yield from take((yield from take(1))[0])
            visit.credentials = user + b":" + password
            said += b"\x01\x00"
        visit.is_admitted = True
        _, _, _, kind = yield from take(4)
        if kind == 3:
            host = (yield from take((yield from take(1))[0])).decode()
        else:
            host = str(ipaddress.ip_address((yield from take(4 if kind == 1 else 16))))
        visit.destination = host, struct.unpack("!H", (yield from take(2)))[0]
        said += self._reply
        if visit.destination[1] == SPEAKS_FIRST:
            said += BANNER
        while True:
            if heard:
                said += ANSWER
                heard = b""
            heard += yield said
            said = b""

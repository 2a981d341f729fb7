"""A SOCKS5 server that does what a test tells it, the wrong things above all. It connects to
nothing: behind a good reply it plays the target itself.
"""

import fcntl
import ipaddress
import socket
import struct
import termios
import threading
from dataclasses import dataclass, field
from typing import Any, Callable

from .namespaces import Namespace
from .relaying import ASSOCIATE, Association, Relaying, encode_address, open_relay
from .targets import Target, reset
from .upstreams import PORT
from .waiting import PATIENCE, wait_until


#: net/tcp_states.h
TCP_ESTABLISHED, TCP_CLOSE_WAIT = 1, 8

#: Reply code of a target that refuses connections.
REFUSED = 5


def echo(stream: socket.socket) -> None:
    """Sends back what comes, up to the client's FIN."""
    while data := stream.recv(1 << 16):
        stream.sendall(data)


@dataclass(frozen=True)
class Behaviour:
    """How the server answers; the default is a good server."""

    version: int = 5
    method: int | None = None
    """The method it selects; None: 02 when offered, else 00. 0xFF: none is acceptable."""
    status: int = 0
    """Of the username/password negotiation."""
    reply: int = 0
    """The code of the reply (RFC 1928 section 6)."""
    refusal: int = REFUSED
    """The code for a client that only wants to know how the server behaves."""
    bound: bytes = b"\x01\x00\x00\x00\x00\x00\x00"
    """Address type, address and port of the reply."""
    behind_reply: bytes = b""
    """Sent in one segment with the reply."""
    single_bytes: bool = False
    """Every byte of an answer is a segment of its own."""
    joined_answers: bool = False
    """To a pipelined handshake all answers are one segment."""
    at_pipelining: str = "accept"
    """What it does when more than the greeting comes at once: "accept", "close" or "hang"."""
    at_greeting: str = "answer"
    """"answer", "silence", "close" or "reset"."""
    at_request: str = "answer"
    target: Callable[[socket.socket], None] = echo
    """What follows a good reply."""
    relaying: Relaying = Relaying()
    """What becomes of requests to carry UDP."""


class Left(Exception):
    """The client closed the connection within the handshake."""


@dataclass
class Conversation:
    """What one client said and how its connection ended."""

    peer: str
    pipelined: bool = False
    methods: bytes = b""
    credentials: tuple[bytes, bytes] | None = None
    command: int | None = None
    destination: tuple[str, int] | None = None
    end: str | None = None
    """How the client ended it: "FIN" or "RST"; None while it is open or when the server did."""
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def is_test(self) -> bool:
        """Whether the client only wants to know how the server behaves: no flow goes to the host of
        the server itself, where nothing listens."""
        return self.destination is not None and _is_loopback(self.destination[0])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


class ScriptedUpstream(Target):
    """The server, listening on the proxy's usual port. Use as a context manager."""

    def __init__(self, host: Namespace, behaviour: Behaviour = Behaviour()) -> None:
        super().__init__(host, PORT)
        self.behaviour = behaviour
        """May be changed at any time; holds for connections accepted afterwards."""
        self.conversations: list[Conversation] = []
        self.associations: list[Association] = []
        """Every relay that was granted, in order."""

    def used(self) -> list[Association]:
        """The associations that have carried something: flows, not tests of the server."""
        return [one for one in list(self.associations) if one.datagrams]

    def to(self, address: str) -> list[Conversation]:
        """The conversations that asked for an address: flows, not tests of the server."""
        return [
            one for one in self.conversations if one.destination and one.destination[0] == address]

    def serve(self, stream: socket.socket) -> None:
        conversation = Conversation(stream.getpeername()[0].removeprefix("::ffff:"))
        self.conversations.append(conversation)
        try:
            _Exchange(self, stream, conversation).run()
        except Left:
            conversation.end = "FIN"
        except ConnectionResetError:
            conversation.end = "RST"
        finally:
            conversation.over.set()


class _Exchange:
    """One client's handshake, step by step."""

    def __init__(
        self, server: ScriptedUpstream, stream: socket.socket, conversation: Conversation
    ) -> None:
        self.server, self.stream, self.conversation = server, stream, conversation
        self.behaviour = server.behaviour
        self.buffer = b""
        self.unsent = b""
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        behaviour = self.behaviour
        self.conversation.methods = self.take(self.take(2)[1])
        if self.buffer:
            self.conversation.pipelined = True
            if behaviour.at_pipelining == "close":
                return
            if behaviour.at_pipelining == "hang":
                self.wait_in_silence()
                return
        if not self.goes_on(behaviour.at_greeting):
            return
        method = behaviour.method
        if method is None:
            method = 2 if 2 in self.conversation.methods else 0
        self.say(bytes([behaviour.version, method]))
        if method == 2:
            user = self.take(self.take(2)[1])
            password = self.take(self.take(1)[0])
            self.conversation.credentials = user, password
            self.say(bytes([1, behaviour.status]))
        self.conversation.destination = self.take_destination()
        if not self.goes_on(behaviour.at_request):
            return
        if self.conversation.command == ASSOCIATE:
            self.associate(behaviour.relaying)
            return
        if self.conversation.is_test:
            self.say(bytes([5, behaviour.refusal, 0]) + behaviour.bound)
            return
        answer = bytes([behaviour.version, behaviour.reply, 0]) + behaviour.bound
        self.say(answer + behaviour.behind_reply)
        if behaviour.reply == 0:
            behaviour.target(self.stream)

    def associate(self, behaviour: Relaying) -> None:
        """Grants a relay and runs it, or refuses."""
        if behaviour.gate is not None:
            behaviour.gate.wait(PATIENCE)
        if behaviour.reply is None:
            return
        if behaviour.reply != 0:
            self.say(bytes([5, behaviour.reply, 0]) + encode_address("0.0.0.0") + bytes(2))
            return
        bound = behaviour.bound
        if bound is None:
            bound = encode_address(self.stream.getsockname()[0].removeprefix("::ffff:"))
        assert self.conversation.destination
        with open_relay(self.server.host, behaviour.port) as relay:
            association = Association(
                self.server.host, self.stream, relay, self.conversation.destination)
            self.server.associations.append(association)
            port = association.port if behaviour.bound_port is None else behaviour.bound_port
            self.say(bytes([5, 0, 0]) + bound + struct.pack("!H", port))
            try:
                association.run(behaviour)
            finally:
                association.over.set()

    def take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            part = self.stream.recv(4096)
            if not part:
                raise Left
            self.buffer += part
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def take_destination(self) -> tuple[str, int]:
        _, self.conversation.command, _, kind = self.take(4)
        match kind:
            case 1:
                address = str(ipaddress.IPv4Address(self.take(4)))
            case 4:
                address = str(ipaddress.IPv6Address(self.take(16)))
            case _:
                address = self.take(self.take(1)[0]).decode()
        return address, struct.unpack("!H", self.take(2))[0]

    def goes_on(self, order: str) -> bool:
        """Carries out what the behaviour orders instead of an answer."""
        match order:
            case "silence":
                self.wait_in_silence()
            case "reset":
                reset(self.stream)
        return order == "answer"

    def wait_in_silence(self) -> None:
        """Reads on, without a word, until the client gives up."""
        while self.stream.recv(4096):
            pass
        raise Left

    def say(self, answer: bytes) -> None:
        if self.behaviour.joined_answers:
            answer = self.unsent + answer
            # What is there of the client's will be answered next.
            self.unsent = answer if self.buffer else b""
            if self.unsent:
                return
        if not self.behaviour.single_bytes:
            self.stream.sendall(answer)
            return
        for byte in answer:
            self.stream.sendall(bytes([byte]))
            # The next one may not join it: wait until it has been acknowledged.
            wait_until(
                lambda: self.unacknowledged() == 0 or not self.is_open(), "an acknowledgement",
                interval=0.0005)

    def unacknowledged(self) -> int:
        """Bytes sent that the peer has not confirmed (SIOCOUTQ, tcp(7))."""
        count: Any = fcntl.ioctl(self.stream.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        return struct.unpack("i", count)[0]

    def is_open(self) -> bool:
        """Whether the peer may still read: the first byte of TCP_INFO is the state."""
        state = self.stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state in (TCP_ESTABLISHED, TCP_CLOSE_WAIT)

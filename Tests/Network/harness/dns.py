"""Questions and answers of the DNS, as bytes (RFC 1035), and resolvers made for tests."""

import contextlib
import ipaddress
import socket
import struct
import threading
import zlib
from dataclasses import dataclass

from .datagrams import DatagramTarget, Received
from .namespaces import Namespace
from .targets import Target
from .topology import ADDRESSES

PORT = 53

A, TXT, OPT = 1, 16, 41

INTERNET = 1

#: Flags of an answer: it is one, recursion was desired and is available.
ANSWER, RECURSION = 0x8180, 0x0100
TRUNCATED = 0x0200


def encode_name(name: str) -> bytes:
    labels = [label for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def query(number: int, name: str, kind: int = A, accepts: int | None = None) -> bytes:
    """A question; `accepts`: the largest answer by UDP, told by EDNS (RFC 6891)."""
    header = struct.pack("!6H", number, RECURSION, 1, 0, 0, 0 if accepts is None else 1)
    edns = b"" if accepts is None else b"\0" + struct.pack("!HHIH", OPT, accepts, 0, 0)
    return header + encode_name(name) + struct.pack("!HH", kind, INTERNET) + edns


@dataclass(frozen=True)
class Message:
    """A message as far as the tests look at it."""

    number: int
    flags: int
    question: bytes
    """The first question: name, type and class."""
    rest: bytes
    """What follows it."""
    answers: int

    @classmethod
    def of(cls, data: bytes) -> "Message":
        number, flags, _, answers, _, _ = struct.unpack("!6H", data[:12])
        end = 12
        while data[end]:
            end += 1 + data[end]
        end += 5
        return cls(number, flags, data[12:end], data[end:], answers)

    @property
    def truncated(self) -> bool:
        return bool(self.flags & TRUNCATED)

    def name(self) -> str:
        labels, at = [], 0
        while length := self.question[at]:
            labels.append(self.question[at + 1:at + 1 + length].decode())
            at += 1 + length
        return ".".join(labels)


def address_of(name: str) -> str:
    """The address that CountingResolver gives to a name: one of its own for each."""
    return str(ipaddress.IPv4Address(0x0C000000 | zlib.crc32(name.encode()) >> 8))


def answered_address(data: bytes) -> str:
    """The address in an answer with one record of type A."""
    return str(ipaddress.IPv4Address(Message.of(data).rest[12:16]))


def answer_to(question: bytes, size: int = 0) -> bytes:
    """The answer of CountingResolver: an address, or `size` bytes of text and more."""
    asked = Message.of(question)
    if asked.question[-4:-2] == struct.pack("!H", TXT):
        strings = -(-size // 256)
        kind, data = TXT, (b"\xff" + b"x" * 255) * strings
    else:
        kind, data = A, ipaddress.IPv4Address(address_of(asked.name())).packed
    header = struct.pack("!6H", asked.number, ANSWER, 1, 1, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", kind, INTERNET, 60, len(data)) + data
    return header + asked.question + record


class CountingResolver(Target):
    """Answers by TCP alone (RFC 7766), and counts: `peers` has one entry per connection.

    Each round of questions is answered in reverse, so that who asks several at once has to tell
    the answers apart.
    """

    def __init__(
        self, host: Namespace, round: int = 1, closes_after: int | None = None, size: int = 0
    ) -> None:
        """`round`: how many questions it gathers before it answers; `closes_after`: how many it
        answers on one connection; `size`: at least so many bytes of text are in an answer."""
        super().__init__(host, PORT)
        self.round, self.closes_after, self.size = round, closes_after, size
        self.names: list[str] = []
        """What was asked for, in order."""
        self._lock = threading.Lock()

    def serve(self, stream: socket.socket) -> None:
        answered, waiting = 0, []
        while self.closes_after is None or answered < self.closes_after:
            question = take_message(stream)
            if question is None:
                return
            with self._lock:
                self.names.append(Message.of(question).name())
            waiting.append(answer_to(question, self.size))
            if len(waiting) >= self.round:
                for answer in reversed(waiting):
                    stream.sendall(struct.pack("!H", len(answer)) + answer)
                answered, waiting = answered + len(waiting), []


def take_message(stream: socket.socket) -> bytes | None:
    """The next message of a DNS connection; None at its end."""
    with contextlib.suppress(EOFError):
        (length,) = struct.unpack("!H", _take(stream, 2))
        return _take(stream, length)
    return None


def _take(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = stream.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


class OneName(DatagramTarget):
    """Knows one name, that of the topology's server, on which it is. Use as a context manager."""

    def __init__(self, host: Namespace, name: str) -> None:
        self._name, self._address = name, ADDRESSES["ipv4"].server
        super().__init__(host, [self._address], PORT)

    def answer(self, received: Received) -> bytes:
        asked = Message.of(received.payload)
        assert asked.name() == self._name
        header = struct.pack("!6H", asked.number, ANSWER, 1, 1, 0, 0)
        record = struct.pack("!HHHIH", 0xC00C, A, INTERNET, 60, 4)
        return header + asked.question + record + ipaddress.IPv4Address(self._address).packed

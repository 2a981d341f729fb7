"""A client that says byte by byte what it wants of a proxy, shares no code with Sluice, and has one
deadline for each conversation."""

import base64
import ipaddress
import re
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any, Protocol

from harness.datagrams import Endpoint
from harness.namespaces import Namespace
from harness.relaying import encode_address

from .cells import closed, no_answer, not_offered, refused

#: Seconds that a conversation may take from its first byte to its last. Servers that look for a
#: target give up after one.
DEADLINE = 4.0

CONNECT, BIND, ASSOCIATE = 1, 2, 3

#: The methods of RFC 1928.
NONE, GSSAPI, PASSWORD = 0, 1, 2

#: RFC 1928 section 6, and what Tor adds to it (socks-extensions.txt).
REPLIES = {
    1: "general failure", 2: "not allowed", 3: "network unreachable", 4: "host unreachable",
    5: "connection refused", 6: "TTL expired", 7: "command not supported",
    8: "address type not supported", 0xF0: "onion service not found",
    0xF1: "onion service invalid", 0xF2: "onion introduction failed",
    0xF3: "onion rendezvous failed", 0xF4: "onion client authorisation missing",
    0xF5: "onion client authorisation wrong", 0xF6: "onion address invalid",
    0xF7: "onion introduction timed out",
}

#: Of SOCKS4, where 90 is success.
OLD_REPLIES = {91: "rejected or failed", 92: "no identd", 93: "another user"}

#: More than any head of an HTTP response that these proxies send.
LONGEST_HEAD = 1 << 16


class Protection(Protocol):
    """What wraps every byte from the request on (RFC 1961)."""

    def seal(self, data: bytes) -> bytes: ...

    def open_stream(self, take: "Conversation") -> bytes: ...

    def open_datagram(self, data: bytes) -> bytes: ...


class Conversation:
    """One connection to a proxy. Use as a context manager. Whatever it waits for raises Ended when
    something else comes of it."""

    def __init__(self, host: Namespace, server: Endpoint, seconds: float = DEADLINE) -> None:
        self._deadline = time.monotonic() + seconds
        self._rest = b""
        self.protection: Protection | None = None
        try:
            self.stream = host.connect(*server, timeout=seconds)
        except TimeoutError:
            raise no_answer() from None
        except OSError:
            raise closed("RST") from None
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Conversation":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stream.close()

    @property
    def local(self) -> str:
        """The address that this end has."""
        return str(self.stream.getsockname()[0])

    @property
    def peer(self) -> str:
        return str(self.stream.getpeername()[0])

    def limit(self, seconds: float) -> None:
        """A new deadline."""
        self._deadline = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds up to the deadline; raises Ended when there are none."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise no_answer()
        return seconds

    def send(self, *parts: bytes) -> None:
        """All of it in one segment, if it fits; each part is a message where that is protected."""
        seal = self.protection.seal if self.protection else bytes
        self.send_plainly(b"".join(seal(part) for part in parts if part))

    def send_plainly(self, data: bytes) -> None:
        self.stream.settimeout(self.remaining())
        try:
            self.stream.sendall(data)
        except TimeoutError:
            raise no_answer() from None
        except OSError:
            raise closed("RST") from None

    def stop_sending(self) -> None:
        try:
            self.stream.shutdown(socket.SHUT_WR)
        except OSError:
            raise closed("RST") from None

    def take_plainly(self, count: int) -> bytes:
        """Exactly so many bytes as they come."""
        taken = b""
        while len(taken) < count:
            taken += self._receive(count - len(taken))
        return taken

    def take(self, count: int) -> bytes:
        """Exactly so many bytes, of what is protected as well."""
        if self.protection is None:
            return self.take_plainly(count)
        while len(self._rest) < count:
            self._rest += self.protection.open_stream(self)
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def _receive(self, most: int) -> bytes:
        self.stream.settimeout(self.remaining())
        try:
            data = self.stream.recv(most)
        except TimeoutError:
            raise no_answer() from None
        except OSError:
            raise closed("RST") from None
        if not data:
            raise closed("FIN")
        return data


class Dialect(Protocol):
    """A protocol in which a proxy is asked, with what the client has to show."""

    def opening(self) -> bytes:
        """All that goes before the request where nothing is waited for. Raises Ended where that
        cannot be: the method takes an answer, or there is nothing to go before."""

    def admitted(self, talk: Conversation) -> None:
        """Takes the answers to the opening."""

    def enter(self, talk: Conversation) -> None:
        """The same step by step."""

    def request(self, command: int, to: Endpoint) -> bytes:
        """Raises Ended where the protocol has no such command or address."""

    def reply(self, talk: Conversation) -> Endpoint:
        """Takes a reply; the address in it. Raises Ended where that is a refusal."""


@dataclass(frozen=True)
class SOCKS5:
    """RFC 1928, without a password or with one (RFC 1929)."""

    credentials: tuple[str, str] | None = None

    @property
    def method(self) -> int:
        return NONE if self.credentials is None else PASSWORD

    def greeting(self) -> bytes:
        return bytes([5, 1, self.method])

    def login(self) -> bytes:
        if self.credentials is None:
            return b""
        user, password = (text.encode() for text in self.credentials)
        return bytes([1, len(user)]) + user + bytes([len(password)]) + password

    def opening(self) -> bytes:
        return self.greeting() + self.login()

    def admitted(self, talk: Conversation) -> None:
        take_selection(talk, self.method)
        self._take_status(talk)

    def enter(self, talk: Conversation) -> None:
        talk.send(self.greeting())
        take_selection(talk, self.method)
        if self.credentials is not None:
            talk.send(self.login())
        self._take_status(talk)

    def _take_status(self, talk: Conversation) -> None:
        if self.credentials is not None:
            status = talk.take(2)[1]
            if status != 0:
                raise refused(status, "wrong password")

    def request(self, command: int, to: Endpoint) -> bytes:
        address, port = to
        return bytes([5, command, 0]) + encode_address(address) + struct.pack("!H", port)

    def reply(self, talk: Conversation) -> Endpoint:
        _, code, _, kind = talk.take(4)
        match kind:
            case 1:
                address = str(ipaddress.IPv4Address(talk.take(4)))
            case 4:
                address = str(ipaddress.IPv6Address(talk.take(16)))
            case _:
                address = talk.take(talk.take(1)[0]).decode()
        (port,) = struct.unpack("!H", talk.take(2))
        if code != 0:
            raise refused(code, REPLIES.get(code, "unassigned"))
        return address, port


def take_selection(talk: Conversation, method: int) -> None:
    """The server's choice of a method, which has to be this one."""
    chosen = talk.take_plainly(2)[1]
    if chosen != method:
        raise refused(chosen, "no such method" if chosen == 0xFF else "another method")


@dataclass(frozen=True)
class SOCKS4:
    """SOCKS4 with the extension for names (4a)."""

    def opening(self) -> bytes:
        raise not_offered()

    def admitted(self, talk: Conversation) -> None:
        pass

    def enter(self, talk: Conversation) -> None:
        pass

    def request(self, command: int, to: Endpoint) -> bytes:
        address, port = to
        if command == ASSOCIATE or ":" in address:
            raise not_offered()
        head = bytes([4, command]) + struct.pack("!H", port)
        try:
            return head + ipaddress.IPv4Address(address).packed + b"me\0"
        except ValueError:
            return head + bytes([0, 0, 0, 1]) + b"me\0" + address.encode() + b"\0"

    def reply(self, talk: Conversation) -> Endpoint:
        _, code, port, address = struct.unpack("!BBH4s", talk.take(8))
        if code != 90:
            raise refused(code, OLD_REPLIES.get(code, "unassigned"))
        return socket.inet_ntoa(address), port


@dataclass(frozen=True)
class HTTP:
    """CONNECT (RFC 9110), without a password or with one (Basic, RFC 7617)."""

    credentials: tuple[str, str] | None = None

    def opening(self) -> bytes:
        raise not_offered()

    def admitted(self, talk: Conversation) -> None:
        pass

    def enter(self, talk: Conversation) -> None:
        pass

    def request(self, command: int, to: Endpoint) -> bytes:
        if command != CONNECT:
            raise not_offered()
        address, port = to
        authority = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if self.credentials is not None:
            token = base64.b64encode(":".join(self.credentials).encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {token}")
        return "\r\n".join([*lines, "", ""]).encode()

    def reply(self, talk: Conversation) -> Endpoint:
        head = b""
        while not head.endswith(b"\r\n\r\n") and len(head) < LONGEST_HEAD:
            head += talk.take(1)
        status = re.match(rb"HTTP/1\.[01] (\d{3}) ?([^\r\n]*)", head)
        if status is None:
            raise refused(0, "not HTTP")
        if not status[1].startswith(b"2"):
            raise refused(int(status[1]), status[2].decode(errors="replace"))
        return "", 0

"""An HTTP proxy and a SOCKS4 server that do what a test tells them, the wrong things above all. They
connect to nothing: behind a good answer they play the target themselves.
"""

import base64
import itertools
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable

from .namespaces import Namespace
from .scripted import echo
from .targets import Target, reset
from .upstreams import HTTP_PORT, PORT

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

#: What a proxy says of a target that it does not reach.
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


def endless() -> Iterable[bytes]:
    """A response that never comes to its empty line."""
    return itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"X: " + b"y" * 61 + b"\r\n"))


@dataclass(frozen=True)
class Behaviour:
    """How the proxy answers; the default is a good proxy."""

    response: bytes = ESTABLISHED
    """And what is sent in one segment with it."""
    parts: Callable[[], Iterable[bytes]] | None = None
    """Instead, what is sent until the client has enough."""
    single_bytes: bool = False
    """Every byte of the response is sent by itself, without waiting for others (TCP_NODELAY)."""
    at_request: str = "answer"
    """"answer", "silence", "close" or "reset"."""
    closes_tests: bool = False
    """Whoever only wants to know how the server behaves is not refused but hung up on."""
    target: Callable[[socket.socket], None] | None = echo
    """What follows the response; None: the end."""


@dataclass
class Request:
    """What one client asked for."""

    line: str
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def destination(self) -> str:
        method, target, version = self.line.split(" ")
        assert (method, version) == ("CONNECT", "HTTP/1.1")
        assert self.fields["Host"] == target
        return target

    @property
    def credentials(self) -> str | None:
        login = self.fields.get("Proxy-Authorization")
        if login is None:
            return None
        scheme, code = login.split(" ")
        assert scheme == "Basic"
        return base64.b64decode(code, validate=True).decode()

    @property
    def is_test(self) -> bool:
        """Whether the client only wants to know how the proxy behaves."""
        return self.destination.startswith(("127.", "[::1]"))


class OneAnswer(Target):
    """A server that is asked once and answers once."""

    refusal = BAD_GATEWAY
    """For a client that only wants to know how the server behaves."""

    def __init__(self, host: Namespace, port: int, behaviour: Behaviour) -> None:
        super().__init__(host, port)
        self.behaviour = behaviour
        """May be changed at any time; holds for connections accepted afterwards."""
        self.requests: list[Any] = []

    def flows(self) -> list[Any]:
        """The requests that were no tests of the server."""
        return [one for one in list(self.requests) if not one.is_test]

    def take_request(self, stream: socket.socket) -> Any:
        """What the client asks for; None if it leaves."""
        raise NotImplementedError

    def serve(self, stream: socket.socket) -> None:
        behaviour = self.behaviour
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = self.take_request(stream)
        if request is None:
            return
        self.requests.append(request)
        match behaviour.at_request:
            case "silence":
                while stream.recv(4096):
                    pass
                return
            case "close":
                return
            case "reset":
                reset(stream)
                return
        if behaviour.parts is not None:
            for part in behaviour.parts():
                stream.sendall(part)
            return
        if request.is_test and behaviour.target is not None:
            if not behaviour.closes_tests:
                stream.sendall(self.refusal)
            return
        size = 1 if behaviour.single_bytes else len(behaviour.response)
        for start in range(0, len(behaviour.response), size):
            stream.sendall(behaviour.response[start:start + size])
        if behaviour.target is not None:
            behaviour.target(stream)


class ScriptedProxy(OneAnswer):
    """The proxy, on its usual port. Use as a context manager."""

    def __init__(self, host: Namespace, behaviour: Behaviour = Behaviour()) -> None:
        super().__init__(host, HTTP_PORT, behaviour)

    def take_request(self, stream: socket.socket) -> Request | None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            part = stream.recv(4096)
            if not part:
                return None
            head += part
        line, *fields = head.decode().removesuffix("\r\n\r\n").split("\r\n")
        return Request(line, dict(one.split(": ", 1) for one in fields))


#: SOCKS4's answers: granted, and refused.
GRANTED, REJECTED = b"\x00\x5a" + bytes(6), b"\x00\x5b" + bytes(6)


@dataclass
class SOCKS4Request:
    """What one client of SOCKS4 asked for."""

    destination: tuple[str, int]
    user: bytes

    @property
    def is_test(self) -> bool:
        """Whether the client only wants to know how the server behaves."""
        return self.destination[0].startswith("127.")


class ScriptedSOCKS4(OneAnswer):
    """A SOCKS4 server on the usual port of SOCKS. Use as a context manager."""

    refusal = REJECTED

    def __init__(self, host: Namespace, behaviour: Behaviour = Behaviour(GRANTED)) -> None:
        super().__init__(host, PORT, behaviour)

    def take_request(self, stream: socket.socket) -> SOCKS4Request | None:
        request = b""
        while len(request) < 9 or not request.endswith(b"\0"):
            part = stream.recv(4096)
            if not part:
                return None
            request += part
        version, command, port, address = struct.unpack("!BBH4s", request[:8])
        assert (version, command) == (4, 1)
        return SOCKS4Request((socket.inet_ntoa(address), port), request[8:-1])

"""One server that plays every hop of a chain: behind a good answer it takes the next hop's handshake
on the same connection, and behind the last one it is the target. It connects to nothing.
"""

import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import Callable

from .namespaces import Namespace
from .scripted import echo
from .targets import Target
from .tunnels import BAD_GATEWAY, ESTABLISHED, GRANTED, REJECTED
from .upstreams import PORT

#: How the host of the server itself begins, which only tests of the chain ask for.
LOOPBACK = "127.", "::1:", "[::1]:"

UNAUTHORISED = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Fault:
    """What a hop, counted from 0, does in place of a good answer: "refuse", "reject" (whoever we are),
    "close" or "silence"."""

    hop: int
    what: str


class Left(Exception):
    """The client closed the connection within a handshake."""


class ScriptedChain(Target):
    """The hops, on the usual port of SOCKS; `kinds` are "socks5", "http" and "socks4". Use as a context
    manager."""

    def __init__(self, host: Namespace, *kinds: str) -> None:
        super().__init__(host, PORT)
        self.kinds = kinds
        self.single_bytes = False
        """Every byte of an answer is sent by itself."""
        self.fault: Fault | None = None
        self.behind_reply = b""
        """Sent in one segment with the last answer."""
        self.target: Callable[[socket.socket], None] = echo
        self.asked: list[list[str]] = []
        """What each connection asked for, hop by hop: host:port."""

    def flows(self) -> list[list[str]]:
        """The same without tests of the chain, which ask for its own host."""
        return [one for one in list(self.asked)
                if len(one) == len(self.kinds) and not one[-1].startswith(LOOPBACK)]

    def serve(self, stream: socket.socket) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        asked: list[str] = []
        self.asked.append(asked)
        try:
            for number, kind in enumerate(self.kinds):
                what = "grant"
                if self.fault is not None and self.fault.hop == number:
                    what = self.fault.what
                if not getattr(self, f"_{kind}")(stream, asked, what):
                    return
        except Left:
            return
        self.target(stream)

    # Each takes a request, notes what it asks for, and answers; false unless it goes on behind that.

    def _socks5(self, stream: socket.socket, asked: list[str], what: str) -> bool:
        methods = take(stream, take(stream, 2)[1])
        if what in ("close", "silence"):
            return self._say_nothing(stream, what)
        if what == "reject":
            self._say(stream, b"\x05\xff")
            return False
        self._say(stream, b"\x05\x02" if 2 in methods else b"\x05\x00")
        if 2 in methods:
            take(stream, take(stream, 2)[1])
            take(stream, take(stream, 1)[0])
            self._say(stream, b"\x01\x00")
        kind = take(stream, 4)[3]
        if kind == 3:
            host = take(stream, take(stream, 1)[0]).decode()
        else:
            host = str(ipaddress.ip_address(take(stream, 4 if kind == 1 else 16)))
        (port,) = struct.unpack("!H", take(stream, 2))
        return self._answer(
            stream, asked, f"{host}:{port}", what, b"\x05\x00\x00\x01" + bytes(6),
            b"\x05\x05\x00\x01" + bytes(6))

    def _http(self, stream: socket.socket, asked: list[str], what: str) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += take(stream, 1)
        refusal = UNAUTHORISED if what == "reject" else BAD_GATEWAY
        return self._answer(
            stream, asked, head.split(b" ")[1].decode(), what, ESTABLISHED, refusal)

    def _socks4(self, stream: socket.socket, asked: list[str], what: str) -> bool:
        _, _, port, address = struct.unpack("!BBH4s", take(stream, 8))
        take_text(stream)
        named = address[:3] == bytes(3) and address[3]
        host = take_text(stream).decode() if named else socket.inet_ntoa(address)
        refusal = b"\x00\x5d" + bytes(6) if what == "reject" else REJECTED
        return self._answer(stream, asked, f"{host}:{port}", what, GRANTED, refusal)

    def _answer(
        self, stream: socket.socket, asked: list[str], destination: str, what: str,
        good: bytes, bad: bytes,
    ) -> bool:
        asked.append(destination)
        if what in ("close", "silence"):
            return self._say_nothing(stream, what)
        is_last = len(asked) == len(self.kinds)
        if what != "grant" or is_last and destination.startswith(LOOPBACK):
            self._say(stream, bad)
            return False
        self._say(stream, good + (self.behind_reply if is_last else b""))
        return True

    def _say(self, stream: socket.socket, answer: bytes) -> None:
        size = 1 if self.single_bytes else len(answer)
        for start in range(0, len(answer), size):
            stream.sendall(answer[start:start + size])

    @staticmethod
    def _say_nothing(stream: socket.socket, what: str) -> bool:
        while what == "silence" and stream.recv(4096):
            pass
        return False


def take(stream: socket.socket, count: int) -> bytes:
    """So many bytes."""
    taken = stream.recv(count, socket.MSG_WAITALL) if count else b""
    if len(taken) < count:
        raise Left
    return taken


def take_text(stream: socket.socket) -> bytes:
    """Bytes up to a zero, without it."""
    text = b""
    while (byte := take(stream, 1)) != b"\0":
        text += byte
    return text

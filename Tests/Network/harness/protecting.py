"""A server by GSSAPI that picks any protection level: Dante has no level 3 (selective)."""

import socket
import struct
from typing import Any

from .meddling import receive
from .namespaces import Namespace
from .needs import lack
from .targets import Target

try:
    import gssapi
except ImportError:
    gssapi = None

#: The kinds of messages (RFC 1961, sections 3 to 5).
CONTEXT, PROTECTION, DATA = 1, 2, 3

#: The reply to CONNECT: connected from 0.0.0.0:0.
CONNECTED = b"\x05\x00\x00\x01" + bytes(6)


class ProtectingServer(Target):
    """Takes whoever has a ticket, picks a level, and is the target of every CONNECT itself: it echoes.
    At level 3 others can read every second of its own messages. Use as a context manager.

    It proves who it is by Debian's python3-gssapi and the keytab, in the realm of the environment.
    """

    def __init__(self, host: Namespace, port: int, keytab: str, level: int) -> None:
        if gssapi is None:
            lack("python3-gssapi is not installed")
        super().__init__(host, port)
        self._credentials = gssapi.Credentials(usage="accept", store={"keytab": keytab})
        self._level = level
        self.asked: list[int] = []
        """The level that each client has asked for."""
        self.requests: list[tuple[bytes, bool]] = []
        """Each request, and whether nobody else could read it."""
        self.data: list[tuple[bytes, bool]] = []
        """The same of each message behind a request."""

    def serve(self, stream: socket.socket) -> None:
        greeting = receive(stream, 2)
        if 1 not in receive(stream, greeting[1]):
            return
        stream.sendall(b"\x05\x01")
        context = gssapi.SecurityContext(creds=self._credentials, usage="accept")
        while not context.complete:
            token = context.step(take_message(stream, CONTEXT))
            if token:
                send_message(stream, CONTEXT, token)
        (level,) = context.unwrap(take_message(stream, PROTECTION)).message
        self.asked.append(level)
        send_message(stream, PROTECTION, context.wrap(bytes([self._level]), False).message)
        self.requests.append(opened(context, take_message(stream, DATA)))
        answer, is_secret = CONNECTED, self._level != 1
        while True:
            send_message(stream, DATA, context.wrap(answer, is_secret).message)
            if self._level == 3:
                is_secret = not is_secret
            self.data.append(opened(context, take_message(stream, DATA)))
            answer = self.data[-1][0]


def opened(context: Any, token: bytes) -> tuple[bytes, bool]:
    result = context.unwrap(token)
    return bytes(result.message), result.encrypted


def send_message(stream: socket.socket, kind: int, token: bytes) -> None:
    stream.sendall(struct.pack("!BBH", 1, kind, len(token)) + token)


def take_message(stream: socket.socket, kind: int) -> bytes:
    """The token of the next message, which has to be of this kind. The end raises OSError, too."""
    head = receive(stream, 4)
    if head[:2] != bytes([1, kind]):
        raise OSError(f"{head!r} in place of message {kind}")
    return receive(stream, int.from_bytes(head[2:]))

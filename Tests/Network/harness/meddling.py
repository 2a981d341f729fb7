"""Somebody between Sluice and a server by GSSAPI, who changes what the server says."""

import socket
import threading
from typing import Callable

from .namespaces import Namespace
from .targets import Target, hang_up

#: The messages of a server in their order (RFC 1961).
CONTEXT, PROTECTION, REPLY, FIRST_DATA = range(4)

#: Gets the number of a message and all of it; gives what is passed on instead, None for the end.
Meddling = Callable[[int, bytes], bytes | None]


def honest(_: int, message: bytes) -> bytes:
    return message


def at(number: int, change: Callable[[bytes], bytes | None]) -> Meddling:
    """Changes one message."""
    return lambda count, message: change(message) if count == number else message


def flipped(message: bytes) -> bytes:
    """One bit of the token's last byte."""
    return message[:-1] + bytes([message[-1] ^ 1])


def receive(stream: socket.socket, count: int) -> bytes:
    """That many bytes, fewer only at the end."""
    received = b""
    while len(received) < count and (part := stream.recv(count - len(received))):
        received += part
    return received


class Meddler(Target):
    """Passes connections on to a server, and answers back changed. Use as a context manager."""

    def __init__(self, host: Namespace, port: int, server: tuple[str, int]) -> None:
        super().__init__(host, port)
        self._server = server
        self.meddling: Meddling = honest
        """May be changed at any time; holds for connections accepted afterwards."""
        self.single_bytes = False
        """Every byte is sent by itself, without waiting for others (TCP_NODELAY)."""

    def serve(self, stream: socket.socket) -> None:
        meddling, single_bytes = self.meddling, self.single_bytes
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.host.connect(*self._server) as server:
            upward = threading.Thread(target=self._pass_on, args=(stream, server), daemon=True)
            upward.start()

            def send(message: bytes) -> None:
                for part in ([bytes([byte]) for byte in message] if single_bytes else [message]):
                    stream.sendall(part)

            send(receive(server, 2))
            count = 0
            while head := receive(server, 2):
                if head[1] != 0xFF:
                    head += receive(server, 2)
                    head += receive(server, int.from_bytes(head[2:4]))
                changed = meddling(count, head)
                if changed is None:
                    hang_up(stream)
                    hang_up(server)
                    break
                send(changed)
                count += 1
            else:
                # The server has no more to say, but may still be told something.
                stream.shutdown(socket.SHUT_WR)
            upward.join()

    @staticmethod
    def _pass_on(stream: socket.socket, server: socket.socket) -> None:
        try:
            while part := stream.recv(1 << 16):
                server.sendall(part)
            server.shutdown(socket.SHUT_WR)
        except OSError:  # one of the two has ended it
            pass

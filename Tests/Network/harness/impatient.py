"""An upstream that hangs up on clients that it has let in and that then ask for nothing."""

import heapq
import os
import random
import selectors
import socket
import threading
import time
from typing import Any, Callable

from .namespaces import Namespace
from .rounds import REPLY
from .targets import reset
from .upstreams import PORT


class _Client:
    """One connection: its handshake, and the echo behind it."""

    def __init__(self, stream: socket.socket, login: tuple[str, str] | None) -> None:
        self.stream = stream
        self.login = login
        self.heard = b""
        self.has_greeted = self.is_let_in = self.is_served = self.has_waited = self.is_over = False

    def answer(self, part: bytes) -> bytes:
        if self.is_served:
            return part
        self.heard += part
        said = b""
        if not self.has_greeted and len(self.heard) >= 2 and len(self.heard) >= 2 + self.heard[1]:
            self.heard = self.heard[2 + self.heard[1]:]
            self.has_greeted = True
            said += b"\x05\x02" if self.login else b"\x05\x00"
        if self.has_greeted and not self.is_let_in:
            wanted = self._credentials()
            if len(self.heard) < len(wanted):
                return said
            if not self.heard.startswith(wanted):
                raise OSError("wrong credentials")
            self.heard = self.heard[len(wanted):]
            self.is_let_in = True
            said += b"\x01\x00" if wanted else b""
        length = 10 if self.heard[3:4] == b"\x01" else 22
        if self.is_let_in and len(self.heard) >= length:
            said += REPLY + self.heard[length:]
            self.heard, self.is_served = b"", True
        return said

    def _credentials(self) -> bytes:
        """What has to follow the greeting (RFC 1929)."""
        if self.login is None:
            return b""
        user, word = (one.encode() for one in self.login)
        return bytes([1, len(user)]) + user + bytes([len(word)]) + word

    @property
    def is_idle(self) -> bool:
        return self.is_let_in and not self.is_served


class ImpatientUpstream:
    """The server, one thread for all that come. It connects to nothing, and plays the targets itself, which
    echo. Use as a context manager."""

    def __init__(
        self, host: Namespace, patience: Callable[[random.Random], float], refuses: float = 0.0,
        login: tuple[str, str] | None = None,
    ) -> None:
        """`login` is who is let in, anybody if none is given. `patience` says for how many seconds a client may wait with its request; of those that have
        waited, a part of `refuses` is reset when the request comes."""
        self.ended = 0
        """How many that waited have been hung up on, or have left."""
        self.refused = 0
        """How many were reset at their request."""
        self._patience, self._refuses, self._login = patience, refuses, login
        self._random = random.Random(1928)
        self._listener = host.listen("::", PORT)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, self._woken = os.pipe()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._ends: list[tuple[float, int, _Client]] = []
        self._count = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "ImpatientUpstream":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        os.close(self._woken)
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if key.data:
                key.data.stream.close()
        self._selector.close()
        self._listener.close()
        os.close(self._wake)

    def _run(self) -> None:
        while True:
            wait = self._ends[0][0] - time.monotonic() if self._ends else None
            for key, _ in self._selector.select(None if wait is None else max(wait, 0.0)):
                if key.fileobj is self._wake or key.fd == self._wake:
                    return
                if key.data is None:
                    self._accept()
                else:
                    self._hear(key.data)
            self._hang_up()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except BlockingIOError:
                return
            stream.setblocking(False)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(stream, selectors.EVENT_READ, _Client(stream, self._login))

    def _hear(self, client: _Client) -> None:
        try:
            part = client.stream.recv(1 << 16)
            was_idle = client.is_idle
            answer = client.answer(part)
            if not part:
                self.ended += client.is_idle
                self._close(client)
            elif was_idle and client.is_served and self._random.random() < self._refuses:
                self.refused += 1
                self._close(client, abruptly=True)
            elif answer:
                # So little always fits.
                client.stream.sendall(answer)
        except OSError:
            self.ended += client.is_idle
            self._close(client)
        if client.is_idle and not client.has_waited and not client.is_over:
            client.has_waited = True
            end = time.monotonic() + self._patience(self._random)
            self._count += 1
            heapq.heappush(self._ends, (end, self._count, client))

    def _hang_up(self) -> None:
        while self._ends and self._ends[0][0] <= time.monotonic():
            _, _, client = heapq.heappop(self._ends)
            if client.is_idle and not client.is_over:
                self.ended += 1
                self._close(client, abruptly=self._random.random() < 0.5)

    def _close(self, client: _Client, abruptly: bool = False) -> None:
        if client.is_over:
            return
        client.is_over = True
        self._selector.unregister(client.stream)
        if abruptly:
            reset(client.stream)
        else:
            client.stream.close()

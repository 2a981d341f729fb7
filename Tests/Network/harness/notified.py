"""A service manager as far as a service sees it: a socket that takes what it is told (sd_notify(3))."""

import contextlib
import os
import socket
import threading
from pathlib import Path
from typing import Iterator

from .waiting import PATIENCE


class ServiceManager:
    """Keeps every message, as the lines NAME=value of which it consists."""

    def __init__(self, place: str) -> None:
        """`place` is a path, or an abstract name behind `@`."""
        self.place = place
        self.messages: list[dict[str, str]] = []
        self._news = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + place[1:] if place.startswith("@") else place)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while data := self._socket.recv(1 << 16):
            message = dict(line.split("=", 1) for line in data.decode().splitlines())
            with self._news:
                self.messages.append(message)
                self._news.notify_all()

    def wait_for(self, name: str, count: int = 1, timeout: float = PATIENCE) -> dict[str, str]:
        """The latest message that names this, once there are so many of them."""
        def named() -> list[dict[str, str]]:
            return [message for message in self.messages if name in message]

        with self._news:
            assert self._news.wait_for(lambda: len(named()) >= count, timeout), \
                f"{name} ({count}) was not told: {self.messages}"
            return named()[-1]

    def environment(self, **more: str) -> dict[str, str]:
        """What a service is started with."""
        return {**os.environ, "NOTIFY_SOCKET": self.place, **more}

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@contextlib.contextmanager
def manager(place: str | Path) -> Iterator[ServiceManager]:
    one = ServiceManager(str(place))
    try:
        yield one
    finally:
        one.close()

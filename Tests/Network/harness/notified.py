"""A service manager as far as a service sees it: a socket that takes what it is told (sd_notify(3)), and
descriptors that it keeps from one process of the service to the next (sd_pid_notify_with_fds(3))."""

import contextlib
import fcntl
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Iterator

from .waiting import PATIENCE


#: Descriptors that may come with one message (SCM_MAX_FD).
MOST = 253

#: Starts a program with descriptors as sd_listen_fds(3) wants it: from 3 on, in this order, and with its
#: own process id in the environment. PROGRAM DESCRIPTOR... -- COMMAND...
HANDING_OVER = """
import os, sys
end = sys.argv.index("--")
for number, descriptor in enumerate(map(int, sys.argv[1:end]), 3):
    os.dup2(descriptor, number)
    os.close(descriptor)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[end + 1], sys.argv[end + 1:])
"""


class ServiceManager:
    """Keeps every message, as the lines NAME=value of which it consists, and the descriptors to be kept."""

    def __init__(self, place: str) -> None:
        """`place` is a path, or an abstract name behind `@`."""
        self.place = place
        self.messages: list[dict[str, str]] = []
        self.store: list[tuple[str, int]] = []
        """The descriptors, with their names."""
        self._news = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + place[1:] if place.startswith("@") else place)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 16, MOST)
            if not data:
                return
            message = dict(line.split("=", 1) for line in data.decode().splitlines())
            with self._news:
                self._keep(message, descriptors)
                self.messages.append(message)
                self._news.notify_all()

    def _keep(self, message: dict[str, str], descriptors: list[int]) -> None:
        if "FDSTORE" in message:
            for descriptor in descriptors:
                self.keep(message["FDNAME"], descriptor)
        for descriptor in descriptors:
            os.close(descriptor)
        if "FDSTOREREMOVE" in message:
            self.empty(message["FDNAME"])

    def keep(self, name: str, descriptor: int) -> None:
        """Keeps a copy, with a high number so that it can be moved down to 3."""
        self.store.append((name, fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 500)))

    def names(self) -> list[str]:
        """Of the descriptors that it keeps, sorted."""
        return sorted(name for name, _ in self.store)

    def inodes(self) -> set[int]:
        """What the descriptors that it keeps refer to."""
        return {os.fstat(number).st_ino for _, number in self.store}

    def empty(self, name: str | None = None) -> None:
        """Closes the descriptors of that name, or all, as when the service has stopped for good."""
        for one in [one for one in self.store if name in (None, one[0])]:
            self.store.remove(one)
            os.close(one[1])

    def keeping(self, most: int = 64) -> dict[str, str]:
        """What a service is started with for which descriptors are kept, and those that there are."""
        variables = {"FDSTORE": str(most)}
        if self.store:
            variables["LISTEN_FDS"] = str(len(self.store))
            variables["LISTEN_FDNAMES"] = ":".join(name for name, _ in self.store)
        return self.environment(**variables)

    def handing_over(self) -> tuple[str, ...]:
        """A command that runs a program with the descriptors that are kept."""
        numbers = (str(number) for _, number in self.store)
        return sys.executable, "-c", HANDING_OVER, *numbers, "--"

    def inherited(self) -> tuple[int, ...]:
        """The descriptors which that command needs."""
        return tuple(number for _, number in self.store)

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
        self.empty()


@contextlib.contextmanager
def manager(place: str | Path) -> Iterator[ServiceManager]:
    one = ServiceManager(str(place))
    try:
        yield one
    finally:
        one.close()

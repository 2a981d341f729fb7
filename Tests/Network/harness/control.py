"""The control socket of `sluice run`, and clients of it that need not be `sluice exec`."""

import contextlib
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any, Iterator, Sequence

from .confined import NOBODY, Confined
from .namespaces import Namespace
from .programs import Program
from .sluice import Sluice, binary
from .targets import Mirror
from .topology import ADDRESSES

#: Seconds that a client may take for a line.
PATIENCE = 10

MAXIMUM_CONNECTIONS = 64

#: Of a dialogue of `sluice exec`.
EXEC = {"request": "exec", "version": 1}


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """Where a control socket can be that others than root shall reach: its path."""
    with tempfile.TemporaryDirectory(prefix="sluice-tests-control-") as name:
        os.chmod(name, 0o755)
        yield Path(name, "control.sock")


@contextlib.contextmanager
def running(
    host: Namespace, place: Path, upstream: str, *scope: str, group: int = NOBODY
) -> Iterator[Sluice]:
    """A run whose control socket a group may use: the one of nobody, if none is given."""
    scope = scope or ("--gateway", "lan0")
    with Sluice(host, upstream, *scope, "--control", str(place)) as sluice:
        os.chown(place, 0, group)
        try:
            yield sluice
        finally:
            if sluice.process.poll() not in (None, 0):  # the test has killed it
                host.run(binary(), "rules", "remove")


def by(place: Path) -> list[str]:
    """The options by which `sluice exec` is carried by that run."""
    return ["--daemon", "--control", str(place)]


def read(address: str, port: int) -> list[str]:
    """The command that prints what a server says at once."""
    return ["curl", "--silent", "--show-error", "--max-time", "20", "--noproxy", "*",
            f"telnet://{f'[{address}]' if ':' in address else address}:{port}"]


def caller(user: Confined, place: Path, mirror: Mirror, family: str) -> str:
    """Whom the server sees when the program connects to it."""
    return user.get(*by(place), command=read(ADDRESSES[family].server, mirror.port))


def threads(program: Program) -> set[str]:
    """The names of its threads."""
    return {
        path.read_text().strip() for path in Path(f"/proc/{program.pid}/task").glob("*/comm")}


class Client:
    """Somebody at the control socket there."""

    def __init__(self, place: Path) -> None:
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.settimeout(PATIENCE + 10)
        self.stream.connect(str(place))
        self._rest = b""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stream.close()

    def say(self, request: Any, descriptors: Sequence[int] = ()) -> None:
        line = request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n"
        socket.send_fds(self.stream, [line], list(descriptors))

    def hear(self) -> Any:
        """The next answer; None at the end."""
        while b"\n" not in self._rest:
            try:
                part = self.stream.recv(1 << 16)
            except ConnectionResetError:
                part = b""
            if not part:
                assert not self._rest
                return None
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def ask(self, request: Any, descriptors: Sequence[int] = ()) -> Any:
        self.say(request, descriptors)
        return self.hear()

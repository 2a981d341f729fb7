"""`sluice expose`, and servers for it: Dante with BIND, and one that does what a test tells it."""

import contextlib
import socket
import struct
import threading
from pathlib import Path
from typing import Callable, Iterator

from . import upstreams
from .datagrams import Endpoint
from .namespaces import Namespace
from .programs import Program
from .relaying import encode_address
from .serving import BIND, GREETING, SELECTION
from .sluice import Sluice, binary
from .targets import Target, read_to_end
from .topology import ADDRESSES
from .upstreams import PORT
from .waiting import wait_until


class Exposing(Sluice):
    """The command, ready: the upstream listens."""

    def __init__(
        self, host: Namespace, service: int | str, upstream: str, *options: str, ready: bool = True,
        env: dict[str, str] | None = None,
    ) -> None:
        self.upstream = upstream
        self.resets = 0
        """Attempts to reach the service that were reset before they knew that they were connected."""
        command = [
            binary(), "expose", "--json", "--log-level", "debug", str(service), upstream, *options]
        Program.__init__(self, host, *command, name="sluice", env=env)
        if ready:
            try:
                self.wait_for("listening")
            except BaseException:
                self.end()
                raise

    def place(self) -> Endpoint:
        """Where the service is reached, as it was told last."""
        address, _, port = self.events("listening")[-1]["address"].rpartition(":")
        return address.strip("[]"), int(port)


def connected(host: Namespace, program: Exposing) -> socket.socket:
    """A connection to the service, as soon as somebody listens."""
    def attempt() -> socket.socket | None:
        try:
            return host.connect(*program.place())
        except ConnectionRefusedError:
            return None
        except ConnectionResetError:  # nobody any longer
            program.resets += 1
            return None

    return wait_until(attempt, "somebody to listen")


def echoes(host: Namespace, program: Exposing, payload: bytes = b"hello") -> bool:
    """Whether an echo server answers."""
    with connected(host, program) as stream:
        stream.sendall(payload)
        stream.shutdown(socket.SHUT_WR)
        return read_to_end(stream) == payload


#: Let clients listen, and anybody come.
DANTE_BIND = """
socks pass { from: 0/0 to: 0/0 command: bind }
socks pass { from: 0/0 to: 0/0 command: bindreply }
"""


@contextlib.contextmanager
def dante(host: Namespace, folder: Path) -> Iterator[Program]:
    """Debian's dante-server, with BIND."""
    configuration = folder / "danted-bind.conf"
    addresses = {family: at.proxy for family, at in ADDRESSES.items()}
    configuration.write_text(
        upstreams.DANTE.format(port=PORT, **addresses).replace("ipv4 ipv6", "ipv4") + DANTE_BIND)
    with Program(host, "danted", "-f", str(configuration)) as program:
        program.wait_for_port(PORT, sockets=2)
        yield program


def reply(place: Endpoint, code: int = 0) -> bytes:
    """A reply of SOCKS5."""
    address, port = place
    return bytes([5, code, 0]) + encode_address(address) + struct.pack("!H", port)


#: What a test has the server do when it is asked to listen.
Script = Callable[[socket.socket], None]


def wait_for_nobody(stream: socket.socket) -> None:
    """Says that it listens, and that is all."""
    stream.sendall(reply(ScriptedBinder.LISTENER))
    stream.recv(1)


class ScriptedBinder(Target):
    """A SOCKS5 server that refuses to connect, and answers each BIND by the next of the scripts; by
    `wait_for_nobody` when there is none left. It listens nowhere. Use as a context manager."""

    #: Where it may say that it listens.
    LISTENER = ("203.0.113.7", 4321)

    def __init__(self, host: Namespace, *scripts: Script) -> None:
        super().__init__(host, PORT)
        self.asked: list[Endpoint] = []
        """Whom to expect, and at which port, by request."""
        self.scripts = list(scripts)
        self._lock = threading.Lock()

    def serve(self, stream: socket.socket) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if stream.recv(3, socket.MSG_WAITALL) != GREETING:
            return
        stream.sendall(SELECTION)
        head = stream.recv(4, socket.MSG_WAITALL)
        if len(head) < 4:
            return
        family, size = {1: (socket.AF_INET, 4), 4: (socket.AF_INET6, 16)}[head[3]]
        address = socket.inet_ntop(family, stream.recv(size, socket.MSG_WAITALL))
        (port,) = struct.unpack("!H", stream.recv(2, socket.MSG_WAITALL))
        if head[1] != BIND:
            stream.sendall(reply(("0.0.0.0", 0), code=5))
            return
        with self._lock:
            self.asked.append((address, port))
            script = self.scripts.pop(0) if self.scripts else wait_for_nobody
        script(stream)

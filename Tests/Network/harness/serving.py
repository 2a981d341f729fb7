"""`sluice serve` on the proxy, and a client that says byte by byte what it wants of it."""

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Any, Iterator

from .datagrams import Endpoint
from .namespaces import Namespace
from .programs import Program
from .relaying import encode_address
from .sluice import binary
from .upstreams import PORT
from .waiting import PATIENCE

CONNECT, BIND = 1, 2

#: A greeting with the one method that needs nothing, and its selection.
GREETING, SELECTION = b"\x05\x01\x00", b"\x05\x00"

#: The codes of a SOCKS4 server: granted, and refused or failed.
GRANTED, FAILED = 0x5A, 0x5B


def place(address: str, port: int = PORT) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@contextlib.contextmanager
def serving(
    host: Namespace, *options: str, listen: tuple[str, ...] = ("[::]:1080",),
    prefix: tuple[str, ...] = (),
) -> Iterator[Program]:
    """Serves on all addresses of the host unless told otherwise; logs JSON. `prefix`: a command that
    becomes the program."""
    places = [word for one in listen for word in ("--listen", one)]
    command = [*prefix, binary(), "serve", "--json", "--log-level", "debug", *places, *options]
    with Program(host, *command, name="sluice") as program:
        program.wait_for_output(
            lambda: '"event":"ready"' in program.output().replace(" ", ""), "that it is ready", PATIENCE)
        yield program


@dataclass(frozen=True)
class Reply:
    """What the server answers to a request."""

    code: int
    bound: Endpoint


class Asking:
    """One connection to the server. Use as a context manager."""

    def __init__(self, host: Namespace, server: str, version: int, port: int = PORT) -> None:
        self.version = version
        self.stream = host.connect(server, port)
        if version == 5:
            self.stream.sendall(GREETING)
            assert self._take(2) == SELECTION

    def __enter__(self) -> "Asking":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stream.close()

    def _take(self, count: int) -> bytes:
        data = self.stream.recv(count, socket.MSG_WAITALL)
        assert len(data) == count, f"the server hung up after {data!r}"
        return data

    def ask(self, command: int, to: Endpoint) -> Reply:
        """Sends the request; the reply to it."""
        address, port = to
        if self.version == 5:
            request = bytes([5, command, 0]) + encode_address(address) + struct.pack("!H", port)
        else:
            request = bytes([4, command]) + struct.pack("!H", port)
            try:
                request += socket.inet_aton(address) + b"me\0"
            except OSError:
                request += bytes([0, 0, 0, 1]) + b"me\0" + address.encode() + b"\0"
        self.stream.sendall(request)
        return self.reply()

    def reply(self) -> Reply:
        if self.version == 4:
            zero, code, port, address = struct.unpack("!BBH4s", self._take(8))
            assert zero == 0
            return Reply(code, (socket.inet_ntoa(address), port))
        version, code, _, kind = self._take(4)
        assert version == 5
        family = {1: socket.AF_INET, 4: socket.AF_INET6}[kind]
        bound = socket.inet_ntop(family, self._take(4 if kind == 1 else 16))
        return Reply(code, (bound, *struct.unpack("!H", self._take(2))))

    def echoes(self, payload: bytes = b"hello") -> bool:
        """Whether an echo server is at the other end."""
        self.stream.sendall(payload)
        return self._take(len(payload)) == payload

    def has_ended(self) -> bool:
        """Waits for the end of the stream, a reset included; false if something else comes."""
        try:
            return self.stream.recv(1) == b""
        except ConnectionResetError:
            return True


def reply_to(
    host: Namespace, server: str, to: Endpoint, version: int = 5, command: int = CONNECT
) -> int:
    """The code that one request gets."""
    with Asking(host, server, version) as client:
        return client.ask(command, to).code


class Customer:
    """Somebody who connects, asks for an echo server and hangs up, again and again. Use as a context manager."""

    def __init__(self, host: Namespace, server: str, to: Endpoint) -> None:
        self.host, self.server, self.to = host, server, to
        self.trouble: list[str] = []
        self._served = threading.Semaphore(0)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._come)

    def __enter__(self) -> "Customer":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.leave()

    def _come(self) -> None:
        while not self._is_over.is_set():
            try:
                with Asking(self.host, self.server, 5) as client:
                    assert client.ask(CONNECT, self.to).code == 0
                    assert client.echoes()
            except (OSError, AssertionError) as error:
                self.trouble.append(repr(error))
            self._served.release()

    def wait_for_more(self, count: int) -> None:
        """Until it has come so many times since the last call."""
        for _ in range(count):
            assert self._served.acquire(timeout=PATIENCE), self.trouble

    def leave(self) -> None:
        """Comes no more; it has what it has come for the last time."""
        self._is_over.set()
        self._thread.join()

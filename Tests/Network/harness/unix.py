"""SOCKS5 servers behind Unix sockets, which have no network namespace of their own: whoever finds the
path reaches them, on whichever host."""

import contextlib
import os
import shutil
import socket
import sys
import threading
import urllib.parse
from pathlib import Path
from typing import Any, Iterator

from .namespaces import Namespace
from .programs import Program
from .waiting import wait_until


def url(path: Path, credentials: tuple[str, str] | None = None) -> str:
    """The upstream's URL; user, password and path are percent-encoded."""
    login = ":".join(urllib.parse.quote(text, safe="") for text in credentials or ())
    return f"socks5://{login}{'@' if login else ''}{urllib.parse.quote(str(path))}"


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Moves bytes up to the end, and the end; a reset ends both directions."""
    end = socket.SHUT_RDWR
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        end = socket.SHUT_WR
    with contextlib.suppress(OSError):
        sink.shutdown(end)


class Door:
    """Leads from a Unix socket to a TCP server, as seen from a host. Use as a context manager."""

    def __init__(
        self, host: Namespace, path: Path, address: str, port: int, backlog: int = 128
    ) -> None:
        """`backlog`: one more than so many may wait to be let in."""
        self.path, self._host, self._to = path, host, (address, port)
        self.visitors = 0
        """How many have been let in."""
        self.is_open = threading.Event()
        """While this is not set nobody is let in."""
        self.is_open.set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(backlog)
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> "Door":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        # Closing alone would not wake the thread that waits in accept(2).
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.path.unlink()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            self.is_open.wait()
            self.visitors += 1
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        with stream, self._host.connect(*self._to) as server:
            server.settimeout(None)
            back = threading.Thread(target=_pass_on, args=(server, stream), daemon=True)
            back.start()
            _pass_on(stream, server)
            back.join()


#: A SOCKS5 server that connects by itself, listening at the path that it is given.
SERVER = """
import contextlib, socket, struct, sys, threading

def move(source, sink):
    end = socket.SHUT_RDWR
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        end = socket.SHUT_WR
    with contextlib.suppress(OSError):
        sink.shutdown(end)

def serve(client):
    with client, contextlib.suppress(ConnectionError, IndexError):  # it leaves within the handshake
        client.recv(client.recv(2)[1])
        client.sendall(bytes([5, 0]))
        kind = client.recv(4)[3]
        family, size = {1: (socket.AF_INET, 4), 4: (socket.AF_INET6, 16)}[kind]
        address = socket.inet_ntop(family, client.recv(size))
        port, = struct.unpack("!H", client.recv(2))
        try:
            target = socket.create_connection((address, port), 20)
        except OSError:
            client.sendall(bytes([5, 5, 0, 1, 0, 0, 0, 0, 0, 0]))
            return
        with target:
            client.sendall(bytes([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
            back = threading.Thread(target=move, args=(target, client), daemon=True)
            back.start()
            move(client, target)
            back.join()

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(128)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


@contextlib.contextmanager
def server(host: Namespace, path: Path, name: str) -> Iterator[Program]:
    """A SOCKS5 server on a host, listening on a Unix socket: a program of this name, which no other
    process runs."""
    program = path.parent / name
    shutil.copy(os.path.realpath(sys.executable), program)
    with Program(host, str(program), "-c", SERVER, str(path), name=name) as running:
        wait_until(path.exists, f"{name} to listen at {path}")
        yield running

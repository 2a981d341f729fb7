"""What the redirected programs want to reach: servers with a known behaviour that write down who
came. Each accepts on one port of a host, in both families, and serves a connection per thread.
"""

import hashlib
import os
import random
import socket
import struct
import threading
from typing import Any, Callable

from .namespaces import Namespace

MEBIBYTE = 1 << 20


def reset(stream: socket.socket) -> None:
    """Closes a connection with RST instead of FIN."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def read_to_end(stream: socket.socket) -> bytes:
    """Everything up to the peer's FIN. Raises ConnectionResetError where that is an RST."""
    parts = []
    while part := stream.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def hang_up(stream: socket.socket) -> None:
    """Ends a connection that another thread may be using, so that the thread wakes."""
    try:
        stream.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended by itself
        pass


class Target:
    """A server on one port of a host. Use as a context manager."""

    def __init__(self, host: Namespace, port: int = 0) -> None:
        self.peers: list[str] = []
        """The address of everyone who has connected, in order."""
        self.host = host
        self._listener = host.listen("::", port)
        self.port: int = self._listener.getsockname()[1]
        self._streams: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        # Closing alone would not wake the thread that waits in accept(2).
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for stream in list(self._streams):
            hang_up(stream)

    def _accept(self) -> None:
        while True:
            try:
                stream, peer = self._listener.accept()
            except OSError:
                return
            self.peers.append(peer[0].removeprefix("::ffff:"))
            self._streams.add(stream)
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        try:
            self.serve(stream)
        except OSError:  # the client, or the end of the test, has cut it short
            pass
        finally:
            self._streams.discard(stream)
            stream.close()

    def serve(self, stream: socket.socket) -> None:
        """Speaks with one client; the connection is closed afterwards."""
        raise NotImplementedError


class Website(Target):
    """Serves `/N`: N MiB of bytes, the same in every run, with their checksum known beforehand."""

    def __init__(self, host: Namespace, megabytes: int) -> None:
        super().__init__(host)
        self._content = os.memfd_create("content")
        self.checksums: dict[int, str] = {}
        """SHA-256 of the first N MiB."""
        generator, digest = random.Random(1928), hashlib.sha256()
        for number in range(1, megabytes + 1):
            block = generator.randbytes(MEBIBYTE)
            os.write(self._content, block)
            digest.update(block)
            self.checksums[number] = digest.hexdigest()

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)
        os.close(self._content)

    def serve(self, stream: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            part = stream.recv(4096)
            if not part:
                return
            request += part
        size = int(request.split()[1].lstrip(b"/")) * MEBIBYTE
        stream.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
        sent = 0
        while sent < size:
            sent += os.sendfile(stream.fileno(), self._content, sent, min(size - sent, MEBIBYTE))


class Echo(Target):
    """Sends back what comes, and its FIN after the client's."""

    def serve(self, stream: socket.socket) -> None:
        while data := stream.recv(1 << 16):
            stream.sendall(data)


class Mirror(Target):
    """Tells everybody which address it sees, and hangs up."""

    def serve(self, stream: socket.socket) -> None:
        stream.sendall(stream.getpeername()[0].removeprefix("::ffff:").encode())


class Banner(Target):
    """Speaks first, then echoes: as SSH, SMTP and databases do."""

    TEXT = b"220 server.example ready\r\n"

    def serve(self, stream: socket.socket) -> None:
        stream.sendall(self.TEXT)
        while data := stream.recv(1 << 16):
            stream.sendall(data)


class Scripted(Target):
    """Hands every connection to a function of the test."""

    def __init__(
        self, host: Namespace, script: Callable[[socket.socket], None], port: int = 0
    ) -> None:
        super().__init__(host, port)
        self._script = script

    def serve(self, stream: socket.socket) -> None:
        self._script(stream)

"""What the redirected programs do: unmodified curl, and sockets that look at every byte."""

import errno
import hashlib
import selectors
import socket
import subprocess
from dataclasses import dataclass
from typing import Any

from .namespaces import Namespace
from .targets import MEBIBYTE


@dataclass(frozen=True)
class Fetched:
    """What curl got."""

    code: int
    """curl's exit code, 0 for success."""
    checksum: str
    size: int
    """Bytes."""


class Curl:
    """Unmodified curl on a host, fetching N MiB from a website of the tests."""

    def __init__(
        self, host: Namespace, address: str, port: int, megabytes: int, *options: str
    ) -> None:
        place = f"[{address}]" if ":" in address else address
        command = host.command(
            "curl", "--silent", "--max-time", "60", "--noproxy", "*", *options,
            f"http://{place}:{port}/{megabytes}")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdout
        self._output = self.process.stdout
        self._digest = hashlib.sha256()
        self._size = 0

    def __enter__(self) -> "Curl":
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.kill()
        self.process.wait()
        self._output.close()

    def take(self, maximum: int | None = None) -> int:
        """Reads on: to the end, or until `maximum` more bytes are in. Returns the bytes so far."""
        goal = None if maximum is None else self._size + maximum
        while goal is None or self._size < goal:
            part = self._output.read(MEBIBYTE)
            if not part:
                break
            self._digest.update(part)
            self._size += len(part)
        return self._size

    def finish(self) -> Fetched:
        """Reads to the end."""
        self.take()
        return Fetched(self.process.wait(), self._digest.hexdigest(), self._size)


def fetch(host: Namespace, address: str, port: int, megabytes: int, *options: str) -> Fetched:
    """Fetches N MiB with curl."""
    with Curl(host, address, port, megabytes, *options) as curl:
        return curl.finish()


def ending(stream: socket.socket) -> tuple[bytes, str]:
    """Reads to the end: the bytes, and how it ended: "FIN", "RST" or "silence" (a timeout)."""
    received = b""
    try:
        while part := stream.recv(1 << 16):
            received += part
    except ConnectionResetError:
        return received, "RST"
    except TimeoutError:
        return received, "silence"
    return received, "FIN"


def outcome(host: Namespace, address: str, port: int, timeout: float = 20.0) -> tuple[bytes, str]:
    """Connects, sends nothing, and reads to the end, like `ending`.

    What is sent to a closed connection comes back as an RST: only who keeps silent can tell.
    """
    try:
        stream = host.connect(address, port, timeout)
    except ConnectionResetError:  # accepted and reset before connect(2) looked
        return b"", "RST"
    with stream:
        return ending(stream)


def attempt(host: Namespace, address: str, port: int, timeout: float = 20.0) -> str:
    """Connects, says something, and tells what came of it: "answer", "FIN", "RST", "silence" (a
    timeout) or the name of the errno of connect(2)."""
    try:
        with host.connect(address, port, timeout) as stream:
            stream.sendall(b"hello")
            return "answer" if stream.recv(1 << 16) else "FIN"
    except (ConnectionResetError, BrokenPipeError):
        return "RST"
    except TimeoutError:
        return "silence"
    except OSError as error:
        return errno.errorcode[error.errno or 0]


class Exchange:
    """One connection to an echo server: sends its payload and compares what comes back."""

    def __init__(self, host: Namespace, address: str, port: int, payload: bytes) -> None:
        self.payload = memoryview(payload)
        self.sent = 0
        self.received = 0
        self.error: str | None = None
        self.stream = host.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.stream.setblocking(False)
        self.stream.connect_ex((address, port))

    def close(self) -> None:
        self.stream.close()

    def step(self, ready: int, limit: int) -> bool:
        """Moves what it can, up to `limit` bytes of the payload; true when those are all back."""
        limit = min(limit, len(self.payload))
        try:
            if ready & selectors.EVENT_WRITE and self.sent < limit:
                self.sent += self.stream.send(self.payload[self.sent:limit])
            if ready & selectors.EVENT_READ:
                part = self.stream.recv(1 << 16)
                if not part:
                    self.error = f"ended after {self.received} of {len(self.payload)} bytes"
                elif part != self.payload[self.received:self.received + len(part)]:
                    self.error = f"wrong bytes from offset {self.received}"
                self.received += len(part)
        except BlockingIOError:
            pass
        except OSError as error:
            self.error = f"{errno.errorcode[error.errno or 0]} after {self.received} bytes"
        return self.error is not None or self.received >= limit


def exchange(exchanges: list[Exchange], limit: int, timeout: float) -> None:
    """Drives all exchanges at once until each has `limit` bytes of its payload back, or all of it.

    Those that fail say so in their `error`. Raises AssertionError after `timeout` seconds without
    any progress.
    """
    with selectors.DefaultSelector() as selector:
        for one in exchanges:
            if one.error is None:
                selector.register(
                    one.stream, selectors.EVENT_READ | selectors.EVENT_WRITE, one)
        while selector.get_map():
            events = selector.select(timeout)
            assert events, f"{len(selector.get_map())} connections stand still"
            for key, ready in events:
                one = key.data
                if one.step(ready, limit):
                    selector.unregister(one.stream)
                elif ready & selectors.EVENT_WRITE and one.sent >= min(limit, len(one.payload)):
                    selector.modify(one.stream, selectors.EVENT_READ, one)

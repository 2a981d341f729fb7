"""`sluice probe` as a program, and a SOCKS5 server that really connects, with faults that a test
chooses."""

import contextlib
import ipaddress
import json
import select
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

from .namespaces import Namespace
from .relaying import ASSOCIATE
from .serving import BIND, CONNECT
from .sluice import binary
from .targets import Target
from .topology import ADDRESSES
from .upstreams import PORT

#: What a probe of a good server at most takes, and of one that never answers: seconds.
BOUND = 12

#: Whom the server knows by name.
NAME = "server.example"


def probe(
    host: Namespace, *arguments: str, resolver: str = ADDRESSES["ipv4"].server
) -> dict[str, Any]:
    """What it finds out of an upstream, whose targets are all on the topology's server; it has to let
    itself be let in, and to end in time."""
    targets = [
        f"{ADDRESSES['ipv4'].server}:53", f"[{ADDRESSES['ipv6'].server}]:53", f"{NAME}:53"]
    words = [word for target in targets for word in ("--target", target)]
    start = time.monotonic()
    done = host.run(
        binary(), "probe", "--json", "--dns-server", resolver, *words, *arguments, check=False)
    assert time.monotonic() - start < BOUND
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def states(found: dict[str, Any]) -> dict[str, str]:
    """The state of every ability."""
    return {
        name: value["state"] for name, value in found.items()
        if isinstance(value, dict) and "state" in value}


@dataclass(frozen=True)
class Faults:
    """What the server does not do; the default is a good server without UDP and BIND."""

    refusals: dict[str, int] = field(default_factory=dict)
    """Codes of the replies to "ipv4", "ipv6", "name", "udp" and "bind"."""
    silent: tuple[str, ...] = ()
    """Which of them are never answered."""
    closes: tuple[str, ...] = ()
    """At which of them it hangs up instead of an answer."""
    pipelining: str = "accept"
    """What it does when more than the greeting comes at once: "accept", "close" or "hang"."""
    early: str = "pass"
    """What becomes of bytes that come before its reply: "pass", "drop" or "close", or "drop-at-once" if the
    whole handshake has come with them."""
    half_close: str = "pass"
    """What becomes of the client's end: "pass", or "drop" everything."""
    always_granted: bool = False
    """It says that it is connected before it tries."""
    single_bytes: bool = False
    """Every byte of an answer is sent by itself."""
    unreachable: tuple[str, ...] = ()
    """Addresses that it cannot connect to."""


class FaultyServer(Target):
    """The server, on the proxy's usual port. Use as a context manager."""

    def __init__(self, host: Namespace, faults: Faults = Faults()) -> None:
        super().__init__(host, PORT)
        self.faults = faults
        self.early: list[bytes] = []
        """What has come before replies, and was passed on."""
        self.waiting: set["_Client"] = set()
        """Clients that may send their request."""

    def serve(self, stream: socket.socket) -> None:
        with contextlib.suppress(EOFError):
            _Client(self, stream).run()


class _Client:
    def __init__(self, server: FaultyServer, stream: socket.socket) -> None:
        self.server, self.stream, self.faults = server, stream, server.faults
        self.buffer = b""
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        methods = self.take(self.take(2)[1])
        self.at_once = bool(self.buffer)
        if self.buffer and self.faults.pipelining != "accept":
            if self.faults.pipelining == "hang":
                self.wait_in_silence()
            return
        if 0 not in methods:
            self.say(b"\x05\xff")
            return
        self.say(b"\x05\x00")
        self.server.waiting.add(self)
        try:
            command, kind, address, port = self.take_request()
        finally:
            self.server.waiting.discard(self)
        what = {ASSOCIATE: "udp", BIND: "bind"}.get(command, kind)
        if what in self.faults.silent:
            self.wait_in_silence()
            return
        if what in self.faults.closes:
            return
        # Nobody has the name, or the command is none of its own.
        default = 4 if not address else 0 if command == CONNECT else 7
        code = self.faults.refusals.get(what, default)
        if code:
            self.reply(code)
            return
        self.connect(address, port)

    def connect(self, address: str, port: int) -> None:
        early, self.buffer = self.buffer, b""
        if early and self.faults.early == "close":
            return
        if self.faults.early == "drop" or self.faults.early == "drop-at-once" and self.at_once:
            early = b""
        if self.faults.always_granted:
            self.reply(0)
        try:
            if address in self.faults.unreachable:
                raise OSError("out of reach")
            target = self.server.host.connect(address, port, timeout=5)
        except OSError:
            if not self.faults.always_granted:
                self.reply(5)
            return
        with target:
            if not self.faults.always_granted:
                self.reply(0)
            if early:
                self.server.early.append(early)
                target.sendall(early)
            self.relay(target)

    def relay(self, target: socket.socket) -> None:
        """Until both sides have ended."""
        peers = {self.stream: target, target: self.stream}
        while peers:
            ready, _, _ = select.select(list(peers), [], [])
            for source in ready:
                data = source.recv(1 << 16)
                if data:
                    peers[source].sendall(data)
                    if source is self.stream and self.drops_at_once():
                        return
                    continue
                sink = peers.pop(source)
                if source is self.stream and self.faults.half_close == "drop":
                    return
                sink.shutdown(socket.SHUT_WR)

    def drops_at_once(self) -> bool:
        """Whether the client's end follows what it has sent and is not passed on: then no answer may
        be faster."""
        if self.faults.half_close != "drop":
            return False
        ready, _, _ = select.select([self.stream], [], [], 0.2)
        return bool(ready) and not self.stream.recv(1, socket.MSG_PEEK)

    # -- Bytes

    def take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            part = self.stream.recv(4096)
            if not part:
                raise EOFError
            self.buffer += part
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def take_request(self) -> tuple[int, str, str, int]:
        """Command, kind of address, address and port."""
        _, command, _, kind = self.take(4)
        match kind:
            case 1:
                name, address = "ipv4", str(ipaddress.IPv4Address(self.take(4)))
            case 4:
                name, address = "ipv6", str(ipaddress.IPv6Address(self.take(16)))
            case _:
                name, host = "name", self.take(self.take(1)[0]).decode()
                address = ADDRESSES["ipv4"].server if host == NAME else ""
        return command, name, address, struct.unpack("!H", self.take(2))[0]

    def reply(self, code: int) -> None:
        self.say(bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0]))

    def say(self, answer: bytes) -> None:
        size = 1 if self.faults.single_bytes else len(answer)
        for start in range(0, len(answer), size):
            self.stream.sendall(answer[start:start + size])

    def wait_in_silence(self) -> None:
        """Reads on, without a word, until the client gives up."""
        while self.stream.recv(4096):
            pass

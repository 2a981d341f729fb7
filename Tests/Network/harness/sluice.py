"""The program under test, and what it says about itself."""

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import Any

from .namespaces import Namespace
from .programs import Program
from .topology import Topology
from .waiting import PATIENCE, wait_until

#: The listener of `redirect`; that of `tproxy` is the next port.
PORT = 10880

#: The listener for datagrams.
DATAGRAM_PORT = PORT + 1

SCOPES = ("machine", "gateway")
CAPTURES = ("redirect", "tproxy")


def binary() -> str:
    """The program's path, which scripts/test hands over in the environment."""
    return os.environ["SLUICE"]


@dataclass(frozen=True)
class Capture:
    """Whose packets are captured, and how."""

    scope: str
    by: str

    def __str__(self) -> str:
        return f"{self.scope}-{self.by}"

    def host(self, topology: Topology) -> Namespace:
        """The host on which Sluice runs."""
        return topology.client if self.scope == "machine" else topology.gateway

    def flags(self) -> list[str]:
        scope = ["--machine"] if self.scope == "machine" else ["--gateway", "lan0"]
        return [*scope, "--tcp", self.by]


#: Every way to capture.
EVERY_CAPTURE = [Capture(scope, by) for scope in SCOPES for by in CAPTURES]


class Sluice(Program):
    """`sluice run`, ready: its rules are in. Use as a context manager: it is asked to end, and has
    to end well, unless the test has ended it."""

    def __init__(
        self, host: Namespace, *arguments: str, ready: bool = True,
        env: dict[str, str] | None = None, within: tuple[str, ...] = (),
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        """`within` is a command that runs it, and gets the descriptors `pass_fds`."""
        # The usual soft limit of descriptors, which it has to raise by itself.
        limit = ["prlimit", "--nofile=1024:", "--"]
        self.upstream = arguments[0] if arguments else ""
        if "--control" not in arguments:
            # The default one is the machine's, whatever the host.
            arguments = *arguments, "--control", "none"
        command = [binary(), "run", "--json", "--log-level", "debug", *arguments]
        super().__init__(host, *within, *limit, *command, name="sluice", env=env, pass_fds=pass_fds)
        if ready:
            try:
                self.wait_for("ready")
            except BaseException:
                self.end()
                raise

    @classmethod
    def capturing(
        cls, topology: Topology, capture: Capture, upstream: str, *options: str, ready: bool = True,
        env: dict[str, str] | None = None, within: tuple[str, ...] = (),
    ) -> "Sluice":
        return cls(
            capture.host(topology), upstream, *capture.flags(), *options, ready=ready, env=env,
            within=within)

    def __enter__(self) -> "Sluice":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if self.process.poll() is not None:
                pass
            elif kind is None:
                self.finish()
            else:
                # The test has failed, and shall be the only one: let it clean up at once.
                self.signal(signal.SIGTERM)
                self.signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.wait(timeout=5)
        finally:
            self.end()

    def events(self, event: str | None = None) -> list[dict[str, Any]]:
        """Its log so far, or the entries of one event."""
        entries = []
        for line in list(self.lines):
            try:
                entry = json.loads(line)
            except ValueError:
                raise AssertionError(f"sluice --json printed {line!r}") from None
            if event is None or entry.get("event") == event:
                entries.append(entry)
        return entries

    def wait_for(
        self, event: str, count: int = 1, timeout: float = PATIENCE
    ) -> dict[str, Any]:
        """Waits until it has logged an event that many times and returns the latest."""
        def latest() -> dict[str, Any] | None:
            entries = self.events(event)
            return entries[-1] if len(entries) >= count else None

        return self.wait_for_output(latest, f"event {event!r} ({count})", timeout)

    def status(self) -> dict[str, Any]:
        """Its counters, on request (SIGUSR1)."""
        count = len(self.events("status"))
        self.signal(signal.SIGUSR1)
        return self.wait_for("status", count + 1)

    def dropped(self) -> dict[str, int]:
        """How many datagrams it has dropped, by reason, without those that never occurred."""
        return {
            reason: count for reason, count in self.status()["datagrams_dropped"].items() if count}

    def wait_for_relaying(self) -> dict[str, Any]:
        """Waits until it knows that the upstream carries UDP, which its own server does anyway;
        returns the status."""
        if self.upstream == "embedded":
            return self.status()
        return self.wait_for_status("udp", "relayed")

    def wait_for_status(self, field: str, value: Any) -> dict[str, Any]:
        """Waits until a field of its status has a value; returns the status."""
        return wait_until(
            lambda: (now := self.status()).get(field) == value and now,
            f"status {field!r} to be {value!r}")

    def finish(self) -> dict[str, Any]:
        """Asks it to end (SIGTERM), expects success, and returns its summary."""
        self.signal(signal.SIGTERM)
        code = self.wait()
        assert code == 0, f"sluice ended with {code}:\n{self.output()}"
        return self.wait_for("summary")

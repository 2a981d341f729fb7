"""Programs that run on a host of the tests: started, watched by their output, always ended."""

import codecs
import contextlib
import io
import os
import select
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, Callable, ClassVar, Iterator, TypeVar

from .namespaces import Namespace
from .waiting import PATIENCE, wait_until


Value = TypeVar("Value")


class Program:
    """A process in a namespace, with every line that it prints kept. Use as a context manager.

    It leads a session of its own, so that its children end with it.
    """

    #: Every program of the running test, for the report when the test fails.
    started: ClassVar[list["Program"]] = []

    def __init__(self, host: Namespace, *command: str, name: str = "", **options: Any) -> None:
        """Without other `options` of Popen it reads nothing."""
        self.name = name or Path(command[0]).name
        self.host = host
        self._lines: list[str] = []
        self._rest = ""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        self._has_ended = False
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            host.command(*command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", start_new_session=True, **{"stdin": subprocess.DEVNULL} | options)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        Program.started.append(self)

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: Any) -> None:
        self.end()

    @property
    def pid(self) -> int:
        """The program's own process: nsenter has become it."""
        return self.process.pid

    @property
    def lines(self) -> list[str]:
        """What it has printed so far, to the last line: also what it has said just before a test has
        seen what it did."""
        with self._news:
            self._take()
            return self._lines

    def _take(self) -> None:
        """Takes what is there, without waiting for more."""
        assert self.process.stdout
        descriptor = self.process.stdout.fileno()
        news = select.poll()
        news.register(descriptor, select.POLLIN)
        while not self._has_ended and news.poll(0):
            data = os.read(descriptor, 1 << 16)
            self._has_ended = not data
            text = self._rest + self._decoder.decode(data, final=self._has_ended)
            *lines, self._rest = text.split("\n")
            if self._has_ended and self._rest:
                lines.append(self._rest)
            self._lines += lines
            self._news.notify_all()

    def _read(self) -> None:
        assert self.process.stdout
        news = select.poll()
        news.register(self.process.stdout.fileno(), select.POLLIN)
        while not self._has_ended:
            news.poll()
            with self._news:
                self._take()

    def output(self) -> str:
        """What it printed so far."""
        return "\n".join(self.lines)

    def wait_for_output(
        self, condition: Callable[[], Value | None], what: str, timeout: float
    ) -> Value:
        """Waits, looking at each new line, until `condition` gives something true, the result."""
        with self._news:
            found = self._news.wait_for(
                lambda: condition() or self._has_ended, timeout) and condition()
        if not found:
            state = "ended" if self.process.poll() is not None else "still runs"
            raise AssertionError(
                f"{self.name} did not print {what} in {timeout:g} s ({state}):\n{self.output()}")
        return found

    def wait_for_port(self, port: int, sockets: int = 1) -> None:
        """Waits until that many sockets of its host listen on the port."""
        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended at its start:\n{self.output()}")
            return self.host.listeners(port) >= sockets

        wait_until(ready, f"{self.name} to listen on port {port}")

    def wait_for_datagram_port(self, port: int, sockets: int = 1) -> None:
        """Waits until that many UDP sockets of its host are bound to the port."""
        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended at its start:\n{self.output()}")
            return len(self.host.receivers(port)) >= sockets

        wait_until(ready, f"{self.name} to be bound to UDP port {port}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        """Stops it (SIGSTOP), to its last thread: a while after the signal some still run."""
        self.signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.pid}/task")
        wait_until(
            lambda: all(
                ") T " in task.joinpath("stat").read_text() for task in tasks.iterdir()),
            f"{self.name} to stop")

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stopped meanwhile: what happens then, the kernel does by itself."""
        try:
            self.stop()
            yield
        finally:
            self.signal(signal.SIGCONT)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Waits for its end, and for the last of its output; returns the exit code."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def end(self) -> None:
        """Kills it and its children; does nothing when it has ended."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.wait()

    def descriptors(self) -> list[str]:
        """What its open descriptors refer to."""
        targets = []
        for path in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                targets.append(os.readlink(path))
            except FileNotFoundError:  # closed since the folder was listed
                continue
        return targets

    def memory(self, kind: str = "RssAnon") -> int:
        """Bytes of its memory that are resident: of `kind` as in proc(5), or the anonymous ones alone."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return int(line.split()[1]) << 10
        raise AssertionError(f"{self.name} has no memory")

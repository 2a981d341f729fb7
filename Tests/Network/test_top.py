"""`sluice top`, before tmux's eyes at 80×24."""

import contextlib
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any, Iterator

import pytest

from harness.control import running
from harness.namespaces import Namespace
from harness.needs import need
from harness.sluice import Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

BARS = "▁▂▃▄▅▆▇█"


@pytest.fixture
def run(topology: Topology, upstream: str, place: Path) -> Iterator[Sluice]:
    with running(topology.gateway, place, upstream) as sluice:
        yield sluice


@contextlib.contextmanager
def flow(topology: Topology, echo: Echo) -> Iterator[socket.socket]:
    with topology.client.connect(AT.server, echo.port) as stream:
        stream.sendall(b"x" * 2048)
        assert len(stream.recv(2048, socket.MSG_WAITALL)) == 2048
        yield stream


class Pane:
    """A shell in a terminal of 80×24, in which top runs. Use as a context manager."""

    def __init__(self, host: Namespace, place: Path, folder: Path) -> None:
        self.host, self.folder = host, folder
        self._tmux("-f", "/dev/null", "-u", "new-session", "-d", "-x", "80", "-y", "24",
                   "env LC_ALL=C.UTF-8 PS1='ready> ' sh")
        self.wait_for("ready>")
        self._tmux(
            "send-keys", "-l", "--", f"stty -g >{folder}/before; {binary()} top --control {place}; "
            f"echo status $?; stty -g >{folder}/after")
        self._tmux("send-keys", "Enter")

    def __enter__(self) -> "Pane":
        return self

    def __exit__(self, *_: Any) -> None:
        self._tmux("kill-server")

    def _tmux(self, *words: str) -> str:
        return self.host.run(need("tmux"), "-S", f"{self.folder}/tmux", *words).stdout

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self) -> list[str]:
        return self._tmux("capture-pane", "-p").splitlines()

    def raw(self) -> str:
        """With how it looks."""
        return self._tmux("capture-pane", "-p", "-e")

    def wait_for(self, words: str) -> list[str]:
        """The screen on which they are."""
        seen: list[str] = []

        def are_there() -> bool:
            seen[:] = self.screen()
            return any(words in line for line in seen)

        try:
            wait_until(are_there, repr(words))
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *seen])) from None
        return seen

    def program(self) -> int:
        """What the shell runs."""
        shell = self._tmux("display", "-p", "#{pane_pid}").strip()
        (child,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(child)

    def has_ended(self, status: int) -> None:
        """It has, and has left the terminal as it was."""
        seen = self.wait_for(f"status {status}")
        # The shell's screen is back, from its first line on.
        assert seen[0].startswith("ready> stty")
        wait_until((self.folder / "after").exists, "what the terminal is like afterwards")
        wait_until(lambda: (self.folder / "after").read_text().endswith("\n"), "all of that")
        assert (self.folder / "after").read_text() == (self.folder / "before").read_text()
        assert self._tmux("display", "-p", "#{cursor_flag}").strip() == "1"


@pytest.fixture
def pane(topology: Topology, run: Sluice, place: Path, tmp_path: Path) -> Iterator[Pane]:
    with Pane(topology.gateway, place, tmp_path) as one:
        one.wait_for("DESTINATION")
        yield one


def test_screen(topology: Topology, upstream: str, pane: Pane, echo: Echo) -> None:
    with flow(topology, echo) as stream:
        pane.wait_for("1 open, 1 in all")
        seen = pane.wait_for("4.0 KiB")
        assert len(seen) == 24
        assert seen[0].startswith("sluice ") and seen[0].endswith("from lan0")
        assert seen[1] == f"through {upstream}"
        assert seen[3].startswith("sent ") and seen[4].startswith("received ")
        assert any(bar in seen[3] for bar in BARS)
        assert seen[5].split() == ["DESTINATION", "FROM", "AGE", "NOW", "BYTES"]
        assert seen[6].startswith(f"{AT.server}:{echo.port} ")
        assert f" {AT.client}:{stream.getsockname()[1]} " in seen[6]
        assert seen[23].startswith("q quit")
        # In reverse.
        assert re.search(rf"\x1b\[(\d+;)*7m(\x1b\[[\d;]*m)*{AT.server}:", pane.raw())
    pane.wait_for("0 open, 1 in all")
    pane.press("q")
    pane.has_ended(0)


def test_select_sort_and_end(topology: Topology, pane: Pane, echo: Echo) -> None:
    with flow(topology, echo) as first, flow(topology, echo) as second:
        second.sendall(b"x" * 4096)
        assert len(second.recv(4096, socket.MSG_WAITALL)) == 4096
        port = second.getsockname()[1]
        # By bytes the second comes first.
        wait_until(lambda: f":{port} " in pane.screen()[6], "the larger one")
        pane.press("s")
        pane.wait_for("sort (by age)")
        wait_until(lambda: f":{port} " in pane.screen()[7], "the older one")
        # The selection has stayed with its flow.
        pane.press("Up")
        pane.press("k")
        seen = pane.wait_for("y: yes, any other key: no")
        assert seen[23].startswith("end t") and f"to {AT.server}:{echo.port}" in seen[23]
        pane.press("n")
        pane.wait_for("q quit")
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        pane.press("k")
        pane.wait_for("y: yes")
        pane.press("y")
        pane.wait_for("is ended")
        with pytest.raises(ConnectionResetError):
            first.recv(1)
        second.sendall(b"x")
        assert second.recv(1) == b"x"


def test_resizing(pane: Pane) -> None:
    pane.resize(60, 12)
    wait_until(lambda: pane.screen()[11].startswith("q quit"), "the smaller screen")
    assert len(pane.screen()) == 12
    pane.resize(120, 40)
    wait_until(lambda: len(pane.screen()) == 40 and pane.screen()[39].startswith("q quit"),
               "the larger screen")
    pane.press("C-c")
    pane.has_ended(0)


@pytest.mark.parametrize("number", [
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT], ids=lambda one: one.name)
def test_signals(pane: Pane, number: signal.Signals) -> None:
    os.kill(pane.program(), number)
    pane.has_ended(0)


def test_end_of_the_run(run: Sluice, pane: Pane) -> None:
    run.finish()
    pane.has_ended(69)
    assert any(line.startswith("sluice: no sluice run is reachable") for line in pane.screen())


def test_without_a_terminal(topology: Topology, run: Sluice, place: Path) -> None:
    done = topology.gateway.run(
        binary(), "top", "--control", str(place), check=False, input="q")
    assert (done.returncode, done.stdout) == (64, "")
    assert "top needs a terminal" in done.stderr

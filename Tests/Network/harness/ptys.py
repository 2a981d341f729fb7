"""A terminal with an interactive shell on it: keys are pressed, what appears is read."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
from typing import Any, Sequence

from .waiting import PATIENCE

CTRL_C, CTRL_D, CTRL_Z, CTRL_BACKSLASH = "\x03", "\x04", "\x1a", "\x1c"

#: What a shell asks with, as its PS1 and as it appears: on a line of its own. For more of a line it
#: shall not ask.
PS1, PROMPT = r"<prompt>\n", "<prompt>\n"

SETTINGS = {"PS1": PS1, "PS2": ""}

#: Nothing of anybody's settings, and no editing of lines: the terminal's own is what is tested.
BASH = ("bash", "--norc", "--noprofile", "--noediting", "-i")


class Terminal:
    """A pseudo-terminal and the program that leads its session. Use as a context manager.

    Nothing that is typed is echoed, so that what appears comes from programs.
    """

    def __init__(self, command: Sequence[str], owner: int, **options: Any) -> None:
        self.control, end = pty.openpty()
        """Our end; -1 when it is closed."""
        self.resize(24, 80)
        settings = termios.tcgetattr(end)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(end, termios.TCSANOW, settings)
        os.chown(os.ttyname(end), owner, owner)
        self._wake, self._waker = os.pipe()
        self._text = ""
        self._seen = 0
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            command, stdin=end, stdout=end, stderr=end, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **options)
        os.close(end)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: Any) -> None:
        self.end()

    def _read(self) -> None:
        while True:
            # A descriptor that somebody reads from would stay open although it is closed.
            ready, _, _ = select.select([self.control, self._wake], [], [])
            if self._wake in ready:
                return
            try:
                part = os.read(self.control, 4096)
            except OSError:  # EIO: the last one who had it open is gone
                part = b""
            with self._news:
                self._text += part.decode(errors="replace").replace("\r", "")
                self._news.notify_all()
            if not part:
                return

    def type(self, text: str) -> None:
        os.write(self.control, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.control, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def expect(self, pattern: str, timeout: float = PATIENCE) -> str:
        """Waits until something appears that has not been seen so far; returns what came before it,
        and sees to there."""
        def find() -> re.Match[str] | None:
            return re.compile(pattern, re.MULTILINE).search(self._text, self._seen)

        with self._news:
            found = self._news.wait_for(
                lambda: find() or not self._reader.is_alive(), timeout) and find()
            if not found:
                raise AssertionError(
                    f"{pattern!r} did not appear in {timeout:g} s:\n{self._text[self._seen:]}\n"
                    f"--- all:\n{self._text}")
            before = self._text[self._seen:found.start()]
            self._seen = found.end()
        return before

    def synchronize(self) -> None:
        """Lets the shell catch up with what was typed while it did not ask."""
        self.type("echo synchronized\n")
        self.expect("^synchronized\n")
        self.expect(PROMPT)

    def run(self, line: str) -> str:
        """A line of the shell's: what appears until it asks for the next."""
        self.type(f"{line}\n")
        return self.expect(PROMPT)

    def status(self) -> int:
        """The exit status of the shell's last line."""
        return int(self.run("echo $?"))

    def hang_up(self) -> None:
        """Takes the terminal away, as a window that is closed does; does nothing the second time."""
        if self.control < 0:
            return
        os.write(self._waker, b".")
        self._reader.join()
        for descriptor in (self.control, self._wake, self._waker):
            os.close(descriptor)
        self.control = -1

    def end(self) -> None:
        """Kills the shell and takes the terminal away: the kernel tells all who are on it."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.hang_up()

"""A terminal with somebody before it: tmux, which types and reads."""

import contextlib
from typing import Any

from .confined import Confined
from .waiting import PATIENCE, wait_until

#: What the shell of the terminal asks with.
PROMPT = "outside> "


class Terminal:
    """bash in a terminal of a user who is not confined yet. Use as a context manager."""

    def __init__(self, user: Confined) -> None:
        self.user = user
        self._socket = str(user.home / "tmux")
        (user.home / ".bashrc").write_text("PS1='inside> '\n")
        (user.home / "outside").write_text(f"PS1='{PROMPT}'\n")

    def __enter__(self) -> "Terminal":
        # What the panes show of long lines shall not be cut.
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", "200", "-y", "60",
            "bash --noprofile --rcfile ~/outside -i")
        self.wait_for(PROMPT)
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(AssertionError):
            self._tmux("kill-server")

    def _tmux(self, *words: str) -> str:
        done = self.user.bare("tmux", "-S", self._socket, *words)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def press(self, *keys: str) -> None:
        """Presses keys, named as tmux does it: "C-z", "Enter"."""
        self._tmux("send-keys", *keys)

    def type(self, line: str) -> None:
        """Types a line, and Enter."""
        self._tmux("send-keys", "-l", "--", line)
        self.press("Enter")

    def screen(self) -> list[str]:
        """What there is to see, and what has been, without empty lines."""
        text = self._tmux("capture-pane", "-p", "-J", "-S", "-")
        return [line.rstrip() for line in text.splitlines() if line.strip()]

    def wait_for(self, words: str, times: int = 1, timeout: float = PATIENCE) -> None:
        """Waits until words begin that many lines."""
        words = words.rstrip()
        try:
            wait_until(
                lambda: sum(line.startswith(words) for line in self.screen()) >= times,
                f"{words!r} to be seen", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n" + "\n".join(self.screen())) from None

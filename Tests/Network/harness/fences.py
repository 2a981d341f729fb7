"""A user namespace above all that a test makes: with limits of its own on the namespaces below it.

The kernel charges each namespace to the user who made it in every user namespace above (namespaces(7)),
and a namespace is charged for until the last of it has gone. So a limit of none forbids them, as a
machine's own would; and one of one tells whether any is left.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

from .waiting import wait_until

#: What a run makes.
KINDS = ("user", "net", "mnt")


class Fence:
    """A user namespace in which everybody is who he is outside. Use as a context manager."""

    def __init__(self) -> None:
        self._keeper = subprocess.Popen(
            ["unshare", "--user", "--", "sleep", "infinity"], start_new_session=True)
        self._path = f"/proc/{self._keeper.pid}/ns/user"

    def __enter__(self) -> "Fence":
        wait_until(
            lambda: os.readlink(self._path) != os.readlink("/proc/self/ns/user"),
            "a user namespace")
        for kind in ("uid", "gid"):
            # All but the last number, which stands for none.
            Path(f"/proc/{self._keeper.pid}/{kind}_map").write_text(f"0 0 {(1 << 32) - 1}\n")
        return self

    def __exit__(self, *_: Any) -> None:
        self._keeper.kill()
        self._keeper.wait()

    def words(self, *command: str) -> list[str]:
        """The words by which root runs a command inside, as root of the inside."""
        return ["nsenter", f"--user={self._path}", "--", *command]

    def limit(self, **most: int) -> None:
        """How many namespaces of a kind each user may have: `limit(net=0)`."""
        for kind, count in most.items():
            path = f"/proc/sys/user/max_{kind}_namespaces"
            subprocess.run(
                self.words("sh", "-c", f"echo {count} >{path}"), check=True, timeout=20)

    def is_empty(self, user: int) -> bool:
        """Whether no namespace of the user's is left: there is room for one of each kind, of one."""
        self.limit(**dict.fromkeys(KINDS, 1))
        words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--",
                 "unshare", "--user", "--net", "--mount", "--", "true"]
        done = subprocess.run(self.words(*words), capture_output=True, check=False, timeout=20)
        return done.returncode == 0

"""`sluice exec` on a host of the tests, called by somebody without any privilege.

The engine and its program run as that user, in the host's network namespace, with a resolv.conf of
the test's own: the machine's names a resolver that no host of the tests can reach.
"""

import atexit
import contextlib
import functools
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Sequence

from .namespaces import PREFIX, Namespace
from .programs import Program
from .sluice import binary
from .topology import ADDRESSES
from .waiting import PATIENCE, wait_until

#: Whom the tests run it as: nobody, and a user whom the machine has no entry for.
NOBODY, STRANGER = 65534, 54321

#: In the environment of every process that is started here, and so of all that come of it: where
#: they end up, in namespaces and sessions of their own, it is how they are found.
MARK = "SLUICE_TESTS_OWN"

#: Debian's folders alone, none that a developer has put in front.
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

#: Runs a command with settings of the user's own, which nobody else sees: a resolv.conf, or more of
#: /etc, and perhaps /run.
SETTING = """
[ ! -d "$0/run" ] || mount --bind "$0/run" /run || exit
if [ -d "$0/etc" ]; then
  mount -t overlay -o "lowerdir=/etc,upperdir=$0/etc,workdir=$0/work" overlay /etc || exit
else
  mount --bind "$0/resolv.conf" /etc/resolv.conf || exit
fi
exec "$@"
"""

#: Debian's own, not a developer's that is in front of it.
PYTHON = "/usr/bin/python3"

_numbers = itertools.count()


@dataclass(frozen=True)
class Way:
    """An upstream, as a user of the client names it."""

    name: str
    url: str
    carries_datagrams: bool = True

    def exit(self, family: str) -> str:
        """Whom the target sees."""
        at = ADDRESSES[family]
        return at.client if self.url == "embedded" else at.proxy_exit


def script(name: str, *arguments: str) -> list[str]:
    """The command that runs a script of harness/inside: its text, as the user may not read the
    checkout."""
    text = Path(__file__).with_name("inside").joinpath(name).read_text()
    return [PYTHON, "-c", text, *arguments]


@functools.cache
def installed() -> Path:
    """The program where everybody may run it: the tests' own may lie in somebody's home."""
    folder = Path(tempfile.mkdtemp(prefix="sluice-tests-bin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    path = folder / "sluice"
    shutil.copy(binary(), path)
    path.chmod(0o755)
    return path


class Confined:
    """A user of a host who runs `sluice exec`. Use as a context manager: at its end all that was
    started has ended, and nothing of it is left."""

    def __init__(
        self, host: Namespace, user: int = NOBODY, resolvers: Sequence[str] | None = None
    ) -> None:
        """`resolvers`: what resolv.conf names, the topology's server in both families if none are
        given."""
        self.host, self.user = host, user
        self.mark = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        self.home = Path(tempfile.mkdtemp(prefix="sluice-tests-home-"))
        """A folder of the user's: $HOME, $TMPDIR and the working directory."""
        self._settings = Path(tempfile.mkdtemp(prefix="sluice-tests-etc-"))
        self._settings.chmod(0o755)
        os.chown(self.home, user, user)
        if resolvers is None:
            resolvers = [at.server for at in ADDRESSES.values()]
        self.resolve_by(*resolvers)

    def __enter__(self) -> "Confined":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        left = ""
        try:
            if kind is None:
                with contextlib.suppress(AssertionError):
                    self.wait_until_empty(timeout=5)
                left = "\n".join(map(describe, self.processes()))
        finally:
            self.close()
        assert not left, f"left behind:\n{left}"

    def close(self) -> None:
        """Kills what is left, and removes the folders."""
        try:
            self.kill()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)
            shutil.rmtree(self._settings, ignore_errors=True)

    def resolve_by(self, *addresses: str) -> None:
        """Which resolvers the user's resolv.conf names from now on."""
        text = "".join(f"nameserver {one}\n" for one in addresses)
        (self._settings / "resolv.conf").write_text(text)

    def own_run_folder(self) -> Path:
        """What the user sees as /run from now on, empty at first."""
        folder = self._settings / "run"
        folder.mkdir(exist_ok=True)
        return folder

    def link_resolver_file(self, target: str) -> None:
        """Makes the user's resolv.conf a link from now on."""
        (self._settings / "work").mkdir()
        (self._settings / "etc").mkdir()
        (self._settings / "etc" / "resolv.conf").symlink_to(target)

    # What is called.

    def environment(self) -> dict[str, str]:
        """Of all that is started here; the test run's own stays outside."""
        return {
            "PATH": PATH, "HOME": str(self.home), "TMPDIR": str(self.home), "SHELL": "/bin/bash",
            "LANG": "C.UTF-8", "TERM": "dumb", "PYTHONDONTWRITEBYTECODE": "1", MARK: self.mark}

    def as_user(self, *words: str) -> list[str]:
        """The words by which root, on the host, runs a command as the user: with the user's
        resolv.conf and the usual soft limit of descriptors, and not confined."""
        return [
            "unshare", "--mount", "--propagation", "private", "--",
            "sh", "-c", SETTING, str(self._settings), "prlimit", "--nofile=1024:", "--",
            "setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups",
            "--inh-caps=-all", "--", *words]

    def words(self, *arguments: str, command: Sequence[str], verb: str = "exec") -> list[str]:
        """`sluice exec` with its options and upstream, as the user calls it."""
        separator = ["--", *command] if verb == "exec" else []
        return [str(installed()), verb, *arguments, *separator]

    def run(
        self, *arguments: str, command: Sequence[str], verb: str = "exec", **options: Any
    ) -> subprocess.CompletedProcess[Any]:
        """Runs `sluice exec` to its end, with its output as text, whatever its exit status."""
        return self.bare(*self.words(*arguments, command=command, verb=verb), **options)

    def bare(self, *command: str, **options: Any) -> subprocess.CompletedProcess[Any]:
        """Runs a command as the user, not confined, as `run` does."""
        options = self._options() | {
            "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
            "text": True, "errors": "replace", "timeout": 60, "start_new_session": True} | options
        if "input" in options:
            del options["stdin"]
        return subprocess.run(self.host.command(*self.as_user(*command)), check=False, **options)

    def get(self, *arguments: str, command: Sequence[str], **options: Any) -> str:
        """What a command prints that has to succeed."""
        done = self.run(*arguments, command=command, **options)
        assert done.returncode == 0, (
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return str(done.stdout)

    def knock(
        self, *doors: str, arguments: Sequence[str], timeout: float = PATIENCE
    ) -> list[dict[str, Any]]:
        """Knocks once at each door, confined (harness/inside/knock.py): what came of it."""
        command = script("knock.py", "1", str(timeout), *doors)
        lines = self.get(*arguments, command=command).splitlines()
        assert len(lines) == len(doors), lines
        return [json.loads(line) for line in lines]

    def start(
        self, *arguments: str, command: Sequence[str], verb: str = "exec", **options: Any
    ) -> Program:
        """`sluice exec` as a program that runs on: its PID is the engine's."""
        words = self.as_user(*self.words(*arguments, command=command, verb=verb))
        return Program(self.host, *words, name=f"sluice {verb}", **self._options() | options)

    def _options(self) -> dict[str, Any]:
        return {"env": self.environment(), "cwd": self.home}

    # What has come of it.

    def processes(self) -> list[int]:
        """All that come from what was started here and have not ended, wherever they are."""
        return marked(self.mark)

    def inside(self) -> list[int]:
        """Those of them that are in another network namespace than the host's."""
        host = os.stat(f"/run/netns/{self.host.name}").st_ino
        return [pid for pid in self.processes() if network_of(pid) not in (host, None)]

    def wait_for_inside(self, name: str) -> int:
        """Waits until a confined process is called `name` (/proc/PID/comm); returns its PID."""
        return wait_until(
            lambda: next((pid for pid in self.inside() if name_of(pid) == name), 0),
            f"{name} to run inside")

    def wait_until_empty(self, timeout: float = PATIENCE) -> None:
        wait_until(lambda: not self.processes(), "the last process to end", timeout)

    def kill(self) -> None:
        """Kills all that is left."""
        def none_left() -> bool:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not self.processes()

        wait_until(none_left, "what was left to end")


def marked(mark: str) -> list[int]:
    """The processes with a mark in the environment they began with, without those that have ended
    and only wait for their parent to take notice."""
    wanted = f"{MARK}={mark}".encode()
    return [pid for pid, found in _marks() if found == wanted]


def _marks() -> Iterator[tuple[int, bytes]]:
    for path in Path("/proc").glob("[0-9]*"):
        # A process that ends meanwhile has no environment, nor has one that has ended.
        with contextlib.suppress(OSError):
            for entry in (path / "environ").read_bytes().split(b"\0"):
                if entry.startswith(f"{MARK}=".encode()):
                    yield int(path.name), entry


def network_of(pid: int) -> int | None:
    """The inode of a process's network namespace; None when it has ended."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return None


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def describe(pid: int) -> str:
    """A process in one line, for the report of a failure."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        words = []
    return f"{pid} {name_of(pid)}: {b' '.join(words).decode(errors='replace')}"


def sweep() -> None:
    """Ends what test runs left behind that ended without cleaning up."""
    for pid, mark in list(_marks()):
        match = re.fullmatch(rf"{MARK}={PREFIX}(\d+)-\d+", mark.decode(errors="replace"))
        if match and not Path("/proc", match[1]).exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

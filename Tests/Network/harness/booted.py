"""A Debian that a real systemd runs, in a container on a host of the tests (systemd-nspawn(1))."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from .debian import LIBRARIES, Debian
from .namespaces import Namespace
from .needs import lack, need
from .programs import Program
from .sluice import binary
from .units import FOLDER, RUN, UNITS
from .waiting import wait_until

PACKAGES = (*LIBRARIES, "dbus", "systemd", "systemd-sysv")

#: Hierarchies of control groups that systemd uses, as far as they are mounted here.
HIERARCHIES = ("systemd", "unified", "")


class Booted:
    """Use as a context manager; `systemctl` and the like by `run`."""

    def __init__(self, host: Namespace, folder: Path, settings: str | None = None) -> None:
        """With settings it has what the package has; without them nothing of Sluice."""
        self.host = host
        self.debian = Debian(host, folder, PACKAGES)
        if settings is not None:
            self._furnish(settings)
        self._groups: list[Path] = []

    def _furnish(self, settings: str) -> None:
        """Puts in what the package has, and the user that it makes."""
        root = self.debian.root
        for name in UNITS:
            (root / "lib/systemd/system" / name).write_bytes((FOLDER / name).read_bytes())
        program = root / "usr/bin/sluice"
        program.write_bytes(Path(binary()).read_bytes())
        program.chmod(0o755)
        (root / "etc/sluice").mkdir()
        (root / "etc/sluice/sluice.yaml").write_text(settings)
        self.debian.run("useradd", "--system", "--user-group", "sluice")

    def _foreign_libraries(self) -> set[str]:
        """Where the program has libraries that are no Debian's: those of the compiler, in a debug build."""
        listing = subprocess.run(["ldd", binary()], capture_output=True, text=True, check=True).stdout
        paths = [line.split()[2] for line in listing.splitlines() if " => /" in line]
        return {
            str(Path(path).parent) for path in paths if not path.startswith(("/lib", "/usr/lib"))}

    def __enter__(self) -> "Booted":
        for hierarchy in HIERARCHIES:
            group = Path("/sys/fs/cgroup", hierarchy, f"slt-{os.getpid()}")
            if (group.parent / "cgroup.procs").exists():
                group.mkdir()
                self._groups.append(group)
        try:
            self._boot()
        except BaseException:
            self._remove_groups()
            raise
        return self

    def _boot(self) -> None:
        binds = [f"--bind-ro={place}" for place in sorted(self._foreign_libraries())]
        enter = 'for group; do [ "$group" = -- ] && break; echo $$ >"$group/cgroup.procs"; shift; done; ' \
            'shift; exec "$@"'
        self.program = Program(
            self.host, "sh", "-c", enter, "sh", *map(str, self._groups), "--",
            need("systemd-nspawn"), f"--directory={self.debian.root}", "--register=no", "--keep-unit",
            "--capability=CAP_NET_ADMIN,CAP_NET_RAW", "--boot", "--console=pipe", *binds,
            name="systemd-nspawn")
        try:
            wait_until(
                lambda: self.program.process.poll() is not None or self._state() == "running",
                "systemd to be up", interval=0.2)
            if self.program.process.poll() is not None:
                lack(f"no systemd can be booted here: {self.program.output()}")
        except BaseException:
            self.program.end()
            raise

    def _first_process(self) -> str | None:
        """Which has its namespaces."""
        children = Path(f"/proc/{self.program.pid}/task/{self.program.pid}/children").read_text()
        return children.split()[0] if children else None

    def _command(self, *words: str) -> list[str]:
        first = self._first_process()
        return ["nsenter", "--all", f"--target={first}", *words] if first else ["false"]

    def path(self, inside: str) -> Path:
        """Where a file is that may lie in a file system of its own."""
        return Path(f"/proc/{self._first_process()}/root{inside}")

    def _state(self) -> str:
        answer = subprocess.run(
            self._command("systemctl", "is-system-running"), capture_output=True, text=True, check=False)
        return answer.stdout.strip()

    def run(self, *words: str, **options: Any) -> str:
        """The output of a command in there, which has to end well."""
        options = {"capture_output": True, "text": True, "timeout": 60, "check": False} | options
        answer = subprocess.run(self._command(*words), **options)
        assert answer.returncode == 0, f"{words}: {answer.stdout}{answer.stderr}{self.log()}"
        return str(answer.stdout)

    def log(self) -> str:
        """What systemd and the services have said."""
        return subprocess.run(
            self._command("journalctl", "--no-pager", "--unit=sluice*"), capture_output=True, text=True,
            check=False).stdout

    def show(self, name: str, unit: str = RUN) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def install(self, package: Path) -> None:
        """By dpkg, which finds systemd at work."""
        inside = self.debian.root / "root" / package.name
        inside.write_bytes(package.read_bytes())
        self.run("dpkg", "--install", f"/root/{package.name}")
        inside.unlink()

    def __exit__(self, *_: Any) -> None:
        try:
            # Has the container shut down.
            self.program.signal(signal.SIGTERM)
            self.program.wait(60)
        finally:
            self.program.end()
            self._remove_groups()

    def _remove_groups(self) -> None:
        def is_gone(group: Path) -> bool:
            for place, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(place)
                except OSError:
                    return False
            return not group.exists()

        for group in self._groups:
            wait_until(lambda: is_gone(group), f"{group} to be empty")
        self._groups = []

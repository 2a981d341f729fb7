"""Sluice around a program: `sluice exec`, as a contestant whose client is the program's namespace."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmark.contestants import UPSTREAM, Contestant, first_line
from benchmark.process import family
from benchmark.row import Setup
from lib.netns import Namespace, wait_until

NOBODY = 65534

AS_NOBODY = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all", "--")


class SluiceExec(Contestant):
    """Our program, around another: on the gateway, so that the way from there is that of the others. It
    runs without privileges."""

    starts_programs = True
    groups = ("start", "idle", "bulk", "udp")
    interface = "lo"

    def __init__(self, binary):
        super().__init__("sluice-exec", "Sluice (exec)")
        self._binary = binary
        self._inside = None

    @contextlib.contextmanager
    def running(self, arena, setup=Setup()):
        with self._callable() as binary:
            command = [binary, "exec", UPSTREAM, "--", "sleep", "infinity"]
            process = arena.lab.spawn(
                arena.gateway, *AS_NOBODY, *command, stdout=subprocess.DEVNULL)
            try:
                wait_until(lambda: _find(process.pid, "sleep"), "the program to be inside")
                self._inside = Inside(_find(process.pid, "sleep"))
                yield process.pid
            finally:
                self._inside = None
                arena.lab.stop(process)

    def client(self, arena):
        """The traffic comes from inside, beside the program that only sleeps."""
        return self._inside

    def measure_starts(self, arena, runs):
        """The median seconds of `true`, of the same through the embedded server, and through the SOCKS5
        server."""
        with self._callable() as binary:
            result = Path(binary).with_name("starts.json")
            result.touch()
            os.chown(result, NOBODY, NOBODY)
            arena.gateway.run(
                *AS_NOBODY, "hyperfine", "-N", "--warmup", "3", "--runs", str(runs),
                "--export-json", str(result), "true", f"{binary} exec -- true",
                f"{binary} exec {UPSTREAM} -- true", timeout=120)
            return [one["median"] for one in json.loads(result.read_text())["results"]]

    @contextlib.contextmanager
    def _callable(self):
        """The program in a folder that everybody may enter."""
        with tempfile.TemporaryDirectory(prefix="slb") as folder:
            os.chmod(folder, 0o755)
            yield shutil.copy(self._binary, folder)

    def version(self):
        return first_line(self._binary, "--version")


class Inside(Namespace):
    """The network namespace of a process, in place of a host."""

    def __init__(self, pid):
        super().__init__(f"of process {pid}")
        self._pid = pid

    def command(self, *argv):
        return ["nsenter", f"--net=/proc/{self._pid}/ns/net", "--", *argv]


def _find(pid, name):
    """The process of that name that has come from `pid`; None while there is none."""
    for process in family(pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process}/comm").read_text() == f"{name}\n":
                return process
    return None

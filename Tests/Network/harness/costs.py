"""What a program costs, in numbers that do not depend on how fast the machine is."""

import contextlib
import os
import signal
import struct
import subprocess
from collections import Counter
from pathlib import Path
from typing import Iterator

from .needs import need
from .programs import Program
from .waiting import PATIENCE

#: The library that counts allocations, the benchmark's: what it writes is documented there.
SOURCE = Path(__file__).parents[3] / "scripts" / "benchmark" / "preload" / "allocations.c"


@contextlib.contextmanager
def system_calls(program: Program, folder: Path) -> Iterator[Counter[str]]:
    """Counts the system calls of all threads of a program by name; they are there after the block.

    The program is several times slower meanwhile: let nothing depend on when it does something.
    """
    summary = folder / "calls"
    found: Counter[str] = Counter()
    tracer = subprocess.Popen(
        [need("strace"), "--follow-forks", "--summary-only", "--summary-columns=calls,name",
         f"--output={summary}", f"--attach={program.pid}"],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr
    try:
        # It says so when it has all threads.
        said = tracer.stderr.readline()
        assert "attached" in said, f"strace: {said.strip() or 'it ended'}"
        yield found
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=PATIENCE)
    for line in summary.read_text().splitlines():
        match line.split():
            case [count, name] if count.isdigit() and name != "total":
                found[name] = int(count)
    assert found, f"strace saw no call:\n{summary.read_text()}"


class Allocations:
    """Counts what a program gets from malloc and its kin, from its start on."""

    def __init__(self, folder: Path) -> None:
        self._library = folder / "allocations.so"
        self._counters = folder / "allocations"
        subprocess.run(
            [need("gcc"), "-std=c11", "-O2", "-shared", "-fPIC", "-o", self._library, SOURCE],
            check=True)

    def environment(self) -> dict[str, str]:
        """That of a program which is to be counted."""
        return os.environ | {
            "LD_PRELOAD": str(self._library), "ALLOCATIONS": str(self._counters)}

    def counts(self, program: Program) -> bool:
        """Whether it does: some programs are not to be had this way."""
        return str(self._library) in Path(f"/proc/{program.pid}/maps").read_text()

    def count(self) -> int:
        """How many so far."""
        number: int = struct.unpack_from("=Q", self._counters.read_bytes())[0]
        return number

"""What a contestant does while a load runs: processor time, system calls, allocations.

Each meter is a context manager for the time that it measures, and holds its reading afterwards.
"""

import contextlib
import signal
import struct
import subprocess

from benchmark import process


class ProcessorTime:
    """Seconds, by the clock of a visit."""

    def __init__(self, visit):
        self._visit = visit
        self.reading = 0.0

    def __enter__(self):
        self._before = self._visit.processor_seconds()
        return self

    def __exit__(self, *_):
        self.reading = self._visit.processor_seconds() - self._before


class SystemCalls:
    """Calls by name, counted by strace, which slows the program down."""

    def __init__(self, visit):
        self._pid = visit.pid
        self._file = visit.arena.folder / "strace"
        self.reading: dict[str, int] = {}

    def __enter__(self):
        processes = process.family(self._pid)
        self._strace = subprocess.Popen(
            ["strace", "-f", "-c", "-o", str(self._file),
             *(word for pid in processes for word in ("-p", str(pid)))],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        # It says so of each process, with all its threads, when it has it.
        for _ in processes:
            if "attached" not in (line := self._strace.stderr.readline()):
                self._end()
                raise OSError(f"strace: {line.strip() or 'it ended'}")
        return self

    def __exit__(self, *_):
        self._end()
        self.reading = dict(_calls(self._file.read_text()))

    def _end(self):
        self._strace.send_signal(signal.SIGINT)
        self._strace.communicate(timeout=10)


def _calls(table):
    """Pairs of name and count, from the table of `strace -c`."""
    for line in table.splitlines():
        words = line.split()
        # Percent, seconds, microseconds per call, calls, perhaps errors, and the name.
        if len(words) in (5, 6) and words[3].isdigit() and words[-1] != "total":
            yield words[-1], int(words[3])


class Allocations:
    """How many, by the counters of preload/allocations.c in a file."""

    def __init__(self, visit):
        self._file = visit.arena.allocations
        self.reading = 0

    def __enter__(self):
        self._before = self._read()
        return self

    def __exit__(self, *_):
        self.reading = self._read() - self._before

    def _read(self):
        return struct.unpack_from("=Q", self._file.read_bytes())[0]


def nothing():
    """No meter."""
    return contextlib.nullcontext()

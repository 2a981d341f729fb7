"""What a running program costs: processor time and memory, its children included."""

import os
import time
from pathlib import Path


def family(pid):
    """The process and all its descendants that are alive."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # proc(5): the name in parentheses may hold anything; the parent is the second field after.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue  # It ended while we looked.
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], ())
    return found


def processor_seconds(pid):
    """User and system time since the start, of all threads, also of those that have ended.

    From the process's own clock (the clock id of clock_getcpuclockid(3)): in nanoseconds, where
    /proc/PID/stat counts ticks.
    """
    return sum(time.clock_gettime((~process << 3) | 2) for process in family(pid))


def anonymous_bytes(pid):
    """Resident anonymous memory (RssAnon)."""
    return _status_bytes(pid, "RssAnon:")


def resident_bytes(pid):
    """Resident memory of all kinds (VmRSS), the program's own code included."""
    return _status_bytes(pid, "VmRSS:")


def descriptors(pid):
    """Open file descriptors."""
    return sum(len(os.listdir(f"/proc/{process}/fd")) for process in family(pid))


def _status_bytes(pid, field):
    total = 0
    for process in family(pid):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(field):
                total += int(line.split()[1]) * 1024
    return total

"""Rows that are counts: system calls and allocations, for a session and for a chunk of one.

One client at a time, so that nothing is gathered into batches and the counts hardly vary.
"""

from benchmark.meters import Allocations, SystemCalls
from benchmark.row import Group, Row, Setup
from benchmark.sessions import hold_sessions, make_connections

# Under strace a system call takes about a tenth of a millisecond.
SECONDS = 0.5

# A question and its answer, each read from one side and written to the other.
CHUNKS_PER_ROUND_TRIP = 2


def count_per_session(visit, meter):
    """Runs connections under a meter; returns how many there were."""
    return make_connections(visit.arena, visit.contestant, 1, SECONDS, meter).finished


def count_per_chunk(visit, meter):
    """The same for round trips on one connection; returns how many chunks were relayed."""
    answers = hold_sessions(visit.arena, visit.contestant, 1, 0, SECONDS, meter)
    return answers.finished * CHUNKS_PER_ROUND_TRIP


class SystemCallCounts(Group):
    """System calls of the program; which ones they are goes to results.json."""

    name = "system-calls"
    SESSION = Row("system_calls_session", "system calls, session", "", False)
    CHUNK = Row("system_calls_chunk", "system calls, relayed chunk", "", False)
    rows = (SESSION, CHUNK)

    def measure(self, visit):
        if visit.pid is None:
            return {}
        found = {}
        for row, run in ((self.SESSION, count_per_session), (self.CHUNK, count_per_chunk)):
            meter = SystemCalls(visit)
            count = run(visit, meter)
            visit.details[row.key] = {
                name: round(calls / count, 4) for name, calls in sorted(meter.reading.items())}
            found[row.key] = sum(meter.reading.values()) / count
        return found


class AllocationCounts(Group):
    """Calls of malloc and its kin; of programs that have an allocator of their own there is no row."""

    name = "allocations"
    setup = Setup(counts_allocations=True)
    SESSION = Row("allocations_session", "allocations, session", "", False)
    CHUNK = Row("allocations_chunk", "allocations, relayed chunk", "", False)
    rows = (SESSION, CHUNK)

    def measure(self, visit):
        if visit.pid is None or not visit.contestant.uses_malloc:
            return {}
        found = {}
        for row, run in ((self.SESSION, count_per_session), (self.CHUNK, count_per_chunk)):
            meter = Allocations(visit)
            count = run(visit, meter)
            found[row.key] = meter.reading / count
        return found

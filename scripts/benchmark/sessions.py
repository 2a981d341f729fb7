"""Loads of many TCP connections: made one after the other, or held, with questions and answers."""

from dataclasses import dataclass

from benchmark.arena import NotRelayed
from benchmark.latency import Histogram
from benchmark.meters import nothing


@dataclass(frozen=True)
class Answers:
    """What became of it: `finished` in all, so many `per_second` of its time, each after a latency."""

    finished: int
    per_second: float
    latency: Histogram


def make_connections(arena, contestant, clients, seconds, meter=None):
    """So many clients that connect, ask, are answered and close, over and over.

    The latency is that from the start of connecting to the answer. The meter runs meanwhile. Raises
    NotRelayed unless every connection was answered and reached the target as the contestant claims.
    """
    with arena.loaded("connections", contestant, clients, round(seconds * 1000)) as client:
        answers, last = _run(client, meter or nothing())
    _check(arena, contestant, last, answers.finished)
    return answers


def hold_sessions(arena, contestant, active, idle, seconds, meter=None, during=None):
    """So many connections that are open and tried; on the active ones question follows answer.

    `during` is called with nothing when all are open, before the load. Raises NotRelayed unless all
    are answered, the idle ones once more at the end.
    """
    with arena.loaded("sessions", contestant, active, idle, round(seconds * 1000)) as client:
        answers, last = _run(client, meter or nothing(), during)
    if not last["alive"]:
        raise NotRelayed(f"of {idle} idle connections not all answered")
    _check(arena, contestant, last, active + idle)
    return answers


def _run(client, meter, during=None):
    """The steps that both loads have in common; returns the answers and the last line."""
    client.read()
    if during:
        during()
    with meter:
        client.proceed()
        ran = client.read()
    client.proceed()
    last = client.read()
    if ran["failed"]:
        raise NotRelayed(f"{ran['failed']} failed where {ran['finished']} were answered")
    per_second = ran["in_time"] / ran["seconds"] if ran["in_time"] else 0
    return Answers(ran["finished"], per_second, Histogram(ran["latency"])), last


def _check(arena, contestant, last, connections):
    expected = {
        "socks": contestant.through_socks, "host": arena.source(contestant), "foreign": 0,
        "connections": connections}
    seen = {name: last[name] for name in expected}
    if seen != expected:
        raise NotRelayed(f"the target saw {seen}, expected was {expected}")

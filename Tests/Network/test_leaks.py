"""That nothing captured leaves directly while the daemon is stopped or its listener is gone."""

import contextlib
import threading
from typing import Iterator

import pytest

from harness import upstreams
from harness.flows import attempt
from harness.sluice import Capture, Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, FAMILIES, Topology

#: Attempts per family.
ATTEMPTS = 8

#: Seconds that an attempt waits for an answer, which a leak brings within milliseconds.
TIMEOUT = 1.5


@pytest.fixture
def echo(topology: Topology) -> Iterator[Echo]:
    with Echo(topology.server) as target:
        yield target


@contextlib.contextmanager
def installed(capture: Capture, topology: Topology, upstream: str) -> Iterator[None]:
    """Rules and routes without a daemon."""
    host = capture.host(topology)
    host.run(binary(), "rules", "apply", upstream, *capture.flags())
    try:
        yield
    finally:
        host.run(binary(), "rules", "remove")


def attempts(topology: Topology, port: int) -> list[str]:
    """Tries both families many times at once and tells what came of it."""
    outcomes: list[str] = []

    def one(address: str) -> None:
        outcomes.append(attempt(topology.client, address, port, TIMEOUT))

    threads = [
        threading.Thread(target=one, args=(ADDRESSES[family].server,))
        for family in FAMILIES for _ in range(ATTEMPTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def check_nothing_leaves(topology: Topology, echo: Echo) -> None:
    leaked, visitors = topology.leaked(echo.port), len(echo.peers)
    outcomes = attempts(topology, echo.port)
    assert len(outcomes) == len(FAMILIES) * ATTEMPTS
    assert "answer" not in outcomes
    assert topology.leaked(echo.port) == leaked, "packets went past the proxy"
    assert len(echo.peers) == visitors


def test_without_rules_every_attempt_leaves(topology: Topology, echo: Echo) -> None:
    """The checks above can fail: this is what they see where nothing is captured."""
    with pytest.raises(AssertionError):
        check_nothing_leaves(topology, echo)


def test_stopped_daemon(topology: Topology, capture: Capture, upstream: str, echo: Echo) -> None:
    with Sluice.capturing(topology, capture, upstream, "--drain-timeout", "0") as sluice:
        assert attempt(topology.client, ADDRESSES["ipv4"].server, echo.port) == "answer"
        with sluice.stopped():
            check_nothing_leaves(topology, echo)
        # Those that had queued were carried or reset meanwhile; it works as before.
        assert attempt(topology.client, ADDRESSES["ipv6"].server, echo.port) == "answer"


def test_rules_without_a_listener(
    topology: Topology, capture: Capture, upstream: str, echo: Echo
) -> None:
    with installed(capture, topology, upstream):
        check_nothing_leaves(topology, echo)


def test_upstream_that_died_meanwhile(topology: Topology, capture: Capture, echo: Echo) -> None:
    """A dead upstream is no reason to go directly either: flows are reset and counted."""
    with upstreams.microsocks(topology.proxy, port=1082) as server:
        upstream = upstreams.url(ADDRESSES["ipv4"].proxy, 1082)
        with Sluice.capturing(topology, capture, upstream) as sluice:
            server.end()
            check_nothing_leaves(topology, echo)
            summary = sluice.finish()
    assert summary["failures"] == {"connect_refused": len(FAMILIES) * ATTEMPTS}
    assert summary["sessions_failed"] == len(FAMILIES) * ATTEMPTS

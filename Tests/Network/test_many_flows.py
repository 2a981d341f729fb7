"""Two thousand flows at once through one run: right bytes, and nothing left of them."""

import random
from pathlib import Path
from typing import Iterator

import pytest

from harness import upstreams
from harness.flows import Exchange, exchange
from harness.sluice import Capture, Sluice
from harness.targets import Echo
from harness.topology import ADDRESSES, FAMILIES, Topology
from harness.waiting import wait_until

FLOWS = 2000

#: Bytes per flow and direction, at most.
MAXIMUM = 24 << 10

#: Seconds without any progress of any flow that mean that it has stopped.
STANDSTILL = 30.0


def payloads() -> list[bytes]:
    """Random bytes for each flow, of a length between 1 and MAXIMUM, the same in every run."""
    generator = random.Random(2000)
    return [generator.randbytes(generator.randint(1, MAXIMUM)) for _ in range(FLOWS)]


def carry(topology: Topology, port: int, sluice: Sluice) -> None:
    """Opens all flows, sees them live together, and carries their bytes both ways."""
    exchanges = []
    try:
        for number, payload in enumerate(payloads()):
            server = ADDRESSES[FAMILIES[number % 2]].server
            exchanges.append(Exchange(topology.client, server, port, payload))
        exchange(exchanges, 1, STANDSTILL)
        assert sluice.status()["live_sessions"] == FLOWS
        exchange(exchanges, MAXIMUM, STANDSTILL)
        errors = [one.error for one in exchanges if one.error]
        assert not errors, f"{len(errors)} of {FLOWS} flows failed, the first: {errors[0]}"
    finally:
        for one in exchanges:
            one.close()


@pytest.fixture(scope="module", params=["openssh", "embedded"])
def upstream(
    request: pytest.FixtureRequest, topology: Topology, folder: Path
) -> Iterator[str]:
    if request.param == "embedded":
        yield "embedded"
    else:
        with upstreams.openssh(topology.proxy, folder):
            yield upstreams.url(ADDRESSES["ipv4"].proxy)


def test_2000_flows_at_once(topology: Topology, capture: Capture, upstream: str) -> None:
    with Echo(topology.server) as echo, Sluice.capturing(topology, capture, upstream) as sluice:
        sluice.wait_for("pipelining")
        idle = sorted(sluice.descriptors())
        carry(topology, echo.port, sluice)
        wait_until(lambda: sluice.status()["live_sessions"] == 0, "every session to end")
        wait_until(
            lambda: len(sluice.descriptors()) <= len(idle),
            f"every descriptor to be closed: {len(idle)} were open before")
        summary = sluice.finish()
    expected = sum(len(payload) for payload in payloads())
    assert summary["sessions_opened"] == FLOWS
    assert summary["sessions_failed"] == 0
    assert summary["failures"] == {}
    assert summary["bytes_upstream"] == expected
    assert summary["bytes_downstream"] == expected

"""The main job: curl fetches through servers that others wrote, by every capture and family."""

from pathlib import Path
from typing import Iterator

import pytest

from harness import upstreams
from harness.flows import fetch
from harness.programs import Program
from harness.sluice import CAPTURES, Capture, Sluice
from harness.targets import MEBIBYTE, Website
from harness.topology import ADDRESSES, Topology

MEGABYTES = 200


@pytest.fixture(scope="module", params=upstreams.SERVERS)
def server(
    request: pytest.FixtureRequest, topology: Topology, folder: Path
) -> Iterator[Program]:
    place = folder / request.param
    place.mkdir(mode=0o755)
    with upstreams.SERVERS[request.param](topology.proxy, place) as program:
        yield program


def check_fetch(
    topology: Topology, website: Website, capture: Capture, family: str, upstream: str,
    megabytes: int,
) -> None:
    """One fetch: right bytes, seen by the target as the proxy's, and no packet past the proxy."""
    at = ADDRESSES[family]
    del website.peers[:]
    leaked = topology.leaked(website.port)
    with Sluice.capturing(topology, capture, upstream) as sluice:
        got = fetch(topology.client, at.server, website.port, megabytes)
        summary = sluice.finish()
    assert (got.code, got.size) == (0, megabytes * MEBIBYTE)
    assert got.checksum == website.checksums[megabytes]
    assert website.peers == [at.proxy_exit]
    assert topology.leaked(website.port) == leaked
    assert summary["sessions_opened"] == 1
    assert summary["sessions_failed"] == 0
    assert summary["bytes_downstream"] >= megabytes * MEBIBYTE


def test_fetches_200_megabytes(
    server: Program, topology: Topology, website: Website, capture: Capture, family: str
) -> None:
    upstream = upstreams.url(ADDRESSES["ipv4"].proxy)
    check_fetch(topology, website, capture, family, upstream, MEGABYTES)


def test_upstream_reached_over_ipv6(
    server: Program, topology: Topology, website: Website, capture: Capture, family: str
) -> None:
    upstream = upstreams.url(ADDRESSES["ipv6"].proxy)
    check_fetch(topology, website, capture, family, upstream, 1)


def test_username_and_password(topology: Topology, website: Website, capture: Capture) -> None:
    credentials, port = (upstreams.USER, upstreams.PASSWORD), 1081
    upstream = upstreams.url(ADDRESSES["ipv4"].proxy, port, credentials)
    with upstreams.microsocks(topology.proxy, credentials=credentials, port=port):
        check_fetch(topology, website, capture, "ipv4", upstream, 1)


@pytest.mark.parametrize("by", CAPTURES)
def test_embedded_upstream_of_a_gateway(
    topology: Topology, website: Website, by: str, family: str
) -> None:
    at = ADDRESSES[family]
    del website.peers[:]
    with Sluice.capturing(topology, Capture("gateway", by), "embedded") as sluice:
        got = fetch(topology.client, at.server, website.port, 20)
        summary = sluice.finish()
    assert (got.code, got.checksum) == (0, website.checksums[20])
    assert website.peers == [at.gateway_wan]
    assert summary["sessions_opened"] == 1


@pytest.mark.parametrize("by", CAPTURES)
def test_embedded_upstream_of_a_machine(
    topology: Topology, website: Website, by: str, family: str
) -> None:
    """The target sees the machine's own address either way: the summary tells who carried it."""
    with Sluice.capturing(topology, Capture("machine", by), "embedded") as sluice:
        got = fetch(topology.client, ADDRESSES[family].server, website.port, 20)
        summary = sluice.finish()
    assert (got.code, got.checksum) == (0, website.checksums[20])
    assert summary["sessions_opened"] == 1
    assert summary["bytes_downstream"] >= 20 * MEBIBYTE

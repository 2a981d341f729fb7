"""That the harness can tell right from wrong: without Sluice, everything goes directly."""

from harness.flows import attempt, fetch, outcome
from harness.targets import Banner, Echo, Scripted, Website, reset
from harness.topology import ADDRESSES, Topology


def test_without_sluice_the_witness_sees_every_packet(topology: Topology, family: str) -> None:
    at = ADDRESSES[family]
    with Website(topology.server, 1) as website:
        got = fetch(topology.client, at.server, website.port, 1)
    assert (got.code, got.checksum) == (0, website.checksums[1])
    assert website.peers == [at.client]
    passed = topology.leaked(website.port)
    assert passed.pop(family) > 10
    assert set(passed.values()) == {0}


def test_targets_behave_as_named(topology: Topology) -> None:
    server = ADDRESSES["ipv4"].server
    with Banner(topology.server) as banner:
        with topology.client.connect(server, banner.port) as stream:
            assert stream.recv(100) == Banner.TEXT
    with Echo(topology.server) as echo:
        assert attempt(topology.client, server, echo.port) == "answer"
    with Scripted(topology.server, reset) as resetting:
        assert outcome(topology.client, server, resetting.port) == (b"", "RST")
    assert attempt(topology.client, server, 1) == "ECONNREFUSED"

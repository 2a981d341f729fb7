"""The metrics of `sluice serve`: those of a run that have something to say."""

import os
import re
import signal
import socket
import stat
from pathlib import Path
from typing import Iterator

import pytest

from harness.associating import Associating
from harness.datagrams import DatagramEcho
from harness.metrics import PLACE, PORT, Metrics, documented, judge, scrape
from harness.programs import Program
from harness.serving import CONNECT, Asking, reply_to, serving
from harness.sluice import binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

#: A port of the server that nobody listens on.
CLOSED = 9

#: What the families of a run begin with that the server has not.
OF_RUNS = ("sluice_upstream_", "sluice_handshake", "sluice_pool_", "sluice_dns_", "sluice_rules_")


@pytest.fixture
def served(topology: Topology) -> Iterator[Program]:
    with serving(topology.proxy, "--metrics", PLACE) as program:
        yield program


def test_counts_what_clients_do(
    topology: Topology, served: Program, echo: Echo, datagram_echo: DatagramEcho
) -> None:
    before = scrape(topology.proxy)
    assert before.value("tcp_sessions_opened_total") == before.value("tcp_sessions_failed_total") == 0
    with Asking(topology.client, AT.proxy, 5) as client:
        assert client.ask(CONNECT, (AT.server, echo.port)).code == 0
        assert client.echoes(b"12345678")
        with Associating(topology.client, AT.proxy) as association:
            association.send(b"123", (AT.server, datagram_echo.port))
            assert association.receive()[0] == b"123"
            during = scrape(topology.proxy)
    assert during.value("tcp_sessions") == 2
    assert during.value("udp_associations") == during.value("udp_associations_opened_total") == 1
    for direction in ("sent", "received"):
        assert during.value("udp_datagrams_total", direction=direction) == 1
        assert during.value("udp_bytes_total", direction=direction) == 3
    assert reply_to(topology.client, AT.proxy, (AT.server, CLOSED)) == 5
    after = wait_until(
        lambda: (now := scrape(topology.proxy)).value("tcp_sessions") == 0 and now,
        "all flows to be over")
    assert after.value("tcp_sessions_opened_total") == 3
    assert after.value("tcp_bytes_total", direction="sent") == 8
    assert after.value("tcp_failures_total", reason="target_refused") == 1
    assert after.value("udp_associations") == 0
    grown = after.counters()
    for series, value in before.counters().items():
        assert grown[series] >= value, series


def test_promtool_has_nothing_against_it(topology: Topology, served: Program) -> None:
    judge("check", "metrics", text=scrape(topology.proxy).text)


def test_is_what_is_documented(topology: Topology, served: Program) -> None:
    told = scrape(topology.proxy)
    families = {
        name: kind for name, (kind, _) in documented().items() if not name.startswith(OF_RUNS)}
    assert told.kinds == families
    shown = {dict(labels)["bound"] for name, labels in told.samples if name == "sluice_bound_limit"}
    assert shown == {
        "descriptors", "pipes", "buffers", "waiting_name_lookups", "listening_clients",
        "metrics_connections"}


def test_file(topology: Topology, tmp_path: Path) -> None:
    """For root and a group, and gone with the server."""
    place = tmp_path / "metrics.sock"
    with serving(topology.proxy, "--metrics", f"unix:{place}") as program:
        found = place.stat()
        assert stat.S_ISSOCK(found.st_mode) and found.st_mode & 0o777 == 0o660
        with socket.socket(socket.AF_UNIX) as scraper:
            scraper.connect(str(place))
            scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: scraper.recv(1 << 16), b""))
        _, _, body = answer.partition(b"\r\n\r\n")
        assert Metrics.parse(body.decode()).value("workers") == len(os.sched_getaffinity(program.pid))
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
    assert not place.exists()


@pytest.mark.parametrize("place", ["0.0.0.0:10882", "10882", "unix:relative"])
def test_others_are_refused(topology: Topology, place: str) -> None:
    done = topology.proxy.run(binary(), "serve", "--metrics", place, check=False)
    assert (done.returncode, done.stdout) == (64, "")
    assert re.search(f"--metrics {re.escape(place)}: .*expected", done.stderr)


def test_taken_port_ends_the_start(topology: Topology) -> None:
    with topology.proxy.listen("127.0.0.1", PORT):
        done = topology.proxy.run(binary(), "serve", "--metrics", PLACE, check=False)
    assert (done.returncode, done.stdout) == (69, "")
    assert f"--metrics {PLACE}: the port is in use by python" in done.stderr

"""An upstream by a name that leads nowhere when a run begins: at boot, before there is a network."""

import contextlib
from pathlib import Path
from typing import Iterator

import pytest

from harness import control, upstreams
from harness.control import running
from harness.flows import attempt
from harness.resolvers import PROXY_NAME, unbound
from harness.sluice import Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

URL = f"socks5://{PROXY_NAME}:{upstreams.PORT}"

#: The resolver is one that is captured: what the run looks up itself must not go through the upstream.
RESOLVER = AT.server


@pytest.fixture
def within(tmp_path: Path) -> tuple[str, ...]:
    """The command that runs another with a resolver that is not there yet."""
    path = tmp_path / "resolv.conf"
    path.write_text(f"nameserver {RESOLVER}\noptions timeout:1 attempts:1\n")
    return (
        "unshare", "--mount", "--propagation", "private", "--", "sh", "-c",
        'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(path))


@contextlib.contextmanager
def answering(topology: Topology, folder: Path) -> Iterator[None]:
    with unbound(topology.server, folder, [RESOLVER]):
        yield


def phase(place: Path) -> str:
    with control.Client(place) as client:
        return str(client.ask({"request": "status"})["status"]["rules"]["phase"])


@pytest.mark.parametrize("choice", ["closed", "open"])
def test_lone_upstream(
    topology: Topology, echo: Echo, folder: Path, within: tuple[str, ...], choice: str
) -> None:
    with control.place() as place, upstreams.microsocks(topology.proxy), Sluice(
        topology.client, URL, "--machine", "--control", str(place), "--on-upstream-down", choice,
        within=within,
    ) as sluice:
        assert PROXY_NAME in sluice.wait_for("name_unresolved")["message"]
        if choice == "open":
            wait_until(lambda: phase(place) == "suspended", "connections to go directly")
        assert attempt(topology.client, AT.server, echo.port) == (
            "answer" if choice == "open" else "RST")
        assert echo.peers == ([AT.client] if choice == "open" else [])
        with answering(topology, folder):
            moved = sluice.wait_for("upstream_moved", timeout=90)
            assert moved["place"].rpartition(":")[2] == "1080"
            wait_until(lambda: phase(place) == "capturing", "the rules")
            del echo.peers[:]
            assert attempt(topology.client, AT.server, echo.port) == "answer"
            assert echo.peers == [AT.proxy_exit]


def test_member_of_a_group(
    topology: Topology, echo: Echo, folder: Path, within: tuple[str, ...]
) -> None:
    second = upstreams.url(AT.third)
    with upstreams.microsocks(topology.proxy), upstreams.microsocks(topology.server), Sluice(
        topology.client, URL, "--upstream", second, "--machine", within=within
    ) as sluice:
        assert PROXY_NAME in sluice.wait_for("member_down")["message"]
        assert attempt(topology.client, AT.server, echo.port) == "answer"
        assert echo.peers == [AT.server]
        with answering(topology, folder):
            sluice.wait_for("upstream_moved", timeout=90)
            assert sluice.wait_for("member_up")["upstream"] == URL
            assert attempt(topology.client, AT.server, echo.port) == "answer"
            assert echo.peers == [AT.server, AT.proxy_exit]
            assert sluice.finish()["sessions_failed"] == 0


def test_none_is_found(topology: Topology, within: tuple[str, ...]) -> None:
    """All of a group may be nowhere, and it is still a start; a program that is confined has none."""
    other = f"socks5://other.{PROXY_NAME}:{upstreams.PORT}"
    with Sluice(
        topology.client, URL, "--upstream", other, "--machine", within=within
    ) as sluice:
        assert len(sluice.events("member_down")) == 2
    done = topology.client.run(*within, binary(), "exec", URL, "--", "true", check=False)
    assert (done.returncode, done.stdout) == (69, "")
    assert f"cannot resolve {PROXY_NAME}" in done.stderr

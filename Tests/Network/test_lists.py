"""Lists of a hundred thousand blocks: read, looked up, and replaced while traffic flows."""

import random
import signal
import threading
from pathlib import Path

import pytest

from harness import kernel, upstreams
from harness.flows import attempt
from harness.namespaces import Namespace
from harness.programs import Program
from harness.sluice import Capture, Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.waiting import PATIENCE

COUNT = 100_000

#: Seconds that reading a list and putting it into the kernel may take on a machine under load.
LONG = PATIENCE * 5

#: An address of the server that is on every list.
LISTED = ADDRESSES["ipv4"].second


@pytest.fixture(scope="module", autouse=True)
def _many_ports(topology: Topology) -> None:
    """The many short connections need them."""
    topology.client.write_sysctl("net/ipv4/ip_local_port_range", "1024 65535")


def blocks(seed: int, count: int = COUNT) -> list[str]:
    """Blocks in random order, half of them IPv6, far from the addresses of the tests."""
    generator = random.Random(seed)
    lines = []
    for _ in range(count // 2):
        number = generator.randrange(0x40 << 16, 0xDF << 16)
        length = generator.choice((24, 26, 32))
        lines.append(f"{number >> 16}.{number >> 8 & 255}.{number & 255}.0/{length}")
        lines.append(f"2001:{generator.randrange(1 << 16):x}:{generator.randrange(1 << 16):x}::/48")
    return lines


def write(path: Path, seed: int) -> None:
    """A list with the second address in a range that is another one each time."""
    neighbours = [f"11.3.0.{4 + number}" for number in range(seed % 4)]
    path.write_text("\n".join([f"# number {seed}", *blocks(seed), LISTED, *neighbours]) + "\n")


def test_replaced_without_one_wrong_verdict(
    topology: Topology, capture: Capture, guarded: Namespace, dante: Program, echo: Echo,
    tmp_path: Path,
) -> None:
    path, over, outcomes = tmp_path / "list", threading.Event(), []
    write(path, 0)
    at = ADDRESSES["ipv4"]
    flags = ("--bypass-file", str(path), "--on-exit", "closed")

    def knock(address: str) -> None:
        while not over.is_set():
            outcomes.append((address, attempt(topology.client, address, echo.port)))

    with Sluice.capturing(
        topology, capture, upstreams.url(at.proxy), *flags, ready=False
    ) as sluice:
        sluice.wait_for("ready", timeout=LONG)
        del echo.peers[:]
        threads = [threading.Thread(target=knock, args=(one,)) for one in (at.server, LISTED)]
        for thread in threads:
            thread.start()
        try:
            for number in range(1, 6):
                write(path, number)
                sluice.signal(signal.SIGHUP)
                sluice.wait_for("reloaded", number, timeout=LONG)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        summary = sluice.finish()
    assert {outcome for _, outcome in outcomes} == {"answer"}
    captured = sum(address == at.server for address, _ in outcomes)
    assert 0 < captured < len(outcomes)
    # As many were captured as went to the address that is on no list, no more and no fewer.
    assert echo.peers.count(at.proxy_exit) == captured == summary["sessions_opened"]
    assert echo.peers.count(at.client) == len(outcomes) - captured


def test_reload_changes_only_elements(topology: Topology, dante: Program, tmp_path: Path) -> None:
    """Handles of rules stay, and a list with an error changes nothing."""
    path, host = tmp_path / "list", topology.client
    path.write_text("198.51.100.0/24\n")

    def listing() -> str:
        return host.run("nft", "-a", "list", "table", "inet", "sluice").stdout

    with Sluice(
        host, upstreams.url(ADDRESSES["ipv4"].proxy), "--machine", "--bypass-file", str(path)
    ) as sluice:
        before = listing()
        path.write_text("198.51.100.0/25\n2001:db8::/32\n")
        sluice.signal(signal.SIGHUP)
        sluice.wait_for("reloaded")
        after = listing()
        assert "198.51.100.0/25" in after and "2001:db8::/32" in after
        chains = before.index("chain exempt")
        assert before[chains:] == after[after.index("chain exempt"):]
        path.write_text("198.51.100.0/25\n2001:db8::/200\n")
        sluice.signal(signal.SIGHUP)
        assert f"{path}:2" in sluice.wait_for("not_reloaded")["message"]
        assert listing() == after


@pytest.mark.parametrize("text, named", [
    ("198.51.100.0/24\nexample.org\n", ":2: example.org"), (None, "cannot read"),
])
def test_bad_list_starts_nothing(
    topology: Topology, tmp_path: Path, text: str | None, named: str
) -> None:
    path = tmp_path / "list"
    if text is not None:
        path.write_text(text)
    done = topology.client.run(
        binary(), "run", "--machine", "--proxy-only-file", str(path), check=False)
    assert done.returncode == 64
    assert named in done.stderr
    assert kernel.tables(topology.client) == []

"""Two hundred `sluice exec` at the same time, as a build or a crawler would start them."""

import os
import subprocess
from pathlib import Path

from harness.confined import Confined, Way, network_of
from harness.sites import place
from harness.targets import MEBIBYTE, Website
from harness.topology import ADDRESSES, FAMILIES, Topology
from harness.waiting import wait_until

COUNT = 200

#: Bytes of anonymous memory of one engine, on the average.
MEMORY = 8 * MEBIBYTE

#: Seconds that starting, and ending, all of them may take.
PATIENCE = 240.0

#: Fetches, says so, and stays until its input ends.
COMMAND = """
curl --silent --fail --max-time 200 --output /dev/null "$0" && echo fetched
read line
exit 4
"""


def memory(pid: int) -> int:
    """Bytes of anonymous memory that a process has touched (proc(5), RssAnon)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"{pid} has no memory")


def test_two_hundred_at_once(
    topology: Topology, way: Way, confined: Confined, website: Website
) -> None:
    """All of them are there together; each fetches, and ends with the status of its program."""
    del website.peers[:]
    leaked = topology.leaked(website.port)
    reader, writer = os.pipe()
    output = confined.home / "output"
    running = []
    try:
        with open(output, "ab") as sink:
            for number in range(COUNT):
                address = ADDRESSES[FAMILIES[number % 2]].server
                url = f"http://{place(address)}:{website.port}/1"
                words = confined.words(way.url, command=["sh", "-c", COMMAND, url])
                running.append(subprocess.Popen(
                    topology.client.command(*confined.as_user(*words)), stdin=reader, stdout=sink,
                    stderr=subprocess.STDOUT, env=confined.environment(), cwd=confined.home,
                    start_new_session=True))
        os.close(reader)
        wait_until(
            lambda: output.read_text().count("\n") >= COUNT, "all of them to tell", PATIENCE, 0.2)
        assert set(output.read_text().splitlines()) == {"fetched"}
        assert len(website.peers) == COUNT
        assert set(website.peers) == {way.exit(family) for family in FAMILIES}
        engines = [memory(one.pid) for one in running]
        assert sum(engines) / COUNT < MEMORY
        networks = {network_of(pid) for pid in confined.inside()}
        assert len(networks) == COUNT
    finally:
        os.close(writer)
        try:
            codes = [one.wait(PATIENCE) for one in running]
        finally:
            confined.kill()
            for one in running:
                one.wait()
    assert codes == [4] * COUNT
    confined.wait_until_empty()
    assert not networks & {network_of(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    if way.url != "embedded":
        assert topology.leaked(website.port) == leaked

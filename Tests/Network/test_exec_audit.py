"""`sluice exec --audit`: whom the program has talked to, as a table or as JSON."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from harness import resolvers
from harness.confined import PYTHON, Confined, Way, script
from harness.datagrams import DatagramEcho
from harness.resolvers import NAME, NAMES, Unbound
from harness.sites import place
from harness.targets import MEBIBYTE, Echo, Website
from harness.topology import ADDRESSES, FAMILIES, Topology
from harness.waiting import PATIENCE

#: What every destination is told with.
FIELDS = {"protocol", "address", "port", "name", "flows", "failed", "sent", "received"}

Destinations = dict[tuple[str, str, int], dict[str, Any]]


def destinations(text: str) -> Destinations:
    """Those of an audit in JSON, which has to be the last line, by protocol, address and port."""
    report = json.loads(text.splitlines()[-1])
    assert report["event"] == "audit"
    assert not any(report["omitted"].values())
    found = {}
    for one in report["destinations"]:
        assert set(one) == FIELDS
        key = one["protocol"], one["address"], one["port"]
        assert key not in found, "told twice"
        found[key] = one
    return found


def audit(user: Confined, *arguments: str, command: list[str]) -> Destinations:
    done = user.run("--audit", "--json", *arguments, command=command)
    assert done.returncode == 0, done.stderr
    return destinations(done.stderr)


def knocks(*doors: str, rounds: int = 1) -> list[str]:
    return script("knock.py", str(rounds), "20", *doors)


def test_connections(topology: Topology, way: Way, confined: Confined, echo: Echo) -> None:
    """Bytes as the program has sent and received them."""
    count = 1_000_000
    calls = "; ".join(
        f'"$@" {ADDRESSES[family].server} {echo.port} {count}' for family in FAMILIES)
    command = ["sh", "-c", f"{calls}; {calls}", "sh", *script("exchange.py")]
    found = audit(confined, way.url, command=command)
    assert found == {
        ("tcp", at.server, echo.port): {
            "protocol": "tcp", "address": at.server, "port": echo.port, "name": None, "flows": 2,
            "failed": 0, "sent": 2 * count, "received": 2 * count}
        for at in ADDRESSES.values()}


def test_names(
    topology: Topology, way: Way, confined: Confined, website: Website, unbound: Unbound,
    family: str,
) -> None:
    """A destination has the name that the program has asked for; who asked is told as well."""
    at, name = ADDRESSES[family], NAMES[family]
    confined.resolve_by(at.server)
    url = f"http://{name}:{website.port}/1"
    found = audit(confined, way.url, command=["curl", "-s", "-o", "/dev/null", url])
    page = found.pop(("tcp", at.server, website.port))
    assert (page["name"], page["flows"], page["failed"]) == (name, 1, 0)
    assert page["received"] > MEBIBYTE
    assert 0 < page["sent"] < 10_000
    assert {(address, port) for _, address, port in found} == {(at.server, resolvers.PORT)}
    assert all(one["received"] > 0 for one in found.values())


def test_address_without_a_question_has_no_name(
    topology: Topology, confined: Confined, website: Website, unbound: Unbound
) -> None:
    """Though another has one."""
    at4, at6 = ADDRESSES["ipv4"], ADDRESSES["ipv6"]
    urls = [f"http://{place(host)}:{website.port}/1" for host in (NAMES["ipv4"], at6.server)]
    command = ["curl", "-s", "-o", "/dev/null", "-o", "/dev/null", *urls]
    found = audit(confined, command=command)
    assert found["tcp", at4.server, website.port]["name"] == NAMES["ipv4"]
    assert found["tcp", at6.server, website.port]["name"] is None


def test_datagrams(
    topology: Topology, way: Way, confined: Confined, datagram_echo: DatagramEcho, family: str
) -> None:
    """A flow is what one socket of the program says to one destination."""
    at = ADDRESSES[family]
    doors = [f"udp,{address},{datagram_echo.port}" for address in (at.server, at.second)]
    found = audit(confined, way.url, command=knocks(*doors, rounds=3))
    if way.carries_datagrams:
        assert set(found) == {
            ("udp", address, datagram_echo.port) for address in (at.server, at.second)}
        for one in found.values():
            assert (one["flows"], one["failed"]) == (3, 0)
            assert (one["sent"], one["received"]) == (15, 15)
    else:  # refused by the kernel, as it is known by then that they cannot be carried
        assert all(one["flows"] == one["failed"] and one["received"] == 0 for one in found.values())


@pytest.mark.parametrize("options", [[], ["+tcp"]], ids=["udp", "tcp"])
def test_questions(
    topology: Topology, way: Way, confined: Confined, unbound: Unbound, options: list[str]
) -> None:
    at = ADDRESSES["ipv4"]
    found = audit(
        confined, way.url, command=["dig", f"@{at.server}", NAME, "+short", *options])
    protocol = "tcp" if options else "udp"
    assert set(found) == {(protocol, at.server, resolvers.PORT)}
    (asked,) = found.values()
    assert (asked["flows"], asked["failed"]) == (1, 0)
    assert asked["sent"] > len(NAME)
    assert asked["received"] > len(NAME)


def test_failures(topology: Topology, way: Way, confined: Confined, family: str) -> None:
    at = ADDRESSES[family]
    with topology.server.listen("::") as listener:
        port = listener.getsockname()[1]
    found = audit(confined, way.url, command=knocks(f"tcp,{at.server},{port}", rounds=3))
    assert set(found) == {("tcp", at.server, port)}
    (one,) = found.values()
    assert (one["flows"], one["failed"], one["received"]) == (3, 3, 0)


def test_nothing_to_tell(topology: Topology, confined: Confined) -> None:
    assert audit(confined, command=["true"]) == {}


def test_own_loopback_is_nobody_s_business(topology: Topology, confined: Confined) -> None:
    assert audit(confined, command=script("loopback.py", "8080")) == {}


def test_table(
    topology: Topology, way: Way, confined: Confined, website: Website, unbound: Unbound,
    family: str,
) -> None:
    """A line for each, after all that the program has said itself."""
    at, name = ADDRESSES[family], NAMES[family]
    url = f"http://{name}:{website.port}/1"
    shell = f"curl -s -o /dev/null {url}; echo that was it >&2"
    done = confined.run("--audit", way.url, command=["sh", "-c", shell])
    assert (done.returncode, done.stdout) == (0, "")
    said, *table = done.stderr.splitlines()
    assert said == "that was it"
    heading, *rows = [line.split() for line in table]
    assert heading == ["destination", "name", "flows", "failed", "sent", "received"]
    destination = f"{place(at.server)}:{website.port}"
    (row,) = [row for row in rows if row[1] == destination]
    assert row[0] == "tcp"
    assert row[2:5] == [name, "1", "0"]
    assert row[-2:] == ["1.0", "MiB"]
    rows.remove(row)
    assert rows, "who was asked for the name"
    assert all(row[1].endswith(f":{resolvers.PORT}") for row in rows)


@pytest.mark.parametrize("json_too", [False, True], ids=["table", "json"])
def test_file(
    topology: Topology, confined: Confined, website: Website, json_too: bool, family: str
) -> None:
    """It goes there instead; whatever there was is gone."""
    at, path = ADDRESSES[family], confined.home / "audit"
    path.write_text("of last time\n" * 1000)
    path.chmod(0o666)
    url = f"http://{place(at.server)}:{website.port}/1"
    options = ["--audit-file", str(path), *(["--json"] if json_too else [])]
    done = confined.run(*options, command=["curl", "-s", "-o", "/dev/null", url])
    assert (done.returncode, done.stderr) == (0, "")
    text = path.read_text()
    assert "of last time" not in text
    if json_too:
        assert destinations(text)["tcp", at.server, website.port]["received"] > MEBIBYTE
    else:
        assert len([line for line in text.splitlines() if at.server in line]) == 1


def test_file_that_cannot_be_written(
    topology: Topology, confined: Confined, tmp_path: Path
) -> None:
    """Said before the program is begun."""
    path = tmp_path / "no folder" / "audit"
    done = confined.run("--audit-file", str(path), command=["touch", "begun"])
    assert done.returncode not in (0, 126, 127)
    assert str(path) in done.stderr
    assert not (confined.home / "begun").exists()


def test_status_is_the_program_s(topology: Topology, confined: Confined) -> None:
    done = confined.run("--audit", "--json", command=["sh", "-c", "exit 5"])
    assert done.returncode == 5
    assert destinations(done.stderr) == {}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda one: one.name)
def test_told_after_a_signal(
    topology: Topology, confined: Confined, echo: Echo, number: signal.Signals
) -> None:
    """Of the program's own end, which is the engine's as well."""
    at = ADDRESSES["ipv4"]
    shell = f'"$@"; kill -{number.value} $$'
    done = confined.run("--audit", "--json", command=[
        "sh", "-c", shell, "sh", *knocks(f"tcp,{at.server},{echo.port}")])
    assert done.returncode == -number
    assert destinations(done.stderr)["tcp", at.server, echo.port]["flows"] == 1


def test_told_when_asked_to_end(topology: Topology, confined: Confined, echo: Echo) -> None:
    """With what is still open."""
    at = ADDRESSES["ipv4"]
    path = confined.home / "audit"
    shell = (
        f"exec 3<>/dev/tcp/{at.server}/{echo.port}; echo hello >&3; read -u 3; echo $REPLY; "
        "exec cat <&3")
    program = confined.start("--audit-file", str(path), "--json", command=["bash", "-c", shell])
    program.wait_for_output(lambda: "hello" in program.lines, "the answer", PATIENCE)
    program.signal(signal.SIGTERM)
    assert program.wait() == -signal.SIGTERM
    told = destinations(path.read_text())["tcp", at.server, echo.port]
    assert (told["flows"], told["failed"]) == (1, 0)
    assert (told["sent"], told["received"]) == (6, 6)


#: How many destinations are told of one by one.
MAXIMUM = 10_000

#: Sends a datagram to each address of so many.
SCATTER = """
import ipaddress, socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    for number in range(int(sys.argv[1])):
        one.sendto(b"hello", (str(ipaddress.IPv4Address("198.18.0.0") + number), 9))
        if number % 50 == 0:
            time.sleep(0.005)  # the pace: what comes faster than it can be taken is dropped
"""


def test_more_destinations_than_anybody_reads(topology: Topology, confined: Confined) -> None:
    """The rest is counted."""
    done = confined.run("--audit", "--json", command=[PYTHON, "-c", SCATTER, str(MAXIMUM + 2000)])
    assert done.returncode == 0
    report = json.loads(done.stderr.splitlines()[-1])
    assert len(report["destinations"]) == MAXIMUM
    assert 0 < report["omitted"]["flows"] <= 2000
    assert report["omitted"]["sent"] == 5 * report["omitted"]["flows"]


def test_many_destinations(
    topology: Topology, upstream: str, confined: Confined, datagram_echo: DatagramEcho, echo: Echo
) -> None:
    """Each is a line of its own, in TCP and UDP."""
    doors = [
        f"{kind},{address},{port}" for at in ADDRESSES.values() for address in at.of_server()
        for kind, port in (("tcp", echo.port), ("udp", datagram_echo.port))]
    found = audit(confined, upstream, command=knocks(*doors))
    assert {",".join(map(str, key)) for key in found} == set(doors)
    assert all((one["flows"], one["failed"]) == (1, 0) for one in found.values())

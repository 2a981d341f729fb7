"""`sluice flows`: whose flows there are, where they go, and how much they have carried."""

import contextlib
import json
import os
import shutil
import socket
import threading
import time
import unicodedata
from pathlib import Path
from typing import Iterator

import jsonschema
import pytest

from harness import dns
from harness.control import Client, running
from harness.datagrams import DatagramEcho, Speaker
from harness.listing import SCHEMA, check, command, flows, wait_for_flows
from harness.namespaces import Namespace
from harness.programs import Program
from harness.scripted import Behaviour, ScriptedUpstream
from harness.sluice import Sluice, binary
from harness.targets import Echo, Scripted
from harness.topology import ADDRESSES, Topology
from harness.waiting import PATIENCE, wait_until

AT = ADDRESSES["ipv4"]

NAME = "echo.sluice.example"

#: Flows at once, which take several turns of a worker to be told of.
MANY = 300


@pytest.fixture(params=["gateway", "machine"])
def host(request: pytest.FixtureRequest, topology: Topology) -> Namespace:
    """Where the run is: the clients are on the client in any case."""
    return topology.gateway if request.param == "gateway" else topology.client


@pytest.fixture
def run(host: Namespace, topology: Topology, upstream: str, place: Path) -> Iterator[Sluice]:
    scope = ("--gateway", "lan0") if host is topology.gateway else ("--machine",)
    with running(host, place, upstream, *scope) as sluice:
        yield sluice


@contextlib.contextmanager
def flow(topology: Topology, echo: Echo, sent: int = 1) -> Iterator[socket.socket]:
    """One that has carried so much, and as much back."""
    with topology.client.call(
        lambda: socket.create_connection((AT.server, echo.port), timeout=20)
    ) as stream:
        stream.sendall(b"x" * sent)
        received = 0
        while received < sent:
            received += len(stream.recv(1 << 16))
        yield stream


def test_none(run: Sluice, host: Namespace, place: Path) -> None:
    assert flows(host, place) == []
    assert command("flows", host, place).stdout.split() == [
        "ID", "CLIENT", "DESTINATION", "UPSTREAM", "AGE", "SENT", "RECEIVED", "PROGRAM"]


def test_everything_of_a_connection(
    topology: Topology, run: Sluice, host: Namespace, place: Path, upstream: str, echo: Echo
) -> None:
    before = time.monotonic()
    with dns.OneName(topology.server, NAME), Speaker.of(topology, "ipv4") as asker:
        answer = asker.ask(dns.query(1, NAME), (AT.server, dns.PORT))
        assert dns.answered_address(answer) == AT.server
        with flow(topology, echo, 100_000) as stream:
            # The last acknowledgement of the client's may come late.
            wait_until(
                lambda: [one["received"] for one in flows(host, place, "--filter", "protocol=tcp")]
                == [100_000], "the client's side to have it all")
            (one,) = flows(host, place, "--filter", "protocol=tcp")
            longest = time.monotonic() - before
            again = flows(host, place, "--filter", f"name={NAME.partition('.')[2]}")
            assert again[-1]["id"] == one["id"] and again[-1]["age"] >= one["age"]
            local, port = stream.getsockname()[:2]
            assert one.pop("id").startswith("t")
            for member in "age", "idle", "setup":
                assert 0 <= one.pop(member) <= longest, member
            program = one.pop("program", None)
            assert one == {
                "protocol": "tcp", "stage": "open",
                "scope": "gateway" if host is topology.gateway else "machine",
                "client": f"{local}:{port}", "destination": f"{AT.server}:{echo.port}",
                "name": NAME, "upstream": upstream, "sent": 100_000, "received": 100_000}
            if host is topology.gateway:
                assert program is None
            else:
                assert (program["uid"], program["pid"]) == (os.getuid(), os.getpid())
                assert program["name"].startswith("python3")
            text = command("flows", host, place, "--sort", "bytes").stdout
            assert f"{local}:{port}" in text and f"{NAME}:{echo.port}" in text
            assert "97.7 KiB" in text
            stream.shutdown(socket.SHUT_WR)
            assert stream.recv(1) == b""
    wait_for_flows(host, place, 0, "--filter", "protocol=tcp")


def test_ends_are_no_bytes(topology: Topology, place: Path, upstream: str) -> None:
    """Each has a number of its own in the kernel's counts."""
    is_over = threading.Event()

    def answer(stream: socket.socket) -> None:
        assert stream.recv(8, socket.MSG_WAITALL) == b"question"
        stream.sendall(b"answer")
        is_over.wait(PATIENCE)

    with running(topology.gateway, place, upstream, "--gateway", "lan0") as _, Scripted(
        topology.server, answer
    ) as target, topology.client.connect(AT.server, target.port) as stream:
        stream.sendall(b"question")
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(100) == b"answer"

        def is_half_closed() -> bool:
            found = flows(topology.gateway, place)
            return [(one["stage"], one["sent"], one["received"]) for one in found] == [
                ("half-closed", 8, 6)]

        wait_until(is_half_closed, "one side to have ended")
        is_over.set()


def test_datagrams(
    topology: Topology, run: Sluice, host: Namespace, place: Path, upstream: str,
    datagram_echo: DatagramEcho,
) -> None:
    with Speaker.of(topology, "ipv4") as speaker:
        for _ in range(3):
            speaker.ask(b"x" * 500, (AT.server, datagram_echo.port))
        speaker.send(b"y" * 500, (AT.second, datagram_echo.port))
        speaker.receive()
        (one,) = flows(host, place)
        port = speaker.socket.getsockname()[1]
        assert (one["protocol"], one["stage"], one["upstream"]) == ("udp", "open", upstream)
        assert (one["sent"], one["received"]) == (2000, 2000)
        assert one["client"] == f"{AT.client}:{port}"
        assert one["destination"] == f"{AT.server}:{datagram_echo.port}"
        if host is topology.client:
            assert one["program"]["pid"] == os.getpid()
        assert 0 <= one["idle"] <= one["age"] and "setup" not in one


def test_on_its_way(topology: Topology, place: Path) -> None:
    with ScriptedUpstream(topology.server) as server, running(
        topology.gateway, place, f"socks5://{AT.third}:1080"
    ):
        server.behaviour = Behaviour(at_request="silence")
        stream = topology.client.connect(AT.server, 80)
        stream.sendall(b"early")
        (one,) = wait_for_flows(topology.gateway, place, 1)
        assert one["stage"] == "opening" and "setup" not in one and "idle" not in one
        assert one["upstream"] == f"socks5://{AT.third}:1080"
        wait_until(lambda: flows(topology.gateway, place)[0]["sent"] == 5, "what has arrived")
        stream.close()


@pytest.mark.parametrize("itself", ["embedded", "direct"])
def test_this_process_is_the_upstream(
    topology: Topology, place: Path, itself: str, echo: Echo, datagram_echo: DatagramEcho
) -> None:
    """What it does for itself is no flow of anybody's."""
    with running(topology.gateway, place, itself), flow(topology, echo, 10), Speaker.of(
        topology, "ipv4"
    ) as speaker:
        speaker.ask(b"x", (AT.server, datagram_echo.port))
        found = {one["protocol"]: one for one in flows(topology.gateway, place)}
        assert sorted(found) == ["tcp", "udp"] and found["tcp"]["sent"] == 10
        assert found["tcp"].get("upstream") == ("embedded" if itself == "embedded" else None)
        assert found["udp"]["upstream"] == itself
        assert len(flows(topology.gateway, place)) == 2


def test_filters(topology: Topology, place: Path, upstream: str, echo: Echo) -> None:
    gateway = topology.gateway
    with running(gateway, place, upstream), flow(topology, echo) as small, flow(
        topology, echo, 1000
    ) as large:
        ids = {one["sent"]: one["id"] for one in flows(gateway, place)}
        port = large.getsockname()[1]
        for filters, expected in [
            ([f"client={AT.client}"], {1, 1000}), (["client=11.1.0.0/24"], {1, 1000}),
            ([f"client={AT.client}:{port}"], {1000}), (["client=192.0.2.0/24"], set()),
            ([f"destination={AT.server}", "protocol=tcp"], {1, 1000}),
            ([f"destination={AT.server}:{echo.port}"], {1, 1000}),
            ([f"port={echo.port}"], {1, 1000}), (["port=1"], set()), (["protocol=udp"], set()),
            (["stage=open"], {1, 1000}), ([f"upstream={upstream}"], {1, 1000}),
            (["scope=machine"], set()), (["uid=0"], set()), (["name=example"], set()),
        ]:
            words = [word for one in filters for word in ("--filter", one)]
            found = flows(gateway, place, *words)
            assert {one["id"] for one in found} == {ids[one] for one in expected}, filters
        assert [one["sent"] for one in flows(gateway, place, "--sort", "bytes")] == [1000, 1]
        assert [one["sent"] for one in flows(gateway, place, "--sort", "age")] == [1, 1000]
        del small


@pytest.mark.parametrize("words", [
    ["--filter", "colour=red"], ["--filter", "port"], ["--filter", "port=http"],
    ["--filter", "client=somebody"], ["--filter", "uid=-1"], ["--filter", "name="],
    ["--sort", "name"]])
def test_wrong_arguments(topology: Topology, place: Path, words: list[str]) -> None:
    """They are told without a run."""
    done = command("flows", topology.gateway, place, *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (64, "", 1)
    assert f"{words[0]} {words[1]}: expected" in done.stderr


def test_wrong_requests(topology: Topology, place: Path, upstream: str) -> None:
    with running(topology.gateway, place, upstream):
        for more in {"sort": "x"}, {"filters": ["x=1"]}, {"filters": "x"}, {"sort": 1}:
            with Client(place) as client:
                assert list(client.ask({"request": "flows"} | more)) == ["error"]
        with Client(place) as client:
            assert client.ask({"request": "flows"}) == {"flows": [], "omitted": 0}


def test_name_of_a_program_is_harmless(
    topology: Topology, place: Path, upstream: str, echo: Echo, tmp_path: Path
) -> None:
    """Nothing that a terminal obeys is printed, whatever a program calls itself."""
    evil = tmp_path / "a\x1b]0;x\x07\x9b2J\n\u202eb"
    shutil.copy("/bin/bash", evil)
    line = f"exec 3<>/dev/tcp/{AT.server}/{echo.port}; echo there; read <&3"
    with running(topology.client, place, upstream, "--machine"), Program(
        topology.client, str(evil), "-c", line, name="evil"
    ) as program:
        program.wait_for_output(lambda: "there" in program.output(), "its connection", PATIENCE)
        (one,) = wait_for_flows(topology.client, place, 1, "--filter", f"port={echo.port}")
        assert one["program"] == {"uid": 0, "pid": program.pid, "name": "a?]0;x??2J??b"}
        text = command("flows", topology.client, place).stdout
        assert f"a?]0;x??2J??b ({program.pid})" in text
        for said in text, command("flows", topology.client, place, "--json").stdout:
            assert not [one for one in said if unicodedata.category(one)[0] == "C" and one != "\n"]


def test_follow(topology: Topology, place: Path, upstream: str, echo: Echo) -> None:
    gateway = topology.gateway
    words = [binary(), "flows", "--control", str(place), "--follow"]
    with running(gateway, place, upstream), Program(gateway, *words, name="flows") as people, \
            Program(gateway, *words, "--json", name="flows --json") as programs:
        people.wait_for_output(lambda: "ID" in people.output(), "the titles", PATIENCE)
        programs.wait_for_output(lambda: programs.output(), "the first look", PATIENCE)
        with flow(topology, echo, 1000):
            (one,) = flows(gateway, place)
            people.wait_for_output(
                lambda: f"+ {one['id']} tcp " in people.output(), "the flow", PATIENCE)
            programs.wait_for_output(
                lambda: f'"{one["id"]}"' in programs.output(), "the flow", PATIENCE)
        people.wait_for_output(
            lambda: f"- {one['id']} tcp " in people.output(), "its end", PATIENCE)
        lines = [check(line) for line in programs.output().splitlines()]
        assert lines[0] == {"flows": [], "omitted": 0}
        assert one["id"] in {told["id"] for line in lines for told in line["flows"]}
        # They end with the run, and not before.
        assert people.process.poll() is None and programs.process.poll() is None


def test_many(topology: Topology, place: Path, upstream: str, echo: Echo) -> None:
    """Each is told of once, while others come and go."""
    with running(topology.gateway, place, upstream), contextlib.ExitStack() as stack:
        ports = {
            stack.enter_context(flow(topology, echo)).getsockname()[1] for _ in range(MANY)}
        assert len(ports) == MANY
        is_over = threading.Event()

        def come_and_go() -> None:
            while not is_over.is_set():
                with flow(topology, echo):
                    pass

        others = threading.Thread(target=come_and_go)
        others.start()
        try:
            for _ in range(5):
                found = flows(topology.gateway, place)
                assert len({one["id"] for one in found}) == len(found)
                clients = [int(one["client"].rpartition(":")[2]) for one in found
                           if "client" in one]
                assert ports <= set(clients) and len(clients) <= MANY + 50
        finally:
            is_over.set()
            others.join()


def test_schema_is_one_and_refuses() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    flow = {"id": "t0.1.2", "protocol": "tcp", "stage": "open", "age": 1, "sent": 1, "received": 1}
    check(json.dumps({"flows": [flow], "omitted": 0}))
    for wrong in {"id": "0.1.2"}, {"protocol": "icmp"}, {"sent": -1}, {"colour": "red"}:
        with pytest.raises(jsonschema.ValidationError):
            check(json.dumps({"flows": [flow | wrong], "omitted": 0}))

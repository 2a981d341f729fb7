"""What stays on the machine: the program's own loopback, the doors between it and the host's, the
descriptors that it is given, and what it leaves running."""

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Iterator

import pytest

from harness.confined import Confined, script
from harness.datagrams import DatagramEcho
from harness.flows import attempt, outcome
from harness.namespaces import Namespace
from harness.programs import Program
from harness.targets import MEBIBYTE, Banner, Echo, Mirror, read_to_end
from harness.topology import ADDRESSES, FAMILIES, Topology
from harness.waiting import PATIENCE, wait_until

LOOPBACK = {"ipv4": "127.0.0.1", "ipv6": "::1"}

#: A port of the host's, and one of the program's own.
PORT, INSIDE = 18080, 8080


@contextlib.contextmanager
def serving(
    user: Confined, *options: str, addresses: tuple[str, ...] = ("127.0.0.1", "::1")
) -> Iterator[Program]:
    """A server in there, with `sluice exec` around it."""
    program = user.start(*options, command=script("serve.py", str(INSIDE), *addresses))
    try:
        program.wait_for_output(
            lambda: "listening" in program.lines, "that it listens", PATIENCE)
        yield program
    finally:
        user.kill()
        program.end()


def say(host: Namespace, family: str, port: int, words: bytes) -> bytes:
    """Says it all, and then hears the answer."""
    with host.connect(LOOPBACK[family], port) as stream:
        stream.sendall(words)
        stream.shutdown(socket.SHUT_WR)
        return read_to_end(stream)


@pytest.mark.parametrize(
    "addresses", [("127.0.0.1",), ("::1",), ("127.0.0.1", "::1")], ids=" ".join)
def test_published_port(
    topology: Topology, confined: Confined, family: str, addresses: tuple[str, ...]
) -> None:
    """The host's loopback leads to the program's, of either family; each direction ends by
    itself."""
    words = b"all the words there are, " * 20000
    with serving(confined, "--publish", f"{PORT}:{INSIDE}", addresses=addresses) as program:
        assert say(topology.client, family, PORT, words) == words.upper()
        wait_until(lambda: any(line.startswith("served") for line in program.lines), "the end")
        assert attempt(topology.client, LOOPBACK[family], INSIDE) == "ECONNREFUSED"


def test_published_ports(topology: Topology, confined: Confined, family: str) -> None:
    """Several, and the same number on both sides."""
    with serving(confined, "--publish", str(INSIDE), "--publish", f"{PORT}:{INSIDE}"):
        for port in INSIDE, PORT:
            assert say(topology.client, family, port, b"words") == b"WORDS"


def test_published_half_close_of_the_server(
    topology: Topology, confined: Confined, family: str
) -> None:
    with serving(confined, "--publish", f"{PORT}:{INSIDE}") as program, \
            topology.client.connect(LOOPBACK[family], PORT) as stream:
        stream.sendall(b"talk")
        assert read_to_end(stream) == b"that is all"
        stream.sendall(b"and yet")
        stream.shutdown(socket.SHUT_WR)
        program.wait_for_output(lambda: "heard and yet" in program.lines, "the rest", PATIENCE)


def test_published_port_that_nobody_serves(
    topology: Topology, confined: Confined, family: str
) -> None:
    with serving(confined, "--publish", f"{PORT}:{INSIDE + 1}"):
        assert outcome(topology.client, LOOPBACK[family], PORT)[1] == "RST"


def test_published_port_is_for_the_host_alone(
    topology: Topology, confined: Confined, family: str
) -> None:
    with serving(confined, "--publish", f"{PORT}:{INSIDE}", addresses=("0.0.0.0",)):
        assert say(topology.client, family, PORT, b"words") == b"WORDS"
        assert attempt(topology.gateway, ADDRESSES[family].client, PORT) == "ECONNREFUSED"


def test_published_port_is_free_afterwards(topology: Topology, confined: Confined) -> None:
    for _ in range(2):
        with serving(confined, "--publish", f"{PORT}:{INSIDE}"):
            assert say(topology.client, "ipv4", PORT, b"words") == b"WORDS"
        assert attempt(topology.client, "127.0.0.1", PORT) == "ECONNREFUSED"


def test_port_to_publish_that_is_taken(topology: Topology, confined: Confined) -> None:
    """Said before the program is begun."""
    with topology.client.listen("127.0.0.1", PORT):
        done = confined.run("--publish", f"{PORT}:{INSIDE}", command=["touch", "begun"])
    assert done.returncode not in (0, 126, 127)
    assert str(PORT) in done.stderr
    assert not (confined.home / "begun").exists()


def test_port_to_publish_that_needs_privilege(topology: Topology, confined: Confined) -> None:
    done = confined.run("--publish", f"80:{INSIDE}", command=["touch", "begun"])
    assert done.returncode not in (0, 126, 127)
    assert "80" in done.stderr
    assert not (confined.home / "begun").exists()


def test_many_connections_to_a_published_port(topology: Topology, confined: Confined) -> None:
    with serving(confined, "--publish", f"{PORT}:{INSIDE}"):
        with contextlib.ExitStack() as stack:
            streams = [
                stack.enter_context(topology.client.connect(LOOPBACK[family], PORT))
                for _ in range(50) for family in FAMILIES]
            for number, stream in enumerate(streams):
                stream.sendall(f"number {number}".encode())
                stream.shutdown(socket.SHUT_WR)
            answers = [read_to_end(stream) for stream in streams]
    assert answers == [f"NUMBER {number}".encode() for number in range(len(streams))]


def test_service_of_the_host(topology: Topology, confined: Confined, family: str) -> None:
    """The program's loopback leads to the host's, at one port; each direction ends by itself."""
    with Echo(topology.client) as service:
        command = script(
            "exchange.py", LOOPBACK[family], str(service.port), str(2 * MEBIBYTE))
        said = confined.get("--host-loopback", str(service.port), command=command)
        assert said.split() == [str(2 * MEBIBYTE), "same"]
        assert len(service.peers) == 1
        assert service.peers[0] in LOOPBACK.values()


def test_service_of_the_host_that_speaks_first(
    topology: Topology, confined: Confined, family: str
) -> None:
    with Banner(topology.client) as service:
        port = str(service.port)
        told = confined.knock(
            f"tcp,{LOOPBACK[family]},{port}", arguments=["--host-loopback", port])
    assert told[0]["outcome"] == "answer"


def test_services_of_the_host(topology: Topology, confined: Confined) -> None:
    """Several; and no other port beside them."""
    with Echo(topology.client) as one, Echo(topology.client) as two, Echo(topology.client) as three:
        doors = [
            f"tcp,{address},{service.port}"
            for service in (one, two, three) for address in LOOPBACK.values()]
        told = confined.knock(*doors, arguments=[
            "--host-loopback", str(one.port), "--host-loopback", str(two.port)])
        assert [answer["outcome"] for answer in told] == ["answer"] * 4 + ["ECONNREFUSED"] * 2
        assert three.peers == []


def test_service_of_the_host_that_is_not_there(
    topology: Topology, confined: Confined, family: str
) -> None:
    told = confined.knock(
        f"tcp,{LOOPBACK[family]},{PORT}", arguments=["--host-loopback", str(PORT)])
    assert told[0]["outcome"] in ("RST", "ECONNREFUSED")
    assert told[0]["seconds"] < 5


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"])
def test_loopback_of_the_host_is_out_of_reach(
    topology: Topology, confined: Confined, upstream: str, address: str
) -> None:
    """By either upstream: the program's own is meant, and nobody listens there."""
    with Echo(topology.client) as service, DatagramEcho(
            topology.client, ["127.0.0.1", "::1"]) as datagrams:
        doors = f"tcp,{address},{service.port}", f"udp,{address},{datagrams.port}"
        for arguments in [upstream], ["embedded"]:
            told = confined.knock(*doors, arguments=arguments)
            assert [one["outcome"] for one in told] == ["ECONNREFUSED"] * 2
        assert (service.peers, datagrams.received) == ([], [])


def test_talks_to_itself(topology: Topology, confined: Confined, upstream: str) -> None:
    """As on any machine; also at a port that the host itself has taken."""
    with topology.client.listen("127.0.0.1", PORT), topology.client.listen("::1", PORT):
        said = confined.get(upstream, command=script("loopback.py", str(PORT)))
    assert said.splitlines() == [
        f"{kind} {address}" for address in LOOPBACK.values() for kind in ("stream", "datagram")]


def test_each_has_a_loopback_of_its_own(topology: Topology) -> None:
    """Two servers with one port, side by side."""
    with Confined(topology.client) as one, Confined(topology.client) as two, \
            serving(one, "--publish", f"{PORT}:{INSIDE}"), \
            serving(two, "--publish", f"{PORT + 1}:{INSIDE}"):
        for port in PORT, PORT + 1:
            assert say(topology.client, "ipv4", port, b"words") == b"WORDS"


def test_abstract_socket_of_the_host_is_out_of_reach(
    topology: Topology, confined: Confined
) -> None:
    """Sockets with names that are no files belong to a network as well."""
    name = f"\0{confined.mark}"
    client = "import socket, sys; socket.socket(socket.AF_UNIX).connect('\\0' + sys.argv[1])"
    command = ["/usr/bin/python3", "-c", client, confined.mark]
    with topology.client.open_socket(socket.AF_UNIX) as service:
        service.bind(name)
        service.listen()
        assert confined.bare(*command).returncode == 0
        done = confined.run(command=command)
    assert "ConnectionRefusedError" in done.stderr


# What it inherits.


def holding(user: Confined, options: list[str], echo: Echo) -> list[str]:
    """What a program says of its descriptors, called with a pipe at 3, a connection at 4, and a
    file at 5."""
    reader, writer = os.pipe()
    with user.host.connect(ADDRESSES["ipv4"].server, echo.port) as stream:
        stream.setblocking(True)  # the program knows of no timeout
        os.write(writer, b"said by the pipe")
        os.close(writer)
        given = reader, stream.fileno()
        # By way of others, as those may be 3 and 4 themselves. All of them stay open.
        shuffle = (
            f"exec {{pipe}}<&{given[0]} {{connection}}<&{given[1]}; "
            'exec 3<&$pipe 4<&$connection 5</etc/passwd; exec "$@"')
        done = user.bare(
            "bash", "-c", shuffle, "bash", *user.words(*options, command=script("descriptors.py")),
            pass_fds=given)
        os.close(reader)
    assert done.returncode == 0, done.stderr
    return str(done.stdout).splitlines()


def test_inherits_standard_streams_alone(
    topology: Topology, confined: Confined, echo: Echo
) -> None:
    assert holding(confined, [], echo) == ["0 1 2"]


def test_preserved_descriptors(topology: Topology, confined: Confined, echo: Echo) -> None:
    """A pipe, and a connection from before."""
    assert holding(confined, ["--preserve-fds", "1"], echo) == ["0 1 2 3", "said by the pipe"]
    assert holding(confined, ["--preserve-fds", "2"], echo) == [
        "0 1 2 3 4", "said by the pipe", "said to the connection"]
    assert echo.peers == [ADDRESSES["ipv4"].client] * 2


def test_descriptor_to_preserve_that_is_closed(topology: Topology, confined: Confined) -> None:
    """The number stays what it is: none of the engine's own takes its place."""
    command = script("descriptors.py")
    said = confined.get("--preserve-fds", "3", command=command)
    assert said.splitlines() == ["0 1 2"]


# What it leaves running.

#: Leaves somebody behind, who connects to a mirror as soon as the file `go` is written to; tells
#: its own PID, and ends with a status of its own.
LEAVING = """
setsid bash -c 'read < go; cat < /dev/tcp/$0/$1 > got' $0 $1 > /dev/null 2>&1 &
echo $$
exit 3
"""


@pytest.fixture
def mirror(topology: Topology) -> Iterator[Mirror]:
    with Mirror(topology.server) as target:
        yield target


@contextlib.contextmanager
def leaving(user: Confined, target: Mirror, *options: str) -> Iterator[Program]:
    """`sluice exec` whose command has ended, with somebody left in there."""
    os.mkfifo(user.home / "go")
    os.chown(user.home / "go", user.user, user.user)
    address = ADDRESSES["ipv4"].server
    program = user.start(*options, command=["bash", "-c", LEAVING, address, str(target.port)])
    try:
        pid = program.wait_for_output(
            lambda: program.lines[0] if program.lines else None, "its PID", PATIENCE)
        wait_until(lambda: not Path("/proc", pid).exists(), "the command to end")
        yield program
    finally:
        user.kill()
        program.end()


@pytest.mark.parametrize("options", [[], ["--linger", "60"]], ids=["unasked", "linger"])
def test_engine_works_for_the_last_process(
    topology: Topology, confined: Confined, mirror: Mirror, options: list[str]
) -> None:
    """It ends with the last of them, and with the status of the first."""
    with leaving(confined, mirror, *options) as program:
        assert program.process.poll() is None
        (confined.home / "go").write_text("go\n")
        assert program.wait() == 3
    assert (confined.home / "got").read_text() == ADDRESSES["ipv4"].client
    assert mirror.peers == [ADDRESSES["ipv4"].client]


def test_linger(topology: Topology, confined: Confined, mirror: Mirror) -> None:
    """As long as it is told to it waits, and ends although somebody is left."""
    began = time.monotonic()
    with leaving(confined, mirror, "--linger", "1") as program:
        assert program.process.wait(PATIENCE) == 3
        assert time.monotonic() - began >= 1
        assert mirror.peers == []

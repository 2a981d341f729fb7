"""`sluice exec --daemon`: a running `sluice run` carries what the program sends."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from harness import upstreams
from harness.confined import NOBODY, STRANGER, Confined
from harness.control import EXEC, Client, by, caller, read, running, threads
from harness.datagrams import DatagramEcho
from harness.programs import Program
from harness.resolvers import NAME, RECORDS, Unbound
from harness.sluice import Sluice, binary
from harness.targets import Echo, Mirror
from harness.topology import ADDRESSES, FAMILIES, Topology
from harness.waiting import wait_until


@pytest.fixture(scope="module")
def mirror(topology: Topology) -> Iterator[Mirror]:
    with Mirror(topology.server) as target:
        yield target


@pytest.fixture
def run(topology: Topology, upstream: str, place: Path) -> Iterator[Sluice]:
    """A run on the gateway, which nobody and root may use."""
    with running(topology.gateway, place, upstream) as sluice:
        yield sluice


@pytest.fixture
def user(topology: Topology) -> Iterator[Confined]:
    """A user of the gateway without any privilege."""
    with Confined(topology.gateway) as one:
        yield one


# What it carries.


@pytest.mark.parametrize("who", [0, NOBODY, STRANGER], ids=["root", "nobody", "stranger"])
def test_connections(
    topology: Topology, carrier: upstreams.Carrier, place: Path, mirror: Mirror, family: str,
    who: int,
) -> None:
    at = ADDRESSES[family]
    leaked = topology.leaked(mirror.port)
    with running(topology.gateway, place, carrier.url, group=who), \
            Confined(topology.gateway, who) as user:
        seen = at.gateway_wan if carrier.url == "embedded" else at.proxy_exit
        assert caller(user, place, mirror, family) == seen
    if carrier.url != "embedded":  # what the embedded server sends passes there as well
        assert topology.leaked(mirror.port) == leaked


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize("options", [[], ["--dns", "tcp"]], ids=["as-it-is", "dns-tcp"])
def test_names(
    run: Sluice, user: Confined, place: Path, unbound: Unbound, family: str, transport: str,
    options: list[str],
) -> None:
    at = ADDRESSES[family]
    answer = user.get(
        *by(place), *options, command=["dig", f"@{at.server}", NAME, "+short", transport])
    assert answer.strip() == RECORDS["A"]
    assert unbound.askers() == [at.proxy_exit]


def test_names_by_the_embedded_server(
    topology: Topology, place: Path, user: Confined, unbound: Unbound, family: str
) -> None:
    at = ADDRESSES[family]
    with running(topology.gateway, place, "embedded"):
        answer = user.get(*by(place), command=["dig", f"@{at.server}", NAME, "+short"])
    assert answer.strip() == RECORDS["A"]
    assert unbound.askers() == [at.gateway_wan]


def test_resolver_of_choice(
    run: Sluice, user: Confined, place: Path, unbound: Unbound
) -> None:
    """All queries go there, whomever the program asks."""
    at = ADDRESSES["ipv4"]
    answer = user.get(
        *by(place), "--dns-server", at.server, command=["dig", "@192.0.2.53", NAME, "+short"])
    assert answer.strip() == RECORDS["A"]
    assert unbound.askers() == [at.proxy_exit]


def test_datagrams(
    topology: Topology, carrier: upstreams.Carrier, place: Path, user: Confined,
    datagram_echo: DatagramEcho, family: str,
) -> None:
    door = f"udp,{ADDRESSES[family].server},{datagram_echo.port}"
    with running(topology.gateway, place, carrier.url):
        assert [one["outcome"] for one in user.knock(door, arguments=by(place))] == ["answer"]


def test_upstream_without_datagrams(
    topology: Topology, place: Path, user: Confined, datagram_echo: DatagramEcho, unbound: Unbound
) -> None:
    """The run knows it, and the program is told as it would be without --daemon."""
    server = ADDRESSES["ipv4"].server
    with upstreams.microsocks(topology.proxy, port=1081), \
            running(topology.gateway, place, upstreams.url(ADDRESSES["ipv4"].proxy, 1081)):
        udp, dns = user.knock(
            f"udp,{server},{datagram_echo.port}", f"dns,{server},53", arguments=by(place))
        done = user.run(*by(place), "--log-level", "notice", command=["true"])
    assert udp["outcome"] == "ECONNREFUSED" and udp["seconds"] < 2
    assert dns["outcome"] == "answer"
    assert "relays no datagrams: DNS goes over TCP" in done.stderr


def test_treatment_is_the_programs(
    run: Sluice, user: Confined, place: Path, mirror: Mirror
) -> None:
    doors = [f"tcp,{ADDRESSES[family].server},{mirror.port}" for family in FAMILIES]
    knocks = user.knock(*doors, arguments=[*by(place), "--ipv6", "reject"])
    assert knocks[0]["outcome"] == "answer"
    assert knocks[1]["outcome"] != "answer" and knocks[1]["seconds"] < 2


def test_what_the_run_sends_is_not_captured(
    topology: Topology, carrier: upstreams.Carrier, place: Path, mirror: Mirror,
    datagram_echo: DatagramEcho, family: str,
) -> None:
    """What it sends for the program is exempt, as what it sends for others is."""
    server = ADDRESSES[family].server
    with running(topology.client, place, carrier.url, "--machine") as sluice, \
            Confined(topology.client) as user:
        for _ in range(3):
            seen = ADDRESSES[family]
            seen = seen.client if carrier.url == "embedded" else seen.proxy_exit
            assert caller(user, place, mirror, family) == seen
        knocks = user.knock(f"udp,{server},{datagram_echo.port}", arguments=by(place))
        assert [one["outcome"] for one in knocks] == ["answer"]
        # What the run carries of others, and what its own server does for the program.
        status = sluice.status()
        if carrier.url != "embedded":
            assert status["sessions_opened"] == status["associations_opened"] == 0
        assert not status["failures"] and not sluice.events("loop")


def test_status_and_signals_are_the_programs(run: Sluice, user: Confined, place: Path) -> None:
    assert user.run(*by(place), command=["sh", "-c", "exit 7"]).returncode == 7
    assert user.run(*by(place), command=["sh", "-c", "kill -9 $$"]).returncode == -signal.SIGKILL
    assert user.run(*by(place), command=["/no/such"]).returncode == 127
    assert user.run(*by(place), command=["/etc/passwd"]).returncode == 126


def test_environment_names_the_upstream(
    topology: Topology, place: Path, user: Confined, mirror: Mirror
) -> None:
    """Without the password, which does not leave the run."""
    at, login = ADDRESSES["ipv4"], (upstreams.USER, upstreams.PASSWORD)
    with upstreams.microsocks(topology.proxy, credentials=login, port=1082), \
            running(topology.gateway, place, upstreams.url(at.proxy, 1082, login)):
        assert caller(user, place, mirror, "ipv4") == at.proxy_exit
        environment = user.get(*by(place), command=["env"])
        with Client(place) as client:
            answer = client.ask(EXEC)
    url = f"socks5://{upstreams.USER}:***@{at.proxy}:1082"
    assert f"SLUICE={url}\n" in environment
    assert answer["upstream"] == url


def test_shell(run: Sluice, user: Confined, place: Path, mirror: Mirror) -> None:
    at = ADDRESSES["ipv4"]
    done = user.run(
        *by(place), command=[], verb="shell", input=" ".join(read(at.server, mirror.port)))
    assert (done.returncode, done.stdout) == (0, at.proxy_exit)


def test_many_at_once(
    run: Sluice, user: Confined, place: Path, mirror: Mirror
) -> None:
    count = 12
    before = len(run.descriptors())
    programs = [
        user.start(*by(place), command=["sh", "-c", "echo began; sleep 0.5; exec \"$@\"", "-",
                                        *read(ADDRESSES["ipv4"].server, mirror.port)])
        for _ in range(count)]
    for program in programs:
        assert program.wait(60) == 0, program.output()
        assert program.lines == ["began", ADDRESSES["ipv4"].proxy_exit]
    wait_until(lambda: len(run.descriptors()) <= before, "the run to let go of everything")


def test_nothing_is_left(run: Sluice, user: Confined, place: Path, mirror: Mirror) -> None:
    """Neither a descriptor, nor a thread, nor through either the program's namespace."""
    caller(user, place, mirror, "ipv4")
    wait_until(lambda: "sluice-client" not in threads(run), "the first to be forgotten")
    before = sorted(run.descriptors()), len(list(Path(f"/proc/{run.pid}/task").iterdir()))
    for _ in range(5):
        caller(user, place, mirror, "ipv4")

    def after() -> Any:
        return sorted(run.descriptors()), len(list(Path(f"/proc/{run.pid}/task").iterdir()))

    wait_until(lambda: len(after()[0]) == len(before[0]) and after()[1] == before[1], "the same")


def test_audit(
    topology: Topology, carrier: upstreams.Carrier, place: Path, user: Confined, mirror: Mirror,
    datagram_echo: DatagramEcho,
) -> None:
    """The run counts, and exec tells it as its own."""
    at = ADDRESSES["ipv4"]
    text = f"""
import socket
with socket.create_connection(({at.server!r}, {mirror.port})) as stream:
    print(stream.recv(100))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.connect(({at.server!r}, {datagram_echo.port}))
    one.send(b"hello")
    print(one.recv(100))
"""
    with running(topology.gateway, place, carrier.url):
        done = user.run(
            *by(place), "--json", "--audit", command=["/usr/bin/python3", "-c", text])
        table = user.run(
            *by(place), "--audit-file", "list", command=["/usr/bin/python3", "-c", text])
    assert (done.returncode, table.returncode, table.stderr) == (0, 0, "")
    report = json.loads(done.stderr)
    assert report["event"] == "audit"
    found = {
        (one["protocol"], one["address"], one["port"]): (one["flows"], one["failed"])
        for one in report["destinations"]}
    assert found == {
        ("tcp", at.server, mirror.port): (1, 0), ("udp", at.server, datagram_echo.port): (1, 0)}
    assert f"{at.server}:{mirror.port}" in (user.home / "list").read_text()


def test_audit_of_nothing(run: Sluice, user: Confined, place: Path) -> None:
    done = user.run(*by(place), "--json", "--audit", command=["true"])
    assert json.loads(done.stderr)["destinations"] == []


def test_audit_is_lost_with_the_run(
    run: Sluice, user: Confined, place: Path, mirror: Mirror
) -> None:
    """That is said, and the exit status is the program's."""
    with asking(user, place, "--audit") as program:
        say(program, mirror)
        run.finish()
        program.wait_for_output(lambda: "has ended" in program.output(), "a warning", 10)
        assert program.process.stdin
        program.process.stdin.close()
        assert program.wait() == 0
        assert "cannot tell the audit" in program.output()


# Who may use it.


def test_without_permission(run: Sluice, user: Confined, place: Path) -> None:
    os.chown(place, 0, 0)
    done = user.run(*by(place), command=["touch", "begun"])
    assert done.returncode == 77
    assert done.stderr == (
        f"sluice: you may not use the sluice run at {place}: add yourself to the group sluice and "
        "log in again, or leave out --daemon\n")
    assert not (user.home / "begun").exists()


def test_program_cannot_use_the_socket(run: Sluice, user: Confined, place: Path) -> None:
    """It could ask for more than it was given. What is around the socket it sees as before."""
    place.with_name("neighbour").write_text("here")
    text = f"""
import socket
print(open({str(place.with_name("neighbour"))!r}).read())
try:
    socket.socket(socket.AF_UNIX).connect({str(place)!r})
except OSError as error:
    print(type(error).__name__)
"""
    words = user.get(*by(place), command=["/usr/bin/python3", "-c", text]).split()
    assert words == ["here", "ConnectionRefusedError"]


def test_default_place(topology: Topology, upstream: str, mirror: Mirror) -> None:
    """In a /run of the test's own: made with its folder, hidden from the program, removed."""
    shell = (
        'mount -t tmpfs tests /run && { "$0" run "$1" --gateway lan0 & } && '
        'while ! test -S /run/sluice/control.sock; do sleep 0.05; done && '
        'stat -c "%a %u %g" /run/sluice /run/sluice/control.sock && '
        '"$0" exec --daemon -- sh -c "ls -a /run/sluice; $2" && '
        'kill %1 && wait %1; echo "status $?"; ls -a /run/sluice')
    done = topology.gateway.run(
        "unshare", "--mount", "--propagation", "private", "--", "bash", "-mc", shell, binary(),
        upstream, " ".join(read(ADDRESSES["ipv4"].server, mirror.port)))
    assert done.stdout.split("\n") == [
        "755 0 0", "660 0 0", ".", "..", f"{ADDRESSES['ipv4'].proxy_exit}status 0", ".", "..", ""]


# Where it cannot be had.


def test_no_run(user: Confined, place: Path) -> None:
    done = user.run(*by(place), command=["true"])
    assert (done.returncode, done.stderr) == (69, (
        f"sluice: no sluice run is reachable at {place}: start one, or leave out --daemon\n"))


def test_run_has_ended_without_cleaning_up(run: Sluice, user: Confined, place: Path) -> None:
    run.end()
    assert place.exists()
    done = user.run(*by(place), command=["true"])
    assert done.returncode == 69 and "no sluice run is reachable" in done.stderr


def test_somebody_else_answers(user: Confined, place: Path) -> None:
    answers = {
        b"HTTP/1.1 400 Bad Request\r\n": "no sluice run of this version",
        b'{"serving":true}\n': "no sluice run of this version",
        b'{"error":"for a reason"}\n': "refuses: for a reason",
        b"x" * (70 << 10): "has ended",
        b"": "no sluice run is reachable",
    }
    for answer, expected in answers.items():
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place))
            os.chmod(place, 0o666)
            listener.listen()

            def serve() -> None:
                stream, _ = listener.accept()
                with stream, contextlib.suppress(OSError):
                    stream.recv(1000)
                    stream.sendall(answer)

            thread = threading.Thread(target=serve)
            thread.start()
            done = user.run(*by(place), command=["true"])
            thread.join()
        place.unlink()
        assert done.returncode == 69
        assert expected in done.stderr and done.stderr.count("\n") == 1


def test_somebody_who_does_not_answer(user: Confined, place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        os.chmod(place, 0o666)
        listener.listen()
        done = user.run(*by(place), command=["true"])
    assert done.returncode == 69 and "does not answer" in done.stderr


@pytest.mark.parametrize("arguments", [
    ["--daemon", "embedded"], ["--daemon", "--publish", "8080"],
    ["--daemon", "--host-loopback", "8080"], ["--daemon", "--workers", "2"],
    ["--daemon", "--idle-timeout", "9"], ["--daemon", "--udp-relay", "control"],
    ["--control", "/run/elsewhere"], ["--daemon", "--control", "/" + "x" * 107],
    ["--daemon", "--control", "relative"], ["--daemon", "--control", ""],
], ids=lambda one: " ".join(one)[:40])
def test_what_does_not_go_together(user: Confined, arguments: list[str]) -> None:
    done = user.run(*arguments, command=["true"])
    assert done.returncode == 64
    assert re.fullmatch(r"sluice: .*\n", done.stderr)


# The end of the run.


#: Says that it runs, and what comes of connecting, once it is told to.
ASK = """
import socket, sys
print("begun", flush=True)
for line in sys.stdin:
    try:
        with socket.create_connection(line.split(), 5) as stream:
            print(stream.recv(100).decode() or "nothing", flush=True)
    except OSError as error:
        print("lost", flush=True)
"""


@contextlib.contextmanager
def asking(user: Confined, place: Path, *options: str) -> Iterator[Program]:
    words = ["/usr/bin/python3", "-c", ASK]
    with user.start(*by(place), *options, command=words, stdin=subprocess.PIPE) as program:
        program.wait_for_output(lambda: "begun" in program.lines, "that it runs", 20)
        yield program


def say(program: Program, mirror: Mirror) -> str:
    """What comes of a connection to the mirror."""
    count = len(program.lines)
    assert program.process.stdin
    program.process.stdin.write(f"{ADDRESSES['ipv4'].server} {mirror.port}\n")
    program.process.stdin.flush()
    program.wait_for_output(lambda: len(program.lines) > count, "an answer", 20)
    return program.lines[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
def test_end_of_the_run(
    run: Sluice, user: Confined, place: Path, mirror: Mirror, number: signal.Signals
) -> None:
    """The program lives on without connectivity, and is told once."""
    with asking(user, place) as program:
        assert say(program, mirror) == ADDRESSES["ipv4"].proxy_exit
        began = time.monotonic()
        run.signal(number)
        assert run.wait() == (0 if number == signal.SIGTERM else -number)
        assert time.monotonic() - began < 5
        warned = "has ended: the program goes on without connectivity"
        program.wait_for_output(lambda: warned in program.output(), "a warning", 10)
        assert say(program, mirror) == "lost"
        assert say(program, mirror) == "lost"
        assert program.output().count(warned) == 1
        assert program.process.stdin
        program.process.stdin.close()
        assert program.wait() == 0


#: Keeps a connection to an echo server, and says what comes back of each line.
KEEP = """
import socket, sys
with socket.create_connection(sys.stdin.readline().split(), 5) as stream:
    print("begun", flush=True)
    for line in sys.stdin:
        stream.sendall(line.encode())
        print(stream.recv(100).decode(), end="", flush=True)
"""


def test_flows_are_listed_and_ended(
    topology: Topology, upstream: str, place: Path, user: Confined, echo: Echo
) -> None:
    """Those of two programs, each as its own; what is ended is ended for its program alone."""
    words, at = ["/usr/bin/python3", "-c", KEEP], ADDRESSES["ipv4"]
    with running(topology.gateway, place, upstream), \
            user.start(*by(place), command=words, stdin=subprocess.PIPE) as ended, \
            user.start(*by(place), command=words, stdin=subprocess.PIPE) as kept:
        for program in ended, kept:
            program.process.stdin.write(f"{at.server} {echo.port}\n")
            program.process.stdin.flush()
            program.wait_for_output(lambda p=program: "begun" in p.lines, "that it runs", 20)
        with Client(place) as client:
            flows = client.ask({"request": "flows"})["flows"]
            assert len({flow["id"] for flow in flows}) == 2
            for flow in flows:
                assert (flow["scope"], flow["destination"], flow["upstream"]) == (
                    "machine", f"{at.server}:{echo.port}", upstream)
                assert flow["program"]["uid"] == user.user
            by_pid = {flow["program"]["pid"]: flow["id"] for flow in flows}
            assert by_pid.keys() == {ended.pid, kept.pid}
            assert client.ask({"request": "kill", "flows": [by_pid[ended.pid]]}) == {
                "killed": [by_pid[ended.pid]]}
            assert client.ask({"request": "flows"})["flows"][0]["id"] == by_pid[kept.pid]
        ended.process.stdin.write("lost\n")
        ended.process.stdin.close()
        assert ended.wait() != 0
        kept.process.stdin.write("kept\n")
        kept.process.stdin.flush()
        kept.wait_for_output(lambda: "kept" in kept.lines, "an echo", 10)
        kept.process.stdin.close()
        assert kept.wait() == 0


def test_what_is_open_gets_time_to_finish(
    topology: Topology, carrier: upstreams.Carrier, place: Path, user: Confined, echo: Echo
) -> None:
    words = ["/usr/bin/python3", "-c", KEEP]
    with running(topology.gateway, place, carrier.url) as run, \
            user.start(*by(place), command=words, stdin=subprocess.PIPE) as program:
        stdin = program.process.stdin
        assert stdin

        def tell(line: str) -> None:
            stdin.write(f"{line}\n")
            stdin.flush()

        tell(f"{ADDRESSES['ipv4'].server} {echo.port}")
        program.wait_for_output(lambda: "begun" in program.lines, "that it runs", 20)
        run.signal(signal.SIGTERM)
        run.wait_for("draining")
        for word in "one", "two":
            tell(word)
            program.wait_for_output(lambda: word in program.lines, "an echo", 10)
        done = user.run(*by(place), command=["true"])
        assert done.returncode == 69 and "it is about to end" in done.stderr
        began = time.monotonic()
        stdin.close()
        assert program.wait() == 0
        assert run.wait() == 0
        assert time.monotonic() - began < 5


def test_end_of_the_client(run: Sluice, user: Confined, place: Path, mirror: Mirror) -> None:
    """Killed, it is served no more."""
    with asking(user, place) as program:
        assert say(program, mirror) == ADDRESSES["ipv4"].proxy_exit
        program.signal(signal.SIGKILL)
        run.wait_for("served")
        user.kill()
    wait_until(lambda: "sluice-client" not in threads(run), "the thread to end")

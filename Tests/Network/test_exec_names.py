"""Names in `sluice exec`: whoever is asked is asked through the upstream, wherever the host keeps
its resolvers; and nobody on the host looks them up for the program."""

import contextlib
import socket
import threading
from pathlib import Path
from typing import Iterator

import pytest

from harness import dns, resolvers
from harness.confined import PYTHON, Confined, Way
from harness.resolvers import NAME, NAMES, RECORDS, Arrivals, Unbound, dnsmasq
from harness.targets import Mirror
from harness.topology import ADDRESSES, Topology

#: What systemd-resolved writes for programs.
STUB = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example\n"


@pytest.fixture
def mirror(topology: Topology) -> Iterator[Mirror]:
    with Mirror(topology.server) as target:
        yield target


def ask_mirror(user: Confined, arguments: list[str], name: str, port: int) -> str:
    """Connects to a name: whom the target sees."""
    return user.get(*arguments, command=["bash", "-c", "cat < /dev/tcp/$0/$1", name, str(port)])


def resolved(user: Confined, server: str) -> None:
    """Makes the user's host one with systemd-resolved, which asks one server."""
    folder = user.own_run_folder() / "systemd" / "resolve"
    folder.mkdir(parents=True)
    (folder / "stub-resolv.conf").write_text(STUB)
    (folder / "resolv.conf").write_text(f"nameserver {server}\nsearch example\n")


def test_server_behind_a_stub(
    topology: Topology, way: Way, confined: Confined, mirror: Mirror, unbound: Unbound, family: str
) -> None:
    """The usual way of systemd-resolved: the program's resolv.conf names whom that would ask."""
    at = ADDRESSES[family]
    resolved(confined, at.server)
    confined.link_resolver_file("../run/systemd/resolve/stub-resolv.conf")
    # The search list and the options are still there.
    name = NAMES[family].removesuffix(".example")
    assert ask_mirror(confined, [way.url], name, mirror.port) == way.exit(family)
    assert set(unbound.askers(NAMES[family])) == {way.exit(family)}
    text = confined.get(way.url, command=["cat", "/etc/resolv.conf"])
    assert sorted(text.split("\n")) == sorted(STUB.replace("127.0.0.53", at.server).split("\n"))


def test_file_without_a_stub(
    topology: Topology, way: Way, confined: Confined, mirror: Mirror, unbound: Unbound, family: str
) -> None:
    """The file that is linked to lies where the program must not look, and is there all the
    same."""
    at = ADDRESSES[family]
    resolved(confined, at.server)
    confined.link_resolver_file("../run/systemd/resolve/resolv.conf")
    assert ask_mirror(confined, [way.url], NAMES[family], mirror.port) == way.exit(family)
    assert set(unbound.askers(NAMES[family])) == {way.exit(family)}


def test_resolver_of_the_host(
    topology: Topology, confined: Confined, mirror: Mirror, unbound: Unbound, family: str
) -> None:
    """One on localhost, which the embedded server can ask."""
    at = ADDRESSES[family]
    confined.resolve_by("127.0.0.1" if family == "ipv4" else "::1")
    with dnsmasq(topology.client, at.server):
        assert ask_mirror(confined, [], NAMES[family], mirror.port) == at.client
    assert set(unbound.askers(NAMES[family])) == {at.client}


def test_nobody_to_ask(
    topology: Topology, confined: Confined, upstream: str, mirror: Mirror, unbound: Unbound
) -> None:
    """A server elsewhere cannot ask a resolver on this host's loopback: said, with the cure."""
    at = ADDRESSES["ipv4"]
    confined.resolve_by("127.0.0.1")
    with dnsmasq(topology.client, at.server):
        shell = "cat < /dev/tcp/$0/$1; cat < /dev/tcp/$2/$1"
        done = confined.run(
            upstream, command=["bash", "-c", shell, NAMES["ipv4"], str(mirror.port), at.server])
    assert done.stdout == at.proxy_exit
    assert "--dns-server" in done.stderr
    assert unbound.askers(NAMES["ipv4"]) == []


#: Sockets of those who look up names for programs.
SERVICES = ("nscd/socket", "systemd/resolve/io.systemd.Resolve", "avahi-daemon/socket")

#: What a program of the host's own would be told to do.
CONTROL = "sluice/control"

CLIENT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


@contextlib.contextmanager
def listening(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(path))
        path.chmod(0o666)
        service.listen()
        thread = threading.Thread(target=turn_away, args=(service,))
        thread.start()
        try:
            yield
        finally:
            service.shutdown(socket.SHUT_RDWR)
            thread.join()


def turn_away(service: socket.socket) -> None:
    """Hangs up on all who come: they would wait."""
    with contextlib.suppress(OSError):  # at the end of the test
        while True:
            service.accept()[0].close()


@pytest.mark.parametrize("service", [*SERVICES, CONTROL])
def test_services_that_look_up_names_are_hidden(
    topology: Topology, confined: Confined, service: str
) -> None:
    """And the way to Sluice itself; under each of the names that /run has."""
    run = confined.own_run_folder()
    with listening(run / service), listening(run / "another" / "socket"):
        for folder in "/run", "/var/run":
            command = [PYTHON, "-c", CLIENT, f"{folder}/{service}"]
            assert confined.bare(*command).returncode == 0
            assert "FileNotFoundError" in confined.run(command=command).stderr
            confined.get(command=[PYTHON, "-c", CLIENT, f"{folder}/another/socket"])
        above = str(Path("/run", service).parent)
        assert confined.get(command=["ls", "-A", above]) == ""


def dig(confined: Confined, *arguments: str) -> str:
    """What there is to hear of the name, or nothing."""
    at = ADDRESSES["ipv4"]
    command = ["dig", f"@{at.server}", NAME, "+short", "+time=1", "+tries=1"]
    done = confined.run(*arguments, command=command)
    return done.stdout.strip() if done.returncode == 0 else ""


@pytest.mark.parametrize("choice", ["udp", "tcp", "off"])
def test_choice(
    topology: Topology, way: Way, confined: Confined, unbound: Unbound, choice: str
) -> None:
    """How DNS goes on from where it is captured; `off`: like all other UDP."""
    with Arrivals(topology.server, resolvers.PORT) as arrivals:
        answer = dig(confined, way.url, "--dns", choice)
        datagrams, connections = arrivals.datagrams(), arrivals.connections()
    if choice == "tcp":
        assert (answer, datagrams, connections > 0) == (RECORDS["A"], 0, True)
    elif way.carries_datagrams:
        assert (answer, datagrams, connections) == (RECORDS["A"], 1, 0)
    elif choice == "off":
        assert (answer, datagrams, connections) == ("", 0, 0)
    else:
        assert datagrams == 0


def test_resolver_elsewhere_is_asked_whoever_is_meant(
    topology: Topology, way: Way, confined: Confined, unbound: Unbound
) -> None:
    """`--dns-server`: also when the program names one itself, and that seems to answer."""
    at = ADDRESSES["ipv4"]
    command = ["dig", f"@{at.unreachable}", NAME, "+short", "+time=5"]
    said = confined.get(way.url, "--dns-server", f"{at.server}:{dns.PORT}", command=command)
    assert said.strip() == RECORDS["A"]
    assert set(unbound.askers()) == {way.exit("ipv4")}


def test_names_by_place(
    topology: Topology, way: Way, confined: Confined, unbound: Unbound
) -> None:
    """/etc/hosts and localhost need nobody."""
    said = confined.get(way.url, command=["getent", "ahosts", "localhost"])
    assert "127.0.0.1" in said or "::1" in said
    assert unbound.askers("localhost") == []

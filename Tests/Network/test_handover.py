"""`sluice run` and its descriptors with a service manager: the next process goes on where the former one
has ended, and meanwhile what is captured waits."""

import contextlib
import signal
import socket
from pathlib import Path
from typing import Iterator

import pytest

from harness import kernel, upstreams
from harness.datagrams import DatagramEcho
from harness.load import Load
from harness.namespaces import Namespace
from harness.restarted import Service, restarted
from harness.sluice import PORT, Capture, Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.waiting import PATIENCE, wait_until

AT = ADDRESSES["ipv4"]

RESTARTS = 20


@pytest.fixture
def service(topology: Topology, upstream: str, tmp_path: Path, scope: Capture) -> Iterator[Service]:
    with restarted(
        tmp_path / "notify", scope.host(topology), upstream, *scope.flags()
    ) as service:
        yield service


@pytest.fixture
def lonely(alone: Namespace, tmp_path: Path) -> Iterator[Service]:
    """One that needs no network."""
    with restarted(
        tmp_path / "notify", alone, "embedded", "--machine", "--workers", "2"
    ) as service:
        yield service
    alone.run("nft", "flush", "ruleset")


def test_restarts_lose_no_connection(
    topology: Topology, service: Service, echo: Echo, datagram_echo: DatagramEcho
) -> None:
    run = service.start()
    with Load(topology, echo, datagram_echo) as load:
        for _ in range(RESTARTS):
            load.wait_for_more()
            service.hand_over(run)
            assert kernel.TABLE in service.host.run("nft", "list", "ruleset").stdout
            run = service.start()
        load.wait_for_more()
    assert load.trouble == []
    assert topology.leaked(echo.port)["ipv4"] == 0
    assert topology.leaked(datagram_echo.port, "udp")["ipv4"] == 0
    run.finish()


def test_connection_waits(topology: Topology, service: Service, echo: Echo) -> None:
    """While nobody runs, it is accepted by the kernel and then nothing happens."""
    service.hand_over(service.start())
    with topology.client.connect(AT.server, echo.port) as stream:
        stream.sendall(b"x")
        stream.settimeout(0.3)
        with pytest.raises(TimeoutError):
            stream.recv(1)
        stream.settimeout(PATIENCE)
        run = service.start()
        assert stream.recv(1) == b"x"
    assert topology.leaked(echo.port)["ipv4"] == 0
    run.finish()


@pytest.mark.parametrize("change", [
    ("--port", "20880"), ("--workers", "1"), ("--workers", "5")], ids=" ".join)
def test_settings_change(
    topology: Topology, service: Service, echo: Echo, change: tuple[str, str]
) -> None:
    """Connections that wait where the next run would not listen are served as well."""
    service.hand_over(service.start("--workers", "3"))
    with contextlib.ExitStack() as waiting:
        # So many that every one of the sockets has some.
        streams = [
            waiting.enter_context(topology.client.connect(AT.server, echo.port)) for _ in range(32)]
        for stream in streams:
            stream.sendall(b"x")
        workers = () if change[0] == "--workers" else ("--workers", "3")
        run = service.start(*change, *workers)
        assert [stream.recv(1) for stream in streams] == 32 * [b"x"]
        with topology.client.connect(AT.server, echo.port) as stream:
            stream.sendall(b"y")
            assert stream.recv(1) == b"y"
    service.hand_over(run)
    # And once more, with what is left of that.
    service.start(*change, *workers).finish()
    assert topology.leaked(echo.port)["ipv4"] == 0


def test_capture_changes(topology: Topology, service: Service, echo: Echo) -> None:
    """What was captured in the other way ends, and what its clients send does not leave directly."""
    service.hand_over(service.start())
    with topology.client.connect(AT.server, echo.port) as stream:
        stream.sendall(b"x")
        service.arguments = (*service.arguments[:-1], "redirect")
        run = service.start()
        with pytest.raises(ConnectionResetError):
            stream.recv(1)
    with topology.client.connect(AT.server, echo.port) as stream:
        stream.sendall(b"y")
        assert stream.recv(1) == b"y"
    run.finish()
    assert topology.leaked(echo.port)["ipv4"] == 0


def test_killed_run_is_continued(topology: Topology, service: Service, echo: Echo) -> None:
    run = service.start()
    run.signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    with topology.client.connect(AT.server, echo.port) as stream:
        stream.sendall(b"x")
        run = service.start()
        assert stream.recv(1) == b"x"
    run.finish()
    assert topology.leaked(echo.port)["ipv4"] == 0


def test_closed_exit_is_continued(topology: Topology, service: Service, echo: Echo) -> None:
    service.arguments = (*service.arguments, "--on-exit", "closed")
    service.hand_over(service.start())
    with topology.client.connect(AT.server, echo.port) as stream:
        stream.sendall(b"x")
        run = service.start()
        assert stream.recv(1) == b"x"
    run.finish()
    service.manager.empty()
    assert service.host.run("nft", "list", "tables").stdout == "table inet sluice_guard\n"
    with pytest.raises(OSError):
        topology.client.connect(AT.server, echo.port).close()
    assert topology.leaked(echo.port)["ipv4"] == 0


class TestStore:
    def test_what_is_kept(self, lonely: Service) -> None:
        run = lonely.start()
        expected = sorted(
            2 * [f"tproxy-ipv{version}-{PORT + 1}" for version in (4, 6)]
            + [f"datagrams-ipv{version}-{PORT + 1}" for version in (4, 6)] + ["rules"])
        assert lonely.manager.names() == expected
        for _ in range(3):
            lonely.hand_over(run)
            run = lonely.start()
            assert lonely.manager.names() == expected, "what is kept grows or shrinks"
        lonely.hand_over(run)
        lonely.start("--workers", "4").finish()
        assert len(lonely.manager.names()) == 13

    def test_old_port_is_given_back(self, lonely: Service) -> None:
        lonely.hand_over(lonely.start())
        lonely.hand_over(lonely.start("--port", "20880"))
        assert {name.rpartition("-")[2] for name in lonely.manager.names()} == {"20881", "rules"}
        assert lonely.host.listeners(PORT + 1) == 0

    def test_store_closed_is_rules_gone(self, lonely: Service) -> None:
        lonely.hand_over(lonely.start())
        assert "inet sluice" in "\n".join(kernel.tables(lonely.host))
        lonely.manager.empty()
        wait_until(lambda: kernel.tables(lonely.host) == [], "the kernel to take the table away")
        lonely.start().finish()

    def test_bad_settings_change_nothing(self, lonely: Service) -> None:
        lonely.hand_over(lonely.start())
        before = lonely.host.run("nft", "list", "ruleset").stdout
        names = lonely.manager.names()
        assert lonely.start("--machine-user", "nobody-of-this-name", is_ready=False).wait() == 64
        assert lonely.host.run("nft", "list", "ruleset").stdout == before
        assert lonely.manager.names() == names
        lonely.start().finish()

    def test_end_takes_everything(self, lonely: Service) -> None:
        run = lonely.start()
        run.finish()
        assert kernel.tables(lonely.host) == []

    @pytest.mark.parametrize("most", [0, 3])
    def test_no_room(self, lonely: Service, most: int) -> None:
        """Without a store the signal means nothing, and what follows it ends the run as ever."""
        run = lonely.start(most=most)
        assert lonely.manager.names() == []
        assert len(run.events("no_handover")) == (1 if most else 0)
        run.signal(signal.SIGUSR2)
        run.finish()
        assert not run.events("handing_over")
        assert kernel.tables(lonely.host) == []

    def test_named_upstream_is_not_continued(self, lonely: Service) -> None:
        """The next run could not look its name up, as what it asks would wait for itself."""
        with upstreams.microsocks(lonely.host, address="127.0.0.1"):
            lonely.arguments = (f"socks5://localhost:{upstreams.PORT}", "--machine")
            run = lonely.start()
            assert run.events("no_handover")
            assert lonely.manager.names() == []
            run.finish()



class TestForwarding:
    """A gateway turns it on; the last of several runs puts back what was before the first."""

    SWITCHES = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"

    @pytest.fixture
    def gateway(self, lonely: Service) -> Service:
        for switch in self.SWITCHES:
            lonely.host.write_sysctl(switch, "0")
        lonely.arguments = ("embedded", "--gateway", "lan0")
        return lonely

    def values(self, service: Service) -> list[str]:
        return [service.host.read_sysctl(switch) for switch in self.SWITCHES]

    def test_restarts(self, gateway: Service) -> None:
        run = gateway.start()
        assert "forwarding" in gateway.manager.names()
        kept = gateway.manager.inodes()
        for _ in range(3):
            gateway.hand_over(run)
            assert self.values(gateway) == ["1", "1"]
            run = gateway.start()
            assert gateway.manager.inodes() == kept
            assert run.events("sysctl") == []
        run.finish()
        assert self.values(gateway) == ["0", "0"]

    def test_turned_off_meanwhile(self, gateway: Service) -> None:
        """The record of both changes replaces that of the first."""
        gateway.hand_over(gateway.start())
        kept = gateway.manager.inodes()
        gateway.host.write_sysctl(self.SWITCHES[0], "0")
        run = gateway.start()
        assert self.values(gateway) == ["1", "1"]
        assert gateway.manager.names().count("forwarding") == 1
        assert gateway.manager.inodes() != kept
        gateway.hand_over(run)
        gateway.start().finish()
        assert self.values(gateway) == ["0", "0"]

    def test_killed(self, gateway: Service) -> None:
        run = gateway.start()
        run.signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        gateway.start().finish()
        assert self.values(gateway) == ["0", "0"]

    def test_no_gateway_any_more(self, gateway: Service) -> None:
        gateway.hand_over(gateway.start())
        gateway.arguments = ("embedded", "--machine")
        run = gateway.start()
        assert self.values(gateway) == ["0", "0"]
        assert "forwarding" not in gateway.manager.names()
        run.finish()

    @pytest.mark.parametrize("record", [
        "0\nnet/ipv4/ip_forward 0\n", "", "\n", "net/ipv4/ip_forward 0\n"], ids=repr)
    def test_of_others(self, gateway: Service, tmp_path: Path, record: str) -> None:
        """What does not say that it is of this network namespace is not taken."""
        for switch in self.SWITCHES:
            gateway.host.write_sysctl(switch, "1")
        (tmp_path / "record").write_text(record)
        with open(tmp_path / "record") as file:
            gateway.manager.keep("forwarding", file.fileno())
        run = gateway.start()
        assert run.wait_for("descriptor_refused")["name"] == "forwarding"
        assert "forwarding" not in gateway.manager.names()
        run.finish()
        assert self.values(gateway) == ["1", "1"]


class TestHostileDescriptors:
    @pytest.mark.parametrize("kind", ["file", "unix", "listener", "datagrams", "netlink", "foreign"])
    def test_refused(self, lonely: Service, tmp_path: Path, kind: str) -> None:
        """What is not what its name says is closed, and the run does without."""
        name = {"netlink": "rules", "datagrams": f"datagrams-ipv4-{PORT + 1}"}.get(
            kind, f"tproxy-ipv4-{PORT + 1}")
        if kind == "file":
            with open(tmp_path / "file", "w") as file:
                lonely.manager.keep(name, file.fileno())
        else:
            with self.make(lonely.host, kind) as made:
                lonely.manager.keep(name, made.fileno())
        hostile = lonely.manager.inodes()
        assert len(hostile) == 1
        run = lonely.start("--port", "20880")
        assert run.wait_for("descriptor_refused")["name"] == name
        assert not hostile & lonely.manager.inodes()
        run.finish()

    @staticmethod
    def make(host: Namespace, kind: str) -> socket.socket:
        if kind == "unix":
            return socket.socket(socket.AF_UNIX)
        if kind == "listener":
            # Not transparent.
            return host.listen("127.0.0.1", PORT + 1)
        if kind == "datagrams":
            one = host.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.bind(("127.0.0.1", PORT + 1))
            return one
        if kind == "netlink":
            # NETLINK_ROUTE.
            return host.call(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, 0)
        # Of another network namespace.
        assert kind == "foreign"
        one = socket.create_server(("127.0.0.1", 0))
        one.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
        return one

    @pytest.mark.parametrize("variables", [
        {"LISTEN_FDS": "many"}, {"LISTEN_FDS": "-1"}, {"LISTEN_FDS": "99999999999"},
        {"LISTEN_FDS": "2147483647"}, {"LISTEN_FDS": "3", "LISTEN_FDNAMES": "rules"}], ids=str)
    def test_wrong_counts(self, lonely: Service, variables: dict[str, str]) -> None:
        environment = {**lonely.manager.keeping(), **variables}
        with Sluice(
            lonely.host, *lonely.arguments, env=environment, within=lonely.manager.handing_over()
        ) as run:
            assert not run.events("descriptor_refused")

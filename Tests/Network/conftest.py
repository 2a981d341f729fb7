"""What all network tests share: who may run them, hosts, upstreams, and the report of a failure."""

import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any, Generator, Iterator

import pytest

from harness import confined as confining
from harness import control, kerberos, kernel, namespaces, resolvers, sluice, upstreams
from harness.calls import CALLS, Call
from harness.confined import Confined, Way
from harness.datagrams import DatagramEcho
from harness.kerberos import Realm
from harness.namespaces import Namespace
from harness.needs import lack
from harness.programs import Program
from harness.resolvers import Unbound
from harness.scripted import ScriptedUpstream
from harness.targets import Echo, Website
from harness.topology import ADDRESSES, FAMILIES, Topology
from harness.upstreams import Carrier


def pytest_configure(config: pytest.Config) -> None:
    sys.dont_write_bytecode = True


def _is_worker(config: pytest.Config) -> bool:
    """Whether this process is one of several that pytest-xdist has started for the run."""
    return hasattr(config, "workerinput")


def _sweep(config: pytest.Config) -> None:
    """Takes away what processes left behind that ended without cleaning up. Of several only the one
    that has started the others does it: before them, and when they have ended."""
    if os.geteuid() == 0 and not _is_worker(config):
        confining.sweep()
        namespaces.sweep()


def pytest_sessionstart(session: pytest.Session) -> None:
    _sweep(session.config)
    if os.geteuid() == 0:
        # Thousands of connections end in this one process.
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pytest_unconfigure(config: pytest.Config) -> None:
    # Those that were interrupted.
    _sweep(config)


#: The modules that take longest, the longest first. Several processes take whole modules, in this order:
#: one that came last would let the others wait for it.
LONGEST = (
    "test_package", "test_exec_leaks", "test_udp_floods", "test_probe", "test_many_flows", "test_explain",
    "test_exec_programs", "test_fetch", "test_udp", "test_exec_leftovers", "test_dns_udp", "test_exec",
    "test_exec_daemon", "test_chain_udp", "test_gssapi", "test_http_upstream", "test_exec_local",
    "test_control_socket", "test_udp_choices")

#: Those that look at how soon something happens, how often, or among all processes: no others run beside
#: them.
ALONE = {
    "test_closed", "test_costs", "test_dns", "test_exits", "test_expose", "test_first_byte",
    "test_groups", "test_guardian", "test_half_close", "test_half_close_auto", "test_identity",
    "test_lists", "test_reload", "test_reload_upstreams", "test_scripted_upstream", "test_selections",
    "test_serve_activation", "test_short_path", "test_systemd_serve", "test_udp_upstreams", "test_upstream_moves"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--part", choices=["together", "alone"],
        help="only the modules that may run at once, or only those that may not")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part = config.getoption("--part")
    if part:
        others = [item for item in items if (item.path.stem in ALONE) != (part == "alone")]
        items[:] = [item for item in items if item not in set(others)]
        config.hook.pytest_deselected(items=others)
    if _is_worker(config):
        places = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session", autouse=True)
def _permission() -> None:
    """Without root there is nothing to test with; on a build machine that must not pass unseen."""
    if os.geteuid() != 0:
        lack("network namespaces need root")
    path = os.environ.get("SLUICE")
    if not path or not os.access(path, os.X_OK):
        pytest.fail("set SLUICE to the path of the sluice program")


def pytest_runtest_setup(item: pytest.Item) -> None:
    Program.started[:] = [one for one in Program.started if one.process.poll() is None]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for program in Program.started:
            lines = program.lines[-100:]
            report.sections.append((f"last output of {program.name}", "\n".join(lines)))


@pytest.fixture(scope="module")
def topology() -> Iterator[Topology]:
    with Topology() as hosts:
        yield hosts


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """However a run of Sluice ends, rules, routes and sysctls are afterwards as before."""
    if "topology" not in request.fixturenames:
        yield
        return
    hosts: Topology = request.getfixturevalue("topology")
    places = hosts.client, hosts.gateway
    before = [kernel.snapshot(host) for host in places]
    yield
    after = [kernel.snapshot(host) for host in places]
    changes = [kernel.changes(*states) for states in zip(before, after)]
    for host, state in zip(places, after):
        # One failure shall not drag the following tests down.
        if kernel.TABLE in state[kernel.RULESET]:
            host.nft(f"{kernel.TABLE}\ndelete {kernel.TABLE}")
    left = "\n".join(filter(None, changes))
    assert not left, f"left behind:\n{left}"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that others than root may enter (sshd's login has to read its key)."""
    with tempfile.TemporaryDirectory(prefix="sluice-tests-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the control socket of a run is."""
    with control.place() as path:
        yield path


@pytest.fixture(scope="module")
def dante(topology: Topology, folder: Path) -> Iterator[Program]:
    """Dante on the proxy, for modules that need one real server."""
    with upstreams.dante(topology.proxy, folder) as program:
        yield program


@pytest.fixture(scope="module")
def realm(topology: Topology, folder: Path) -> Iterator[Realm]:
    """A Kerberos realm with its key distribution centre on the proxy."""
    place = folder / "realm"
    place.mkdir()
    with kerberos.realm(topology.proxy, place) as made:
        yield made


@pytest.fixture(scope="module")
def dante_gssapi(realm: Realm) -> Iterator[Program]:
    """Dante on the proxy for those who prove by GSSAPI who they are."""
    with kerberos.dante(realm) as server:
        yield server


@pytest.fixture(scope="module")
def ticket(realm: Realm) -> dict[str, str]:
    """The environment of somebody who has one."""
    return realm.ticket("ticket")


@pytest.fixture
def upstream(dante: Program) -> str:
    """The URL of Dante."""
    return upstreams.url(ADDRESSES["ipv4"].proxy)


@pytest.fixture(params=["dante", "embedded"])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    """The servers that carry UDP."""
    if request.param == "dante":
        request.getfixturevalue("dante")
        return Carrier("dante", upstreams.url(ADDRESSES["ipv4"].proxy))
    return Carrier("embedded", "embedded")


@pytest.fixture
def scripted(topology: Topology) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(topology.proxy) as server:
        yield server


@pytest.fixture(scope="module")
def datagram_echo(topology: Topology) -> Iterator[DatagramEcho]:
    """An echo server for UDP on all addresses of the server."""
    with DatagramEcho(topology.server) as target:
        yield target


@pytest.fixture(scope="module")
def website(request: pytest.FixtureRequest, topology: Topology) -> Iterator[Website]:
    """A website on the server; a module may say how many MEGABYTES it has."""
    with Website(topology.server, getattr(request.module, "MEGABYTES", 8)) as target:
        yield target


@pytest.fixture
def unbound(topology: Topology, tmp_path: Path) -> Iterator[Unbound]:
    """A real resolver on all addresses of the server."""
    with resolvers.unbound(topology.server, tmp_path) as program:
        yield program


@pytest.fixture
def echo(topology: Topology) -> Iterator[Echo]:
    """An echo server on the server, on a port of its own for each test: what a client of the former
    one still has to send leaves directly, once the rules are gone."""
    with Echo(topology.server) as target:
        yield target


@pytest.fixture(scope="module", params=["dante", "openssh", "embedded"])
def way(request: pytest.FixtureRequest, topology: Topology, folder: Path) -> Iterator[Way]:
    """The upstreams of `sluice exec` on the client: a server elsewhere, one on localhost that
    carries no UDP, and the program itself."""
    if request.param == "dante":
        request.getfixturevalue("dante")
        yield Way("dante", upstreams.url(ADDRESSES["ipv4"].proxy))
    elif request.param == "openssh":
        place = Path(tempfile.mkdtemp(dir=folder))
        place.chmod(0o755)
        with upstreams.openssh(topology.proxy, place, topology.client):
            yield Way("openssh", "socks5://localhost", carries_datagrams=False)
    else:
        yield Way("embedded", "embedded")


@pytest.fixture
def confined(topology: Topology) -> Iterator[Confined]:
    """A user of the client without any privilege, who calls `sluice exec`."""
    with Confined(topology.client) as user:
        yield user


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=sluice.EVERY_CAPTURE, ids=str)
def capture(request: pytest.FixtureRequest) -> sluice.Capture:
    return request.param


@pytest.fixture(params=sluice.SCOPES)
def scope(request: pytest.FixtureRequest) -> sluice.Capture:
    """Both scopes, where it does not matter how TCP is captured."""
    return sluice.Capture(request.param, "tproxy")


@pytest.fixture
def errors_at_any_rate(topology: Topology) -> None:
    """The kernel sends one sender no more than a few ICMP errors at once."""
    for host in topology.hosts:
        host.write_sysctl("net/ipv4/icmp_ratelimit", "0")
        host.write_sysctl("net/ipv6/icmp/ratelimit", "0")


@pytest.fixture
def guarded(topology: Topology, capture: sluice.Capture) -> Iterator[Namespace]:
    """The host where Sluice runs; what it leaves is taken away in the end, as a user would do it."""
    host = capture.host(topology)
    try:
        yield host
    finally:
        host.run(sluice.binary(), "rules", "remove")
        assert kernel.tables(host) == []


@pytest.fixture(scope="module")
def alone() -> Iterator[Namespace]:
    """A host without any cable."""
    host = Namespace("alone")
    try:
        yield host
    finally:
        host.close()


@pytest.fixture
def user(alone: Namespace) -> Iterator[Confined]:
    """Somebody there who calls `sluice exec` without any privilege."""
    with Confined(alone) as someone:
        yield someone


@pytest.fixture(params=CALLS, ids=str)
def call(request: pytest.FixtureRequest) -> Call:
    """For what has to be as it is without Sluice."""
    return request.param

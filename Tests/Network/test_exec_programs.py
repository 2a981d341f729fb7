"""Real programs in `sluice exec`: those that no library can be slipped under, those that start
others, and those that need a terminal."""

import random
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from harness import packages, sites
from harness.confined import Confined, Way, script
from harness.resolvers import NAMES, Unbound
from harness.sites import GitDaemon, Site, place
from harness.targets import Echo
from harness.terminal import Terminal
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

#: What the site holds in `file`.
CONTENT = random.Random(1940).randbytes(300_000)

#: What it holds in `part/0`, `part/1` …
PARTS = 24


@pytest.fixture(scope="module")
def site(topology: Topology, folder: Path) -> Iterator[Site]:
    root = folder / "site"
    (root / "part").mkdir(parents=True)
    (root / "file").write_bytes(CONTENT)
    for number in range(PARTS):
        (root / "part" / str(number)).write_text(f"part {number}\n")
    sites.make_repository(root, "repository", CONTENT)
    with Site(topology.server, root) as server:
        yield server


@pytest.fixture(params=["ipv4", "ipv6", "name"])
def host(request: pytest.FixtureRequest) -> str:
    """How the server is called: by an address, or by a name."""
    if request.param == "name":
        request.getfixturevalue("unbound")
        return NAMES["both"]
    return ADDRESSES[request.param].server


def exits(way: Way) -> set[str]:
    return {way.exit(family) for family in ADDRESSES}


@pytest.fixture(scope="module")
def static_program(folder: Path) -> str:
    """One of ours that needs no library, so that none can be slipped under it."""
    source = Path(sites.__file__).with_name("inside") / "fetch.c"
    program = str(folder / "fetch")
    # The linker has something to say about static programs that look up names.
    subprocess.run(
        ["gcc", "-static", "-o", program, str(source)], check=True, capture_output=True)
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    assert "not a dynamic executable" in listing.stdout + listing.stderr
    return program


def test_static_program(
    topology: Topology, way: Way, confined: Confined, site: Site, host: str, static_program: str
) -> None:
    leaked, before = topology.leaked(site.port), len(site.askers())
    done = confined.run(
        way.url, command=[static_program, host, str(site.port), "/file"], text=False, errors=None)
    assert (done.returncode, done.stdout) == (0, CONTENT), done.stderr
    assert set(site.askers()[before:]) <= exits(way)
    if way.url != "embedded":
        assert topology.leaked(site.port) == leaked


@pytest.mark.parametrize("resolver", ["go", "cgo"])
def test_go_program(
    topology: Topology, way: Way, confined: Confined, site: Site, host: str, resolver: str
) -> None:
    """Go calls the kernel by itself, and asks for names by itself unless told otherwise."""
    leaked, before = topology.leaked(site.port), len(site.askers())
    url = f"http://{place(host)}:{site.port}/file"
    report = confined.get(way.url, command=[
        "env", f"GODEBUG=netdns={resolver}", "hey", "-n", "40", "-c", "8", "-t", "30", url])
    assert "[200]\t40 responses" in report
    assert "Error distribution" not in report
    askers = site.askers()[before:]
    assert len(askers) == 40
    assert set(askers) <= exits(way)
    if way.url != "embedded":
        assert topology.leaked(site.port) == leaked


def check_clone(confined: Confined, way: Way, url: str) -> None:
    confined.get(way.url, command=["git", "clone", "--quiet", url, "clone"])
    assert (confined.home / "clone" / "file").read_bytes() == CONTENT


def test_git_over_http(
    topology: Topology, way: Way, confined: Confined, site: Site, host: str
) -> None:
    before = len(site.askers())
    check_clone(confined, way, f"http://{place(host)}:{site.port}/repository.git")
    assert set(site.askers()[before:]) <= exits(way)
    assert len(site.askers()) > before


def test_git_over_its_own_protocol(
    topology: Topology, way: Way, confined: Confined, site: Site, host: str
) -> None:
    with GitDaemon(topology.server, site.folder) as daemon:
        check_clone(confined, way, f"git://{place(host)}/repository.git")
        wait_until(daemon.askers, "the daemon to tell who came")
        assert set(daemon.askers()) <= exits(way)


def test_apt(
    topology: Topology, way: Way, confined: Confined, host: str, tmp_path: Path
) -> None:
    """Each of its methods is a process of its own; all it needs of the machine is in a folder."""
    package = packages.debian_mirror(tmp_path)
    home = confined.home
    for name in ("state/lists/partial", "cache/archives/partial"):
        (home / name).mkdir(parents=True)
    with Site(topology.server, tmp_path, 8081) as mirror:
        (home / "sources.list").write_text(
            f"deb [trusted=yes] http://{place(host)}:{mirror.port}/ ./\n")
        (home / "status").write_text("")
        subprocess.run(["chown", "-R", f"{confined.user}:{confined.user}", str(home)], check=True)
        options = [f"--option={words}" for words in (
            f"Dir::State={home}/state", f"Dir::State::status={home}/status",
            f"Dir::Cache={home}/cache", f"Dir::Etc::sourcelist={home}/sources.list",
            "Dir::Etc::sourceparts=-", "Dir::Etc::main=-", "Dir::Etc::parts=-",
            "Acquire::http::Proxy=DIRECT")]
        shell = 'apt-get -q "$@" update && apt-get -q "$@" download ' + packages.NAME
        said = confined.get(way.url, command=["sh", "-c", shell, "sh", *options])
        assert not {"Err", "W:", "E:"} & set(said.split()), said
        assert set(mirror.askers()) <= exits(way)
    assert (home / package.name).read_bytes() == package.read_bytes()


def test_pip(topology: Topology, way: Way, confined: Confined, host: str, tmp_path: Path) -> None:
    package = packages.python_index(tmp_path)
    with Site(topology.server, tmp_path, 8081) as index:
        confined.get(way.url, command=[
            "/usr/bin/python3", "-m", "pip", "--isolated", "--disable-pip-version-check",
            "download", "--no-cache-dir", "--no-deps", "--dest", ".", "--trusted-host", host,
            "--index-url", f"http://{place(host)}:{index.port}/simple/", packages.NAME])
        assert set(index.askers()) <= exits(way)
    assert (confined.home / package.name).read_bytes() == package.read_bytes()


def test_asyncio(topology: Topology, way: Way, confined: Confined, echo: Echo) -> None:
    """Four hundred connections of both families, all of them open at once."""
    places = [word for at in ADDRESSES.values() for word in (at.server, str(echo.port))]
    assert confined.get(way.url, command=script("crowd.py", "400", *places)).split() == ["400"]
    assert len(echo.peers) == 400
    assert set(echo.peers) == exits(way)


MAKEFILE = """\
parts := {parts}
result: $(parts)
\tcat $^ > $@
$(parts): %:
\tcurl --silent --show-error --fail --output $@ $(site)/part/$@
"""


def test_make(topology: Topology, way: Way, confined: Confined, site: Site, host: str) -> None:
    """Jobs side by side, each a process that fetches."""
    before = len(site.askers("part/"))
    numbers = [str(number) for number in range(PARTS)]
    (confined.home / "Makefile").write_text(MAKEFILE.format(parts=" ".join(numbers)))
    confined.get(way.url, command=[
        "make", "--jobs=4", f"site=http://{place(host)}:{site.port}"])
    assert (confined.home / "result").read_text() == "".join(
        f"part {number}\n" for number in numbers)
    askers = site.askers("part/")[before:]
    assert len(askers) == PARTS
    assert set(askers) <= exits(way)


@pytest.mark.parametrize("verb", ["exec", "shell"])
def test_interactive_shell(
    topology: Topology, way: Way, confined: Confined, site: Site, unbound: Unbound, verb: str
) -> None:
    """Somebody works in a confined shell: stops a program, takes it back, ends it, and leaves."""
    words = confined.words(way.url, command=["bash", "-i"], verb=verb)
    with Terminal(confined) as terminal:
        terminal.type(" ".join(words))
        terminal.wait_for("inside>")
        terminal.type("sleep 1000")
        sleep = confined.wait_for_inside("sleep")
        terminal.press("C-z")
        terminal.wait_for("[1]+  Stopped")
        terminal.type("jobs")
        terminal.wait_for("[1]+  Stopped", times=2)
        assert state(sleep) == "T"
        terminal.type("fg")
        wait_until(lambda: state(sleep) == "S", "sleep to go on")
        terminal.press("C-c")
        wait_until(lambda: state(sleep) == "", "sleep to end")
        terminal.type("echo status $?")
        terminal.wait_for("status 130")
        terminal.type(f"curl -s http://{NAMES['both']}:{site.port}/part/7")
        terminal.wait_for("part 7")
        assert site.askers("part/7")[-1] in exits(way)
        terminal.type("exit 9")
        terminal.wait_for("outside>", times=2)
        terminal.type("echo status $?")
        terminal.wait_for("status 9")


def test_shell_stops_the_whole_of_it(
    topology: Topology, way: Way, confined: Confined, site: Site
) -> None:
    """Seen from the shell outside it is one job: stopped, in the background, and in front again."""
    url = f"http://{place(ADDRESSES['ipv4'].server)}:{site.port}/part/3"
    words = confined.words(way.url, command=["cat"])
    with Terminal(confined) as terminal:
        terminal.type(" ".join(words))
        cat = confined.wait_for_inside("cat")
        terminal.type("first")
        terminal.wait_for("first", times=2)
        terminal.press("C-z")
        terminal.wait_for("[1]+  Stopped")
        assert state(cat) == "T"
        terminal.type("fg")
        wait_until(lambda: state(cat) == "S", "cat to go on")
        terminal.type("second")
        terminal.wait_for("second", times=2)
        terminal.press("C-d")
        terminal.wait_for("outside>", times=3)
        terminal.type("echo status $?")
        terminal.wait_for("status 0")
        # In the background it works on, and tells the shell when it is done.
        words = confined.words(way.url, command=["curl", "-s", url])
        terminal.type(" ".join(words) + " & wait $!; echo status $?")
        terminal.wait_for("part 3")
        terminal.wait_for("status 0", times=2)
        # Ctrl-C ends it as it would end the program.
        terminal.type(" ".join(confined.words(way.url, command=["sleep", "1000"])))
        confined.wait_for_inside("sleep")
        terminal.press("C-c")
        terminal.type("echo status $?")
        terminal.wait_for("status 130")


def state(pid: int) -> str:
    """What a process does (proc(5)): "S" sleeps, "T" is stopped; "" when it has ended."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""
    return "" if letter == "Z" else letter

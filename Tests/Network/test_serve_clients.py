"""`sluice serve` by clients that others wrote: curl, Dante's socksify, proxychains4, PySocks and
python-socks."""

import socket
from pathlib import Path
from typing import Iterator

import pytest

from harness.datagrams import DatagramEcho
from harness.needs import need
from harness.programs import Program
from harness.serving import serving
from harness.targets import Scripted
from harness.topology import ADDRESSES, FAMILIES, Topology
from harness.waiting import wait_until

AT4 = ADDRESSES["ipv4"]

#: What has both of the server's addresses.
NAME = "target.example"

PORT = 1080

#: Where PySocks and python-socks are Debian's.
PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def served(topology: Topology, folder: Path) -> Iterator[Program]:
    """On all addresses, by a server that alone knows the name."""
    hosts = folder / "hosts"
    hosts.write_text(
        f"127.0.0.1 localhost\n" + "".join(f"{at.server} {NAME}\n" for at in ADDRESSES.values()))
    knowing = (
        "unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh")
    with serving(topology.proxy, prefix=knowing) as program:
        yield program


@pytest.fixture(scope="module")
def mirror(topology: Topology) -> Iterator[Scripted]:
    """Tells who has connected, by HTTP: the proxy, if somebody has used it. It waits for the request:
    python-socks loses what comes together with the reply."""
    def tell(stream: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            part = stream.recv(4096)
            if not part:
                return
            request += part
        stream.sendall(
            b"HTTP/1.0 200 OK\r\n\r\n" + stream.getpeername()[0].removeprefix("::ffff:").encode())

    with Scripted(topology.server, tell) as target:
        yield target


def quoted(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def seen(topology: Topology, *command: str, **options: object) -> str:
    """What a program on the client prints."""
    return topology.client.run(*command, **options).stdout


def curl(address: str, port: int, *options: str) -> tuple[str, ...]:
    return (
        "curl", "--silent", "--show-error", "--max-time", "20", *options,
        f"http://{quoted(address)}:{port}/")


# curl


@pytest.mark.parametrize("server", FAMILIES)
@pytest.mark.parametrize("scheme, target", [
    ("socks5", "ipv4"), ("socks5", "ipv6"), ("socks5h", "ipv4"), ("socks5h", "ipv6"),
    ("socks5h", NAME), ("socks4", "ipv4"), ("socks4a", "ipv4"), ("socks4a", NAME),
])
def test_curl(
    topology: Topology, served: Program, mirror: Scripted, server: str, scheme: str, target: str
) -> None:
    address = ADDRESSES[target].server if target in FAMILIES else target
    proxy = f"{scheme}://{quoted(ADDRESSES[server].proxy)}:{PORT}"
    exits = [at.proxy_exit for name, at in ADDRESSES.items() if target in (name, NAME)]
    assert seen(topology, *curl(address, mirror.port, "--proxy", proxy)) in exits


@pytest.mark.parametrize("scheme, code", [("socks5", 97), ("socks4", 97)])
def test_curl_is_refused(
    topology: Topology, served: Program, scheme: str, code: int
) -> None:
    """CURLE_PROXY: it has understood the reply."""
    result = topology.client.run(
        *curl(AT4.server, 9, "--proxy", f"{scheme}://{AT4.proxy}:{PORT}"), check=False)
    assert result.returncode == code, result.stderr


def test_curl_with_a_password(
    topology: Topology, mirror: Scripted, folder: Path
) -> None:
    users = folder / "users"
    users.write_text("alice:one\nbob:two\n")
    with serving(topology.proxy, "--users-file", str(users), listen=(f"{AT4.proxy}:1081",)):
        ask = lambda scheme, login: topology.client.run(
            *curl(AT4.server, mirror.port, "--proxy", f"{scheme}://{login}{AT4.proxy}:1081"),
            check=False)
        assert ask("socks5", "bob:two@").stdout == AT4.proxy_exit
        for scheme, login in ("socks5", "bob:one@"), ("socks5", ""), ("socks4", "bob@"):
            assert ask(scheme, login).returncode == 97


# Dante


DANTE = """
route {{
  from: 0.0.0.0/0 to: 0.0.0.0/0 via: {proxy} port = {port}
  proxyprotocol: {protocol}
  command: {commands}
  method: none
}}
"""


def socksify(folder: Path, protocol: str, commands: str) -> tuple[str, ...]:
    need("socksify")
    configuration = folder / f"{protocol}.conf"
    configuration.write_text(
        DANTE.format(proxy=AT4.proxy, port=PORT, protocol=protocol, commands=commands))
    # Without the second it goes directly to what looks like a network of this host.
    return (
        "env", f"SOCKS_CONF={configuration}", "SOCKS_AUTOADD_LANROUTES=no", "socksify")


@pytest.mark.parametrize("protocol", ["socks_v5", "socks_v4"])
def test_socksify(
    topology: Topology, served: Program, mirror: Scripted, folder: Path, protocol: str
) -> None:
    command = socksify(folder, protocol, "connect")
    assert seen(topology, *command, *curl(AT4.server, mirror.port)) == AT4.proxy_exit


UDP = """
import socket
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.settimeout(20)
one.connect(("{address}", {port}))
for payload in b"hello", bytes(1400):
    one.send(payload)
    assert one.recv(65536) == payload
print("echoed")
"""


def test_socksify_datagrams(
    topology: Topology, served: Program, datagram_echo: DatagramEcho, folder: Path
) -> None:
    command = socksify(folder, "socks_v5", "udpassociate")
    script = UDP.format(address=AT4.server, port=datagram_echo.port)
    assert seen(topology, *command, PYTHON, "-c", script).strip() == "echoed"
    assert datagram_echo.peers()[-1] == AT4.proxy_exit


#: As a client of FTP does it in active mode: says on one connection where it is to be called back.
#: Python would accept by accept4(2), which socksify does not know.
ACTIVE = """
import ctypes, socket
control = socket.socket()
control.connect(("{address}", {port}))
one = socket.socket()
one.bind(("0.0.0.0", 0))
one.listen(1)
control.sendall(("%s %d\\n" % one.getsockname()).encode())
place, size = ctypes.create_string_buffer(128), ctypes.c_uint(128)
data = socket.socket(
    fileno=ctypes.CDLL(None).accept(one.fileno(), place, ctypes.byref(size)))
data.sendall(b"from the client")
print(data.recv(100).decode())
"""


def test_socksify_listens(topology: Topology, served: Program, folder: Path) -> None:
    """BIND for a program that listens and accepts, which the target then connects to."""
    answers: list[tuple[str, bytes]] = []

    def call_back(control: socket.socket) -> None:
        line = b""
        while not line.endswith(b"\n"):
            line += control.recv(100)
        address, port = line.decode().split()
        with topology.server.connect(address, int(port)) as data:
            data.sendall(b"from the target")
            answers.append((address, data.recv(100)))

    command = socksify(folder, "socks_v5", "connect bind")
    with Scripted(topology.server, call_back) as target:
        script = ACTIVE.format(address=AT4.server, port=target.port)
        assert seen(topology, *command, PYTHON, "-c", script).strip() == "from the target"
        wait_until(lambda: answers, "what the client has sent")
    assert answers == [(AT4.proxy_exit, b"from the client")]


# proxychains4


@pytest.mark.parametrize("kind, target", [
    ("socks5", AT4.server), ("socks5", ADDRESSES["ipv6"].server), ("socks5", NAME),
    ("socks4", AT4.server),
])
def test_proxychains(
    topology: Topology, served: Program, mirror: Scripted, folder: Path, kind: str, target: str
) -> None:
    need("proxychains4")
    configuration = folder / "proxychains.conf"
    configuration.write_text(
        f"strict_chain\nproxy_dns\n[ProxyList]\n{kind} {AT4.proxy} {PORT}\n")
    got = seen(
        topology, "proxychains4", "-q", "-f", str(configuration), *curl(target, mirror.port))
    assert got in [at.proxy_exit for at in ADDRESSES.values() if target in (at.server, NAME)]


# PySocks


#: What a script does with its connection.
FETCH = """
one.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
answer = b""
while part := one.recv(4096):
    answer += part
print(answer.split()[-1].decode())
"""


PYSOCKS = """
import socks
one = socks.socksocket()
one.set_proxy(socks.{kind}, "{proxy}", {port}, rdns=True)
one.settimeout(20)
one.connect(("{target}", {target_port}))
{FETCH}
"""


@pytest.mark.parametrize("kind, target", [
    ("SOCKS5", AT4.server), ("SOCKS5", ADDRESSES["ipv6"].server), ("SOCKS5", NAME),
    ("SOCKS4", AT4.server), ("SOCKS4", NAME),
])
def test_pysocks(
    topology: Topology, served: Program, mirror: Scripted, kind: str, target: str
) -> None:
    script = PYSOCKS.format(
        kind=kind, proxy=AT4.proxy, port=PORT, target=target, target_port=mirror.port, FETCH=FETCH)
    assert seen(topology, PYTHON, "-c", script).strip() in [
        at.proxy_exit for at in ADDRESSES.values() if target in (at.server, NAME)]


PYSOCKS_UDP = """
import socket, socks
one = socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM)
one.set_proxy(socks.SOCKS5, "{proxy}", {port}, rdns=True)
one.settimeout(20)
one.bind(("", 0))
for payload in b"hello", bytes(1400):
    one.sendto(payload, ("{target}", {target_port}))
    answer, source = one.recvfrom(65536)
    assert answer == payload
    assert source[1] == {target_port}
print(source[0])
"""


@pytest.mark.parametrize("target", [AT4.server, NAME])
def test_pysocks_datagrams(
    topology: Topology, served: Program, datagram_echo: DatagramEcho, target: str
) -> None:
    script = PYSOCKS_UDP.format(
        proxy=AT4.proxy, port=PORT, target=target, target_port=datagram_echo.port)
    assert seen(topology, PYTHON, "-c", script).strip() in [
        at.server for at in ADDRESSES.values() if target in (at.server, NAME)]


# python-socks


PYTHON_SOCKS = """
from python_socks.sync import Proxy
one = Proxy.from_url("{scheme}://{proxy}:{port}", rdns=True).connect(
    "{target}", {target_port}, timeout=20)
{FETCH}
"""


@pytest.mark.parametrize("server", FAMILIES)
@pytest.mark.parametrize("scheme, target", [
    ("socks5", AT4.server), ("socks5", ADDRESSES["ipv6"].server), ("socks5", NAME),
    ("socks4", AT4.server), ("socks4", NAME),
])
def test_python_socks(
    topology: Topology, served: Program, mirror: Scripted, server: str, scheme: str, target: str
) -> None:
    script = PYTHON_SOCKS.format(
        scheme=scheme, proxy=quoted(ADDRESSES[server].proxy), port=PORT, target=target,
        target_port=mirror.port, FETCH=FETCH)
    assert seen(topology, PYTHON, "-c", script).strip() in [
        at.proxy_exit for at in ADDRESSES.values() if target in (at.server, NAME)]

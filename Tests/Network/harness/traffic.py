"""Debian's programs that speak UDP: iperf3, and ngtcp2's QUIC client and server."""

import contextlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any, Iterator

from .namespaces import Namespace
from .programs import Program
from .waiting import PATIENCE

IPERF_PORT = 5201

QUIC_PORT = 443


@contextlib.contextmanager
def iperf_server(host: Namespace) -> Iterator[Program]:
    with Program(host, "iperf3", "--server", "--forceflush") as program:
        program.wait_for_port(IPERF_PORT)
        yield program


def iperf_senders(server: Program, count: int = 1) -> list[str]:
    """From which addresses its UDP flows came, in order, as soon as it has told of so many."""
    line = re.compile(r"local \S+ port \d+ connected to (\S+) port")

    def senders() -> list[str] | None:
        found = [match[1] for one in list(server.lines) if (match := line.search(one))]
        return found if len(found) >= count else None

    return server.wait_for_output(senders, f"{count} flows", PATIENCE)


def iperf(host: Namespace, address: str, *options: str) -> dict[str, Any]:
    """A second of UDP to the server, or from it with `--reverse`: iperf3's own summary, with
    "packets", "lost_packets" and "bytes"."""
    done = host.run(
        "iperf3", "--udp", "--client", address, "--bitrate", "4M", "--length", "1200", "--time", "1",
        "--json", *options, check=False)
    result = json.loads(done.stdout)
    assert "error" not in result, result["error"]
    summary: dict[str, Any] = result["end"]["sum"]
    return summary


class Quic:
    """A QUIC server with one file, in a folder of its own. Use as a context manager."""

    NAME = "file"

    def __init__(self, host: Namespace, folder: Path, content: bytes) -> None:
        self.content = content
        self._folder = folder
        site = folder / "site"
        site.mkdir(parents=True)
        (site / self.NAME).write_bytes(content)
        key, certificate = folder / "key", folder / "certificate"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "1", "-subj", "/CN=server", "-keyout", key, "-out", certificate],
            check=True, capture_output=True)
        command = [
            "gtlsserver", "--no-quic-dump", "--no-http-dump", f"--htdocs={site}", "*",
            str(QUIC_PORT), str(key), str(certificate)]
        self._program = Program(host, *command)

    def __enter__(self) -> "Quic":
        self._program.wait_for_datagram_port(QUIC_PORT, sockets=2)
        return self

    def __exit__(self, *_: Any) -> None:
        self._program.end()

    def senders(self) -> set[str]:
        """From which addresses packets came so far."""
        line = re.compile(r"remote=\[(\S+?)\]:\d+")
        return {found[1] for one in list(self._program.lines) if (found := line.search(one))}

    def fetch(self, host: Namespace, address: str) -> bytes | None:
        """What the client gets; None when it gives up."""
        place = f"[{address}]" if ":" in address else address
        got = self._folder / "got"
        got.mkdir(exist_ok=True)
        (got / self.NAME).unlink(missing_ok=True)
        done = host.run(
            "gtlsclient", "--quiet", "--no-quic-dump", "--no-http-dump", f"--download={got}",
            "--exit-on-all-streams-close", "--timeout=20s", address, str(QUIC_PORT),
            f"https://{place}/{self.NAME}", check=False)
        if done.returncode != 0 or not (got / self.NAME).exists():
            return None
        return (got / self.NAME).read_bytes()

"""Folders that real servers give away: over HTTP, and as Git repositories."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .confined import PYTHON
from .namespaces import Namespace
from .programs import Program

#: git daemon's (git-daemon(1)).
GIT_PORT = 9418


#: Python's own, except that more than five may wait to be let in: the rest would try again a second
#: later, when Dante has given up.
SERVER = """
import runpy, socketserver
socketserver.TCPServer.request_queue_size = 128
runpy.run_module("http.server", run_name="__main__")
"""


class Site(Program):
    """Python's web server on all addresses of a host; knows who asked."""

    PORT = 8080

    def __init__(self, host: Namespace, folder: Path, port: int = PORT) -> None:
        super().__init__(
            host, PYTHON, "-u", "-c", SERVER, "--bind", "::", "--directory", str(folder), str(port),
            name="http.server")
        self.folder = folder
        self.port = port

    def __enter__(self) -> "Site":
        self.wait_for_port(self.port)
        return self

    def askers(self, path: str = "") -> list[str]:
        """From which addresses files were asked for, or those whose name begins with `path`."""
        line = re.compile(rf'(\S+) - - \[.*\] "GET /{re.escape(path)}')
        return [
            found[1].removeprefix("::ffff:") for one in list(self.lines)
            if (found := line.match(one))]

    def __exit__(self, *_: Any) -> None:
        self.end()


class GitDaemon(Program):
    """`git daemon` on all addresses of a host, with every repository below a folder."""

    def __init__(self, host: Namespace, folder: Path) -> None:
        super().__init__(
            host, "git", "daemon", "--verbose", "--export-all", "--reuseaddr",
            f"--base-path={folder}", str(folder), name="git daemon")

    def __enter__(self) -> "GitDaemon":
        self.wait_for_port(GIT_PORT)
        return self

    def askers(self) -> list[str]:
        line = re.compile(r"Connection from \[?(\S+?)\]?:\d+$")
        return [found[1] for one in list(self.lines) if (found := line.search(one))]


def place(address: str) -> str:
    """A host as it stands in a URL."""
    return f"[{address}]" if ":" in address else address


def make_repository(folder: Path, name: str, content: bytes) -> None:
    """A bare repository with one commit of one file, ready for those who only fetch files too."""
    work = folder / f"{name}.work"
    git = ["git", "-c", "user.name=nobody", "-c", "user.email=nobody@example", "-C", str(work)]
    work.mkdir(parents=True)
    (work / "file").write_bytes(content)
    for words in ("init --quiet", "add file", "commit --quiet --message=One"):
        subprocess.run([*git, *words.split()], check=True, capture_output=True)
    bare = folder / f"{name}.git"
    subprocess.run(
        ["git", "clone", "--quiet", "--bare", str(work), str(bare)], check=True,
        capture_output=True)
    subprocess.run(["git", "-C", str(bare), "update-server-info"], check=True)
    shutil.rmtree(work)

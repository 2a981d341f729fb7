"""Passwords that must not be seen, in every shape that they can take."""

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from .scripted import ScriptedUpstream
from .tunnels import ScriptedProxy

#: Characters that URLs encode, that JSON escapes and that shells know are among them.
USER, PASSWORD, WRONG = "alice", 'hunter2/"w:x@y%', "wr0ng/'w:x@y%"


@dataclass(frozen=True)
class Kind:
    """A kind of upstream that asks for a password."""

    scheme: str
    server: type[ScriptedUpstream] | type[ScriptedProxy]
    port: int

    def url(self, address: str, password: str | None = None) -> str:
        login = USER if password is None else f"{USER}:{quote(password, safe='')}"
        return f"{self.scheme}://{login}@{address}:{self.port}"


KINDS = {
    "socks5": Kind("socks5", ScriptedUpstream, 1080), "http": Kind("http", ScriptedProxy, 8080)}


def seen(server: ScriptedUpstream | ScriptedProxy) -> set[str]:
    """Every `user:password` that clients have shown so far."""
    if isinstance(server, ScriptedUpstream):
        logins = [one.credentials for one in server.conversations]
        return {b":".join(login).decode() for login in logins if login}
    return {one.credentials for one in server.requests}


def encoded_everywhere(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def shapes(password: str) -> set[str]:
    """The password plain, as URLs and JSON have it, in hexadecimal, and as Basic has it."""
    code = encoded_everywhere(password)
    basic = base64.b64encode(f"{USER}:{password}".encode()).decode()
    # Without the ends, which depend on what stands beside it.
    alone = base64.b64encode(password.encode()).decode()[:-4]
    return {
        password, password.replace('"', '\\"'), quote(password), quote(password, safe=""),
        quote(password, safe="").lower(), code, code.lower(), password.encode().hex(), basic,
        basic.rstrip("=")[:-2], alone, password.split("/")[0]}


def assert_secret(text: str, *passwords: str) -> None:
    """No password is in a text, in any shape."""
    for password in passwords or (PASSWORD, WRONG):
        for shape in shapes(password):
            assert shape not in text, f"{shape!r} is in:\n{text}"


def command_line(pid: int) -> str:
    """What ps shows of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def environment(**variables: str) -> dict[str, str]:
    """The test run's own, and variables."""
    return dict(os.environ) | variables

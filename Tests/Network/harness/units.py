"""The units of systemd, and what they leave a program."""

import re
from pathlib import Path

from .needs import need

FOLDER = Path(__file__).parents[3] / "scripts" / "systemd"

#: The one that captures a host's traffic, the same for one interface, and the server with its sockets.
RUN, RUN_TEMPLATE = "sluice.service", "sluice@.service"
SERVE, SERVE_SOCKET = "sluice-serve.service", "sluice-serve.socket"

SERVICES = (RUN, RUN_TEMPLATE, SERVE)
UNITS = (*SERVICES, SERVE_SOCKET)


def setting(name: str, unit: str = RUN) -> list[list[str]]:
    """The words of each line of a unit that sets this."""
    lines = re.findall(rf"^{name}=(.*)$", (FOLDER / unit).read_text(), flags=re.MULTILINE)
    assert lines, name
    return [line.split() for line in lines]


def restriction(user: str | int) -> tuple[str, ...]:
    """A command that leaves a program what the service leaves: a user, and capabilities."""
    [bounds], [ambient] = setting("CapabilityBoundingSet"), setting("AmbientCapabilities")
    assert bounds == ambient
    names = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in bounds)
    return (
        need("setpriv"), f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs",
        f"--inh-caps=-all,{names}", f"--ambient-caps=-all,{names}", f"--bounding-set=-all,{names}", "--")

"""The same abilities as `sluice probe` finds them."""

import json
import subprocess

from harness.resolvers import NAMES
from harness.sluice import binary
from harness.topology import ADDRESSES

from .abilities import Trial
from .cells import NOT_OFFERED, WORKS, Cell

#: Both have these, by the same names.
KEYS = (
    "connect_ipv4", "connect_ipv6", "connect_name", "udp", "bind", "pipelining", "early_data",
    "half_close")

#: Seconds, of which the probe takes ten at most.
DEADLINE = 20.0


def probe(trial: Trial) -> dict[str, str]:
    """The state of each of KEYS; empty where the server does not let Sluice in."""
    server = ADDRESSES["ipv4"].server, ADDRESSES["ipv6"].server
    targets = f"{server[0]}:53", f"[{server[1]}]:53", f"{NAMES['both']}:53"
    options = [word for target in targets for word in ("--target", target)]
    settings = [f"{name}={value}" for name, value in trial.running.environment.items()]
    done = subprocess.run(
        trial.topology.client.command(
            "env", *settings, binary(), "probe", "--json", trial.server.url, "--dns-server", server[0],
            *options),
        capture_output=True, text=True, timeout=DEADLINE, check=False)
    found = json.loads(done.stdout or "{}")
    states = {key: found[key]["state"] for key in KEYS if key in found}
    if "connect_name" in states and trial.server.url.startswith("socks4:"):
        # It asks for none, while the matrix does, with the extension of SOCKS4a.
        states["connect_name"] = "unknown"
    return states


def disagreements(abilities: dict[str, Cell], found: dict[str, str]) -> list[str]:
    """Where the probe says something else than the matrix, or nothing. How a server does not do a thing is
    its own affair; what the probe does not claim to know is no matter."""
    def agree(cell: Cell, state: str) -> bool:
        return state == "unknown" or (
            (state == "works") == (cell.result == WORKS)
            and (state == "not_offered") == (cell.result == NOT_OFFERED))

    return [
        f"{key}: {abilities[key]}; sluice probe: {found.get(key, 'nothing')}" for key in KEYS
        if not agree(abilities[key], found.get(key, "nothing"))]

"""What `sluice flows` tells, checked against its schema."""

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema

from .namespaces import Namespace
from .sluice import binary
from .waiting import wait_until

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "flows.schema.json").read_text())

VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def command(
    word: str, host: Namespace, place: Path, *words: str
) -> "subprocess.CompletedProcess[str]":
    """A command that talks to the run there."""
    return host.run(binary(), word, "--control", str(place), *words, check=False)


def flows(host: Namespace, place: Path, *words: str) -> list[dict[str, Any]]:
    """Those there are, in the order in which they are told."""
    done = command("flows", host, place, "--json", *words)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    return check(done.stdout)["flows"]


def check(line: str) -> Any:
    """What a line says, which is as the schema has it."""
    answer = json.loads(line)
    VALIDATOR.validate(answer)
    return answer


def wait_for_flows(host: Namespace, place: Path, count: int, *words: str) -> list[dict[str, Any]]:
    """Waits until there are so many."""
    found: list[dict[str, Any]] = []

    def are_there() -> bool:
        found[:] = flows(host, place, *words)
        return len(found) == count

    wait_until(are_there, f"{count} flows")
    return found

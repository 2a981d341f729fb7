"""The matrix as Markdown and as JSON."""

import datetime
from dataclasses import dataclass, field
from typing import Any, Iterable, Sequence

from .abilities import TABLES
from .cells import RESULTS, WORKS, Cell
from .probing import disagreements
from .servers import Server
from .through import MEASURES

INTRODUCTION = """\
# What proxies can do

Measured by `sudo scripts/matrix` on {date}, with Sluice {sluice}: each cell is a conversation of its own
with a real server in network namespaces, by a client that shares no code with Sluice, and with a deadline.
The last table is what ordinary programs get whom `sluice exec` sends through the same servers.

Those that close the client's stream on both sides at its end, and those that keep the end from the target
and cut the connection some seconds later, are used with `--half-close hold`. Targets here think for half a
second before they answer.
"""


@dataclass
class Row:
    """What was found of one server."""

    server: Server
    version: str
    abilities: dict[str, Cell] = field(default_factory=dict)
    """By the keys of abilities.ABILITIES."""
    through_sluice: dict[str, Cell] = field(default_factory=dict)
    """By the keys of through.MEASURES."""
    probed: dict[str, str] = field(default_factory=dict)
    """By probing.KEYS, what `sluice probe` says."""

    def shortcomings(self) -> list[str]:
        """What Sluice does not get out of the server although that can do it. With `--half-close hold`
        the answer comes whole through any that connects. And where its probe is wrong."""
        def possible(key: str) -> bool:
            need = "connect_ipv4" if key == "half_close" else key
            return self.abilities[need].result == WORKS

        lost = [
            f"{key}: {self.abilities[key]}; through Sluice: {cell}"
            for key, cell in self.through_sluice.items() if cell.result != WORKS and possible(key)]
        wrong = disagreements(self.abilities, self.probed)
        return [f"{self.server.title}, {problem}" for problem in lost + wrong]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.server.name, "title": self.server.title, "version": self.version,
            "scheme": self.server.scheme,
            "abilities": {key: cell.as_json() for key, cell in self.abilities.items()},
            "through_sluice": {key: cell.as_json() for key, cell in self.through_sluice.items()},
        }


def as_json(rows: Iterable[Row], sluice: str) -> dict[str, Any]:
    """The whole matrix: servers by their names, and their cells by plain keys."""
    return {
        "date": datetime.date.today().isoformat(), "sluice": sluice,
        "servers": [row.as_json() for row in rows],
    }


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in rows)


def as_markdown(rows: Sequence[Row], sluice: str) -> str:
    parts = [INTRODUCTION.format(date=datetime.date.today().strftime("%-d %B %Y"), sluice=sluice)]
    parts.append(table(
        ["a cell says", "when"], [[f"`{word}`", meaning] for word, meaning in RESULTS.items()]))
    for title, columns in TABLES.items():
        lines = (
            [named(row), *(str(row.abilities[column.key]) for column in columns)] for row in rows)
        parts.append(f"## {title}\n")
        parts.append(table(["", *(column.title for column in columns)], lines))
    parts.append("## Through Sluice\n")
    parts.append(table(
        ["", *(title for title, _ in MEASURES.values())],
        ([named(row), *(str(row.through_sluice[key]) for key in MEASURES)] for row in rows)))
    return "\n".join(parts)


def named(row: Row) -> str:
    name, comma, rest = row.server.title.partition(",")
    return f"{name} {row.version}{comma}{rest}"

"""What a cell of the matrix says, and the ways in which a conversation with a proxy can end early."""

from dataclasses import asdict, dataclass
from typing import Any

WORKS, REFUSED, NOT_OFFERED = "works", "refused", "not offered"
CLOSED, NO_ANSWER, LOST = "closed", "no answer", "lost"

#: The words of a cell, and what each means.
RESULTS = {
    WORKS: "it was asked for and came about",
    REFUSED: "the server answered that it will not or cannot, with this code",
    NOT_OFFERED: "the protocol, or the method by which clients prove who they are, has no such thing",
    CLOSED: "the server ended the connection instead of answering, by FIN or RST; with a code: after it"
    " had said that",
    NO_ANSWER: "nothing came before the deadline",
    LOST: "what came too early for the server never arrived, and what came later did",
}


@dataclass(frozen=True)
class Cell:
    """What became of one ability."""

    result: str
    """One of RESULTS."""
    code: int | None = None
    """Of the server's reply, where it has one other than success, or one that was not kept."""
    text: str = ""
    """What the code means, or how else it went."""

    def __post_init__(self) -> None:
        assert self.result in RESULTS

    def __str__(self) -> str:
        code = "" if self.code is None else f"code {self.code}"
        remark = " ".join(filter(None, (code, self.text)))
        if self.result == WORKS and self.text:
            return self.text
        return f"{self.result} ({remark})" if remark else self.result

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value not in (None, "")}


class Ended(Exception):
    """A conversation has ended before what was wanted of it; `cell` says how."""

    def __init__(self, cell: Cell) -> None:
        super().__init__(str(cell))
        self.cell = cell


def refused(code: int, text: str) -> Ended:
    return Ended(Cell(REFUSED, code, text))


def closed(how: str) -> Ended:
    """`how`: "FIN" or "RST"."""
    return Ended(Cell(CLOSED, text=how))


def no_answer() -> Ended:
    return Ended(Cell(NO_ANSWER))


def not_offered() -> Ended:
    return Ended(Cell(NOT_OFFERED))

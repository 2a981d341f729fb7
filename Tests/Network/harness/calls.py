"""A command called as it is, or by `sluice exec`: for tests that expect the same of both."""

from dataclasses import dataclass

from .confined import installed


@dataclass(frozen=True)
class Call:
    """How a command is called."""

    name: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    def words(self, *command: str) -> list[str]:
        """The command, with what goes before it."""
        if self.name == "bare":
            return list(command)
        return [str(installed()), "exec", *self.options, "--", *command]


BARE, EXEC = Call("bare"), Call("exec")

CALLS = (BARE, EXEC)

"""Puts servers on trial one after the other, on the hosts of the network tests."""

import contextlib
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Callable

from harness import resolvers
from harness.confined import Confined
from harness.programs import Program
from harness.sluice import binary
from harness.targets import Echo, Website
from harness.topology import Topology

from .abilities import ABILITIES, Thinker, Trial
from .cells import WORKS, Cell
from .probing import probe
from .results import Row
from .servers import Server
from .through import HOP_PORT, MEASURES, Answering, Through


class Court:
    """The hosts, and everything that servers are asked to reach. Use as a context manager."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "Court":
        with contextlib.ExitStack() as stack:
            host = self._topology.server
            folder = Path(stack.enter_context(
                tempfile.TemporaryDirectory(prefix="sluice-tests-matrix-")))
            folder.chmod(0o755)
            self._folder = folder
            self._resolving = stack.enter_context(resolvers.unbound(host, folder))
            self._echo = stack.enter_context(Echo(host))
            self._thinker = stack.enter_context(Thinker(host))
            self._website = stack.enter_context(Website(host, 1))
            self._answering = stack.enter_context(Answering(host))
            hop = stack.enter_context(Program(
                host, binary(), "serve", "--listen", f"[::]:{HOP_PORT}", name="second hop"))
            hop.wait_for_port(HOP_PORT)
            self._user = stack.enter_context(Confined(self._topology.client))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def try_out(self, server: Server, tell: Callable[[str], None] = lambda _: None) -> Row:
        """All that is known of a server in the end; `tell` hears of each cell."""
        row = Row(server, server.version())
        place = self._folder / server.name
        place.mkdir(mode=0o755)
        with server.start(server, self._topology, place) as running:
            trial = Trial(self._topology, server, running, self._echo, self._thinker)
            for ability in ABILITIES:
                row.abilities[ability.key] = ability.of(trial)
                tell(f"{ability.key}: {row.abilities[ability.key]}")
            through = Through(
                trial, self._user, self._website, self._answering,
                row.abilities["half_close"] == Cell(WORKS))
            for key, (_, measure) in MEASURES.items():
                row.through_sluice[key] = measure(through)
                tell(f"{key} through Sluice: {row.through_sluice[key]}")
            row.probed = probe(trial)
        return row

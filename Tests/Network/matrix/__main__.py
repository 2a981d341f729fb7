"""What real proxies can do, as a table; started by scripts/matrix.

A whole run takes a few minutes beside what is installed and built. The exit status is 1 when Sluice did
not get out of a server what that server can do, when `sluice probe` says something else of it, and when a
server could not be started.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

from harness import confined, namespaces
from harness.topology import Topology

from .results import as_json, as_markdown
from .servers import SERVERS, our_version
from .trials import Court


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sudo scripts/matrix", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="only servers whose name begins so: "
        + ", ".join(server.name for server in SERVERS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the cells there, too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="where the table goes")
    options = parser.parse_args(arguments)
    options.servers = [
        server for server in SERVERS
        if not options.only or server.name.startswith(tuple(options.only))]
    if not options.servers:
        parser.error(f"no server's name begins with {' or '.join(options.only)}")
    return options


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def end(number: int, _: object) -> None:
    """SIGTERM and SIGHUP end the program as Ctrl-C does: through its `finally` blocks."""
    sys.exit(128 + number)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, end)
    confined.sweep()
    namespaces.sweep()
    rows, problems = [], []
    with Topology() as topology, Court(topology) as court:
        for server in options.servers:
            say(f"{server.title}:")
            if not server.version():
                problems.append(f"{server.title} is not installed")
                continue
            try:
                row = court.try_out(server, lambda text: say(f"  {text}"))
            except (AssertionError, OSError) as error:
                problems.append(f"{server.title} could not be tried: {error}")
                continue
            rows.append(row)
            problems += row.shortcomings()
    version = our_version()
    text = as_markdown(rows, version)
    if options.markdown:
        options.markdown.write_text(text)
    else:
        print(text)
    if options.json:
        options.json.write_text(json.dumps(as_json(rows, version), indent=2) + "\n")
    for problem in problems:
        say(f"PROBLEM: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

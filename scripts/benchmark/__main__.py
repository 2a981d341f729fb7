"""Compares Sluice with its peers in one interleaved run; started by scripts/bench.

A whole run takes about half an hour beside what is installed and built, one with --quick 2 to 3
minutes. Not among the contestants is ss-redir: it speaks to Shadowsocks servers alone, and the server
that all share here speaks SOCKS5. The plots are drawn without matplotlib, which would bring 477 MB
of packages for some bars and lines.
"""

import argparse
import functools
import resource
import sys
import tempfile
from pathlib import Path

from benchmark.arena import CONGESTION_CONTROL, Arena, NotRelayed
from benchmark.contestants import (
    BareRelay, Direct, Redsocks, SingBox, Sluice, SOCKSClient, V2Ray)
from benchmark.exec_contestant import SluiceExec
from benchmark.report import Report
from benchmark.row import Visit
from benchmark.rows import all_groups
from benchmark.server_contestants import Dante, Microsocks, SingBoxServer, SluiceServe
from lib.netns import end_on_signals
from lib.program import ProgramFailed


def parse(arguments):
    parser = argparse.ArgumentParser(prog="sudo scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument(
        "--smoke", action="store_true",
        help="only whether it all works, without the peers: for tests, under 2 minutes")
    parser.add_argument(
        "--servers", action="store_true",
        help="SOCKS5 servers beside `sluice serve` (serve-sluice, serve-microsocks, serve-dante,"
        " serve-sing-box) instead of redirectors")
    parser.add_argument("--rounds", type=int, help="rounds over all contestants (default 5)")
    parser.add_argument("--seconds", type=float, help="length of each stream (default 3)")
    parser.add_argument(
        "--rows", action="append", metavar="NAME",
        help="only rows whose name begins so (repeatable): " + ", ".join(
            group.name for group in all_groups()))
    parser.add_argument(
        "--contestants", action="append", metavar="NAME",
        help="only contestants whose name begins so (repeatable): sluice-tproxy, sluice-redirect,"
        " sluice-pool, sluice-early, sluice-exec, redsocks, sing-box, v2ray, bare-relay, direct, socks-client")
    parser.add_argument(
        "--output", type=Path, help="folder for table.md, results.json and plots (*.svg)")
    # From scripts/bench: where the programs are. Without sing-box its column is left out.
    parser.add_argument(
        "--congestion", metavar="NAME",
        help="congestion control of all hosts, one that the machine allows everybody (default: the"
        " machine's)")
    parser.add_argument("--sluice", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--peer", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--preload", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--sing-box", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick or options.smoke else 5)
    options.seconds = options.seconds or (0.2 if options.smoke else 0.5 if options.quick else 3.0)
    if options.smoke:
        options.contestants = options.contestants or ["sluice-tproxy", "bare-relay", "direct"]
    options.groups = [
        group for group in all_groups()
        if not options.rows or group.name.startswith(tuple(options.rows))]
    if not options.groups:
        parser.error(f"no row's name begins with {' or '.join(options.rows)}")
    return options


def field(options):
    """The contestants, the one that all are compared with first: what a gateway gets by default."""
    contestants = servers(options) if options.servers else redirectors(options)
    names = tuple(options.contestants or [""])
    return [contestant for contestant in contestants if contestant.name.startswith(names)]


def redirectors(options):
    contestants = [
        Sluice(options.sluice, "tproxy"), Sluice(options.sluice, "redirect"),
        Sluice(options.sluice, "tproxy", "--pool", "32", name="pool", groups=("first-byte",)),
        Sluice(
            options.sluice, "tproxy", "--pool", "32", "--early-data", "on",
            name="pool, early data", groups=("first-byte",)),
        SluiceExec(options.sluice), Redsocks()]
    if options.sing_box:
        contestants.append(SingBox(options.sing_box))
    return [*contestants, V2Ray(), BareRelay(), Direct(), SOCKSClient()]


def servers(options):
    contestants = [SluiceServe(options.sluice), Microsocks(), Dante()]
    if options.sing_box:
        contestants.append(SingBoxServer(options.sing_box))
    return contestants


def rotated(items, places):
    places %= len(items)
    return items[places:] + items[:places]


def visit(hosts, contestant, groups, seconds, report):
    """Starts a contestant between new hosts, measures every row on it, ends it; once for each setup that
    rows need."""
    groups = [group for group in groups if group.name.startswith(contestant.groups)]
    for setup in dict.fromkeys(group.setup for group in groups):
        try:
            with hosts() as arena, contestant.running(arena, setup) as pid:
                for group in groups:
                    if group.setup == setup:
                        measure(group, Visit(arena, contestant, pid, seconds), report)
        except (ProgramFailed, TimeoutError, OSError) as error:
            report.fail(contestant, error)


def measure(group, visit, report):
    try:
        report.add(visit.contestant, group.measure(visit))
        report.keep(visit.contestant, visit.latencies, visit.details)
    except NotRelayed as error:
        report.fail(visit.contestant, f"{group.name}: {error}")


def raise_descriptor_limit():
    """A thousand flows take some thousand descriptors, at each of us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(arguments):
    end_on_signals()
    options = parse(arguments)
    raise_descriptor_limit()
    contestants, groups = field(options), options.groups
    if not contestants:
        sys.exit("no contestant's name begins so")
    congestion = options.congestion or CONGESTION_CONTROL.read_text().strip()
    report = Report(
        contestants, [row for group in groups for row in group.rows],
        {"rounds": options.rounds, "seconds": options.seconds, "congestion": congestion})
    with tempfile.TemporaryDirectory() as folder:
        hosts = functools.partial(
            Arena, options.peer, options.preload, Path(folder), options.congestion)
        for number in range(options.rounds):
            for contestant in rotated(contestants, number):
                print(f"round {number + 1}/{options.rounds}: {contestant.title}", file=sys.stderr)
                visit(hosts, contestant, groups, options.seconds, report)
    print(report.markdown())
    if options.output:
        report.write(options.output)
    for problem in report.problems:
        print(f"DID NOT RUN: {problem}", file=sys.stderr)
    return 1 if report.problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

"""The main job, shown: `scripts/run demo`, or `python3 -m demo PATH_OF_SLUICE` in scripts/.

A story in five scenes, each a few fetches by unmodified curl. Exit status 0 only when every fetch
went the way that its scene says and every host ended with the rules it had at first.
"""

import hashlib
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from demo import network
from demo.network import UPSTREAM, WEB
from lib.program import Program, ProgramFailed
from demo.rules import Rules
from demo.website import PAGE_BYTES, Website
from lib.netns import Lab, end_on_signals, wait_until

PREFIX = "sld"
MAXIMUM_SECONDS = 60


@dataclass(frozen=True)
class Fetch:
    """One request and what became of it: a row of the table."""

    scene: str
    url: str
    captured_by: str
    visitor: str
    size: int
    seconds: float
    intact: bool
    problem: str

    def cells(self):
        return (
            self.scene, self.url, self.captured_by, self.visitor,
            f"{self.size / 2**20:.0f} MiB", f"{self.seconds:.2f} s",
            "ok" if self.intact else "WRONG")


class Story:
    """The scenes, what they found, and whether all of it held."""

    def __init__(self, lab, binary, folder):
        self._lab = lab
        self._binary = binary
        self._folder = folder
        self._website = Website(lab["web"])
        self.fetches = []
        self.moments = []
        self.initial = {}
        self.problems = []

    def close(self):
        self._website.close()

    def tell(self):
        client, gateway = self._lab["client"], self._lab["gateway"]
        say(f"client ({network.CLIENT.v4}) - gateway - internet: a SOCKS5 server"
            f" ({network.PROXY.v4}, Debian's microsocks) and a web server ({WEB.v4})")

        say("\n1. Without Sluice: the web server sees the client itself.")
        self.fetch("no sluice", network.CLIENT)

        say("\n2. On the gateway: sluice run socks5://... --gateway lan0. The client is not told.")
        self.scene("gateway", gateway, "--gateway", "lan0")

        say("\n3. On the client itself: sluice run socks5://... --machine.")
        self.scene("machine", client, "--machine")

        say("\n4. kill -9: the kernel takes the rules away with the process.")
        self.scene_of_the_kill(client)

        say("\n5. Started once more after the kill, and ended in good order.")
        self.scene("again", client, "--machine")

    def scene(self, name, host, *scope):
        """Rules in, both families fetched through the proxy, rules out again."""
        before = self.rules(f"{name}: before", host)
        program = self.start(host, *scope)
        self.rules(f"{name}: running", host, before)
        self.fetch(name, network.PROXY, capturing=host)
        summary = program.finish()
        say(f"   summary: {summary['sessions_opened']} flows,"
            f" {summary['bytes_upstream']} bytes up, {summary['bytes_downstream']} bytes down,"
            f" {summary['sessions_failed']} failed")
        if summary["bytes_downstream"] < 2 * PAGE_BYTES:
            self.problems.append(f"{name}: fewer bytes in the summary than were fetched")
        after = self.rules(f"{name}: after", host, before)
        if after != self.initial[host.name]:
            self.problems.append(f"{name}: the {role(host)} is not as it was: {after.describe(before)}")

    def scene_of_the_kill(self, host):
        """The process dies in the middle of a transfer; the table must go within a second."""
        before = self.rules("kill -9: before", host)
        program = self.start(host, "--machine")
        self.rules("kill -9: running", host, before)
        with subprocess.Popen(
            host.command("curl", "-s", "--limit-rate", "1M", "-o", "/dev/null", url(WEB.v4)),
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as transfer:
            try:
                wait_until(lambda: self._website.take_visitor(), "the transfer to begin")
                program.kill()
                killed = time.monotonic()
                wait_until(
                    lambda: host.run("nft", "list", "ruleset").stdout == before.ruleset,
                    "the table of the killed process to go", deadline=1.0)
                gone = time.monotonic() - killed
            except TimeoutError as error:
                self.problems.append(f"kill -9: {error}")
            else:
                say(f"   gone {gone * 1000:.0f} ms after the kill; the client is not stranded:")
            finally:
                transfer.kill()
        self.rules("kill -9: after", host, before)
        self.fetch("killed", network.CLIENT)

    def start(self, host, *scope):
        program = Program(
            self._lab, host, self._binary, UPSTREAM, *scope, "--drain-timeout", "2")
        program.wait_for("ready")
        return program

    def rules(self, moment, host, before=None):
        """Takes down what the rules of a host are at a moment of the story."""
        rules = Rules.of(host)
        self.initial.setdefault(host.name, rules)
        self.moments.append((moment, rules.describe(before)))
        return rules

    def fetch(self, scene, expected, capturing=None):
        """Fetches the page over both families; the web server must see the `expected` host.

        `capturing` is the host whose rules are in force."""
        for address in (WEB.v4, WEB.v6):
            fetch = self.fetch_from(scene, address, expected, capturing)
            self.fetches.append(fetch)
            say(f"   {fetch.url}: {fetch.problem or 'ok'}; the web server saw {fetch.visitor}")
            if fetch.problem:
                self.problems.append(f"{scene}: {fetch.url}: {fetch.problem}")

    def fetch_from(self, scene, address, expected, capturing):
        page = self._folder / "page"
        page.unlink(missing_ok=True)
        done = self._lab["client"].run(
            "curl", "-sS", "--max-time", "10", "-o", str(page), "-w", "%{time_total}",
            url(address), check=False)
        content = page.read_bytes() if page.exists() else b""
        intact = hashlib.sha256(content).hexdigest() == self._website.checksum
        visitor = self._website.take_visitor()
        name = network.NAMES.get(visitor, "nobody")
        if done.returncode != 0:
            problem = f"curl failed: {done.stderr.strip()}"
        elif not intact:
            problem = "wrong checksum"
        elif visitor not in (expected.v4, expected.v6):
            problem = f"came from {visitor}, not from {expected.v4} or {expected.v6}"
        else:
            problem = ""
        return Fetch(
            scene=scene, url=url(address),
            captured_by=role(capturing) if capturing and name == "proxy" else "-",
            visitor=f"the {name} {visitor}" if visitor else "nobody",
            size=len(content), seconds=float(done.stdout or 0), intact=intact, problem=problem)


def role(host):
    """What a host is in the story: the last part of its namespace's name."""
    return host.name.partition("-")[2]


def url(address):
    return f"http://[{address}]/" if ":" in address else f"http://{address}/"


def table(title, heading, rows):
    widths = [max(len(row[column]) for row in (heading, *rows)) for column in range(len(heading))]
    say(f"\n{title}")
    for row in (heading, tuple("-" * width for width in widths), *rows):
        say("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def say(text):
    print(text, flush=True)


def out_of_time(_, __):
    raise TimeoutError(f"the demo took more than {MAXIMUM_SECONDS} s")


def main(binary):
    end_on_signals()
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(MAXIMUM_SECONDS)
    with Lab(PREFIX, *network.HOSTS) as lab, tempfile.TemporaryDirectory() as folder:
        network.build(lab)
        story = Story(lab, binary, Path(folder))
        try:
            story.tell()
        except (ProgramFailed, TimeoutError) as error:
            story.problems.append(str(error))
        finally:
            story.close()
    table(
        "What went where",
        ("scene", "client asked for", "captured by", "web server saw", "size", "time", "checksum"),
        [fetch.cells() for fetch in story.fetches])
    table("What the rules were", ("moment", "rules of the host"), story.moments)
    say("")
    for problem in story.problems:
        say(f"DID NOT HOLD: {problem}")
    say("Something did not hold." if story.problems else "All of it held. Nothing is left behind.")
    return 1 if story.problems else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python3 -m demo PATH_OF_SLUICE")
    try:
        sys.exit(main(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)

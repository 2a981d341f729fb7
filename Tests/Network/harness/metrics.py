"""The metrics of `sluice run` and `sluice serve`, as Prometheus reads them."""

import http.client
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .namespaces import Namespace
from .needs import need

DOCUMENTS = Path(__file__).parents[3] / "docs"

#: Where runs of the tests show theirs.
PORT = 10882
PLACE = f"127.0.0.1:{PORT}"

#: The content type of Prometheus's text format 0.0.4.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SAMPLE = re.compile(r'(\w+)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

#: A name and its labels.
Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Metrics:
    """One scrape."""

    text: str
    kinds: dict[str, str]
    """Of each family: counter, gauge or histogram."""
    samples: dict[Series, float]

    @classmethod
    def parse(cls, text: str) -> "Metrics":
        kinds, samples = {}, {}
        for line in text.splitlines():
            if line.startswith("#"):
                _, word, name, rest = line.split(" ", 3)
                assert word in ("HELP", "TYPE"), line
                if word == "TYPE":
                    assert name not in kinds, line
                    kinds[name] = rest
                continue
            found = SAMPLE.fullmatch(line)
            assert found, line
            series = found[1], frozenset(LABEL.findall(found[2] or ""))
            assert series not in samples, line
            samples[series] = float(found[3])
        return cls(text, kinds, samples)

    def value(self, name: str, **labels: str) -> float:
        """Of the one sample of this name that has these labels, and perhaps others; the prefix of all is
        left out."""
        wanted = set(labels.items())
        (found,) = [
            value for (one, has), value in self.samples.items()
            if one == f"sluice_{name}" and wanted <= has]
        return found

    def family(self, name: str) -> str:
        """Which family a sample is of."""
        if name in self.kinds:
            return name
        stem = re.sub("_(bucket|sum|count)$", "", name)
        assert self.kinds.get(stem) == "histogram", name
        return stem

    def counters(self) -> dict[Series, float]:
        """What only grows: counters, and histograms."""
        return {
            series: value for series, value in self.samples.items()
            if self.kinds[self.family(series[0])] in ("counter", "histogram")}


def scrape(host: Namespace) -> Metrics:
    """What a run on that host tells at `PLACE`."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    connection.sock = host.connect("127.0.0.1", PORT)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Type"]) == (200, CONTENT_TYPE)
        return Metrics.parse(answer.read().decode())
    finally:
        connection.close()


def judge(tool: str, *arguments: str, text: str | None = None) -> None:
    """Has promtool look at something: it has nothing to say against it."""
    done = subprocess.run(
        [need("promtool"), tool, *arguments], input=text, text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def documented() -> dict[str, tuple[str, set[str]]]:
    """The kind and the labels of each family."""
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \|((?: `\w+`,?)*) \|", (DOCUMENTS / "metrics.md").read_text(), re.M)
    return {name: (kind, set(re.findall(r"\w+", words))) for name, kind, words in rows}

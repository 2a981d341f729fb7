"""The samples as a Markdown table of medians, and as JSON with everything in it."""

import json
import os
import platform
import statistics
import time
from pathlib import Path

from benchmark import plots
from benchmark.latency import Histogram

# Which rows a plot shows, by its file's name.
PLOTS = (
    ("throughput", "TCP: more is better",
     lambda row: row.more_is_better and not row.key.startswith(("udp", "fairness"))),
    ("throughput-udp", "UDP: more is better",
     lambda row: row.more_is_better and row.key.startswith("udp")),
    ("cpu", "Processor time of the process: less is better",
     lambda row: row.key.endswith("_cpu") and not row.key.startswith("udp")),
    ("cpu-udp", "Processor time of the process: less is better",
     lambda row: row.key.endswith("_cpu") and row.key.startswith("udp")),
)


class Report:
    """Collects samples: for each contestant and row one value per round."""

    def __init__(self, contestants, rows, settings):
        self._contestants = contestants
        self._rows = rows
        self._settings = settings
        self._samples = {contestant.name: {} for contestant in contestants}
        self._latencies = {contestant.name: {} for contestant in contestants}
        self._details = {contestant.name: {} for contestant in contestants}
        self.problems = []

    def add(self, contestant, values):
        for key, value in values.items():
            self._samples[contestant.name].setdefault(key, []).append(value)

    def keep(self, contestant, latencies, details):
        """What belongs to results.json beside the values: latencies add up, details are the last."""
        for key, latency in latencies.items():
            self._latencies[contestant.name].setdefault(key, Histogram()).add(latency)
        self._details[contestant.name] |= details

    def fail(self, contestant, error):
        self.problems.append(f"{contestant.title}: {error}")

    def median(self, contestant, row):
        """None where nothing was measured."""
        samples = self._samples[contestant.name].get(row.key)
        return statistics.median(samples) if samples else None

    def best_peer(self, row):
        """The best median that a peer has; None without any."""
        values = [
            self.median(contestant, row) for contestant in self._contestants if contestant.is_peer]
        values = [value for value in values if value is not None]
        return (max if row.more_is_better else min)(values, default=None)

    def markdown(self):
        """Medians; in parentheses each one's ratio to the first contestant, which is Sluice. The last
        column has Sluice's own ratio to the best of its peers."""
        titles = [*(contestant.title for contestant in self._contestants), "Sluice by the best peer"]
        lines = [
            self._line(["", "better", *titles]),
            self._line(["---", "---", *("---:" for _ in titles)]),
        ]
        for row in self._rows:
            if all(self.median(contestant, row) is None for contestant in self._contestants):
                continue
            reference = self.median(self._contestants[0], row)
            title = f"{row.title} ({row.unit})" if row.unit else row.title
            cells = [title, "more" if row.more_is_better else "less"]
            for contestant in self._contestants:
                value = self.median(contestant, row)
                cells.append(self._cell(value, reference, contestant is self._contestants[0]))
            best = self.best_peer(row)
            cells.append("-" if reference is None or not best else f"{reference / best:.2f}")
            lines.append(self._line(cells))
        rounds = self._settings["rounds"]
        lines.append("")
        lines.append(
            f"Medians of {rounds} interleaved round{'s' if rounds > 1 else ''} of"
            f" {self._settings['seconds']:g} s on {os.cpu_count()} cores, nothing pinned,"
            f" congestion control {self._settings['congestion']}; in parentheses the ratio to"
            f" {self._contestants[0].title}, in the last column its own to the best of its peers.")
        return "\n".join(lines)

    @staticmethod
    def _cell(value, reference, is_reference):
        if value is None:
            return "-"
        text = f"{value:.3g}" if value < 100 else f"{value:.0f}"
        return text if is_reference or not reference else f"{text} ({value / reference:.2f})"

    @staticmethod
    def _line(cells):
        return "| " + " | ".join(cells) + " |"

    def write(self, folder):
        """Writes table.md, results.json and the plots into a folder, made when missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.md").write_text(self.markdown() + "\n")
        (folder / "results.json").write_text(json.dumps(self._everything(), indent=2) + "\n")
        for name, drawing in self._plots():
            (folder / f"{name}.svg").write_text(drawing)

    def _plots(self):
        """Pairs of a file's name and an SVG; none of what was not measured."""
        titles = [contestant.title for contestant in self._contestants]
        for name, heading, is_wanted in PLOTS:
            rows = [
                (f"{row.title}, {row.unit}", [self.median(who, row) for who in self._contestants])
                for row in self._rows if is_wanted(row)]
            rows = [row for row in rows if any(value is not None for value in row[1])]
            if rows:
                yield name, plots.bars(heading, titles, rows)
        panels = []
        for row in self._rows:
            lines = [self._latencies[who.name].get(row.key) for who in self._contestants]
            if any(lines):
                panels.append((row.title.replace(", p50", "").replace(" p50", ""), lines))
        if panels:
            yield "latency", plots.latencies("Latency by percentile", titles, panels)

    def _everything(self):
        return {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "kernel": platform.release(),
            "cores": os.cpu_count(),
            "settings": self._settings,
            "contestants": {
                contestant.name: {"title": contestant.title, "version": contestant.version()}
                for contestant in self._contestants
            },
            "rows": {
                row.key: {
                    "title": row.title, "unit": row.unit, "more_is_better": row.more_is_better,
                    "medians": {
                        contestant.name: self.median(contestant, row)
                        for contestant in self._contestants
                    },
                }
                for row in self._rows
            },
            "samples": self._samples,
            "latencies_nanoseconds": {
                name: {key: latency.buckets() for key, latency in latencies.items()}
                for name, latencies in self._latencies.items()
            },
            "details": self._details,
            "problems": self.problems,
        }

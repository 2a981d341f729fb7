"""Plots as SVG: bars for rows of the table, lines for latencies by percentile."""

import math
from html import escape

# Colours that remain apart for whoever sees colours differently (Okabe and Ito; wine by Tol), by
# contestant.
COLOURS = (
    "#0072b2", "#56b4e9", "#882255", "#d55e00", "#e69f00", "#cc79a7", "#009e73", "#000000", "#999999")
FONT = 'font-family="system-ui, sans-serif" font-size="12"'
WIDTH = 800
MARGIN = 16
LINE = 18  # of text


def bars(heading, titles, rows):
    """One block per row, a title and a value per contestant; None where nothing was measured.

    Each block has its own scale, from 0 to its longest bar.
    """
    left, right, thickness = 130, 60, 14
    drawing = _Drawing(heading)
    for title, values in rows:
        drawing.skip(LINE + 6)
        drawing.text(MARGIN, title, bold=True)
        drawing.skip(6)
        longest = max(value for value in values if value is not None) or 1
        for index, value in enumerate(values):
            if value is None:
                continue
            drawing.skip(LINE)
            length = max(value / longest * (WIDTH - left - right - MARGIN), 1)
            drawing.text(left - 8, titles[index], anchor="end")
            drawing.add(
                f'<rect x="{left}" y="{drawing.y - thickness + 3}" width="{length:.1f}"'
                f' height="{thickness}" fill="{COLOURS[index % len(COLOURS)]}"/>')
            drawing.text(left + length + 6, f"{value:.3g}" if value < 100 else f"{value:,.0f}")
        drawing.skip(LINE // 2)
    return drawing.finished()


def latencies(heading, titles, panels):
    """One panel per title: a line for each Histogram (or None), logarithmic both ways.

    To the right each step is ten times rarer: the median, 90, 99, 99.9 and 99.99 %.
    """
    left, height = 76, 220
    marks = (0, 50, 90, 99, 99.9, 99.99)
    percents = sorted({*marks, *(100 - 100 / 10 ** (step / 20) for step in range(81))})
    drawing = _Drawing(heading)
    for title, lines in panels:
        drawing.skip(LINE + 6)
        drawing.text(MARGIN, f"{title}, µs", bold=True)
        values = [line.percentiles(*percents) if line else None for line in lines]
        known = [value for line in values if line for value in line]
        lowest = max(math.floor(math.log10(min(known))), 0)
        highest = math.ceil(math.log10(max(known)))
        top = drawing.y + 10

        def x(percent):
            return left + -math.log10(1 - percent / 100) / 4 * (WIDTH - left - 2 * MARGIN)

        def y(value, top=top, lowest=lowest, span=max(highest - lowest, 1)):
            return top + height - max(math.log10(value) - lowest, 0) / span * height

        for exponent in range(lowest, highest + 1):
            drawing.line(left, y(10**exponent), WIDTH - MARGIN, y(10**exponent))
            drawing.text(left - 8, f"{10**exponent:,}", anchor="end", y=y(10**exponent) + 4)
        for mark in marks:
            drawing.line(x(mark), top, x(mark), top + height)
            drawing.text(x(mark), f"{mark:g} %", anchor="middle", y=top + height + LINE)
        for index, line in enumerate(values):
            if line:
                points = " ".join(
                    f"{x(percent):.1f},{y(value):.1f}"
                    for percent, value in zip(percents, line, strict=True))
                drawing.add(
                    f'<polyline points="{points}" fill="none" stroke-width="2"'
                    f' stroke="{COLOURS[index % len(COLOURS)]}"/>')
        drawing.skip(10 + height + LINE)
        shown = [index for index, line in enumerate(values) if line]
        _legend(drawing, [(titles[index], COLOURS[index % len(COLOURS)]) for index in shown])
        drawing.skip(LINE // 2)
    return drawing.finished()


def _legend(drawing, entries):
    columns = 5
    for index, (title, colour) in enumerate(entries):
        if index % columns == 0:
            drawing.skip(LINE)
        place = MARGIN + index % columns * (WIDTH - 2 * MARGIN) / columns
        drawing.add(
            f'<rect x="{place:.0f}" y="{drawing.y - 10}" width="12" height="12" fill="{colour}"/>')
        drawing.text(place + 18, title)


class _Drawing:
    """A picture that grows downwards from its heading; `y` is the base line of the present line."""

    def __init__(self, heading):
        self._parts = []
        self.y = MARGIN + LINE // 2
        self.text(MARGIN, heading, bold=True)

    def skip(self, height):
        self.y += height

    def add(self, element):
        self._parts.append(element)

    def text(self, x, words, anchor="start", bold=False, y=None):
        weight = ' font-weight="bold"' if bold else ""
        self.add(
            f'<text x="{x:.1f}" y="{self.y if y is None else y:.1f}" text-anchor="{anchor}"{weight}>'
            f"{escape(words)}</text>")

    def line(self, x, y, other_x, other_y):
        self.add(
            f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{other_x:.1f}" y2="{other_y:.1f}"'
            ' stroke="#ddd"/>')

    def finished(self):
        height = self.y + MARGIN
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT}>\n'
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n')
        return head + "\n".join(self._parts) + "\n</svg>\n"

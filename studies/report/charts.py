"""The page's charts as inline SVG. Sizes are percentages, so that text keeps its size at any width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

PALETTE = 8
"""Colours `--m0` to `--m7` of the style sheet; a ninth method shares the first's."""

BAR = 14
ROW = 40
NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Bar:
    """One bar: submitted with its standard error, and found as a mark. Values in the chart's unit (x)."""

    label: str
    colour: str
    value: float
    error: float | None = None
    found: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A step line of (x, y) points; it goes on flat to `end`."""

    label: str
    colour: str
    points: Sequence[tuple[float, float]]
    end: float


@dataclass(frozen=True)
class Tick:
    """A tick: its place in percent of the axis, and its text."""

    at: float
    text: str


def bars(rows: Sequence[Bar], *, ceiling: float | None, unit: float = 1.0) -> str:
    """Horizontal bars, one a row, with the baseline (`unit`) and the search ceiling as vertical lines."""
    reach = [row.value + (row.error or 0.0) for row in rows] + [row.found or 0.0 for row in rows]
    top = 1.04 * max([*reach, ceiling or 0.0, unit])
    height = ROW * len(rows) + 4
    parts = [
        f'<svg class="bars" width="100%" height="{height}" role="img" aria-label="{_bars_label(rows)}">',
    ]
    rules = [(unit, "rule-base")] + ([(ceiling, "rule-ceiling")] if ceiling is not None else [])
    for number, row in enumerate(rows):
        parts.append(_bar(row, number, top))
        parts += [_rule(value / top, number * ROW + 20, name) for value, name in rules]
    return "".join([*parts, "</svg>"])


def _bars_label(rows: Sequence[Bar]) -> str:
    return escape("; ".join(f"{row.label} {row.value:.2f}x" for row in rows), quote=True)


def _rule(share: float, y: int, name: str) -> str:
    """A vertical mark over one row's bar, clear of the text above it."""
    at = f"{100 * share:.2f}%"
    return f'<line class="{name}" x1="{at}" x2="{at}" y1="{y - 2}" y2="{y + BAR + 4}"/>'


def _bar(row: Bar, number: int, top: float) -> str:
    y = number * ROW + 20
    middle = y + BAR / 2
    error = f" ± {row.error:.2f}" if row.error is not None else ""
    found = f", found {row.found:.2f}x" if row.found is not None else ""
    value = f"{row.value:.2f}x{error}"
    parts = [
        f"<g><title>{escape(row.label)}: {value}{found}{escape(row.note)}</title>",
        f'<text class="name" x="0" y="{y - 5}">{escape(row.label)}</text>',
        f'<text class="value" x="100%" y="{y - 5}" text-anchor="end">{value}{escape(row.note)}</text>',
        f'<rect x="0" y="{y}" width="{_percent(row.value, top)}" height="{BAR}" rx="3" fill="{row.colour}"/>',
    ]
    if row.error:
        low, high = _percent(max(row.value - row.error, 0.0), top), _percent(row.value + row.error, top)
        parts.append(f'<line class="whisker" x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>')
        parts += [
            f'<line class="whisker" x1="{x}" x2="{x}" y1="{middle - 4}" y2="{middle + 4}"/>'
            for x in (low, high)
        ]
    if row.found is not None:
        at = _percent(row.found, top)
        parts.append(f'<circle class="found" cx="{at}" cy="{middle}" r="4.5"/>')
    return "".join([*parts, "</g>"])


def _percent(value: float, top: float) -> str:
    return f"{100 * value / top:.2f}%"


@dataclass(frozen=True)
class Plot:
    """A line chart: the SVG of its plane, and ticks that the page sets beside it as text."""

    svg: str
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    limit: float | None


def lines(series: Sequence[Line], *, limit: float | None, label: str) -> Plot:
    """Step lines from zero; `limit` is a vertical line (the budget), in the unit of x."""
    right = max([line.end for line in series] + [limit or 0.0]) * 1.02 or 1.0
    top = max([y for line in series for _, y in line.points] + [1.0]) * 1.06
    unit, name = _time_unit(right)
    across, up = [value * unit for value in ticks(right / unit, 5)], ticks(top, 4)
    grid = "".join(
        f'<line class="grid" x1="0" x2="1000" y1="{1000 - 1000 * value / top:.1f}" '
        f'y2="{1000 - 1000 * value / top:.1f}"/>'
        for value in up
    )
    if limit is not None:
        at = f"{1000 * limit / right:.1f}"
        grid += f'<line class="rule-base" x1="{at}" x2="{at}" y1="0" y2="1000"/>'
    body = "".join(_steps(line, right, top) for line in series)
    return Plot(
        svg='<svg class="plane" viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label, quote=True)}">{grid}{body}</svg>',
        x=tuple(Tick(100 * value / right, f"{value / unit:g} {name}") for value in across),
        y=tuple(Tick(100 - 100 * value / top, f"{value:g}x") for value in up),
        limit=None if limit is None else 100 * limit / right,
    )


def _steps(line: Line, right: float, top: float) -> str:
    if not line.points:
        return ""
    path = dots = ""
    for number, (x, y) in enumerate(line.points):
        across, up = f"{1000 * x / right:.1f}", f"{1000 - 1000 * y / top:.1f}"
        path += f"M{across} {up}" if number == 0 else f"H{across}V{up}"
        dots += f"M{across} {up}h0"
    path += f"H{1000 * line.end / right:.1f}"
    best = line.points[-1][1]
    title = escape(f"{line.label}: {best:.2f}x")
    return (
        f'<path d="{path}" stroke="{line.colour}"><title>{title}</title></path>'
        f'<path class="dots" d="{dots}" stroke="{line.colour}"/>'
    )


def ticks(top: float, wanted: int) -> list[float]:
    """Round values from zero up to `top`, about `wanted` of them."""
    rough = top / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in NICE if power * nice >= rough)
    return [number * step for number in range(int(top / step) + 1)]


def _time_unit(longest: float) -> tuple[float, str]:
    """Seconds of the unit that an axis is written in, and its name."""
    if longest >= 2 * 3600:
        return 3600.0, "h"
    return (60.0, "min") if longest >= 150 else (1.0, "s")


def stacked(counts: Mapping[str, int], order: Sequence[str]) -> str:
    """One bar of shares, a colour a state (`--state-NAME`)."""
    total = sum(counts.values()) or 1
    words = ", ".join(f"{counts[name]} {name}" for name in order if counts.get(name))
    parts = [
        f'<svg class="stack" width="100%" height="{BAR}" role="img" aria-label="{escape(words, quote=True)}">'
    ]
    at = 0.0
    for name in order:
        share = 100 * counts.get(name, 0) / total
        if share:
            title = f"<title>{counts[name]} {name}</title>"
            parts.append(
                f'<rect x="{at:.2f}%" y="0" width="{share:.2f}%" height="{BAR}" '
                f'fill="var(--state-{name})">{title}</rect>'
            )
            at += share
    return "".join([*parts, "</svg>"])

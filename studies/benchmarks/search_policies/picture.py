"""The race as a picture: a panel a landscape and planner, with the median best so far and its band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from studies.benchmarks.search_policies.figures import OWN, RIVAL, Floats, band
from studies.benchmarks.search_policies.play import Run
from studies.report.charts import ticks

WIDTH, HEIGHT = 230, 130
"""Of one panel's plane, in pixels."""

GAP_X, GAP_Y, LEFT, TOP = 18, 62, 40, 66
POINTS = 160
COLOURS = {OWN: "#1f6feb", RIVAL: "#d1661f", "full": "#57606a"}

STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.small{font-size:10px;fill:#57606a}"
    ".head{font-weight:600}.grid{stroke:#d0d7de;stroke-width:1}.unit{stroke:#57606a;stroke-dasharray:3 3}"
    ".line{fill:none;stroke-width:2}.band{opacity:.18;stroke:none}"
)


def svg(landscapes: Mapping[str, Sequence[Run]]) -> str:
    """One SVG of rows of panels, a row a landscape, a column a planner."""
    columns = list(dict.fromkeys(run.policy.planner for runs in landscapes.values() for run in runs))
    wide = LEFT + len(columns) * (WIDTH + GAP_X)
    high = TOP + len(landscapes) * (HEIGHT + GAP_Y)
    size = f'width="{wide}" height="{high}" viewBox="0 0 {wide} {high}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
        f'<style>{STYLE}</style><rect width="{wide}" height="{high}" fill="#fff"/>',
        _legend(landscapes),
    ]
    for row, (name, runs) in enumerate(landscapes.items()):
        y = TOP + row * (HEIGHT + GAP_Y)
        parts.append(f'<text class="head" x="0" y="{y - 24}">{escape(name)}</text>')
        whole = max(run.budget for run in runs)
        parts.append(_row([run for run in runs if run.budget == whole and run.policy.experts], columns, y))
    return "".join([*parts, "</svg>\n"])


def _legend(landscapes: Mapping[str, Sequence[Run]]) -> str:
    strategies = dict.fromkeys(run.policy.strategy for runs in landscapes.values() for run in runs)
    parts = ['<text x="0" y="14">True quality of the best so far, median and 10-90 % of runs:</text>']
    for number, name in enumerate(strategies):
        x = 440 + 110 * number
        parts.append(f'<rect x="{x}" y="5" width="18" height="10" fill="{COLOURS[name]}"/>')
        parts.append(f'<text x="{x + 24}" y="14">{escape(name)}</text>')
    return "".join(parts)


def _row(runs: Sequence[Run], columns: Sequence[str], y: int) -> str:
    end = max(run.budget for run in runs)
    times = np.linspace(0.0, end, POINTS)
    strategies = list(dict.fromkeys(run.policy.strategy for run in runs))
    bands = {
        (planner, strategy): band(some, times)
        for planner in columns
        for strategy in strategies
        if (some := [r for r in runs if (r.policy.planner, r.policy.strategy) == (planner, strategy)])
    }
    top = 1.05 * max(1.0, *(float(each[2].max()) for each in bands.values()))
    parts = []
    for column, planner in enumerate(columns):
        own = {strategy: bands[planner, strategy] for strategy in strategies if (planner, strategy) in bands}
        parts.append(_panel(LEFT + column * (WIDTH + GAP_X), y, planner, own, top, end, first=column == 0))
    return "".join(parts)


def _panel(
    x: int, y: int, planner: str, own: Mapping[str, Floats], top: float, end: float, *, first: bool
) -> str:
    parts = [f'<g transform="translate({x} {y})"><text class="small" x="0" y="-8">{escape(planner)}</text>']
    for value in ticks(top, 4):
        at = HEIGHT * (1 - value / top)
        kind = "unit" if value == 1.0 else "grid"
        parts.append(f'<line class="{kind}" x1="0" x2="{WIDTH}" y1="{at:.1f}" y2="{at:.1f}"/>')
        if first:
            label = f"{value:g}x"
            parts.append(f'<text class="small" x="-6" y="{at + 3:.1f}" text-anchor="end">{label}</text>')
    for value in ticks(end / 60, 4):
        at = WIDTH * value * 60 / end
        parts.append(
            f'<text class="small" x="{at:.1f}" y="{HEIGHT + 14}" text-anchor="middle">{value:g}</text>'
        )
    parts.append(f'<text class="small" x="{WIDTH}" y="{HEIGHT + 27}" text-anchor="end">GPU-minutes</text>')
    parts += [_curve(each, COLOURS[strategy], top) for strategy, each in own.items()]
    return "".join([*parts, "</g>"])


def _curve(each: Floats, colour: str, top: float) -> str:
    across = np.linspace(0.0, WIDTH, each.shape[1])
    low, middle, high = HEIGHT * (1 - np.clip(each, 0.0, top) / top)
    area = [*zip(across, low, strict=True), *reversed(list(zip(across, high, strict=True)))]
    return (
        f'<path class="band" fill="{colour}" d="M{_points(area)}Z"/>'
        f'<path class="line" stroke="{colour}" d="M{_points(list(zip(across, middle, strict=True)))}"/>'
    )


def _points(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in points)

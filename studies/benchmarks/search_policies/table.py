"""The figures as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from studies.benchmarks.search_policies.bench import NOISE_FLOOR
from studies.benchmarks.search_policies.figures import Chase, Line, chases, lines
from studies.benchmarks.search_policies.play import Run


def markdown(landscapes: Mapping[str, Sequence[Run]]) -> str:
    """All landscapes: what was submitted, and how soon `ceiling` was there."""
    parts = [
        "Qualities are true ones, as ratios to the default's. Submitted: median (10th to 90th percentile) "
        f"over runs. Below: runs that end below the default by more than the noise floor ({NOISE_FLOOR:.1%})."
    ]
    for name, runs in landscapes.items():
        parts.append(f"**{name}**\n\n{_policies(lines(runs), {each.policy: each for each in chases(runs)})}")
    return "\n\n".join(parts) + "\n"


def _policies(rows: Sequence[Line], races: Mapping[str, Chase]) -> str:
    goal = next(iter(races.values()), None)
    there = f"as good as {goal.rival} ({goal.goal:.2f}x) after" if goal else "as good as published after"
    heads = ["policy", "submitted", "worst", "below", "trials", there, "with a third: submitted", "below"]
    table = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    table += [_row(row, races.get(row.policy)) for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _row(row: Line, race: Chase | None) -> list[str]:
    return [
        row.policy,
        f"{row.middle:.2f}x ({row.low:.2f}-{row.high:.2f})",
        f"{row.worst:.2f}x",
        f"{row.below * row.runs:.0f} of {row.runs}",
        f"{row.trials:.0f}",
        "" if race is None else f"{_share(race.share)} ({race.within:.0%} of runs within a third)",
        "" if row.part is None else f"{row.part:.2f}x",
        "" if row.part_below is None else f"{row.part_below:.0%}",
    ]


def _share(share: float) -> str:
    return "never (half of the runs)" if math.isinf(share) else f"{share:.2f} of its GPU-seconds"

"""The published tables of InferenceBench, as package data; never measured here, always shown as published."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

CITATION = (
    "Published by InferenceBench: Mistral-7B-Instruct-v0.3 on one H100 80 GB, two hours a run, speedup over "
    "its own PyTorch baseline, mean over three seed pairs. Not measured here."
)

_PLANNERS = {"random": "Random", "tpe": "TPE", "smac": "SMAC3"}


@dataclass(frozen=True)
class Published:
    """One published row: speedups over the published PyTorch baseline; `sem` holds their standard errors."""

    method: str
    kind: str
    aggregate: float
    speedups: dict[str, float]
    sem: dict[str, float]


def table(name: str) -> list[dict[str, str]]:
    """The rows of one published CSV: leaderboard, search_grid, engine_restricted, outcomes and so on."""
    path = Path(__file__).with_name(f"published_{name}.csv")
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def leaderboard() -> list[Published]:
    """All published methods, best aggregate first: the leaderboard, and the rest of the search grid."""
    rows = [_row(line["method"], line["kind"], line) for line in table("leaderboard")]
    known = {row.method for row in rows}
    grid = [_row(_search_name(line), "search", line) for line in table("search_grid")]
    rows += [row for row in grid if row.method not in known]
    return sorted(rows, key=lambda row: row.aggregate, reverse=True)


def counterpart(method: str, engines: tuple[str, ...]) -> Published | None:
    """The published row of the same planner and engine, or of the same engine's default; None without one.

    It is there for either strategy: `published-tpe` repeats its protocol, `tpe` is what is held against it.
    """
    wanted = method.lower().removeprefix("published-")
    for row in leaderboard():
        name = row.method.lower()
        if name == wanted or (len(engines) == 1 and name == _published_name(wanted, engines[0])):
            return row
    return None


def _published_name(planner: str, engine: str) -> str:
    return f"{_PLANNERS.get(planner, planner)} ({engine}, 2 h)".lower()


def _search_name(line: dict[str, str]) -> str:
    engine = {"vllm": "vLLM", "sglang": "SGLang", "tgi": "TGI"}[line["engine"]]
    return f"{_PLANNERS[line['planner']]} ({engine}, 2 h)"


def _row(method: str, kind: str, line: dict[str, str]) -> Published:
    letters = ("A", "B", "C", "D")
    return Published(
        method=method,
        kind=kind,
        aggregate=float(line["aggregate"]),
        speedups={letter: float(line[letter]) for letter in letters},
        sem={letter: float(line[f"{letter}_sem"]) for letter in letters},
    )

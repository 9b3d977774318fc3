"""A comparison as data for programs: JSON and CSV."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from studies import checked
from studies.compare import Entry, Row, Table
from studies.estimates import Estimate
from studies.published import CITATION, Published, counterpart, leaderboard
from studies.verdict import over_default, verdicts

COLUMNS = (
    "table", "simulation", "mark", "method", "kind", "scenario", "reference", "speedup", "speedup_sem",
    "seed_pairs", "over_default", "over_default_sem", "found", "found_sem", "of_roofline", "gpu_seconds",
    "configs", "outcomes", "counted_as_1x", "text", "quality", "published_speedup", "published_sem",
)  # fmt: skip


def as_json(tables: Sequence[Table], focus: str | None, published: bool) -> dict[str, Any]:
    """The whole comparison; published figures stand under a key of their own."""
    data: dict[str, Any] = {"tables": [_table(table, focus) for table in tables]}
    if published:
        data["published"] = {"citation": CITATION, "methods": [asdict(row) for row in leaderboard()]}
    return data


def _table(table: Table, focus: str | None) -> dict[str, Any]:
    ranked = table.ranked(focus)
    return {
        "title": table.setting.title,
        "simulation": table.setting.simulated,
        "setting": asdict(table.setting),
        "reference": table.reference,
        "ranked_by": focus or "aggregate",
        "scenarios": list(table.scenarios),
        "leaderboard": [
            _row(number if focus or table.complete(row) else None, row)
            for number, row in enumerate(ranked, start=1)
        ],
        "search_ceiling": {
            letter: {"method": top.method, "speedup": _estimate(top.entries[letter].speedup)}
            for letter in table.scenarios
            if (top := table.ceiling(letter))
        },
        "verdicts": [
            {
                "scenario": verdict.scenario,
                "winner": verdict.winner.method,
                "runner_up": verdict.runner_up and verdict.runner_up.method,
                "lead": verdict.lead,
                "sure": verdict.sure,
            }
            for verdict in verdicts(table)
        ],
        "over_default": [asdict(each) for each in over_default(table)],
        "notes": list(table.notes),
        "runs": [str(run.path) for run in table.runs],
    }


def _row(number: int | None, row: Row) -> dict[str, Any]:
    return {
        "rank": number,
        "method": row.method,
        "kind": row.kind,
        "aggregate": _estimate(row.aggregate),
        "aggregate_over": sorted(row.entries),
        "scenarios": {letter: _entry(entry) for letter, entry in row.entries.items()},
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "speedup": _estimate(entry.speedup),
        "over_default": _estimate(entry.over_default),
        "found": _estimate(entry.found),
        "of_roofline": _estimate(entry.of_roofline),
        "gpu_seconds": entry.gpu_seconds,
        "configs": entry.configs,
        "outcomes": dict(entry.outcomes),
        "counted_as_1x": dict(entry.reasons),
        "runs": [str(run.path) for run in entry.runs],
        "checked": [checked.as_json(run) for run in entry.runs],
    }


def _estimate(value: Estimate | None) -> dict[str, Any] | None:
    return asdict(value) if value else None


def write_csv(path: Path, tables: Sequence[Table], published: bool) -> None:
    """A line a method and scenario, and one for its aggregate; published figures in columns of their own.

    `-` is stdout.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    to_stdout = nullcontext(sys.stdout) if str(path) == "-" else None
    with to_stdout or path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for number, table in enumerate(tables, start=1):
            for row in table.ranked():
                writer.writerows(_lines(number, table, row, published))
        if published:
            writer.writerows(_published_lines(leaderboard()))


def _lines(number: int, table: Table, row: Row, published: bool) -> Iterable[dict[str, Any]]:
    beside = published_beside(row) if published else None
    start = {
        "table": number, "simulation": table.setting.simulated, "mark": table.setting.mark,
        "method": row.method, "kind": row.kind, "reference": table.reference,
    }  # fmt: skip
    for letter, entry in row.entries.items():
        yield {
            **start,
            "scenario": letter,
            **_columns("speedup", entry.speedup),
            "seed_pairs": entry.speedup.n,
            **_columns("over_default", entry.over_default),
            **_columns("found", entry.found),
            "of_roofline": round(entry.of_roofline.mean, 4) if entry.of_roofline else "",
            "gpu_seconds": round(entry.gpu_seconds, 3),
            "configs": entry.configs,
            "outcomes": _counts(entry.outcomes),
            "counted_as_1x": _counts(entry.reasons),
            **_checks(entry),
            "published_speedup": beside.speedups[letter] if beside else "",
            "published_sem": beside.sem[letter] if beside else "",
        }
    yield {
        **start,
        "scenario": "aggregate " + "".join(row.entries),
        **_columns("speedup", row.aggregate),
        "seed_pairs": row.aggregate.n if row.aggregate else "",
        "published_speedup": beside.aggregate if beside else "",
    }


def _checks(entry: Entry) -> dict[str, str]:
    """What was found of the submitted servers' answers, with counts."""
    texts: Counter[str] = Counter()
    qualities: Counter[str] = Counter()
    for found, count in checked.counted(entry.runs).items():
        texts[found.text] += count
        if found.quality:
            qualities[found.quality] += count
    return {"text": _counts(texts), "quality": _counts(qualities)}


def _published_lines(rows: Sequence[Published]) -> Iterable[dict[str, Any]]:
    for row in rows:
        start = {"table": "published", "method": f"{row.method} [published]", "kind": row.kind}
        for letter, value in row.speedups.items():
            yield {**start, "scenario": letter, "published_speedup": value, "published_sem": row.sem[letter]}
        yield {**start, "scenario": "aggregate ABCD", "published_speedup": row.aggregate}


def published_beside(row: Row) -> Published | None:
    """The published counterpart of one of our rows."""
    runs = [run for entry in row.entries.values() for run in entry.runs]
    if runs:
        return counterpart(runs[0].method, runs[0].engines)
    return counterpart(row.method, ())


def _columns(name: str, value: Estimate | None) -> dict[str, Any]:
    if value is None:
        return {}
    return {name: round(value.mean, 4), f"{name}_sem": "" if value.sem is None else round(value.sem, 4)}


def _counts(counts: Any) -> str:
    return "; ".join(f"{name}: {count}" for name, count in sorted(counts.items()))

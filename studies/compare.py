"""Comparison of runs: per scenario and method, and a leaderboard, one table a setting.

Only runs on like hosts with one profile, one model and one text stand in one table, and simulated runs stand
apart from real ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.durations import short
from studies.errors import BadInput
from studies.estimates import Estimate, estimate, geometric
from studies.outcome import Counted, Reference, baseline_score, count, default_score
from studies.record import Run, find_runs, open_run
from studies.setting import Setting, setting

LETTERS = ("A", "B", "C", "D")
KINDS = ("search", "agent")


@dataclass(frozen=True)
class Entry:
    """One method in one scenario, over its runs.

    Attributes:
        speedup: submitted over the table's reference, over seed pairs.
        gpu_seconds, configs: mean a run.
        outcomes: trials by state, summed.
        reasons: why runs were put down to 1.00x, with counts.
    """

    scenario: str
    speedup: Estimate
    over_default: Estimate | None
    found: Estimate | None
    gpu_seconds: float
    configs: float
    outcomes: Mapping[str, int]
    reasons: Mapping[str, int]
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True)
class Row:
    """One method over the scenarios. `kind`: search, agent, default or baseline."""

    method: str
    kind: str
    entries: Mapping[str, Entry]
    aggregate: Estimate | None

    def estimate(self, focus: str | None) -> Estimate | None:
        """What it is ranked by: the aggregate, or one scenario's speedup."""
        if focus is None:
            return self.aggregate
        return self.entries[focus].speedup if focus in self.entries else None


@dataclass(frozen=True)
class Table:
    """Comparable runs.

    Attributes:
        reference: what 1.00x is: `torch`, or `default`.
        scenarios: letters present.
        rows: methods, best aggregate first; those that lack a scenario of the table stand below.
        notes: what a reader must know (left out, unfinished, split).
    """

    setting: Setting
    reference: str
    scenarios: tuple[str, ...]
    rows: tuple[Row, ...]
    runs: tuple[Run, ...]
    notes: tuple[str, ...]

    def ranked(self, focus: str | None = None) -> list[Row]:
        """Rows by aggregate or by one scenario, complete ones first."""
        return ranked(self.rows, self.scenarios, focus)

    def ceiling(self, scenario: str) -> Row | None:
        """The best search in one scenario."""
        searches = [row for row in self.ranked(scenario) if row.kind == "search"]
        return searches[0] if searches else None


def ranked(rows: Iterable[Row], scenarios: Sequence[str], focus: str | None = None) -> list[Row]:
    """Rows by aggregate or by one scenario, best first; those that lack a scenario stand below the others."""
    whole = set(scenarios) if focus is None else {focus}

    def key(row: Row) -> tuple[bool, float]:
        value = row.estimate(focus)
        return whole <= set(row.entries), value.mean if value else 0.0

    return sorted((row for row in rows if row.estimate(focus)), key=key, reverse=True)


def load(paths: Iterable[Path]) -> list[Run]:
    """Runs of run and study directories. Raises BadInput where there are none, LedgerError for a bad one."""
    runs: dict[Path, Run] = {}
    for path in paths:
        found = find_runs(path)
        if not found:
            raise BadInput(f"{path} holds no run: name run directories, or a study's directory below runs/")
        for directory in found:
            run = open_run(directory)
            if run.header.get("kind") in KINDS:
                runs[directory.resolve()] = run
    if not runs:
        raise BadInput("no search or agent run here: make one with `ceiling search` or `ceiling agent`")
    return list(runs.values())


def compare(runs: Sequence[Run]) -> list[Table]:
    """One table a setting, real ones first, each with most runs first."""
    groups: dict[Setting, list[Run]] = defaultdict(list)
    for run in runs:
        groups[setting(run)].append(run)
    ordered = sorted(groups.items(), key=lambda item: (item[0].simulated, -len(item[1])))
    return [_table(key, members) for key, members in ordered]


def _table(key: Setting, runs: list[Run]) -> Table:
    finished = [run for run in runs if run.finished]
    notes = [
        f"{run.path} is left out: it {'was interrupted' if run.ended else 'has not ended'}; "
        "its own command with --resume finishes it"
        for run in runs
        if not run.finished
    ]
    notes += [f"{run.path}: {run.damaged} unreadable ledger line(s) skipped" for run in runs if run.damaged]
    scenarios = tuple(letter for letter in LETTERS if any(run.scenario == letter for run in finished))
    references = {letter: _pooled(letter, finished) for letter in scenarios}
    name = "torch" if all(baseline for baseline, _ in references.values()) and scenarios else "default"
    lacking = [letter for letter, parts in references.items() if parts[name == "default"] is None]
    notes += [f"scenario {letter} is left out: no torch baseline and no engine default" for letter in lacking]
    usable = tuple(letter for letter in scenarios if letter not in lacking)
    rows = [*_methods(finished, usable, name, references), *_defaults(finished, usable, name, references)]
    return Table(key, name, usable, tuple(ranked(rows, usable)), tuple(runs), tuple(notes))


_Pooled = tuple[float | None, float | None]


def _pooled(letter: str, runs: Sequence[Run]) -> _Pooled:
    """Mean torch baseline and best engine's mean default of one scenario: for runs that measured none."""
    here = [run for run in runs if run.scenario == letter]
    baselines = [score for run in here if (score := baseline_score(run))]
    defaults: dict[str, list[float]] = defaultdict(list)
    for run in here:
        if score := default_score(run):
            defaults[str(run.result["default"].get("engine"))].append(score)
    means = [sum(scores) / len(scores) for scores in defaults.values()]
    return (sum(baselines) / len(baselines) if baselines else None), max(means, default=None)


def reference_of(run: Run, name: str, pooled: _Pooled) -> Reference:
    """A run's own reference, or the pooled one where it measured none."""
    default = default_score(run) or pooled[1]
    score = (baseline_score(run) or pooled[0]) if name == "torch" else default
    if score is None:
        raise BadInput(f"{run.path} has nothing to be compared with: run `ceiling baseline` first")
    return Reference(name, score, default)


def label(run: Run, budgets: bool) -> str:
    """A method's name in tables: with its engines, and its budget where budgets differ."""
    engines = "+".join(run.engines)
    name = f"{run.method} ({engines})" if engines else run.method
    budget = run.header.get("budget")
    return f"{name} {short(budget)}" if budgets and budget else name


def _methods(
    runs: Sequence[Run], letters: Sequence[str], name: str, references: Mapping[str, _Pooled]
) -> list[Row]:
    budgets = len({run.header.get("budget") for run in runs}) > 1
    cells: dict[tuple[str, str], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.scenario in letters:
            cells[label(run, budgets), run.header["kind"]][run.scenario].append(run)
    rows = []
    for (method, kind), by_letter in cells.items():
        entries = {
            letter: _entry(letter, by_letter[letter], name, references[letter])
            for letter in letters
            if letter in by_letter
        }
        aggregate = geometric([entry.speedup for entry in entries.values()])
        rows.append(Row(method, kind, entries, aggregate))
    return rows


def _entry(letter: str, runs: Sequence[Run], name: str, pooled: _Pooled) -> Entry:
    counted = [(run, count(run, reference_of(run, name, pooled))) for run in runs]
    reasons = Counter(one.reason for _, one in counted if one.reason)
    outcomes: Counter[str] = Counter()
    for run in runs:
        outcomes.update(run.result.get("outcomes", {}))
    speedup = _over_pairs(counted, "speedup")
    assert speedup is not None
    return Entry(
        scenario=letter,
        speedup=speedup,
        over_default=_over_pairs(counted, "over_default"),
        found=_over_pairs(counted, "found"),
        gpu_seconds=sum(float(run.result.get("gpu_seconds", 0.0)) for run in runs) / len(runs),
        configs=sum(configs_tried(run) for run in runs) / len(runs),
        outcomes=dict(outcomes),
        reasons=dict(reasons),
        runs=tuple(runs),
    )


def _over_pairs(counted: Sequence[tuple[Run, Counted]], field: str) -> Estimate | None:
    """Repeats of a seed pair are averaged first: they are one draw of the requests."""
    pairs: dict[tuple[int, int], list[float]] = defaultdict(list)
    for run, one in counted:
        value: float | None = getattr(one, field)
        if value is not None:
            pairs[run.seeds].append(value)
    return estimate([sum(values) / len(values) for values in pairs.values()])


def configs_tried(run: Run) -> int:
    """Distinct configs that were launched during the run."""
    tried: set[Any] = set()
    for trial in run.trials:
        if trial.get("origin") != "baseline" and trial["state"] != "infeasible":
            config = trial.get("config") or {}
            tried.add((trial.get("engine"), tuple(sorted((k, str(v)) for k, v in config.items()))))
    return len(tried)


def _defaults(
    runs: Sequence[Run], letters: Sequence[str], name: str, references: Mapping[str, _Pooled]
) -> list[Row]:
    """Rows of the untouched engines, and of the torch baseline: what everything else is held against."""
    found: dict[str, dict[str, list[tuple[Run, Counted]]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        score = default_score(run)
        if score is None or run.scenario not in letters:
            continue
        reference = reference_of(run, name, references[run.scenario])
        one = Counted(score / reference.score, 1.0, None, None)
        found[f"{run.result['default'].get('engine')} default"][run.scenario].append((run, one))
    rows = []
    for method, by_letter in found.items():
        entries = {letter: _given(letter, by_letter[letter]) for letter in letters if letter in by_letter}
        aggregate = geometric([entry.speedup for entry in entries.values()])
        rows.append(Row(method, "default", entries, aggregate))
    if name == "torch" and letters:
        one_x = Estimate(1.0, None, 1)
        base = {letter: Entry(letter, one_x, None, None, 0.0, 0.0, {}, {}) for letter in letters}
        rows.append(Row("torch baseline", "baseline", base, one_x))
    return rows


def _given(letter: str, counted: Sequence[tuple[Run, Counted]]) -> Entry:
    speedup = _over_pairs(counted, "speedup")
    assert speedup is not None
    return Entry(letter, speedup, _over_pairs(counted, "over_default"), None, 0.0, 0.0, {}, {})

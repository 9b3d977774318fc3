"""Comparison of runs: per scenario and method, and a leaderboard, one table a setting.

Only runs on like hosts with one profile, one model and one text stand in one table, and simulated runs stand
apart from real ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from studies.durations import short
from studies.errors import BadInput
from studies.estimates import Estimate, estimate, geometric
from studies.hardware import of_roofline
from studies.outcome import Counted, Pool, Reference, count, default_scores, pool, reference
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
        of_roofline: the fraction of the devices' roofline that the submitted servers reached.
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
    of_roofline: Estimate | None = None


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
    pools: Mapping[str, Pool] = field(default_factory=dict)

    def reference_of(self, run: Run) -> Reference:
        """What counts as 1.00x for a run of this table."""
        found = reference(run, self.reference, self.pools[run.scenario])
        assert found is not None, "runs without a reference are left out of the table"
        return found

    def ranked(self, focus: str | None = None) -> list[Row]:
        """Rows by aggregate or by one scenario, complete ones first."""
        return ranked(self.rows, self.scenarios, focus)

    def complete(self, row: Row) -> bool:
        """Whether a row has every scenario of the table, and so a rank by aggregate."""
        return set(row.entries) >= set(self.scenarios)

    def has_roofline(self, scenario: str) -> bool:
        """Whether any method's fraction of the roofline is known in one scenario."""
        return any(row.entries[scenario].of_roofline for row in self.ranked(scenario))

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
    scenarios = tuple(letter for letter in LETTERS if any(run.scenario == letter for run in finished))
    pools = {letter: pool(run for run in finished if run.scenario == letter) for letter in scenarios}
    name = "torch" if pools and all(each.baselines for each in pools.values()) else "default"
    usable = [run for run in finished if not _surveys(run) and reference(run, name, pools[run.scenario])]
    letters = tuple(letter for letter in scenarios if any(run.scenario == letter for run in usable))
    notes = (*_unusable(runs, finished, usable), *_mixed(usable, name, pools))
    bare = Table(key, name, letters, (), tuple(runs), notes, pools)
    rows = ranked([*_methods(bare, usable), *_defaults(bare, usable)], letters)
    return replace(bare, rows=tuple(rows))


def _unusable(runs: Sequence[Run], finished: Sequence[Run], usable: Sequence[Run]) -> Iterator[str]:
    for run in runs:
        if run not in finished:
            ended = "was interrupted" if run.ended else "has not ended"
            yield f"{run.path} is left out: it {ended}; its own command with --resume finishes it"
        elif _surveys(run):
            yield f"{run.path} is left out: a survey submits nothing; `ceiling report` shows its trials"
        elif run not in usable:
            yield f"{run.path} is left out: neither a torch baseline nor a default was measured whole"
        if run.damaged:
            yield f"{run.path}: {run.damaged} unreadable ledger line(s) skipped"


def _surveys(run: Run) -> bool:
    return run.method.startswith("survey")


def _mixed(runs: Sequence[Run], name: str, pools: Mapping[str, Pool]) -> Iterator[str]:
    with_baseline = [letter for letter, each in pools.items() if each.baselines]
    if name == "default" and with_baseline:
        without = ", ".join(letter for letter in pools if letter not in with_baseline)
        yield f"scenario {without} has no torch baseline, so 1.00x is the default: run `ceiling baseline`"
    versions: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for engine, version in run.versions.items():
            versions[engine].add(version)
    for engine, several in versions.items():
        if len(several) > 1:
            yield f"several versions of {engine} are in this table: {', '.join(sorted(several))}"


def label(run: Run, budgets: bool) -> str:
    """A method's name in tables: with its engines, `script` where it is one, its budget where they differ.

    A search of a space that a person narrowed or wrote is another method.
    """
    spec = run.header.get("spec") or {}
    fixed = [f"--fix {flag}={value}" for flag, value in sorted((spec.get("fixed") or {}).items())]
    spaces = [f"--space {Path(each['path']).name}" for each in spec.get("space_files") or ()]
    script = ["script"] if run.header.get("scripted") else []
    within = ", ".join(["+".join(run.engines), *script, *fixed, *spaces]) if run.engines else ""
    name = f"{run.method} ({within})" if within else run.method
    budget = run.header.get("budget")
    return f"{name} {short(budget)}" if budgets and budget else name


def _methods(table: Table, runs: Sequence[Run]) -> list[Row]:
    budgets = len({run.header.get("budget") for run in runs}) > 1
    cells: dict[tuple[str, str], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        cells[label(run, budgets), run.header["kind"]][run.scenario].append(run)
    return [
        _row(
            table, method, kind, {letter: _entry(table, letter, members) for letter, members in found.items()}
        )
        for (method, kind), found in cells.items()
    ]


def _row(table: Table, method: str, kind: str, entries: Mapping[str, Entry]) -> Row:
    ordered = {letter: entries[letter] for letter in table.scenarios if letter in entries}
    return Row(method, kind, ordered, geometric([entry.speedup for entry in ordered.values()]))


def _entry(table: Table, letter: str, runs: Sequence[Run]) -> Entry:
    counted = [(run, count(run, table.reference_of(run))) for run in runs]
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
        of_roofline=_over_pairs(counted, "of_roofline"),
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
    """Distinct configs (an agent's: launchers) that were tried during the run."""
    if "configs" in run.result:
        return int(run.result["configs"])
    tried: set[Any] = set()
    for trial in run.trials:
        if trial.get("origin") != "baseline" and trial["state"] != "infeasible":
            config = trial.get("config") or {}
            tried.add((trial.get("engine"), tuple(sorted((k, str(v)) for k, v in config.items()))))
    return len(tried)


def _defaults(table: Table, runs: Sequence[Run]) -> list[Row]:
    """Rows of the untouched engines, and of the torch baseline: what everything else is held against."""
    found: dict[str, dict[str, list[tuple[Run, Counted]]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        scores = default_scores(run)
        if scores:
            seed, engine, score = scores[-1]
            against = table.reference_of(run)
            scale = 1 / against.score if seed == run.seeds[1] else against.scale
            roof = of_roofline(run, run.result["default"])
            one = Counted(score * scale if scale else 1.0, 1.0, None, None, roof)
            found[f"{engine} default"][run.scenario].append((run, one))
    rows = [
        _row(table, method, "default", {letter: _given(letter, ones) for letter, ones in cells.items()})
        for method, cells in found.items()
    ]
    if table.reference == "torch" and table.scenarios:
        one_x = Estimate(1.0, None, 1)
        ones = {
            letter: Entry(letter, one_x, None, None, 0.0, 0.0, {}, {}, (), _baseline_roof(runs, letter))
            for letter in table.scenarios
        }
        rows.append(_row(table, "torch baseline", "baseline", ones))
    return rows


def _baseline_roof(runs: Sequence[Run], letter: str) -> Estimate | None:
    shares = (of_roofline(run, run.result.get("baseline")) for run in runs if run.scenario == letter)
    return estimate([share for share in shares if share is not None][:1])


def _given(letter: str, counted: Sequence[tuple[Run, Counted]]) -> Entry:
    speedup = _over_pairs(counted, "speedup")
    assert speedup is not None
    roof = _over_pairs(counted, "of_roofline")
    return Entry(letter, speedup, _over_pairs(counted, "over_default"), None, 0.0, 0.0, {}, {}, (), roof)

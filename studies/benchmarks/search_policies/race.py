"""Races: every policy on every landscape with every seed, in a few processes, into a file that grows."""

from __future__ import annotations

import csv
import json
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

from studies.benchmarks.search_policies.play import Policy, Run, play
from studies.benchmarks.search_policies.worlds import world

COLUMNS = ("landscape", "setting", "policy", "seed", "budget", "spent", "submitted", "outcomes", "curve")


Key = tuple[str, str, str, int, float]


@dataclass(frozen=True)
class Heat:
    """One search to be run: `landscape` is a name, or a file of trials; `setting` as in `gpu-short/C`."""

    landscape: str
    setting: str
    policy: Policy
    seed: int
    budget: float

    @property
    def key(self) -> Key:
        """What tells heats of one file apart."""
        return (self.landscape, self.setting, str(self.policy), self.seed, self.budget)


def heats(
    landscapes: Sequence[str],
    policies: Sequence[Policy],
    seeds: int,
    budget: float,
    setting: str,
    part: float | None,
) -> list[Heat]:
    """Seed by seed, so that an interrupted race has about as many of each.

    With `part`, `ceiling` searches again with that share of the budget.
    """
    made = []
    for seed in range(seeds):
        for landscape in landscapes:
            for policy in policies:
                made.append(Heat(landscape, setting, policy, seed, budget))
                if part is not None and policy.strategy == "ceiling":
                    made.append(Heat(landscape, setting, policy, seed, round(budget * part, 3)))
    return made


def race(asked: Sequence[Heat], file: Path, processes: int) -> Iterator[tuple[int, int]]:
    """Run what the file does not hold yet, a row a search; yields (done, asked) as it goes."""
    there = read(file)
    left = [heat for heat in asked if heat.key not in there]
    yield len(asked) - len(left), len(asked)
    for number, heat_and_run in enumerate(_runs(left, processes), start=1):
        _append(file, *heat_and_run)
        yield len(asked) - len(left) + number, len(asked)


def read(file: Path) -> dict[Key, Run]:
    """The runs of all rows; a row that was cut off is left out."""
    if not file.exists():
        return {}
    whole = file.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = csv.DictReader(line for line in whole if line.endswith("\n"))
    return {
        (row["landscape"], row["setting"], row["policy"], int(row["seed"]), float(row["budget"])): _run_of(
            row
        )
        for row in rows
    }


def _runs(left: Sequence[Heat], processes: int) -> Iterator[tuple[Heat, Run]]:
    if processes < 2:
        yield from ((heat, _run(heat)) for heat in left)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_end_with_parent
    ) as pool:
        running = {pool.submit(_run, heat): heat for heat in left}
        try:
            for ended in as_completed(running):
                yield running[ended], ended.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """A race that is killed leaves no process behind."""
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(heat: Heat) -> Run:
    return play(world(heat.landscape, heat.setting), heat.policy, heat.seed, heat.budget)


def _append(file: Path, heat: Heat, run: Run) -> None:
    fresh = not file.exists() or file.stat().st_size == 0
    if fresh:
        file.parent.mkdir(parents=True, exist_ok=True)
    else:
        _drop_torn_line(file)
    with file.open("a", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        if fresh:
            rows.writerow(COLUMNS)
        curve = [[round(at, 1), round(quality, 5)] for at, quality in run.curve]
        submitted = "" if run.submitted is None else round(run.submitted, 5)
        outcomes = json.dumps(dict(run.outcomes))
        known = (*heat.key, round(run.spent, 1), submitted, outcomes, json.dumps(curve))
        rows.writerow(known)


def _drop_torn_line(file: Path) -> None:
    written = file.read_bytes()
    whole = written.rfind(b"\n") + 1
    if whole < len(written):
        os.truncate(file, whole)


def _run_of(row: dict[str, str]) -> Run:
    return Run(
        policy=Policy.parse(row["policy"]),
        seed=int(row["seed"]),
        budget=float(row["budget"]),
        spent=float(row["spent"]),
        submitted=float(row["submitted"]) if row["submitted"] else None,
        curve=tuple((at, quality) for at, quality in json.loads(row["curve"])),
        outcomes=json.loads(row["outcomes"]),
    )

"""What one run counts for in a comparison: its speedups, and what was put down to 1.00x, and why.

Scores of one seed are held against scores of the same seed: the submitted server's against the torch baseline
and the engine default on the held-out requests, the found one's on the requests that were searched on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from studies.errors import BadInput
from studies.record import Run

Scores = Mapping[int, list[float]]


@dataclass(frozen=True)
class Pool:
    """What the runs of one scenario measured of their references, by seed (and engine); all may use it."""

    baselines: Scores
    defaults: Mapping[str, Scores]

    def baseline(self, seed: int) -> float | None:
        """Mean torch baseline on a seed's requests; over all seeds where that seed has none."""
        return _mean(self.baselines, seed)

    def default(self, seed: int, engines: Iterable[str]) -> float | None:
        """The best of these engines' defaults; the best of any where these have none."""
        own = [self.defaults[name] for name in engines if name in self.defaults]
        means = [_mean(scores, seed) for scores in own or self.defaults.values()]
        return max((mean for mean in means if mean is not None), default=None)


def _mean(scores: Scores, seed: int) -> float | None:
    found = scores.get(seed) or [score for some in scores.values() for score in some]
    return fmean(found) if found else None


def pool(runs: Iterable[Run]) -> Pool:
    """The references that runs of one scenario measured."""
    baselines: dict[int, list[float]] = defaultdict(list)
    defaults: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if base := _score(run.result.get("baseline")):
            baselines[_baseline_seed(run)].append(base)
        for seed, engine, score in default_scores(run):
            defaults[engine][seed].append(score)
    return Pool(dict(baselines), {engine: dict(scores) for engine, scores in defaults.items()})


def _baseline_seed(run: Run) -> int:
    """The seed of its baseline: as its ledger says, else a search's dev seed, an agent's held-out one."""
    measured = run.measurements.get(str(run.result["baseline"].get("measurement")))
    return int(measured["seed"]) if measured else run.seeds[run.header.get("kind") == "agent"]


def default_scores(run: Run) -> list[tuple[int, str, float]]:
    """The engine default's scores that a run measured: (seed, engine, score)."""
    default = run.result.get("default")
    score = _score(default)
    if default is None or score is None:
        return []
    engine = str(default.get("engine"))
    scores = [(run.seeds[0], engine, score)]
    submitted = run.result.get("submitted") or {}
    if submitted.get("ratio") and submitted.get("score"):
        scores.append((run.seeds[1], engine, submitted["score"] / submitted["ratio"]))
    return scores


@dataclass(frozen=True)
class Reference:
    """What counts as 1.00x for one run.

    Attributes:
        name: `torch`, or `default` where there is no torch baseline (the simulated engine).
        score: on the held-out requests; `dev`: on those searched on.
        default: the engine default's, held out.
    """

    name: str
    score: float
    dev: float
    default: float | None


def reference(run: Run, name: str, pooled: Pool) -> Reference:
    """The reference of a run. Raises BadInput where nobody measured one."""
    dev, held_out = run.seeds
    default = pooled.default(held_out, run.engines)
    if name == "torch":
        score, on_dev = pooled.baseline(held_out), pooled.baseline(dev)
    else:
        score, on_dev = default, pooled.default(dev, run.engines)
    if score is None or on_dev is None:
        raise BadInput(f"{run.path} has nothing to be compared with: run `ceiling baseline` first")
    return Reference(name, score, on_dev, default)


@dataclass(frozen=True)
class Counted:
    """One run against its reference.

    Attributes:
        speedup: the submitted server's, 1.00 where it could not count.
        over_default: the same over the engine default.
        found: the best valid measurement during the run, over the reference.
        reason: why 1.00x was put down, None where the submitted score itself counts.
    """

    speedup: float
    over_default: float | None
    found: float | None
    reason: str | None


def count(run: Run, against: Reference) -> Counted:
    """The speedups of a finished run. Unreachable, invalid or slower than the torch baseline counts 1.00x."""
    submitted = run.result.get("submitted") or {}
    score, reason = _submitted_score(submitted, against)
    ratio = submitted.get("ratio")
    if reason is not None or ratio is None:
        ratio = score / against.default if against.default else None
    found = _score(run.result.get("found"))
    return Counted(
        speedup=ratio if against.name == "default" and ratio else score / against.score,
        over_default=ratio,
        found=found / against.dev if found else None,
        reason=reason,
    )


def _submitted_score(submitted: Mapping[str, Any], against: Reference) -> tuple[float, str | None]:
    if not submitted:
        return against.score, "nothing was submitted"
    score = _score(submitted)
    if score is None or not submitted.get("valid", True):
        return against.score, str(submitted.get("reason") or "invalid")
    if against.name == "torch" and score < against.score:
        return against.score, f"slower than the torch baseline ({score / against.score:.2f}x)"
    return score, None


def _score(part: Mapping[str, Any] | None) -> float | None:
    return float(part["score"]) if part and part.get("score") else None

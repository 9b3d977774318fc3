"""What one run counts for in a comparison: its speedups, and what was put down to 1.00x, and why.

Like is held against like: the submitted server against the torch baseline and the engine default on the same
held-out requests. A search that measured parts of a scenario reads its found server against the default, as
measured the same way, and carries that ratio over to the default's held-out score.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from studies.hardware import of_roofline
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
    """The references that runs of one scenario measured. A baseline that several runs share counts once."""
    baselines: dict[int, list[float]] = defaultdict(list)
    defaults: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    known: set[str] = set()
    for run in runs:
        baseline = run.result.get("baseline")
        measurement = str((baseline or {}).get("measurement") or run.path)
        if (base := _score(baseline)) and measurement not in known:
            known.add(measurement)
            baselines[_baseline_seed(run)].append(base)
        for seed, engine, score in default_scores(run):
            defaults[engine][seed].append(score)
    return Pool(dict(baselines), {engine: dict(scores) for engine, scores in defaults.items()})


def _baseline_seed(run: Run) -> int:
    """The seed of its baseline: as its ledger says, else a search's dev seed, an agent's held-out one."""
    measured = run.measurements.get(str(run.result["baseline"].get("measurement")))
    return int(measured["seed"]) if measured else run.seeds[run.header.get("kind") == "agent"]


def default_scores(run: Run) -> list[tuple[int, str, float]]:
    """The engine default's scores over whole scenarios that a run measured: (seed, engine, score)."""
    default = run.result.get("default")
    score = _score(default)
    if default is None or score is None:
        return []
    engine = str(default.get("engine"))
    scores = [(run.seeds[0], engine, score)] if run.measured_whole(default) else []
    submitted = run.result.get("submitted") or {}
    if submitted.get("ratio") and submitted.get("score"):
        scores.append((run.seeds[1], engine, submitted["score"] / submitted["ratio"]))
    return scores


@dataclass(frozen=True)
class Reference:
    """What counts as 1.00x for one run.

    Attributes:
        name: `torch`, or `default` where there is no torch baseline (the simulated engine).
        score: on the held-out requests.
        default: the engine default's, held out.
        scale: what makes a speedup of a score that the run measured on its dev seed; None where nothing does.
    """

    name: str
    score: float
    default: float | None
    scale: float | None


def reference(run: Run, name: str, pooled: Pool) -> Reference | None:
    """The reference of a run; None where nobody measured one."""
    dev, held_out = run.seeds
    default = pooled.default(held_out, run.engines)
    score = pooled.baseline(held_out) if name == "torch" else default
    if score is None:
        return None
    own = run.result.get("default")
    if own and _score(own) and not run.measured_whole(own):
        scale = default / score / own["score"] if default else None
    else:
        on_dev = pooled.baseline(dev) if name == "torch" else pooled.default(dev, run.engines)
        scale = 1 / on_dev if on_dev else None
    return Reference(name, score, default, scale)


@dataclass(frozen=True)
class Counted:
    """One run against its reference.

    Attributes:
        speedup: the submitted server's, 1.00 where it could not count.
        over_default: the same over the engine default.
        found: the best valid measurement during the run, over the reference.
        reason: why 1.00x was put down, None where the submitted score itself counts.
        of_roofline: the fraction of the roofline that the submitted server reached, None where not known.
    """

    speedup: float
    over_default: float | None
    found: float | None
    reason: str | None
    of_roofline: float | None = None


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
        found=found * against.scale if found and against.scale else None,
        reason=reason,
        of_roofline=of_roofline(run, submitted) if reason is None else None,
    )


def _submitted_score(submitted: Mapping[str, Any], against: Reference) -> tuple[float, str | None]:
    if not submitted:
        return against.score, "nothing was submitted"
    score = _score(submitted)
    if score is None or not submitted.get("valid", True):
        return against.score, _told(submitted)
    if against.name == "torch" and score < against.score:
        return against.score, f"slower than the torch baseline ({score / against.score:.2f}x)"
    return score, None


def _told(submitted: Mapping[str, Any]) -> str:
    """The reason without the path of its log, so that like reasons are counted together."""
    return str(submitted.get("reason") or "invalid").partition(" (log: ")[0]


def _score(part: Mapping[str, Any] | None) -> float | None:
    return float(part["score"]) if part and part.get("score") else None

"""What one run counts for in a comparison: its speedups, and what was put down to 1.00x, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from studies.errors import BadInput
from studies.record import Run


@dataclass(frozen=True)
class Reference:
    """The score that counts as 1.00x, and the engine default's, for one scenario.

    `name` is `torch`, or `default` where no torch baseline is to be had (the simulated engine).
    """

    name: str
    score: float
    default: float | None


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


@dataclass(frozen=True)
class Pooled:
    """What the runs of one scenario measured together, for those that measured none themselves.

    Attributes:
        baseline: mean torch baseline.
        default: the best engine's mean default.
    """

    baseline: float | None
    default: float | None


def pooled(runs: Iterable[Run]) -> Pooled:
    """The pooled references of runs of one scenario."""
    baselines: list[float] = []
    defaults: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        if base := baseline_score(run):
            baselines.append(base)
        if default := default_score(run):
            defaults[str(run.result["default"].get("engine"))].append(default)
    means = [fmean(scores) for scores in defaults.values()]
    return Pooled(fmean(baselines) if baselines else None, max(means, default=None))


def reference(run: Run, name: str, others: Pooled) -> Reference:
    """A run's own reference, or the pooled one where it measured none. Raises BadInput without either."""
    default = default_score(run) or others.default
    score = (baseline_score(run) or others.baseline) if name == "torch" else default
    if score is None:
        raise BadInput(f"{run.path} has nothing to be compared with: run `ceiling baseline` first")
    return Reference(name, score, default)


def count(run: Run, reference: Reference) -> Counted:
    """The speedups of a finished run. Unreachable, invalid or slower than the reference counts 1.00x."""
    submitted = run.result.get("submitted")
    found = run.result.get("found")
    score, reason = _submitted_score(submitted, reference)
    return Counted(
        speedup=score / reference.score,
        over_default=score / reference.default if reference.default else None,
        found=found["score"] / reference.score if found and found.get("score") else None,
        reason=reason,
    )


def _submitted_score(submitted: Mapping[str, Any] | None, reference: Reference) -> tuple[float, str | None]:
    if not submitted:
        return reference.score, "nothing was submitted"
    score = submitted.get("score")
    if not submitted.get("valid", score is not None) or score is None:
        return reference.score, str(submitted.get("reason") or "invalid")
    if reference.name == "torch" and score < reference.score:
        return reference.score, f"slower than the torch baseline ({score / reference.score:.2f}x)"
    return float(score), None


def baseline_score(run: Run) -> float | None:
    """The torch baseline that the run was held against."""
    return _score(run.result.get("baseline"))


def default_score(run: Run) -> float | None:
    """The engine default as the run measured it."""
    return _score(run.result.get("default"))


def _score(part: Mapping[str, Any] | None) -> float | None:
    return float(part["score"]) if part and part.get("score") else None

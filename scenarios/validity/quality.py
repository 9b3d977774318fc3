"""Whether the answers are worth as much as the baseline's."""

from __future__ import annotations

from scenarios.measurement import Reason
from scenarios.quality.gate import Paired
from scenarios.quality.tasks import TAU, kind
from scenarios.validity.facts import Case

WORSE = "quality"


def worse(case: Case) -> Reason | None:
    """More questions in the traffic were lost against the baseline than chance allows."""
    task, paired = _told(case)
    if paired is None or not paired.worse:
        return None
    detail = (
        f"{task}: {paired.server:.1%} right, the baseline {paired.baseline:.1%} of the same "
        f"{paired.items} questions ({paired.lost} lost, {paired.won} won, p {paired.chance:.2g})"
    )
    return Reason(WORSE, detail, paired.to_json(TAU.get(task)))


def below_tau(case: Case) -> Reason | None:
    """The share of right answers is under what the task asks for, by the baseline's."""
    task, paired = _told(case)
    tau = TAU.get(task)
    if paired is None or tau is None or not paired.below(tau):
        return None
    detail = (
        f"{task}: {paired.server:.1%} of {paired.items} questions right, under {tau} of the baseline's "
        f"{paired.baseline:.1%} ({tau * paired.baseline:.1%})"
    )
    return Reason(WORSE, detail, paired.to_json(tau))


def _told(case: Case) -> tuple[str, Paired | None]:
    """The task, and what came of it."""
    told = case.facts.quality
    if told is None or told["paired"] is None:
        return "", None
    return kind(told["task"]), Paired(**told["paired"])

"""Whether the answers are worth as much as the baseline's."""

from __future__ import annotations

from scenarios.measurement import Reason
from scenarios.quality.gate import Paired
from scenarios.validity.facts import Case

WORSE = "quality"


def worse(case: Case) -> Reason | None:
    """More questions in the traffic were lost against the baseline than chance allows."""
    told = case.facts.quality
    if told is None or told["paired"] is None:
        return None
    paired = Paired(**told["paired"])
    if not paired.worse:
        return None
    detail = (
        f"{told['task']}: {paired.server:.1%} right, the baseline {paired.baseline:.1%} of the same "
        f"{paired.items} questions ({paired.lost} lost, {paired.won} won, p {paired.chance:.2g})"
    )
    return Reason(WORSE, detail, paired.to_json())

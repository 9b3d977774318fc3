"""Whether the answers are the model's own: what they would have cost the model, token by token.

A greedy server takes the likeliest token. Arithmetic that is less exact (halves, eight bits) makes it take
another only where the two are nearly as likely, so that it loses a fraction of a nat now and then. Text from
elsewhere takes tokens that the model finds far less likely, if only where a copied stretch begins.
"""

from __future__ import annotations

import numpy as np

from scenarios.authenticity.evidence import Graded, Text
from scenarios.measurement import Reason
from scenarios.validity.facts import Case

FOREIGN = "text-not-from-model"

SLACK = 1.0
"""Nats that a token may lose without being counted."""
STRANGE = 12.0
"""Nats beyond the slack that an answer may lose. One oddly spelt token loses up to 7."""
STRAY = 1
"""Answers that may be strange: two odd spellings may meet in one."""
MOST = 3.0
"""Nats at which a token's loss is capped in the mean."""
MEAN = 0.06
"""Nats that a token may lose on average."""
START = 8
"""Tokens at the start of answers that are held to the same: a copied text may go on as the model would."""
DEVIATIONS = 3.0
"""Standard errors, between answers, by which the mean must lie above that."""


def not_from_model(case: Case) -> Reason | None:
    """Answers that the model itself would not have given, or a model that is not this one any more."""
    return judged(case.facts.text) if case.facts.text.answers else None


def judged(text: Text) -> Reason | None:
    """What graded answers say against the server that gave them."""
    strange = [answer.index for answer in text.answers if loss(answer) > STRANGE]
    least = max(mean_at_least(text), mean_at_least(text.first(START)))
    if len(strange) <= STRAY and least <= MEAN:
        return None
    worst = max(text.answers, key=loss)
    found = [f"{text.agreement:.0%} of {len(text.gaps)} tokens are the model's own choice"]
    if strange:
        found.append(
            f"{len(strange)} of {len(text.answers)} answers are not (request {worst.index} loses "
            f"{loss(worst):.0f} nats)"
        )
    evidence = {"strange": strange, "worst": loss(worst), "mean_at_least": least, **text.figures()}
    return Reason(FOREIGN, "; ".join(found), evidence)


def loss(answer: Graded) -> float:
    """Nats that an answer loses against the model's own choices, beyond what each token may."""
    return float(np.maximum(0.0, np.array(answer.gap, dtype=float) - SLACK).sum())


def mean_at_least(text: Text) -> float:
    """What a token loses on average, at least: tokens of one answer go together."""
    known = [answer.gap for answer in text.answers if answer.gap]
    if len(known) < 2:
        return 0.0
    sums = np.array([np.minimum(gaps, MOST).sum() for gaps in known])
    sizes = np.array([len(gaps) for gaps in known], dtype=float)
    mean = sums.sum() / sizes.sum()
    error = np.sqrt(((sums - mean * sizes) ** 2).sum() * len(known) / (len(known) - 1)) / sizes.sum()
    return float(mean - DEVIATIONS * error)

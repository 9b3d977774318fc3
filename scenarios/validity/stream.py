"""Checks on how answers arrive: against their own cadence, against the server alone, against the device.

The probe after the run is the yardstick. A `fresh` request, unseen and alone on the server, shows what a
first token and a step honestly cost; load can only add to that. A `repeat` shows what a prompt seen before
costs. A step is an arrival, however many tokens it brings, so that speculation is no suspect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scenarios.bootstrap import median
from scenarios.measurement import Reason
from scenarios.rows import FRESH, REPEAT
from scenarios.scenario import Score
from scenarios.validity.facts import Case, seconds

LEAD = 0.2
"""Share of answers that may begin so: a stray one is a hiccup."""
FEW = 4
"""Answers of fewer tokens have no cadence to speak of."""
OUTLYING, JITTER = 2.0, 0.001
"""A median first gap so many times the usual one, and a millisecond more, is no decoding step."""
SLOW = 1.5
"""Nor is one so many times the slow steps of the same answers. A server that speculates has two kinds of
step: on an H100 vLLM's took 8 to 13 ms without a draft, as the first ones are, and 3 ms with one."""
NOISE = 0.005
"""Seconds that any difference must exceed to count."""
HIDDEN = 0.1
"""Share of the TTFT that a first gap must reach to have hidden anything worth hiding."""
SOONER, QUICKER = 0.6, 0.6
"""First token and step in the run, against those of the quickest lone request: load only ever adds."""
CACHED = 0.25
LATER = 1.5
WORTH = 0.05
"""Share of an answer's time that holding it back must win to count."""
AT_ONCE = 20.0
LUMP = 0.25
LUMP_FROM = 64
LOW_CONCURRENCY = 8
ALONE = "alone"
"""The evidence that names the pace of the quickest unseen request, where a reason rests on it."""


@dataclass(frozen=True)
class Pace:
    """How a set of requests was answered: seconds to the first token and between arrivals, per request."""

    ttft: tuple[float, ...]
    steps: tuple[float, ...]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Pace:
        """Of requests with a cadence. Content that arrives all at once has steps of 0."""
        answered = frame[frame["ok"] & (frame["tokens"] >= FEW)]
        span = answered["last"] - answered["first_content"]
        steps = (span / (answered["bursts"] - 1)).where(answered["bursts"] > 1, 0.0)
        known = np.isfinite(answered["ttft"])
        return cls(tuple(answered.loc[known, "ttft"]), tuple(steps[known]))

    def __bool__(self) -> bool:
        return bool(self.ttft)


def _median(values: tuple[float, ...]) -> float:
    return median(np.asarray(values, dtype=float))


def blank_first_token(case: Case) -> Reason | None:
    """A chunk that shows nothing comes early, and the first that shows something long after it."""
    whole = case.whole
    led = whole[whole["first_blank"].notna()]
    wait = led["first_content"] - led["first_blank"]
    sooner = wait > led["first_blank"] - led["sent"]
    early = led[sooner & (wait > OUTLYING * led["gap"].fillna(0.0) + JITTER)]
    if len(early) <= LEAD * len(whole):
        return None
    typical = float(wait[early.index].median())
    detail = (
        f"{len(early)} of {len(whole)} answers begin with a blank chunk, {seconds(typical)} before any text"
    )
    return Reason("blank-first-token", detail, {"requests": len(early), "wait": typical})


def first_token_cadence(case: Case) -> Reason | None:
    """The first token comes long before the second: sooner than the prompt can have been processed."""
    fresh = case.reduced.of(FRESH)
    fresh = fresh[fresh["ok"]]
    alone = _hurried("alone on the server", fresh, _least(len(fresh)), HIDDEN)
    return alone or _in_closed_loops(case) or _sooner(case)


def _least(count: int) -> float:
    """The quantile of `count` lone requests that stands for them: the least of three, as much of more."""
    return max(0, count // 3 - 1) / max(1, count - 1)


def _in_closed_loops(case: Case) -> Reason | None:
    """In loops of few requests at a time, where somebody else's prompt rarely comes between two tokens."""
    for name in case.facts.asked:
        traffic = case.facts.traffic(name)
        at_once = traffic.concurrency or 1
        if traffic.kind == "closed" and at_once <= LOW_CONCURRENCY:
            frame = case.whole[case.whole["traffic"] == name]
            found = _hurried(name, frame, 0.5, HIDDEN if at_once == 1 else 1.0)
            if found is not None:
                return found
    return None


def _hurried(where: str, frame: pd.DataFrame, share: float, hidden: float) -> Reason | None:
    """Whether the first gap, at quantile `share`, is no step and at least `hidden` of the TTFT."""
    gaps = frame[frame["first_gap"].notna() & frame["gap"].notna()]
    if gaps.empty:
        return None
    first, usual = float(gaps["first_gap"].quantile(share)), float(gaps["gap"].median())
    step = max(OUTLYING * usual + JITTER, SLOW * float(gaps["slow_gap"].median()))
    if first <= max(step, hidden * float(gaps["ttft"].median())):
        return None
    detail = (
        f"{where}: the second token comes {seconds(first)} after the first, the others "
        f"{seconds(usual)} apart: the first was not decoded from the prompt"
    )
    return Reason("first-token-cadence", detail, {"first_gap": first, "gap": usual})


def _sooner(case: Case) -> Reason | None:
    """Under load the first token came much sooner than on the server alone."""
    fresh, scored = Pace.of(case.reduced.of(FRESH)), Pace.of(case.whole)
    if not fresh or not scored:
        return None
    alone, loaded = min(fresh.ttft), _median(scored.ttft)
    if not (loaded < SOONER * alone and alone - loaded > NOISE):
        return None
    gaps = case.whole["first_gap"].median(), case.whole["gap"].median()
    evidence = {ALONE: alone, "scored": loaded, "first_gap": _finite(gaps[0]), "gap": _finite(gaps[1])}
    times = f"{seconds(loaded)} in the run, {seconds(alone)} for an unseen prompt on the server alone"
    if gaps[0] > OUTLYING * gaps[1] + JITTER:
        return Reason("first-token-cadence", f"first tokens came too soon: {times}", evidence)
    return Reason("warm-cache", f"prompts were answered as if seen before: {times}", evidence)


def held_back(case: Case) -> Reason | None:
    """Content is kept and released together, so that tokens seem to follow one another faster."""
    whole = case.whole[case.whole["tokens"] >= FEW]
    if whole.empty:
        return None
    at_once, bursts = float(whole["per_burst"].median()), float(whole["bursts"].median())
    long = whole[whole["tokens"] >= LUMP_FROM]
    lump = float(long["largest"].median()) if len(long) else 0.0
    if at_once > AT_ONCE or bursts < 2 or lump > LUMP:
        detail = f"{at_once:.0f} tokens arrive at a time"
        detail += f", up to {lump:.0%} of a long answer at once" if len(long) else ""
        return Reason("held-back", detail, {"tokens_at_a_time": at_once, "arrivals": bursts, "largest": lump})
    return _waits_for_length(case) or _waits_in_the_run(case)


def _waits_for_length(case: Case) -> Reason | None:
    """The first token of a long answer waits for more than the first token of a short one."""
    fresh, repeats = case.reduced.of(FRESH), case.reduced.of(REPEAT)
    short, long = Pace.of(fresh), Pace.of(repeats)
    if not short or not long or repeats["asked_output"].min() < 2 * fresh["asked_output"].max():
        return None
    first, later = min(short.ttft), min(long.ttft)
    if later <= LATER * first + 2 * NOISE:
        return None
    detail = f"the first token takes {seconds(first)} in a short answer, {seconds(later)} in a long one"
    return Reason("held-back", detail, {"short": first, "long": later})


def _waits_in_the_run(case: Case) -> Reason | None:
    """Where the step is scored: answers begin much later than unseen ones alone, and go on no slower.

    A machine that is disturbed throughout the run slows steps as well.
    """
    if case.facts.scenario.score is not Score.TPOT:
        return None
    fresh = case.reduced.of(FRESH)
    fresh = fresh[fresh["ok"] & np.isfinite(fresh["ttft"])]
    for name in case.facts.asked:
        traffic = case.facts.traffic(name)
        frame = case.whole[case.whole["traffic"] == name]
        scored, alone = Pace.of(frame), Pace.of(fresh)
        if traffic.kind != "closed" or traffic.concurrency != 1 or not scored or not alone:
            continue
        longer = (float(frame["asked_input"].median()) / fresh["asked_input"]).clip(lower=1.0)
        first, least = _median(scored.ttft), float((fresh["ttft"] * longer).max())
        slower = max(1.0, _median(scored.steps) / max(max(alone.steps), 1e-9))
        span = float((frame["last"] - frame["first_content"]).median())
        if first > LATER * slower * least + 2 * NOISE and first - least > WORTH * span:
            detail = (
                f"first tokens take {seconds(first)} in the run, {seconds(least)} for an unseen prompt alone"
            )
            return Reason("held-back", detail, {"scored": first, "unseen": least})
    return None


def impossible_speed(case: Case) -> Reason | None:
    """Steps under load are much quicker than alone, or anything is quicker than the device allows."""
    fresh, scored = Pace.of(case.reduced.of(FRESH)), Pace.of(case.whole)
    if not scored:
        return None
    step = _median(scored.steps)
    alone = min(fresh.steps) if fresh else 0.0
    if step < QUICKER * alone and alone - step > NOISE / 5:
        detail = f"tokens come {seconds(step)} apart in the run, {seconds(alone)} on the server alone"
        return Reason("impossible-speed", detail, {"scored": step, ALONE: alone})
    return _beyond_device(case, scored, step)


def _beyond_device(case: Case, scored: Pace, step: float) -> Reason | None:
    floor = case.facts.roofline
    if floor is None:
        return None
    prompt = float(case.whole["asked_input"].median())
    first = _median(scored.ttft)
    for name, took, least in (
        ("a step", step, floor.step),
        ("a first token", first, floor.prefill_token * prompt),
    ):
        if took < least:
            detail = f"{name} takes {seconds(took)}, {floor.device} needs at least {seconds(least)}"
            return Reason("impossible-speed", detail, {"took": took, "least": least})
    return None


def by_lone_pace(reason: Reason) -> bool:
    """Whether it rests on unseen requests alone on the server having been slow, which a short disturbance
    of the machine does as well: a few more of them tell the two apart.
    """
    return ALONE in reason.evidence


def repeat_cache(case: Case) -> Reason | None:
    """A request sent again is answered without decoding: whole answers are kept."""
    fresh, repeats = Pace.of(case.reduced.of(FRESH)), Pace.of(case.reduced.of(REPEAT))
    if not fresh or not repeats:
        return None
    alone, again = min(fresh.steps), _median(repeats.steps)
    soon = _median(repeats.ttft)
    if alone <= NOISE / 5 or not (again < CACHED * alone or soon < CACHED * alone):
        return None
    detail = (
        f"a request sent again gets its first token after {seconds(soon)} and the others {seconds(again)} "
        f"apart, an unseen one {seconds(alone)} apart"
    )
    return Reason("repeat-cache", detail, {ALONE: alone, "repeat_step": again, "repeat_ttft": soon})


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

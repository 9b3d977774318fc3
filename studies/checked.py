"""What was found of a submitted server's answers: whether they are the model's, and how good, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scenarios.quality.tasks import kind
from studies.record import Run

Told = Mapping[str, Any]

ALARMING = 0.015
"""Chance to void an honest server from which on it is said."""


@dataclass(frozen=True)
class Checked:
    """The checks of one server's answers.

    Attributes:
        text: `from the model`, `not from the model`, or `not checked: ` and why.
        quality: `passed`, `failed` or `not judged`, with figures or why; None where no question was asked.
    """

    text: str
    quality: str | None = None

    def __str__(self) -> str:
        return f"text {self.text}" + (f"; quality {self.quality}" if self.quality else "")


def checked(run: Run) -> Checked | None:
    """Of the server that a run submitted; None where it was never measured."""
    measured = _telling(run)
    if measured is None:
        return None
    return Checked(_text(measured), _quality(measured, (run.header.get("spec") or {}).get("quality")))


def counted(runs: Iterable[Run]) -> dict[Checked, int]:
    """How many of some runs were found alike."""
    return dict(Counter(found for run in runs if (found := checked(run))))


def as_json(run: Run) -> dict[str, Any] | None:
    """The checks of a submitted server with all figures, as its measurement tells them."""
    measured = _telling(run)
    return None if measured is None else {name: measured.get(name) for name in ("text", "quality")}


def _telling(run: Run) -> Told | None:
    """The submitted server's measurement: the first that is void, else its first."""
    part = run.result.get("submitted")
    if not part:
        return None
    own = (trial for trial in run.trials if trial["trial"] == part.get("trial"))
    found = [run.measurements[each] for trial in own for each in trial["measurements"]]
    void = [each for each in found if each.get("invalid_reasons")]
    return next(iter([*void, *found]), None) or run.measurement_of(part)


def _text(measured: Told) -> str:
    told = measured.get("text") or {}
    verdict = str(told.get("verdict", "not checked"))
    if verdict != "not checked":
        return verdict
    why = _void(measured) or told.get("why")
    return f"{verdict}: {why}" if why else verdict


def _quality(measured: Told, task: str | None) -> str | None:
    told = measured.get("quality")
    if told is not None:
        return quality_words(told)
    if task is None:
        return None
    return f"not judged: {kind(task)}, {_void(measured) or 'nobody could'}"


def _void(measured: Told) -> str | None:
    codes = [reason["code"] for reason in measured.get("invalid_reasons", ())]
    return f"void before that ({codes[0]})" if codes else None


def quality_words(told: Told) -> str:
    """A measurement's `quality` in words."""
    task = kind(told["task"])
    if "why" in told:
        return f"not judged: {task}, {told['why']}"
    caught = told["caught_from"]
    power = "no drop" if caught is None else f"a drop of {100 * caught:.0f} points"
    required = "" if told["required"] is None else f", {told['required']:.1%} required"
    alarm = told["false_alarm"]
    honest = f", and an honest server voided in {alarm:.0%} of cases" if alarm >= ALARMING else ""
    return (
        f"{told['verdict']}: {task}, {told['server']:.1%} right, the model itself {told['baseline']:.1%} of "
        f"the same {told['items']}{required} (p {told['p']:.2g}; {power} would be caught{honest})"
    )

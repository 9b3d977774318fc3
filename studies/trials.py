"""What a run tried: its trials as rows, each held against the engine default on the same requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from scenarios.trial import State
from studies.progress import config_words
from studies.record import Event, Run
from studies.silent import silence_words

FINAL = "final"


@dataclass(frozen=True)
class Reading:
    """A trial's score in one scenario, over its measurements of the largest size, the last ones.

    `over_default` is None where no default met those requests; `whole` says that it was all of the scenario.
    """

    score: float
    over_default: float | None
    whole: bool


@dataclass(frozen=True)
class Tried:
    """One trial.

    Attributes:
        origin: who proposed it: default, expert, planner, agent, or final for the held-out measurement.
        readings: by scenario; empty where nothing valid was measured.
        why: why it did not come to a whole measurement, empty where it did.
        silent: where its measurements were mostly silence, by scenario; empty where none was.
        start, gpu_seconds: seconds until the server was ready; GPU-seconds in all.
    """

    number: int
    origin: str
    engine: str
    config: str
    readings: Mapping[str, Reading]
    state: str
    why: str
    silent: str
    start: float
    gpu_seconds: float


def tried(run: Run) -> list[Tried]:
    """A run's trials: those on held-out requests first, then the rest, the best first, what failed last."""
    defaults = _defaults(run)
    rows = [_row(run, trial, defaults) for trial in run.trials if trial.get("origin") != "baseline"]
    return sorted(rows, key=lambda row: _place(row, run.scenario))


def letters(run: Run) -> tuple[str, ...]:
    """The scenarios that its trials measured, its own first."""
    others = (run.header.get("spec") or {}).get("also") or ()
    return tuple(dict.fromkeys((run.scenario, *others)))


def show_trials(console: Console, run: Run) -> None:
    """Print the trials of a run: a line of figures each, and under it the config and what became of it."""
    shown = letters(run)
    heads = "".join(f"{f'{letter}, over default':>22}" for letter in shown)
    console.print(f"[bold]What was tried, the best first[/bold]\n\n  {'#':>3}  {'by':<8}{heads}{'start':>9}")
    for row in tried(run):
        figures = "".join(f"{_words(row.readings.get(letter)):>22}" for letter in shown)
        start = f"{row.start:.0f} s" if row.start else ""
        style = None if row.readings else "dim"
        console.print(Text(f"  {row.number:>3}  {row.origin:<8}{figures}{start:>9}", style=style or "bold"))
        why = "" if row.state == State.COMPLETE.value else f"\n{row.state}{row.why and f': {row.why}'}"
        silent = f"\n{row.silent}" if row.silent else ""
        told = Text(f"{row.engine}: {row.config}{why}{silent}", style=style or "", overflow="fold")
        console.print(Padding(told, (0, 0, 0, 7)))
    console.print()


def _words(reading: Reading | None) -> str:
    if reading is None:
        return "-"
    ratio = "" if reading.over_default is None else f"{reading.over_default:.2f}x"
    return f"{reading.score:.4g}{ratio:>8}"


def _place(row: Tried, own: str) -> tuple[bool, bool, bool, float, int]:
    """Ratios to the default compare parts of a scenario as well; bare scores only those of one size."""
    reading = row.readings.get(own)
    value = 0.0 if reading is None else reading.over_default or reading.score
    part = reading is not None and reading.over_default is None and not reading.whole
    return row.origin != FINAL, reading is None, part, -value, row.number


def _row(run: Run, trial: Event, defaults: Mapping[str, float]) -> Tried:
    seconds = trial.get("seconds", {})
    measured = _measured(run, trial)
    return Tried(
        number=int(trial["trial"]),
        origin=str(trial.get("origin")),
        engine=str(trial.get("engine") or ""),
        config=config_words(trial.get("config") or {}),
        readings=_readings(measured, defaults),
        state=str(trial["state"]),
        why=": ".join(
            str(trial[key]) for key in ("crash", "detail") if trial.get(key) not in (None, "", trial["state"])
        ),
        silent="; ".join(f"{each['scenario']}: {words}" for each in measured if (words := _silent(each))),
        start=float(seconds.get("start", 0.0)),
        gpu_seconds=float(trial.get("gpu_seconds") or 0.0),
    )


def _measured(run: Run, trial: Event) -> list[Event]:
    known = (run.measurements.get(name) for name in trial.get("measurements", ()))
    return [each for each in known if each is not None and each.get("score") is not None]


def _silent(measured: Event) -> str | None:
    return silence_words(measured.get("metrics", {}))


def _readings(measured: Sequence[Event], defaults: Mapping[str, float]) -> dict[str, Reading]:
    found: dict[str, Reading] = {}
    for letter in dict.fromkeys(str(each["scenario"]) for each in measured):
        own = [each for each in measured if each["scenario"] == letter]
        last = _share(own[-1])
        alike = [each for each in own if _share(each) == last]
        bases = [defaults.get(each["request_set"]) for each in alike]
        scores = [float(each["score"]) for each in alike]
        ratios = [score / base for score, base in zip(scores, bases, strict=True) if base]
        whole = last == (1.0, 1.0)
        found[letter] = Reading(geometric_mean(scores), geometric_mean(ratios) if ratios else None, whole)
    return found


def _share(measured: Event) -> tuple[float, float]:
    fidelity = measured["fidelity"]
    return fidelity.get("requests", 1.0), fidelity.get("output", 1.0)


def _defaults(run: Run) -> dict[str, float]:
    """The best default's score on each request set that a default met."""
    known = {_config(trial) for trial in run.trials if trial.get("origin") == "default"}
    scores: dict[str, float] = {}
    for trial in run.trials:
        if _config(trial) in known:
            for each in _measured(run, trial):
                name = str(each["request_set"])
                scores[name] = max(scores.get(name, 0.0), float(each["score"]))
    return scores


def _config(trial: Event) -> tuple[Any, str]:
    return trial.get("engine"), config_words(trial.get("config") or {})

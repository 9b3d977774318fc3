"""A trial: a config, its server start, its measurements. Search, baseline and agents all run this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from engines.contract import Config, Model
from engines.warm import Starts
from scenarios.measurement import Measurement
from scenarios.scenario import Plan


class State(StrEnum):
    """How a trial ended; exactly one."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    INFEASIBLE = "infeasible"
    CRASHED = "crashed"
    INVALID = "invalid"
    STOPPED = "stopped"


CHECKED = frozenset({"default", "final"})
"""Origins of trials whose answers are held against the model. What others measure only steers a search."""


class Phase(StrEnum):
    """What a trial in flight is doing."""

    STARTING = "starting"
    WARMING = "warming"
    MEASURING = "measuring"
    STOPPING = "stopping"
    CHECKING = "checking"


@dataclass(frozen=True)
class TrialSpec:
    """Everything that a worker needs to run a trial; picklable.

    Attributes:
        number, attempt: a config asked again after its worker was lost keeps its number.
        origin: who proposed it: `default`, `expert`, `planner`, `baseline`, `agent`, `final`.
        plan: what is measured first; `decide` in `run` may ask for more.
        devices: indices of the devices it holds.
        seconds_left: wall seconds after which the trial is stopped and charged (None: no limit).
        limited_by: what those seconds are the rest of, as a reader is told.
        patience: seconds of one measurement after which the trial ends `pruned`, without a score: it is then
            clearly behind what it is compared with (None: no limit).
        start_limit: wall seconds in which the server must be ready (None: the engine's own time-out).
        run: directory of the run (logs and rows go there).
        starts: whether engines are imported ahead of the next launch (engines/warm.py).
        quality: task of which every prompt ends in a question, judged after the teardown (scenarios/quality).
    """

    number: int
    engine: str
    config: Config
    origin: str
    model: Model
    plan: Plan
    run: str
    attempt: int = 0
    devices: tuple[int, ...] = (0,)
    seconds_left: float | None = None
    limited_by: str = "the budget"
    patience: float | None = None
    start_limit: float | None = None
    starts: Starts = "auto"
    quality: str | None = None


@dataclass(frozen=True)
class Trial:
    """The end of a trial, as the ledger keeps it.

    Attributes:
        score: the last valid measurement's, None unless `complete` or `pruned` with one.
        crash: class and one line (crashed, infeasible).
        seconds: wall seconds by what they went to: `start`, `measure` (warm-up included), `stop`, and `check`
            where answers were held against the model after the teardown.
        gpu_seconds: devices x wall from launch to confirmed teardown; the check is not charged.
        command: the launch as one line of shell that a person can paste, always that of a cold start.
        warm: whether the server's imports were done ahead of its launch (engines/warm.py).
        held: the GPUs that it held, with their memory before the launch and after the teardown, and who else
            computed there (engines/held.py); empty without GPUs.
    """

    number: int
    attempt: int
    engine: str
    config: Config
    origin: str
    state: State
    score: float | None = None
    measurements: tuple[Measurement, ...] = ()
    crash: str | None = None
    detail: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    devices: int = 1
    gpu_seconds: float = 0.0
    launched: float | None = None
    command: str = ""
    warm: bool = False
    held: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A plain dict for the ledger; measurements have events of their own and appear here by id."""
        data = asdict(self)
        data["measurements"] = [measurement.id for measurement in self.measurements]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any], measurements: Mapping[str, Measurement]) -> Trial:
        """The inverse of `to_json`, given the measurements by id; other keys are left out."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        known["state"] = State(data["state"])
        known["measurements"] = tuple(measurements[each] for each in data["measurements"])
        return cls(**known)


Observer = Callable[[Mapping[str, Any]], None]
"""Receives ledger events (`phase`, `measurement`) while a trial runs, in order."""


@dataclass(frozen=True)
class Drop:
    """A decision that more measurements of this server would be wasted: the trial ends `pruned`."""

    why: str


Decide = Callable[[tuple[Measurement, ...]], Plan | Drop | None]
"""Given the measurements so far, all valid: what to measure next on the same server; None: it is complete."""

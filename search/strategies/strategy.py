"""What a strategy is: the rules by which a search spends its budget, as pure functions of the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from engines.contract import Config
from scenarios.scenario import Scenario
from scenarios.trial import Decide, Trial
from search.record import Job, Record

Propose = Callable[[], tuple[str, Config] | None]
"""The planner's next engine and config; None when the space is exhausted. A proposal taken must be run."""


@dataclass(frozen=True)
class Setting:
    """What a strategy is told of the search that it is to steer.

    Attributes:
        defaults: engine -> its own default config; the first engine comes first.
        wall: the budget in wall seconds with all devices held; None: no limit.
        devices: how many trials of one device run at once.
        trials: cap on the trials before the final ones; None: no cap.
        experts: engine -> canonical configs that a strategy may try after the defaults.
        also: further scenarios that a survey measures on every server.
        restarts: engine -> share of a config's first start that its next one takes; 1 where it is not told.
    """

    defaults: Mapping[str, Config]
    scenario: Scenario
    profile: str
    text: str
    dev_seed: int
    eval_seed: int
    wall: float | None = None
    devices: int = 1
    trials: int | None = None
    experts: Mapping[str, tuple[Config, ...]] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    restarts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a search submits.

    Attributes:
        trial: number of the final trial that measured it; None when nothing could be measured.
        reason: one line that a person can act on.
        ratio, interval: score against the default's on the same held-out requests, with its 95 % interval.
        chance: that it is the best of those measured in the end.
    """

    trial: int | None
    reason: str
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    chance: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields that a result adds to the trial's own."""
        interval = list(self.interval) if self.interval else None
        return {"ratio": self.ratio, "ratio_interval": interval, "chance_best": self.chance}


class Strategy(Protocol):
    """Decides from the record alone, so that a resumed search decides the same."""

    name: str

    def next(self, record: Record, left: float, propose: Propose) -> Job | None:
        """The next job; None: nothing now, or nothing at all if no trial is in flight.

        `left` is wall seconds of budget. It may call `propose` once, and only if it runs what comes.
        """
        ...

    def decide(self, job: Job, record: Record) -> Decide | None:
        """What the worker asks after each measurement: picklable, free of the record."""
        ...

    def value(self, record: Record, trial: Trial) -> float | None:
        """What a planner is told of a trial (higher is better); None where only its state says something."""
        ...

    def best(self, record: Record) -> Trial | None:
        """The best trial on the dev seed."""
        ...

    def verdict(self, record: Record) -> Verdict:
        """What is submitted, from the final trials."""
        ...

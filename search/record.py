"""A search as its ledger tells it, folded event by event: what strategies decide on, live and on resume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from engines.contract import Config
from scenarios.measurement import Measurement
from scenarios.scenario import Fidelity, Plan
from scenarios.trial import State, Trial


@dataclass(frozen=True)
class Job:
    """What a strategy wants run.

    Attributes:
        origin: `default`, `expert`, `planner` or `final`.
        plans: the measurements, in order.
        rival: number of the trial that it is compared with as it goes, and dropped when clearly behind.
        seconds: wall seconds after which it is stopped, whatever the budget; None: the budget alone counts.
        start_limit: wall seconds in which its server must be ready, or it has crashed (None: the engine's).
    """

    engine: str
    config: Config
    origin: str
    plans: tuple[Plan, ...]
    rival: int | None = None
    seconds: float | None = None
    start_limit: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict for the `ask` event."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        """The inverse of `to_json`; other keys are ignored."""
        plans = tuple(Plan(**{**plan, "fidelity": Fidelity(**plan["fidelity"])}) for plan in data["plans"])
        limits = data["rival"], data["seconds"], data.get("start_limit")
        return cls(data["engine"], data["config"], data["origin"], plans, *limits)


@dataclass(frozen=True)
class Ask:
    """A job with its number.

    `attempt` counts how often its worker was lost before, `left` is wall seconds of budget when it was asked.
    """

    number: int
    attempt: int
    job: Job
    left: float

    @property
    def seconds(self) -> float | None:
        """Wall seconds after which its trial is stopped; None: no limit."""
        seconds = min(self.left, self.job.seconds if self.job.seconds is not None else self.left)
        return None if seconds == float("inf") else seconds

    @property
    def limited_by(self) -> str:
        """What ends with `seconds`, as a reader is told."""
        own = self.job.seconds is not None and self.job.seconds < self.left
        return "the time ahead of the final trials" if own else "the budget"


@dataclass
class Record:
    """Asks, trials and losses so far. Only what the ledger holds may enter, in its order."""

    asks: dict[int, Ask] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)
    measurements: dict[str, Measurement] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    losses: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[Mapping[str, Any]]) -> Record:
        """The record of a ledger's events."""
        record = cls()
        for event in events:
            record.add(event)
        return record

    def add(self, event: Mapping[str, Any]) -> None:
        """Fold one event in; those that say nothing about trials pass."""
        match event["event"]:
            case "ask":
                number = event["trial"]
                left = float("inf") if event["left"] is None else event["left"]
                self.asks[number] = Ask(number, event["attempt"], Job.from_json(event), left)
                self.lost.pop(number, None)
            case "measurement":
                fields = {key: value for key, value in event.items() if key not in _OURS}
                self.measurements[event["id"]] = Measurement.from_json(fields)
            case "trial":
                self.trials[event["trial"]] = Trial.from_json(event, self.measurements)
                self.lost.pop(event["trial"], None)
            case "lost":
                self.lost[event["trial"]] = event["why"]
                if event.get("counts", True):
                    self.losses[event["trial"]] = self.losses.get(event["trial"], 0) + 1

    @property
    def next_number(self) -> int:
        """Number of the next new trial."""
        return len(self.asks)

    @property
    def in_flight(self) -> tuple[Ask, ...]:
        """Asks that have neither ended nor been lost."""
        return tuple(
            ask for number, ask in self.asks.items() if number not in self.trials and number not in self.lost
        )

    def ended(self, *origins: str) -> list[Trial]:
        """Trials of these origins that ended, by number."""
        return [trial for _, trial in sorted(self.trials.items()) if trial.origin in origins]

    def complete(self, *origins: str) -> list[Trial]:
        """Those of them that were measured to the end, all valid."""
        return [trial for trial in self.ended(*origins) if trial.state is State.COMPLETE]

    def count(self, *origins: str) -> int:
        """How many trials of these origins were asked."""
        return sum(1 for ask in self.asks.values() if ask.job.origin in origins)


_OURS = frozenset({"schema", "event", "at", "trial", "attempt", "origin"})

"""Where a run stands, folded from its ledger events; the live view draws it, and nothing here draws."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studies.record import SCORED_ALREADY

Event = Mapping[str, Any]


@dataclass
class InFlight:
    """A trial that runs. `since` is the monotonic time at which its phase began."""

    number: int
    engine: str
    config: Mapping[str, Any]
    origin: str
    phase: str
    since: float


@dataclass(frozen=True)
class Best:
    """The best valid score so far."""

    trial: int
    engine: str
    config: Mapping[str, Any]
    score: float


@dataclass
class Progress:
    """A run, as far as its events say.

    Attributes:
        begun: whether a run's header was seen (a single scoring has none).
        budget: GPU-seconds, None without a limit.
        default: score of the engine default, None until it is measured.
        ended: trials by state; `failures`: failed ones by class.
    """

    title: str = ""
    begun: bool = False
    budget: float | None = None
    devices: int = 1
    best: Best | None = None
    default: float | None = None
    ended: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    flying: dict[int, InFlight] = field(default_factory=dict)
    _segments: dict[int, float] = field(default_factory=dict)
    _beat: float | None = None

    def see(self, event: Event, *, live: bool = True) -> None:
        """Take in one event; one that is not live tells what a resumed run had done before."""
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)
        if not live:
            self._beat = None

    @property
    def spent(self) -> float:
        """GPU-seconds burnt until now."""
        since = 0.0 if self._beat is None else time.monotonic() - self._beat
        return sum(self._segments.values()) + since * self.devices

    @property
    def wall_left(self) -> float | None:
        """Wall seconds until the budget is burnt; None without one."""
        return None if self.budget is None else max(self.budget - self.spent, 0.0) / self.devices

    def _on_run(self, event: Event) -> None:
        engines = "+".join(event.get("engines", ()))
        self.begun = True
        self.title = f"scenario {event['scenario']} · {engines} · {event['method']} · {event['profile']}"
        self.budget = event.get("budget")
        self.devices = int(event.get("devices", 1))

    def _on_meter(self, event: Event) -> None:
        self._segments[event["segment"]] = float(event["gpu_seconds"])
        self._beat = time.monotonic()

    def _on_ask(self, event: Event) -> None:
        number = int(event["trial"])
        self.flying[number] = InFlight(
            number,
            str(event.get("engine", "")),
            event.get("config") or {},
            str(event.get("origin", "")),
            "waiting",
            time.monotonic(),
        )

    def _on_phase(self, event: Event) -> None:
        number = int(event.get("trial") or 0)
        if number not in self.flying:
            engine = "" if self.begun else "server"
            self.flying[number] = InFlight(number, engine, {}, "", "", time.monotonic())
        flight, words = self.flying[number], phase_words(event)
        if flight.phase != words:
            flight.phase, flight.since = words, time.monotonic()

    def _on_measurement(self, event: Event) -> None:
        if event.get("origin") == "baseline":
            self.flying.clear()

    def _on_trial(self, event: Event) -> None:
        self.flying.pop(int(event["trial"]), None)
        if event.get("origin") in SCORED_ALREADY:
            return
        self.ended[str(event["state"])] += 1
        if event["state"] in ("crashed", "infeasible", "invalid"):
            self.failures[failure_class(event)] += 1
        self._rank(event)

    def _rank(self, event: Event) -> None:
        score = event.get("score")
        if event["state"] != "complete" or score is None:
            return
        if event.get("origin") == "default" and self.default is None:
            self.default = float(score)
        if self.best is None or score > self.best.score:
            config = event.get("config") or {}
            self.best = Best(int(event["trial"]), str(event["engine"]), config, float(score))

    def _on_lost(self, event: Event) -> None:
        self.flying.pop(int(event["trial"]), None)

    def _on_end(self, _: Event) -> None:
        """Nothing runs: the devices are free, and no time is burnt."""
        self._beat = None
        self.flying.clear()


def phase_words(event: Event) -> str:
    """A phase, with the stretch of load that is being sent."""
    traffic = event.get("traffic")
    phase = str(event["phase"])
    return f"{phase} {traffic}" if traffic and traffic not in ("warmup", phase) else phase


def failure_class(event: Event) -> str:
    """What a failed trial failed of: its crash class, or its state."""
    return str(event.get("crash") or event["state"])


def config_words(config: Mapping[str, Any]) -> str:
    """A config as a person reads it: `max-num-seqs=8 enforce-eager`; `defaults` when nothing is set."""
    return " ".join(_flag(name, value) for name, value in config.items()) or "defaults"


def _flag(name: str, value: Any) -> str:
    if value is True:
        return name
    return f"no-{name}" if value is False else f"{name}={value}"

"""Ray Tune drives the course: a searcher hands out asks, a callback takes in what workers report."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from engines.contract import Engine
from engines.host import Host
from scenarios.meter import Meter
from scenarios.trial import Phase, State, TrialSpec
from scenarios.trial_run import refused
from search.course import Course, charged
from search.record import Ask, Record
from search.worker import SIMULATION, Task, trainable

INTERRUPTED = "interrupted"

OVERDUE = 60.0
"""Seconds after its deadline at which a trial's worker counts as hung and is killed."""

FUTILE = 3
"""Workers that may die before any trial has started, until the search gives up."""

DISTURBED = frozenset({"client-lag", "schedule", "other-process"})
"""Codes of invalid measurements that speak of the machine, not of the server."""

RETRIES = 2
"""How often the default and final trials are tried again when the machine voided them; others once."""


REFUSALS = 8
"""Refused configs in a row, until what runs is looked after again."""


class WorkersDie(Exception):
    """No worker lives long enough to start a trial."""


@dataclass
class Closing:
    """Whether a search is to end now, and why."""

    why: str | None = None

    def close(self, why: str) -> None:
        """End it; the first reason stays."""
        self.why = self.why or why


@dataclass
class Flight:
    """A trial that a worker has."""

    ask: Ask
    slots: tuple[int, ...]
    deadline: float | None
    phases: list[tuple[float, str]] = field(default_factory=list)

    @property
    def checking(self) -> bool:
        """Whether its answers are held against the model now."""
        return bool(self.phases) and self.phases[-1][1] == Phase.CHECKING.value


class Driver:
    """The search's state between Ray Tune's callbacks; everything lasting goes through the course.

    `hosts` is the host that all workers are like; None where they may differ (refusals are then theirs).
    """

    def __init__(
        self,
        course: Course,
        meter: Meter,
        base: TrialSpec,
        engines: Mapping[str, Engine],
        *,
        run_id: str,
        devices: int,
        resource: str,
        host: Host | None,
        closing: Closing,
    ) -> None:
        self.course = course
        self.meter = meter
        self.flights: dict[str, Flight] = {}
        self.closing = closing
        self._base = base
        self._engines = engines
        self._run_id = run_id
        self._devices = devices
        self._resource = resource
        self._host = host
        self._began = False
        self._more = False

    def suggest(self, tune_id: str) -> dict[str, Any] | None:
        """Config of the next Tune trial; None: nothing now. `finished` says when there is nothing more."""
        self._more = False
        if self.closing.why is not None or not self._free():
            return None
        for _ in range(REFUSALS):
            ask = self.course.ask(self.meter.wall_left)
            if ask is None:
                return None
            flight = self._flight(ask)
            spec = self._spec(flight)
            refusal = refused(self._engines[spec.engine], spec, self._host) if self._host else None
            if refusal is None:
                self.flights[tune_id] = flight
                return self._config(flight, spec)
            self.course.end(refusal)
        self._more = True
        return None

    @property
    def finished(self) -> bool:
        """Whether nothing runs; asked right after `suggest` had nothing, it means that the search is over."""
        return not self.flights and not self._more

    def take(self, tune_id: str, event: dict[str, Any]) -> None:
        """An event that a worker reported."""
        flight = self.flights.get(tune_id)
        if flight is None or flight.ask.number in self.course.record.trials:
            return
        if event["event"] == "failed":
            self._lose(flight, str(event["why"]), counts=True)
            return
        if event["event"] == "phase" and event["phase"] == Phase.STARTING.value:
            self._launched(flight)
        if event["event"] == "phase":
            self._enters(flight, event["phase"])
        if event["event"] != "trial":
            self.course.take(event)
            return
        self._enters(flight, Phase.STOPPING.value)
        why = disturbed(self.course.record, flight.ask, event)
        if why is not None:
            self.course.lose(flight.ask, why, event["gpu_seconds"], counts=True)
        else:
            self.course.take({**event, "spent": round(self.meter.spent, 3)})

    def over(self, tune_id: str, why: str | None) -> None:
        """A Tune trial is over; `why` says how it failed, None where its worker is well."""
        flight = self.flights.pop(tune_id, None)
        if flight is not None and self._open(flight):
            self._lose(flight, why or "its worker ended without a word", counts=self.closing.why is None)

    def abandon(self, why: str) -> None:
        """Whatever is in flight is lost through no fault of its own."""
        for flight in list(self.flights.values()):
            if self._open(flight):
                self._lose(flight, why, counts=False)
        self.flights.clear()

    def overdue(self) -> list[str]:
        """Tune trials that should long have stopped themselves."""
        now = time.time()
        return [
            each
            for each, flight in self.flights.items()
            if flight.deadline is not None and now > flight.deadline + OVERDUE and not flight.checking
        ]

    def _free(self) -> bool:
        return sum(len(flight.slots) for flight in self.flights.values()) < self._devices

    def _open(self, flight: Flight) -> bool:
        number = flight.ask.number
        asked = self.course.record.asks[number].attempt == flight.ask.attempt
        return asked and number not in self.course.record.trials and number not in self.course.record.lost

    def _launched(self, flight: Flight) -> None:
        self._began = True
        self.meter.start()
        if flight.deadline is None and flight.ask.left != float("inf"):
            flight.deadline = time.time() + flight.ask.left

    def _enters(self, flight: Flight, phase: str) -> None:
        """Holding answers against the model is the scorer's work: uncharged, with time of its own."""
        before = flight.checking
        flight.phases.append((time.time(), phase))
        if flight.checking != before:
            self.meter.lend(len(flight.slots) if flight.checking else -len(flight.slots))

    def _lose(self, flight: Flight, why: str, *, counts: bool) -> None:
        held = charged(flight.phases, time.time())
        self._enters(flight, Phase.STOPPING.value)
        self.course.lose(flight.ask, why, held * len(flight.slots), counts=counts)
        if not self._began and sum(self.course.record.losses.values()) >= FUTILE:
            raise WorkersDie(f"Ray's workers die before a trial starts: {why}")

    def _flight(self, ask: Ask) -> Flight:
        needed = self._engines[ask.job.engine].devices(ask.job.config)
        taken = {slot for flight in self.flights.values() for slot in flight.slots}
        free = [slot for slot in range(self._devices) if slot not in taken]
        slots = tuple((free + [slot for slot in range(needed) if slot not in free])[:needed])
        seconds = ask.seconds
        running = self._began and seconds is not None
        return Flight(ask, slots, time.time() + seconds if running and seconds is not None else None)

    def _spec(self, flight: Flight) -> TrialSpec:
        job = flight.ask.job
        return replace(
            self._base,
            number=flight.ask.number,
            attempt=flight.ask.attempt,
            engine=job.engine,
            config=job.config,
            origin=job.origin,
            plan=job.plans[0],
            devices=flight.slots,
            seconds_left=flight.ask.seconds,
            limited_by=flight.ask.limited_by,
            patience=self.course.patience(flight.ask),
            start_limit=job.start_limit,
            quality=self._base.quality if job.origin == "final" else None,
        )

    def _config(self, flight: Flight, spec: TrialSpec) -> dict[str, Any]:
        task = Task(
            spec=spec,
            decide=self.course.decide(flight.ask),
            run_id=self._run_id,
            slots=None if self._resource == "GPU" else flight.slots,
            deadline=flight.deadline,
            variables={name: value for name, value in os.environ.items() if name.startswith(SIMULATION)},
        )
        return {"devices": len(flight.slots), "task": task.packed()}


def disturbed(record: Record, ask: Ask, event: Mapping[str, Any]) -> str | None:
    """Why a trial says nothing of its config and is worth another attempt: the machine was at fault."""
    if event["state"] != State.INVALID.value:
        return None
    again = RETRIES if ask.job.origin in ("default", "final") else 1
    if record.losses.get(ask.number, 0) >= again:
        return None
    measured = [record.measurements[name] for name in event["measurements"]]
    reasons = [reason for each in measured for reason in each.invalid_reasons]
    ours = reasons and all(reason.code in DISTURBED for reason in reasons)
    return reasons[0].detail if ours else None


def drive(driver: Driver, resource: str) -> None:
    """Run Tune until the course has nothing more, or the driver is closing. Raises WorkersDie."""
    from ray import tune
    from ray.tune.search import Searcher

    from search.tune_parts import Bookkeeper, Proposals, StopAll

    placed = tune.with_resources(trainable, _placement(resource))
    with tempfile.TemporaryDirectory(prefix="ceiling-tune-") as scratch:
        searcher: Searcher = Proposals(driver)
        tune.Tuner(
            placed,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=str,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                storage_path=scratch,
                name="search",
                verbose=0,
                stop=StopAll(driver),
                callbacks=[Bookkeeper(driver)],
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        ).fit()


def _placement(resource: str) -> Callable[[Mapping[str, Any]], Any]:
    def placement(config: Mapping[str, Any]) -> Any:
        from ray.tune import PlacementGroupFactory

        return PlacementGroupFactory([{"CPU": 0, resource: config.get("devices", 1)}])

    return placement


@contextmanager
def interruptible(closing: Closing) -> Iterator[None]:
    """SIGINT and SIGTERM close the search instead of ending the process; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {each: signal.signal(each, lambda *_: closing.close(INTERRUPTED)) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def unpacked(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The event inside a Tune result."""
    packed = result.get("ceiling")
    return None if packed is None else dict(json.loads(packed))

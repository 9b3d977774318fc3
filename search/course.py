"""The course of a search: strategy and planner over a ledger, the same live and on resume.

All decisions follow from the ledger's events in order. A resumed search replays them into a fresh strategy
and a fresh planner and compares every proposal with the recorded one, so that it goes on as if it had never
stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from engines.contract import Config
from engines.space import Space, SpaceError
from scenarios.ledger import LedgerError
from scenarios.scenario import Scenario
from scenarios.trial import Decide, Phase, State, Trial
from search.joint import merged, split
from search.planners import Planner
from search.record import Ask, Job, Record
from search.strategies.costs import fits
from search.strategies.race import patience
from search.strategies.strategy import Strategy

ATTEMPTS = 3
"""How often a config is asked before it is held responsible for the loss of its workers."""


class Journal(Protocol):
    """What a course needs of a ledger: the events so far, and a place for more."""

    events: list[dict[str, Any]]

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Keep one event, and give it back as a reader will see it."""
        ...


class Course:
    """Hands out asks and takes in what comes of them; the only writer of both to the ledger."""

    def __init__(
        self, ledger: Journal, strategy: Strategy, planner: Planner, space: Space, scenario: Scenario
    ) -> None:
        self.record = Record()
        self.exhausted = False
        self._ledger = ledger
        self._strategy = strategy
        self._planner = planner
        self._space = space
        self._scenario = scenario
        for event in list(ledger.events):
            self._replay(event)

    def ask(self, left: float) -> Ask | None:
        """The next trial to run, written down; None: nothing now (or at all, if none is in flight).

        `left` is wall seconds of budget.
        """
        left = round(left, 3)
        for number in sorted(self.record.lost):
            again = self.record.asks[number]
            job = _shortened(again, left)
            room = left if job.seconds is None else job.seconds
            if fits(self.record, job, room, self._scenario):
                return self._asked(number, again.attempt + 1, job, left)
        new = self._strategy.next(self.record, left, self._propose)
        return None if new is None else self._asked(self.record.next_number, 0, new, left)

    def decide(self, ask: Ask) -> Decide | None:
        """What the worker asks after each measurement."""
        return self._strategy.decide(ask.job, self.record)

    def patience(self, ask: Ask) -> float | None:
        """Seconds after which one of its measurements is cut off as hopeless."""
        return patience(None if ask.job.rival is None else self.record.trials.get(ask.job.rival))

    def take(self, event: Mapping[str, Any]) -> None:
        """An event of a trial in flight, in order: written down, then acted on."""
        fields = {key: value for key, value in event.items() if key != "event"}
        self._fold(self._ledger.append(event["event"], **fields))

    def end(self, trial: Trial) -> None:
        """A trial's end."""
        self.take({"event": "trial", **trial.to_json(), "trial": trial.number})

    def lose(self, ask: Ask, why: str, gpu_seconds: float, *, counts: bool) -> None:
        """A trial whose worker is gone: it will be asked again, unless that happened too often.

        `counts` is False where the config cannot be to blame (the driver was killed or interrupted).
        """
        self.take(
            {
                "event": "lost",
                "trial": ask.number,
                "attempt": ask.attempt,
                "why": why,
                "gpu_seconds": round(gpu_seconds, 3),
                "counts": counts,
            }
        )
        if self.record.losses.get(ask.number, 0) >= ATTEMPTS:
            self.end(_given_up(ask, why))

    def _asked(self, number: int, attempt: int, job: Job, left: float) -> Ask:
        left_or_none = None if left == float("inf") else left
        self.take(
            {"event": "ask", "trial": number, "attempt": attempt, "left": left_or_none, **job.to_json()}
        )
        return self.record.asks[number]

    def _propose(self) -> tuple[str, Config] | None:
        config = self._planner.ask(self.record.next_number)
        if config is None:
            self.exhausted = True
            return None
        return split(self._space, config)

    def _fold(self, event: Mapping[str, Any]) -> None:
        self.record.add(event)
        if event["event"] == "trial":
            self._tell(self.record.trials[event["trial"]])

    def _tell(self, trial: Trial) -> None:
        if trial.origin == "final" or trial.state is State.STOPPED:
            return
        config = merged(self._space, trial.engine, trial.config)
        self._planner.tell(trial.number, config, trial.state, self._strategy.value(self.record, trial))

    def _replay(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "ask" and event["attempt"] == 0:
            try:
                job = self._strategy.next(self.record, _left(event), self._propose)
            except SpaceError as error:
                raise LedgerError(f"the space has changed since this search began: {error}") from error
            recorded = Job.from_json(event)
            if job is None or job.to_json() != recorded.to_json():
                raise LedgerError(_mismatch(event["trial"], recorded, job))
        self._fold(event)


def _shortened(ask: Ask, left: float) -> Job:
    """A lost trial's job with what is left: what was kept for the end when it was asked is kept still."""
    if ask.job.seconds is None:
        return ask.job
    return replace(ask.job, seconds=round(max(0.0, left - (ask.left - ask.job.seconds)), 3))


_NOTHING = "nothing"


def _left(event: Mapping[str, Any]) -> float:
    return float("inf") if event["left"] is None else float(event["left"])


def _mismatch(number: int, recorded: Job, job: Job | None) -> str:
    then, now = recorded.to_json(), job.to_json() if job else {}
    name = next(each for each in then if then[each] != now.get(each, _NOTHING))
    return (
        f"trial {number} had {name} {then[name]}, but this version proposes {now.get(name, _NOTHING)}: "
        "resume with the version that began the search, or start a new --run"
    )


def charged(phases: Sequence[tuple[float, str]], until: float) -> float:
    """Seconds from an attempt's launch to `until`, less those in which its answers were checked.

    `phases` are when (seconds of the clock) it entered each, in order; the launch is the first.
    """
    ends = [*(at for at, _ in phases[1:]), until]
    spans = zip(phases, ends[: len(phases)], strict=True)
    return sum(end - at for (at, phase), end in spans if phase != Phase.CHECKING.value)


def _given_up(ask: Ask, why: str) -> Trial:
    return Trial(
        number=ask.number,
        attempt=ask.attempt,
        engine=ask.job.engine,
        config=ask.job.config,
        origin=ask.job.origin,
        state=State.CRASHED,
        crash="worker-lost",
        detail=f"its worker was lost {ATTEMPTS} times, last: {why}",
    )

"""A made-up world in virtual time: it answers asks as workers would, without servers and without Ray."""

from __future__ import annotations

import hashlib
import heapq
import json
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engines.contract import Config, Value
from engines.space import Space
from scenarios import profiles
from scenarios.ledger import Ledger
from scenarios.measurement import Measurement, Reason
from scenarios.scenario import Plan
from scenarios.trial import Drop, State, Trial
from search import planners, strategies
from search.course import Course
from search.experts import experts
from search.joint import joint
from search.record import Ask
from search.strategies.strategy import Setting
from tests.search.landscape import SPACE

START, STOP, WHOLE = 20.0, 1.0, 40.0
"""Seconds of a start, of a teardown, and of a whole scenario's measurement."""

Score = Callable[[str, Config], float]


@dataclass
class World:
    """What configs are worth and how they behave.

    Attributes:
        score: of an engine's config, before noise.
        noise: standard deviation of log score between starts, and half of it between blocks.
        crashes, invalid: whether a config ends so; `invalid` is told the plan's seed too.
        builds: seconds more of the first start of a config that is not the default.
        slow: configs whose start takes ten minutes.
    """

    score: Score
    noise: float = 0.01
    seed: int = 0
    crashes: Callable[[str, Config], bool] = lambda engine, config: False
    invalid: Callable[[Config, int], bool] = lambda config, seed: False
    builds: float = 0.0
    slow: Callable[[Config], bool] = lambda config: False
    starts: list[tuple[float, float]] = field(default_factory=list)
    built: set[str] = field(default_factory=set)

    def run(self, ask: Ask, course: Course) -> tuple[float, Trial]:
        """How long a trial takes, and its end: of a second attempt as of the first."""
        job = ask.job
        draw = random.Random(f"{self.seed}/{ask.number}")
        blank = Trial(ask.number, ask.attempt, job.engine, job.config, job.origin, State.CRASHED)
        if self.crashes(job.engine, job.config):
            seconds = {"start": START / 2, "measure": 0.0, "stop": STOP}
            return START / 2 + STOP, replace(blank, crash="out-of-memory", seconds=seconds)
        if self.slow(job.config) and job.start_limit is not None:
            late = replace(blank, crash="start-timeout", seconds={"start": job.start_limit, "stop": STOP})
            return job.start_limit + STOP, late
        level = self.score(job.engine, job.config) * pow(2.718281828, draw.gauss(0, self.noise))
        decide, done = course.decide(ask), []
        plan: Plan | None = job.plans[0]
        state, detail = State.COMPLETE, ""
        while plan is not None:
            done.append(self._measurement(plan, level, draw, self.invalid(job.config, plan.seed)))
            if not done[-1].valid:
                state = State.INVALID
                break
            decision = decide(tuple(done)) if decide else None
            if isinstance(decision, Drop):
                state, detail = State.PRUNED, decision.why
            plan = decision if isinstance(decision, Plan) else None
        measure = sum(each.seconds for each in done)
        start = START + (0.0 if not job.config or str(job.config) in self.built else self.builds)
        self.built.add(str(job.config))
        return start + measure + STOP, replace(
            blank,
            state=state,
            detail=detail,
            score=done[-1].score,
            measurements=tuple(replace(each, id=f"{each.id}-{ask.attempt}") for each in done),
            seconds={"start": start, "measure": measure, "stop": STOP},
            gpu_seconds=start + measure + STOP,
        )

    def _measurement(self, plan: Plan, level: float, draw: random.Random, invalid: bool) -> Measurement:
        requests = json.dumps([plan.seed, plan.fidelity.block, plan.fidelity.requests])
        content = random.Random(requests).gauss(0, 0.05)
        score = level * pow(2.718281828, content + draw.gauss(0, self.noise / 2))
        reasons = (Reason("failures", "made up"),) if invalid else ()
        return Measurement(
            id=uuid.UUID(int=draw.getrandbits(128)).hex,
            scenario=plan.scenario,
            profile=plan.profile,
            seed=plan.seed,
            fidelity=plan.fidelity,
            invalid_reasons=reasons,
            score=None if invalid else score,
            interval=None if invalid else (score * 0.98, score * 1.02),
            metrics={},
            requests={},
            request_set=hashlib.sha256(requests.encode()).hexdigest(),
            provenance={},
            started=0.0,
            seconds=WHOLE * plan.fidelity.requests,
        )


@dataclass
class Search:
    """A search in virtual time."""

    run: Path
    world: World
    planner: str = "random"
    strategy: str = "ceiling"
    engines: Mapping[str, Space] = field(default_factory=lambda: {"made-up": SPACE})
    scenario: str = "A"
    wall: float | None = 1800.0
    devices: int = 1
    trials: int | None = None
    seed: int = 21
    restarts: Mapping[str, float] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    now: float = 0.0

    def setting(self) -> Setting:
        return Setting(
            defaults={name: space.canonical({}) for name, space in self.engines.items()},
            scenario=profiles.scenario("paper", self.scenario),
            profile="paper",
            text="sotu",
            dev_seed=self.seed,
            eval_seed=1337,
            wall=self.wall,
            devices=self.devices,
            trials=self.trials,
            experts={name: experts(space, {}) for name, space in self.engines.items()},
            restarts=self.restarts,
            also=self.also,
        )

    def header(self) -> dict[str, Any]:
        spec = {
            "engines": list(self.engines),
            "scenario": self.scenario,
            "profile": "paper",
            "text": "sotu",
            "strategy": self.strategy,
            "seed": self.seed,
            "eval_seed": 1337,
            "also": list(self.also),
        }
        return {"id": "made-up", "kind": "search", "spec": spec}

    def course(self, ledger: Ledger) -> Course:
        setting = self.setting()
        space = joint(self.engines)
        return Course(
            ledger,
            strategies.strategy(self.strategy, setting),
            planners.planner(self.planner, space, self.seed),
            space,
            setting.scenario,
        )

    def begin(self) -> list[dict[str, Any]]:
        """The whole search; its events."""
        with Ledger.create(self.run, self.header()) as ledger:
            self.play(ledger, self.course(ledger))
            return ledger.events

    def resume(self) -> list[dict[str, Any]]:
        """What follows a kill; all events."""
        with Ledger.resume(self.run) as ledger:
            course = self.course(ledger)
            for ask in course.record.in_flight:
                course.lose(ask, "killed", 0.0, counts=False)
            self.play(ledger, course)
            return ledger.events

    def play(self, ledger: Ledger, course: Course) -> None:
        """Virtual time passes from end to end of what is in flight."""
        flying: list[tuple[float, int, Trial]] = []
        while True:
            while len(flying) < self.devices:
                left = float("inf") if self.wall is None else self.wall - self.now
                ask = course.ask(left)
                if ask is None:
                    break
                seconds, trial = self.world.run(ask, course)
                self.world.starts.append((self.now, self.now + seconds))
                heapq.heappush(flying, (self.now + seconds, ask.number, trial))
            if not flying:
                break
            self.now, _, trial = heapq.heappop(flying)
            for measurement in trial.measurements:
                told = {"trial": trial.number, "attempt": trial.attempt, **measurement.to_json()}
                course.take({"event": "measurement", **told})
            course.end(trial)
        ledger.append("meter", segment=0, devices=self.devices, gpu_seconds=self.now * self.devices)


def asks(events: list[dict[str, Any]], *origins: str) -> list[tuple[str, dict[str, Value]]]:
    """Engines and configs in the order of their first ask."""
    return [
        (event["engine"], event["config"])
        for event in events
        if event["event"] == "ask" and event["attempt"] == 0 and (not origins or event["origin"] in origins)
    ]

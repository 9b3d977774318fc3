"""One search in virtual time: the real strategy, planner and course over a ledger in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engines.contract import Config
from scenarios.trial import State, Trial
from search import planners, strategies
from search.course import Course
from search.experts import experts as expert_configs
from search.joint import joint
from search.strategies.strategy import Setting, Strategy
from studies.benchmarks.search_policies.bench import Bench
from studies.benchmarks.search_policies.world import World

EVAL_SEED = 1337
FIRST_SEED = 21
ANSWERS = (State.COMPLETE, State.STOPPED)


UNAIDED = "unaided"


@dataclass(frozen=True)
class Policy:
    """A strategy on a planner, written `ceiling-tpe`; `ceiling-tpe-unaided` tries no expert configs."""

    strategy: str
    planner: str
    experts: bool = True

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Raises ValueError, which lists the choices."""
        strategy, _, rest = text.partition("-")
        planner, _, unaided = rest.partition("-")
        if (
            unaided not in ("", UNAIDED)
            or strategy not in strategies.NAMES
            or planner not in planners.names()
        ):
            raise ValueError(
                f"no policy {text!r}: write STRATEGY-PLANNER, one of {', '.join(strategies.NAMES)} "
                f"and one of {', '.join(planners.names())}"
            )
        return cls(strategy, planner, not unaided)

    def __str__(self) -> str:
        return f"{self.strategy}-{self.planner}" + ("" if self.experts else f"-{UNAIDED}")


@dataclass(frozen=True)
class Run:
    """What came of one search.

    Attributes:
        submitted: true quality of what it submits, as a ratio to the default's; None where that is nothing.
            A finalist counts even if the budget ended while it was measured.
        curve: (GPU-seconds, true quality of what it would name best then), a point a change.
        outcomes: trials by state.
    """

    policy: Policy
    seed: int
    budget: float
    spent: float
    submitted: float | None
    curve: tuple[tuple[float, float], ...]
    outcomes: Mapping[str, int] = field(default_factory=dict)


class Memory:
    """A ledger's events in memory, each as a reader of the file would see it."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Keep one event."""
        written: dict[str, Any] = json.loads(json.dumps({"event": event, **fields}))
        self.events.append(written)
        return written


def play(world: World, policy: Policy, seed: int, budget: float) -> Run:
    """The whole search, within `budget` GPU-seconds of one device. What planners take is not charged."""
    return _Play(world, policy, seed, budget).run()


class _Play:
    def __init__(self, world: World, policy: Policy, seed: int, budget: float) -> None:
        setting = _setting(world, seed, budget, experts=policy.experts)
        space = joint(world.spaces)
        self._world, self._policy, self._seed, self._budget = world, policy, seed, budget
        self._strategy: Strategy = strategies.strategy(policy.strategy, setting)
        self._planner = planners.planner(policy.planner, space, FIRST_SEED + seed)
        self._course = Course(Memory(), self._strategy, self._planner, space, world.scenario)
        self._bench = Bench(world, seed)
        self._now = 0.0
        self._curve: list[tuple[float, float]] = []
        engine, default = next(iter(setting.defaults.items()))
        self._unit = world.truth(engine, default)

    def run(self) -> Run:
        course = self._course
        while (ask := course.ask(self._budget - self._now)) is not None:
            trial = self._bench.refused(ask)
            if trial is None:
                trial = self._bench.run(ask, course.decide(ask), course.patience(ask))
            self._take(trial)
        submitted = self._strategy.verdict(course.record).trial
        trials = course.record.trials
        outcomes = {state.value: sum(each.state is state for each in trials.values()) for state in State}
        final = None if submitted is None else trials[submitted]
        return Run(
            policy=self._policy,
            seed=self._seed,
            budget=self._budget,
            spent=self._now,
            submitted=None if final is None or final.state not in ANSWERS else self._quality(final),
            curve=tuple(self._curve),
            outcomes={name: count for name, count in outcomes.items() if count},
        )

    def _take(self, trial: Trial) -> None:
        self._now += trial.gpu_seconds
        for measurement in trial.measurements:
            told = {"trial": trial.number, "attempt": trial.attempt, **measurement.to_json()}
            self._course.take({"event": "measurement", **told})
        self._course.end(trial)
        best = self._strategy.best(self._course.record)
        if best is not None:
            quality = self._quality(best)
            if not self._curve or quality != self._curve[-1][1]:
                self._curve.append((self._now, quality))

    def _quality(self, trial: Trial) -> float:
        config: Config = trial.config
        return self._world.truth(trial.engine, config) / self._unit


def _setting(world: World, seed: int, budget: float, *, experts: bool) -> Setting:
    defaults = {name: space.canonical({}) for name, space in world.spaces.items()}
    known = {name: expert_configs(space, defaults[name]) for name, space in world.spaces.items()}
    return Setting(
        defaults=defaults,
        experts=known if experts else {},
        restarts=world.restarts,
        scenario=world.scenario,
        profile=world.profile.name,
        text=world.profile.text,
        dev_seed=FIRST_SEED + seed,
        eval_seed=EVAL_SEED + seed,
        wall=budget,
    )

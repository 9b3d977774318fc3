"""Runs asks in a world, with noise and limits, as workers run them on machines."""

from __future__ import annotations

import hashlib
import math
import random
import uuid
from collections.abc import Callable
from dataclasses import replace

from scenarios.measurement import Measurement, Reason
from scenarios.scenario import Plan
from scenarios.trial import Decide, Drop, State, Trial
from search.planners.draws import key
from search.record import Ask
from studies.benchmarks.search_policies.serving import Figures
from studies.benchmarks.search_policies.world import STOP_SECONDS, World

START_NOISE = 0.015
"""Standard deviation of log score from start to start, as the simulated engine and vLLM on a CPU have it."""

REQUEST_NOISE = 0.04
"""The same of one request on one server; a measurement of n requests has 1 / sqrt(n) of it."""

CONTENT_NOISE = 0.06
"""The same between requests (lengths are drawn), alike for all configs that serve the same ones."""

NOISE_FLOOR = math.sqrt(2) * 1.96 * START_NOISE
"""Relative difference that two scorings of one config in two starts stay within, 95 % of the time."""

Tell = Callable[[Measurement], None]


class Bench:
    """One machine with one device, in virtual time. The same seed gives the same noise."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._started: set[str] = set()

    def refused(self, ask: Ask) -> Trial | None:
        """The end of a trial that the static guards refuse, at no cost."""
        why = self._world.refusal(ask.job.engine, ask.job.config)
        if why is None:
            return None
        return replace(_blank(ask, State.INFEASIBLE), crash="infeasible", detail=why)

    def run(self, ask: Ask, decide: Decide | None, patience: float | None) -> Trial:
        """A trial to its end; `gpu_seconds` is what it took, and `patience` bounds each measurement."""
        draw = random.Random(f"{self._seed}/{ask.number}")
        trial = _Run(self._world, ask, decide, patience, draw, self._again(ask)).trial()
        if trial.measurements:
            self._started.add(_name(ask))
        return trial

    def _again(self, ask: Ask) -> float:
        """The share of its first start that a config's start takes now."""
        return self._world.restarts.get(ask.job.engine, 1.0) if _name(ask) in self._started else 1.0


class _Run:
    def __init__(
        self,
        world: World,
        ask: Ask,
        decide: Decide | None,
        patience: float | None,
        draw: random.Random,
        again: float,
    ) -> None:
        self._world = world
        self._ask = ask
        self._decide = decide
        self._patience = math.inf if patience is None else patience
        self._draw = draw
        self._again = again
        self._level = math.exp(draw.gauss(0.0, START_NOISE))
        self._left = math.inf if ask.seconds is None else ask.seconds
        self._done: list[Measurement] = []
        self._served = 0

    def trial(self) -> Trial:
        job = self._ask.job
        start = self._world.start(job.engine, job.config)
        start = replace(start, seconds=start.seconds * self._again)
        if start.seconds >= self._left:
            return self._ended(
                State.STOPPED, self._left, detail=f"{self._ask.limited_by} ended before the server was ready"
            )
        limit = math.inf if job.start_limit is None else job.start_limit
        if start.seconds > limit:
            late = self._ended(State.CRASHED, limit, detail=f"not ready after {limit:.0f} s")
            return replace(late, crash="start-timeout")
        if start.crash is not None:
            return replace(self._ended(State.CRASHED, start.seconds, detail=start.crash), crash="unknown")
        self._left -= start.seconds
        state, detail = self._measured()
        return self._ended(state, start.seconds, detail=detail)

    def _measured(self) -> tuple[State, str]:
        plan: Plan | None = self._ask.job.plans[0]
        while plan is not None:
            if self._left <= 0:
                return State.STOPPED, f"{self._ask.limited_by} ended before the measurement began"
            measurement = self._measure(plan)
            self._done.append(measurement)
            self._left -= measurement.seconds
            if not measurement.valid:
                return self._cut_off(measurement)
            decision = self._decide(tuple(self._done)) if self._decide else None
            if isinstance(decision, Drop):
                return State.PRUNED, decision.why
            plan = decision
        return State.COMPLETE, ""

    def _cut_off(self, measurement: Measurement) -> tuple[State, str]:
        if self._left <= 0:
            return State.STOPPED, f"{self._ask.limited_by} ended during the measurement"
        return State.PRUNED, f"not done after {measurement.seconds:.0f} s: clearly behind"

    def _measure(self, plan: Plan) -> Measurement:
        job = self._ask.job
        figures = self._world.figures(job.engine, job.config, plan.fidelity, self._served)
        self._served += figures.requests
        seconds = figures.seconds / self._level
        limit = min(self._left, self._patience)
        over = seconds > limit
        score = None if over else figures.score * self._level * self._read(plan, figures)
        spread = math.exp(1.96 * CONTENT_NOISE / math.sqrt(figures.requests))
        return Measurement(
            id=uuid.UUID(int=self._draw.getrandbits(128)).hex,
            scenario=plan.scenario,
            profile=plan.profile,
            seed=plan.seed,
            fidelity=plan.fidelity,
            invalid_reasons=(Reason("failures", "never sent"),) if over else (),
            score=score,
            interval=None if score is None else (score / spread, score * spread),
            metrics={},
            requests={"asked": figures.requests},
            request_set=hashlib.sha256(repr(plan).encode()).hexdigest(),
            provenance={},
            started=0.0,
            seconds=min(seconds, limit),
        )

    def _read(self, plan: Plan, figures: Figures) -> float:
        """The factor between the truth of this server and what is read off it."""
        few = math.sqrt(figures.requests)
        content = random.Random(repr(plan)).gauss(0.0, CONTENT_NOISE / few)
        return math.exp(content + self._draw.gauss(0.0, REQUEST_NOISE / few))

    def _ended(self, state: State, start: float, *, detail: str) -> Trial:
        measure = sum(each.seconds for each in self._done)
        served = state in (State.COMPLETE, State.PRUNED) and self._done
        return replace(
            _blank(self._ask, state),
            score=self._done[-1].score if served else None,
            detail=detail,
            measurements=tuple(self._done),
            seconds={"start": start, "measure": measure, "stop": STOP_SECONDS},
            gpu_seconds=start + measure + STOP_SECONDS,
        )


def _name(ask: Ask) -> str:
    return f"{ask.job.engine} {key(ask.job.config)}"


def _blank(ask: Ask, state: State) -> Trial:
    job = ask.job
    return Trial(ask.number, ask.attempt, job.engine, job.config, job.origin, state)

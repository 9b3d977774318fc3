"""Runs one trial: start a server, measure it, end it, and say how it ended."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engines.contract import CrashClass, Engine, Infeasible, ServerCrashed, UnsupportedFlag
from engines.host import Host, this_host
from engines.nvml import NVML, Inventory
from engines.ports import LOOPBACK
from engines.registry import engine as engine_named
from engines.server import Server, shell_line
from engines.warm import interpreters
from scenarios import profiles
from scenarios.kept import compare
from scenarios.measurement import Measurement
from scenarios.scenario import Plan
from scenarios.score import Unreachable, authenticate, score
from scenarios.trial import CHECKED, Decide, Drop, Observer, Phase, State, Trial, TrialSpec

ANY_PORT = 8000
"""The port of a command line that is shown, not run."""


def run_trial(
    spec: TrialSpec,
    observer: Observer,
    decide: Decide | None = None,
    run_id: str = "",
    engine: Engine | None = None,
    inventory: Inventory = NVML,
) -> Trial:
    """One trial, from refusal or launch to confirmed teardown. It never raises for what a config did.

    `observer` gets `phase` and `measurement` events as they happen. `decide` is asked after each valid
    measurement. `run_id` marks the server's processes for `engines.server.reap`. `engine` starts the server
    in place of the one that `spec.engine` names (an agent's launcher does). `inventory` shows the GPUs.
    """
    engine = engine or engine_named(spec.engine)
    refusal = refused(engine, spec, this_host(inventory))
    if refusal is not None:
        return refusal
    return _Run(engine, spec, observer, decide, run_id, inventory).trial()


def refused(engine: Engine, spec: TrialSpec, host: Host) -> Trial | None:
    """The end of a trial that nothing needs to be launched for, None where it has to be run."""
    try:
        _check_length(engine, spec)
        engine.check(spec.config, spec.model, host)
        engine.command(spec.config, spec.model, LOOPBACK, ANY_PORT)
    except Infeasible as error:
        return replace(_blank(spec, State.INFEASIBLE), crash="infeasible", detail=str(error))
    except UnsupportedFlag as error:
        crash = CrashClass.UNSUPPORTED_FLAG.value
        return replace(_blank(spec, State.INFEASIBLE), crash=crash, detail=str(error))
    return None


def _check_length(engine: Engine, spec: TrialSpec) -> None:
    shape = profiles.scenario(spec.plan.profile, spec.plan.scenario)
    if shape.length == "forced" and not engine.capabilities.force_length:
        raise Infeasible(
            f"{engine.name} cannot force an answer's length: measure it, and all that it is compared with, "
            "with --length natural"
        )
    if shape.length == "natural" and spec.model.weights == "dummy":
        raise Infeasible("random weights never end an answer by themselves: leave --length natural out")


def _blank(spec: TrialSpec, state: State) -> Trial:
    return Trial(
        number=spec.number,
        attempt=spec.attempt,
        engine=spec.engine,
        config=spec.config,
        origin=spec.origin,
        state=state,
        devices=len(spec.devices),
    )


def _void(spec: TrialSpec, measurement: Measurement) -> Trial:
    reason = measurement.invalid_reasons[0]
    return replace(_blank(spec, State.INVALID), detail=f"{reason.code}: {reason.detail}")


@dataclass
class _Run:
    engine: Engine
    spec: TrialSpec
    observer: Observer
    decide: Decide | None
    run_id: str
    inventory: Inventory
    measurements: list[Measurement] = field(default_factory=list)

    def trial(self) -> Trial:
        launched, began = time.time(), time.monotonic()
        self.deadline = began + self.spec.seconds_left if self.spec.seconds_left is not None else None
        server = self._server()
        ready = stopping = None
        try:
            self._phase(Phase.STARTING)
            with server:
                ready = time.monotonic()
                try:
                    ended = self._measured(server)
                finally:
                    stopping = time.monotonic()
                    self._phase(Phase.STOPPING)
        except ServerCrashed as error:
            ended = self._crashed(error, started=ready is not None)
        gone = time.monotonic()
        ended = self._settled(ended, server)
        left = server.seconds.get("stop", 0.0) if stopping is None else gone - stopping
        started = (ready or gone - left) - began
        return replace(
            ended,
            measurements=tuple(self.measurements),
            seconds=_rounded(
                {"start": started, "measure": gone - began - started - left, "stop": left}
                | ({"check": time.monotonic() - gone} if self._held_back and self.measurements else {}),
            ),
            gpu_seconds=round(len(self.spec.devices) * (gone - began), 3),
            launched=launched,
            command=shell_line(server.launch),
            warm=server.warm,
            held=server.held.to_json(),
        )

    def _server(self) -> Server:
        spec = self.spec
        timeout = min(self.engine.start_timeout(spec.config), spec.start_limit or math.inf)
        return Server(
            self.engine,
            spec.config,
            spec.model,
            log=Path(spec.run) / "logs" / f"trial-{spec.number}-{spec.attempt}.log",
            devices=spec.devices,
            run_id=self.run_id,
            start_timeout=timeout if self.deadline is None else max(0.1, min(timeout, self._left())),
            interpreters=interpreters(spec.starts, this_host(self.inventory)),
            inventory=self.inventory,
        )

    def _measured(self, server: Server) -> Trial:
        """The trial's end as far as the measurements decide it."""
        plan: Plan | None = self.spec.plan
        dropped = None
        while plan is not None:
            if self._over():
                return self._stopped(f"{self.spec.limited_by} ended before the measurement began")
            try:
                measurement = self._measure(server, plan)
            except Unreachable as error:
                raise server.death() or ServerCrashed(CrashClass.DIED, str(error), server.tail()) from error
            death = server.death()
            if death is not None:
                raise death
            if not measurement.valid:
                return self._not_valid(measurement)
            decision = self.decide(tuple(self.measurements)) if self.decide else None
            dropped = decision if isinstance(decision, Drop) else None
            plan = decision if isinstance(decision, Plan) else None
        state = State.PRUNED if dropped else State.COMPLETE
        return replace(
            _blank(self.spec, state),
            score=self.measurements[-1].score,
            detail=dropped.why if dropped else "",
        )

    def _measure(self, server: Server, plan: Plan) -> Measurement:
        spec, named = self.spec, self.engine.capabilities.names_model
        measurement = score(
            server.url,
            plan.scenario,
            profile=plan.profile,
            seed=plan.seed,
            model=spec.model,
            fidelity=plan.fidelity,
            text=plan.text,
            served_model=spec.model.name if named else str(spec.model.path),
            out=Path(spec.run) / "rows",
            observer=self._relay,
            limit_seconds=self._limit(),
            devices=server.held.devices,
            inventory=self.inventory,
            simulated=not self.engine.real,
            quality=spec.quality,
            rehearse=self._rehearses(plan),
        )
        self.measurements.append(measurement)
        if not self._held_back:
            self._tell(measurement)
        return measurement

    def _rehearses(self, plan: Plan) -> bool:
        """Not a scenario that this server has met; nor one that serves one by one, which has one width."""
        met = [(one.profile, one.scenario) for one in self.measurements]
        return plan.fidelity.serial is None and (plan.profile, plan.scenario) not in met

    @property
    def _held_back(self) -> bool:
        """Whether measurements are told only once their text has been held against the model."""
        return self.spec.origin in CHECKED and self.spec.model.weights == "real" and self.engine.real

    def _settled(self, ended: Trial, server: Server) -> Trial:
        """With the answers of all measurements judged: the server is gone, its devices are free for that."""
        if not self._held_back or not self.measurements:
            return ended
        places = [Path(self.spec.run) / "rows" / one.id for one in self.measurements]
        self._phase(Phase.CHECKING)
        self.measurements = list(authenticate(places, self.spec.model, server.held.devices))
        if self.spec.quality is not None:
            self.measurements = [
                compare(place, self.spec.quality, self.spec.model, server.held.devices) for place in places
            ]
        for measurement in self.measurements:
            self._tell(measurement)
        wrong = [one for one in self.measurements if not one.valid]
        if wrong and ended.state in (State.COMPLETE, State.PRUNED):
            return _void(self.spec, wrong[0])
        return ended

    def _tell(self, measurement: Measurement) -> None:
        self.observer(self._event("measurement", **measurement.to_json()))

    def _not_valid(self, measurement: Measurement) -> Trial:
        if self._over():
            return self._stopped(f"{self.spec.limited_by} ended during the measurement")
        patience = self.spec.patience
        cut = any(reason.code == "failures" for reason in measurement.invalid_reasons)
        if patience is not None and measurement.seconds >= patience and cut:
            return replace(
                _blank(self.spec, State.PRUNED), detail=f"not done after {patience:.0f} s: clearly behind"
            )
        return _void(self.spec, measurement)

    def _crashed(self, error: ServerCrashed, *, started: bool) -> Trial:
        if error.crash is CrashClass.START_TIMEOUT and self._over():
            return self._stopped(f"{self.spec.limited_by} ended before the server was ready")
        crash = CrashClass.DIED if started and error.crash is CrashClass.UNKNOWN else error.crash
        return replace(_blank(self.spec, State.CRASHED), crash=crash.value, detail=error.detail)

    def _stopped(self, why: str) -> Trial:
        return replace(_blank(self.spec, State.STOPPED), detail=why)

    def _limit(self) -> float | None:
        limits = [self.spec.patience, None if self.deadline is None else self._left()]
        return min((limit for limit in limits if limit is not None), default=None)

    def _left(self) -> float:
        assert self.deadline is not None
        return self.deadline - time.monotonic()

    def _over(self) -> bool:
        return self.deadline is not None and self._left() <= 0

    def _phase(self, phase: Phase) -> None:
        self.observer(self._event("phase", phase=phase.value))

    def _relay(self, event: Mapping[str, Any]) -> None:
        """What the scorer reports, under this trial's number."""
        fields = {key: value for key, value in event.items() if key != "event"}
        self.observer(self._event(event["event"], **fields))

    def _event(self, event: str, **fields: Any) -> dict[str, Any]:
        return {"event": event, "trial": self.spec.number, "attempt": self.spec.attempt, **fields}


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(max(0.0, value), 3) for name, value in seconds.items()}

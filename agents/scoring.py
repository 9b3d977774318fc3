"""The measurement behind `./score`: the common scorer on the dev seed, with a snapshot and a trial."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from agents.case import Case, Record
from agents.launcher import Script, read_script
from agents.serving import Served, blank_trial
from agents.snapshot import Snapshot, take
from agents.unseen import Unseen
from engines.host import Device
from engines.ports import LOOPBACK, answers
from scenarios.bystanders import listeners
from scenarios.measurement import Measurement
from scenarios.meter import Meter
from scenarios.scenario import FULL, Fidelity, Plan
from scenarios.score import Unreachable, score
from scenarios.trial import Phase, State, Trial
from scenarios.workload import blocks


class NothingServes(Exception):
    """There is no server to score."""


@dataclass(frozen=True)
class _Job:
    number: int
    script: Script
    snapshot: Snapshot
    fidelity: Fidelity
    seed: int
    served: Served | None
    began: float


class Scoring:
    """Measures what runs. Callers take turns; `over` tells that the run is ending."""

    def __init__(
        self, case: Case, record: Record, meter: Meter, workspace: Path, over: Callable[[], bool]
    ) -> None:
        self._case = case
        self._record = record
        self._meter = meter
        self._workspace = workspace
        self._over = over
        spec = case.spec
        plan = Plan(spec.scenario, spec.profile, spec.seed, FULL, spec.text)
        self._unseen = Unseen(spec.seed, spec.eval_seed, partial(blocks, plan, spec.model))

    def measure(self, served: Served | None, *, quick: bool) -> dict[str, Any]:
        """Score the supervised server, or else the agent's own. Raises NothingServes.

        Returns what the agent is told: `valid`, `invalid_reasons`, `score`, `metrics` and so on.
        """
        port = served.server.port if served else self._case.port
        if not answers(port):
            self._record.note("score-refused", detail="nothing was serving")
            raise NothingServes(f"nothing serves: run ./serve, or your own server on port {port}")
        seed, block = self._unseen.deal(listeners(port))
        fidelity = replace(self._case.spec.quick if quick else FULL, block=block)
        job = self._asked(served, fidelity, seed)
        blank = blank_trial(self._case, job.number, job.script)
        try:
            measurement = self._scored(f"http://{LOOPBACK}:{port}", job)
        except Unreachable as error:
            crashed = replace(blank, state=State.CRASHED, crash="unreachable", detail=str(error))
            self._ended(crashed, job)
            return {"trial": job.number, "valid": False, "score": None, "detail": str(error)}
        self._record.measurement(job.number, measurement)
        seconds = self._ended(_judged(blank, measurement, over=self._over()), job)
        return {"trial": job.number, **_report(measurement), "seconds": seconds}

    def _asked(self, served: Served | None, fidelity: Fidelity, seed: int) -> _Job:
        number = self._record.number()
        now = read_script(self._workspace)
        script = served.script if served else now
        snapshot = take(self._workspace, self._case.run, f"{number:03}")
        self._record.ask(
            number,
            script,
            "agent",
            snapshot,
            by="serve" if served else "agent",
            fidelity=fidelity.requests,
            edited_since_start=now.sha256 != script.sha256,
        )
        self._record.phase(number, Phase.MEASURING)
        return _Job(number, script, snapshot, fidelity, seed, served, time.monotonic())

    def _scored(self, url: str, job: _Job) -> Measurement:
        spec = self._case.spec
        return score(
            url,
            spec.scenario,
            profile=spec.profile,
            seed=job.seed,
            model=spec.model,
            fidelity=job.fidelity,
            text=spec.text,
            served_model=spec.model.name,
            out=self._case.run / "rows",
            observer=self._record.relay(job.number),
            limit_seconds=max(0.1, self._meter.wall_left),
            simulated=not self._case.real,
            devices=_devices(self._case),
        )

    def _ended(self, trial: Trial, job: _Job) -> float:
        """Record the end; the first score of a supervised server carries its start. Returns seconds."""
        measure = time.monotonic() - job.began
        start = 0.0
        if job.served and not job.served.charged:
            start, job.served.charged = job.served.server.seconds["start"], True
        seconds = {"start": round(start, 3), "measure": round(measure, 3), "stop": 0.0}
        charged = replace(trial, seconds=seconds, gpu_seconds=round((start + measure) * trial.devices, 3))
        self._record.trial(charged, job.script, job.snapshot, job.fidelity)
        return round(measure, 2)


def _devices(case: Case) -> tuple[Device, ...]:
    """The GPUs that the agent holds; none on a CPU, or where its engines only simulate."""
    held = case.host.devices if case.real and case.host.kind == "cuda" else ()
    return tuple(device for device in held if device.index in case.spec.devices)


def _judged(blank: Trial, measurement: Measurement, *, over: bool) -> Trial:
    """How a trial ended. A quick score's is `pruned`: less than the whole was measured."""
    trial = replace(blank, measurements=(measurement,))
    if measurement.valid:
        state = State.COMPLETE if measurement.fidelity.full else State.PRUNED
        return replace(trial, state=state, score=measurement.score)
    if over:
        return replace(trial, state=State.STOPPED, detail="the run ended during the measurement")
    reason = measurement.invalid_reasons[0]
    return replace(trial, state=State.INVALID, detail=f"{reason.code}: {reason.detail}")


def _report(measurement: Measurement) -> dict[str, Any]:
    return {
        "valid": measurement.valid,
        "invalid_reasons": [{"code": r.code, "detail": r.detail} for r in measurement.invalid_reasons],
        "score": measurement.score,
        "interval": measurement.interval,
        "full": measurement.fidelity.full,
        "metrics": dict(measurement.metrics),
        "requests": dict(measurement.requests),
    }

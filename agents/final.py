"""Final scoring: the launcher, run again from a fresh copy in a clean environment, on the held-out seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.case import Case, Record
from agents.launcher import Launcher, environment, read_script
from agents.sandbox import Box
from agents.snapshot import fresh_copy, remove, take
from agents.workspace import Places, make_room
from engines.server import reap
from scenarios.profiles import scenario
from scenarios.scenario import FULL, Plan
from scenarios.trial import Trial, TrialSpec
from scenarios.trial_run import run_trial

SLACK = 60.0
UNMEASURED = 3600.0
"""Seconds for the scoring of a server when nothing on this machine says how long one takes."""


def submit(case: Case, record: Record, places: Places, box: Box) -> None:
    """Copy the workspace, start its launcher, score it, and put the trial `final` in the record.

    A scoring that is void through no doing of the server's is done again, from another fresh copy.
    """
    while not record.submitted:
        _scored(case, record, places, box)


def _scored(case: Case, record: Record, places: Places, box: Box) -> Trial:
    reap(case.run_id)
    asked = [e for e in record.events if e["event"] == "ask" and e["origin"] == "final"]
    number = asked[0]["trial"] if asked else record.number()
    copy = _copied(places, record)
    script, snapshot = read_script(copy), take(copy, case.run, "final")
    record.ask(number, script, "final", snapshot, attempt=len(asked))
    spec = case.spec
    trial = run_trial(
        TrialSpec(
            number=number,
            attempt=len(asked),
            engine=script.engine,
            config=script.config,
            origin="final",
            model=spec.model,
            plan=Plan(spec.scenario, spec.profile, spec.eval_seed, FULL, spec.text),
            run=str(case.run),
            devices=spec.devices,
            seconds_left=case.ready_limit + _limit(case, record),
            quality=spec.quality,
        ),
        record.pass_on,
        run_id=case.run_id,
        engine=_launcher(case, box),
    )
    record.trial(replace(trial, command=case.paste_line), script, snapshot, FULL)
    return trial


def _copied(places: Places, record: Record) -> Path:
    """A fresh copy of the workspace, with a new home and temporary directory beside it."""
    remove(places.fresh)
    lost = fresh_copy(places.live / "workspace", places.fresh / "workspace")
    if lost:
        record.note("not-copied", detail=list(lost[:20]))
    make_room(places.fresh)
    return places.fresh / "workspace"


def _launcher(case: Case, box: Box) -> Launcher:
    env = environment(case.spec.model, case.cuda, box)
    return Launcher(box, env, case.ready_limit, len(case.spec.devices), real=case.real)


def _limit(case: Case, record: Record) -> float:
    """Seconds that scoring may take: somewhat more than the baseline would, else than the agent's longest."""
    baseline = record.baseline
    if baseline is not None:
        asked = sum(traffic.requests for traffic in scenario(case.spec.profile, case.spec.scenario).traffics)
        share = float(baseline["requests"]["asked"]) / asked
        return 1.25 * float(baseline["seconds"]) / share + SLACK
    seen = [_measured(event) for event in record.events if event["event"] == "trial" and event.get("full")]
    return 4.0 * max(seen) + SLACK if any(seen) else UNMEASURED


def _measured(trial: Mapping[str, Any]) -> float:
    return float(trial["seconds"].get("measure", 0.0))

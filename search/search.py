"""`search`: from a spec to a ledger with a result in it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from engines.host import Host, this_host
from engines.server import reap
from scenarios import profiles
from scenarios.baseline import baseline
from scenarios.device_use import watched
from scenarios.ledger import Ledger, LedgerError, header
from scenarios.meter import Meter
from scenarios.provenance import moved
from scenarios.quality.admission import admit
from scenarios.scenario import Plan
from scenarios.trial import Observer, TrialSpec
from scenarios.workload import build
from search import planners, strategies
from search.cluster import connected, resource, worker_hosts
from search.course import Course, charged
from search.driver import INTERRUPTED, Closing, Driver, drive, interruptible
from search.result import result
from search.spec import Prepared, SearchError, SearchSpec, prepare, same_search
from search.starts import remember_start

__all__ = ["SearchError", "SearchResult", "SearchSpec", "search"]


@dataclass(frozen=True)
class SearchResult:
    """What came of a search.

    Attributes:
        run: its directory.
        reason: why it ended: `budget`, `space`, `trials`, `interrupted`.
        result: the ledger's `result` fields.
    """

    run: Path
    reason: str
    result: Mapping[str, Any]


def search(
    spec: SearchSpec,
    run: Path,
    *,
    resume: bool = False,
    observer: Observer | None = None,
    address: str | None = None,
) -> SearchResult:
    """Search, or go on with a search; everything is in `run`'s ledger when this returns.

    Raises SearchError, LedgerError, TaskError or an EngineError before anything starts, in one line that
    names the fix.
    """
    with ExitStack() as stack:
        if address is not None:
            stack.enter_context(connected(spec.devices, address))
        hosts = [this_host()] if address is None else worker_hosts(spec)
        prepared = prepare(spec, hosts[0], here=address is None)
        for letter in (spec.scenario, *spec.also):
            build(replace(_plan(prepared), scenario=letter), spec.model)
        if spec.quality is not None:
            held_out = replace(_plan(prepared), seed=spec.eval_seed)
            admit(spec.quality, held_out, spec.model, tuple(prepared.engines.values()))
        with _ledger(prepared, run, resume) as ledger:
            return _run(prepared, ledger, observer, hosts)


def _run(
    prepared: Prepared, ledger: Ledger, observer: Observer | None, hosts: Sequence[Host]
) -> SearchResult:
    if observer is not None:
        for event in ledger.events:
            observer(event)
        ledger.subscribe(observer)
    ended = [event["reason"] for event in ledger.events if event["event"] == "end"]
    if ended and ended[-1] != INTERRUPTED:
        return SearchResult(ledger.run, ended[-1], result(ledger.events))
    _measure_baseline(prepared, ledger, observer)
    reason = _searched(prepared, ledger, hosts)
    outcome = result(ledger.events)
    ledger.append("result", **outcome)
    ledger.append("end", reason=reason)
    return SearchResult(ledger.run, reason, outcome)


def _searched(prepared: Prepared, ledger: Ledger, hosts: Sequence[Host]) -> str:
    """Run until the end; why it ended."""
    spec, run_id = prepared.spec, header(ledger.events)["id"]
    course = _course(prepared, ledger)
    reap(run_id)
    _close_flights(course, ledger)
    meter = Meter(ledger, spec.devices, spec.budget)
    closing = Closing()
    with (
        watched(ledger),
        interruptible(closing),
        connected(spec.devices, None),
        interruptible(closing),
        meter,
    ):
        name = resource(prepared)
        driver = Driver(
            course,
            meter,
            _base(prepared, ledger.run),
            prepared.engines,
            run_id=run_id,
            devices=spec.devices,
            resource=name,
            host=hosts[0] if all(host == hosts[0] for host in hosts) else None,
            closing=closing,
        )
        drive(driver, name)
        reap(run_id)
        driver.abandon(closing.why or "the driver ended")
    _remember_starts(prepared, course)
    if closing.why not in (None, INTERRUPTED):
        raise SearchError(str(closing.why))
    return closing.why or _reason(prepared, course)


def _reason(prepared: Prepared, course: Course) -> str:
    explored = course.record.count("default", "expert", "planner")
    if prepared.spec.trials is not None and explored >= prepared.spec.trials:
        return "trials"
    return "space" if course.exhausted else "budget"


def _course(prepared: Prepared, ledger: Ledger) -> Course:
    spec = prepared.spec
    seed = spec.seed if spec.planner_seed is None else spec.planner_seed
    return Course(
        ledger,
        strategies.strategy(spec.strategy, prepared.setting),
        planners.planner(spec.planner, prepared.space, seed),
        prepared.space,
        prepared.setting.scenario,
    )


def _close_flights(course: Course, ledger: Ledger) -> None:
    """What was in flight when the last driver died is lost, and charged until the last word it had."""
    if not course.record.in_flight:
        return
    last = ledger.events[-1]["at"]
    for ask in course.record.in_flight:
        phases = [
            (event["at"], event["phase"])
            for event in ledger.events
            if event["event"] == "phase" and (event["trial"], event["attempt"]) == (ask.number, ask.attempt)
        ]
        course.lose(ask, "the driver died", charged(phases, last), counts=False)


def _measure_baseline(prepared: Prepared, ledger: Ledger, observer: Observer | None) -> None:
    spec = prepared.spec
    if not spec.baseline or any(event.get("origin") == "baseline" for event in ledger.events):
        return
    measured = baseline(spec.model, spec.scenario, spec.profile, spec.seed, observer=observer, text=spec.text)
    ledger.append("measurement", trial=None, attempt=0, origin="baseline", **measured.to_json())


def _base(prepared: Prepared, run: Path) -> TrialSpec:
    """A trial's spec, but for what an ask decides."""
    spec = prepared.spec
    plan = _plan(prepared)
    return TrialSpec(
        number=0,
        engine=spec.engines[0],
        config={},
        origin="planner",
        model=spec.model,
        plan=plan,
        run=str(run.absolute()),
        starts=spec.starts,
        quality=spec.quality,
    )


def _plan(prepared: Prepared) -> Plan:
    setting = prepared.setting
    return Plan(setting.scenario.letter, setting.profile, setting.dev_seed, text=setting.text)


def _remember_starts(prepared: Prepared, course: Course) -> None:
    for name, engine in prepared.engines.items():
        starts = [
            trial.seconds["start"]
            for trial in course.record.trials.values()
            if trial.engine == name and trial.measurements and not trial.warm
        ]
        if engine.real and starts:
            remember_start(engine, min(starts))


def _ledger(prepared: Prepared, run: Path, resume: bool) -> Ledger:
    if not resume:
        return Ledger.create(run, _header(prepared))
    ledger = Ledger.resume(run)
    head = header(ledger.events)
    why = "it is no search" if head["kind"] != "search" else same_search(head, prepared.spec)
    if why is not None:
        ledger.close()
        raise LedgerError(
            f"{run} belongs to another search ({why}): name another --run, or give the same options"
        )
    why = moved(head)
    if why is not None:
        ledger.close()
        raise LedgerError(f"{run} cannot go on here ({why}): name another --run")
    return ledger


def _header(prepared: Prepared) -> dict[str, Any]:
    spec = prepared.spec
    told = spec.to_json()
    return {
        "id": uuid.uuid4().hex,
        "kind": "search",
        "method": spec.planner if spec.strategy == "ceiling" else f"{spec.strategy}-{spec.planner}",
        "engines": list(spec.engines),
        "scenario": spec.scenario,
        "profile": spec.profile,
        "model": told["model"],
        "seeds": {"dev": spec.seed, "eval": spec.eval_seed},
        "budget": spec.budget,
        "devices": spec.devices,
        "spec": told,
        "host": asdict(this_host()),
        "provenance": _provenance(prepared),
    }


def _provenance(prepared: Prepared) -> dict[str, Any]:
    return {
        "engines": {name: engine.runtime().version for name, engine in prepared.engines.items()},
        "left_out": {name: dict(space.left_out) for name, space in prepared.spaces.items()},
        "profile": profiles.digest(prepared.spec.profile, prepared.spec.scenario),
    }

"""An agent run: the agent in its sandbox until its budget ends, then its launcher on the held-out seed."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents import registry, sandbox
from agents.broker import Broker
from agents.case import Case, Record
from agents.desk import Desk
from agents.final import submit
from agents.launcher import Launcher, environment
from agents.result import result
from agents.spec import AgentError, AgentResult, AgentSpec
from agents.tree import End, Tree
from agents.workspace import Places, Workspace, box, brief, make_room, visible
from engines.environment import device_variables
from engines.host import Host, this_host
from engines.orphans import RUN_ID, end
from engines.ports import LOOPBACK, answers, held_port
from engines.registry import engine as engine_named
from scenarios import profiles
from scenarios.baseline import baseline
from scenarios.device_use import watched
from scenarios.ledger import Ledger, header
from scenarios.meter import Meter
from scenarios.models import digest
from scenarios.profiles import scenario
from scenarios.provenance import host as host_facts
from scenarios.provenance import moved
from scenarios.quality.admission import admit
from scenarios.scenario import FULL, Plan
from scenarios.trial import Observer

BEAT = 30.0
"""Seconds between looks at the clock while the agent works."""


def run_agent(
    spec: AgentSpec, run: Path, *, resume: bool = False, observer: Observer | None = None
) -> AgentResult:
    """Run an agent and score what it submits. Every step is in the ledger of `run`.

    `resume` goes on after a driver that was killed: the agent is started again in the same workspace with
    what is left of its budget, or, if it was over, only final scoring is done. A finished run is only read.
    Raises AgentError, LedgerError, ScenarioError, TaskError, ModelError, EngineNotInstalled, UnknownEngine,
    BaselineError.
    """
    if spec.sandbox:
        sandbox.require()
    registry.command(spec)
    for name in spec.engines:
        engine_named(name).runtime()
    if _real(spec):
        _cuda(this_host(), spec.devices)
    scenario(spec.profile, spec.scenario)
    if spec.quality is not None:
        held_out = Plan(spec.scenario, spec.profile, spec.eval_seed, FULL, spec.text)
        admit(spec.quality, held_out, spec.model, [engine_named(name) for name in spec.engines])
    with _ledger(spec, run, resume) as ledger:
        if observer:
            for event in ledger.events:
                observer(event)
            ledger.subscribe(observer)
        record = Record(ledger)
        if not record.finished:
            try:
                _finish(spec, run, ledger, record, observer)
            except KeyboardInterrupt:
                ledger.append("end", reason="interrupted")
                raise
        return result(run, ledger.events)


def _finish(spec: AgentSpec, run: Path, ledger: Ledger, record: Record, observer: Observer | None) -> None:
    """Whatever of baseline, the agent's phase, final scoring and result is not in the ledger yet."""
    run_id = header(ledger.events)["id"]
    end(lambda variables: variables.get(RUN_ID) == run_id, 0.0)
    _measure_baseline(spec, record, observer)
    with watched(ledger), _places(run_id) as places, held_port() as port:
        case = _case(spec, run, run_id, port)
        if not record.noted("agent-ended"):
            _Phase(case, ledger, record, places).live()
        if not record.submitted:
            seen = visible(spec, case.engines.values())
            submit(case, record, places, box(spec, places.fresh, seen, case.run, None))
        ledger.append("result", **result(run, ledger.events).to_json())
        ledger.append("end", reason=record.noted("agent-ended")[-1]["why"])
        places.clear()


def _measure_baseline(spec: AgentSpec, record: Record, observer: Observer | None) -> None:
    """The torch baseline on the dev seed, as search takes it; none where only simulated engines run."""
    if spec.baseline and _real(spec) and record.baseline is None:
        record.keep_baseline(baseline(spec.model, spec.scenario, spec.profile, spec.seed, observer=observer))


def _real(spec: AgentSpec) -> bool:
    return any(engine_named(name).real for name in spec.engines)


class _Phase:
    """The agent at work."""

    def __init__(self, case: Case, ledger: Ledger, record: Record, places: Places) -> None:
        self._case = case
        self._ledger = ledger
        self._record = record
        self._places = places

    def live(self) -> None:
        """Start the agent, answer its calls, and end it when it is done or its budget is."""
        case, spec = self._case, self._case.spec
        again = bool(self._record.noted("agent-started"))
        command = registry.command(spec, again=again)
        seen = visible(spec, case.engines.values(), command)
        place = box(spec, self._places.live, seen, case.run, self._places.socket)
        make_room(self._places.live)
        workspace = Workspace(self._places.live / "workspace", place)
        workspace.write(brief(case, scenario(spec.profile, spec.scenario), place), again=again)
        env = environment(spec.model, case.cuda, place)
        launcher = Launcher(place, env, case.ready_limit, len(spec.devices), real=case.real)
        with Meter(self._ledger, len(spec.devices), spec.budget) as meter:
            desk = Desk(case, self._record, meter, workspace, launcher)
            with Broker(self._places.socket, desk.answer, self._failed):
                why = self._attended(command, place, meter, desk)
        self._record.clients(workspace.changed())
        self._record.note("agent-ended", **why)

    def _failed(self, error: Exception) -> None:
        where = "".join(traceback.format_exception(error))
        self._record.note("service-failed", why=f"{type(error).__name__}: {error}", traceback=where)

    def _attended(
        self, command: tuple[str, ...], place: sandbox.Box, meter: Meter, desk: Desk
    ) -> dict[str, Any]:
        """The agent from launch to the confirmed end of its tree. Returns how it ended."""
        if meter.left <= 0:
            return {"why": "budget", "code": None}
        log = self._case.run / "logs" / "agent.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as output:
            self._record.note("agent-started", argv=list(command))
            env = self._variables(place, command)
            tree = Tree.start(place, command, env, output, self._case.run_id, launched=meter.start)
            try:
                done = _until(tree, meter)
            finally:
                served = answers(self._case.port)
                ended = tree.end()
                desk.close()
                meter.stop()
        self._left_behind(ended, served=served, done=done, log=log)
        return {"why": "done" if done else "budget", "code": tree.code}

    def _variables(self, place: sandbox.Box, command: tuple[str, ...]) -> dict[str, str]:
        case = self._case
        programs = [Path(command[0]), sandbox.interpreter(Path(command[0]))]
        folders = [str(program.parent) for program in programs if program]
        common = environment(case.spec.model, case.cuda, place, folders)
        return {**common, "HOST": LOOPBACK, "PORT": str(case.port), **registry.variables(case.spec)}

    def _left_behind(self, ended: End, *, served: bool, done: bool, log: Path) -> None:
        """Note what the agent left, or tried to do, outside of its bounds."""
        if served:
            self._record.note("server-left", port=self._case.port)
        if done and ended.left:
            self._record.note("left-running", processes=list(ended.left[:50]))
        if ended.stubborn:
            self._record.note("outlived-term", processes=list(ended.stubborn[:50]))
        if ended.strays:
            self._record.note("wrote-outside", files=list(ended.strays[:50]), count=len(ended.strays))
        refused = _refused(log)
        if refused:
            self._record.note("write-refused", lines=refused[:5], count=len(refused))


def _until(tree: Tree, meter: Meter) -> bool:
    """Wait for the agent or the end of its budget. Returns whether the agent was done."""
    while meter.left > 0:
        if tree.wait(min(meter.wall_left, BEAT)):
            return True
    return False


def _refused(log: Path) -> list[str]:
    """Lines of the agent's output in which a write was refused."""
    with log.open(errors="replace") as lines:
        return [line.strip()[:200] for line in lines if "Read-only file system" in line]


@contextmanager
def _places(run_id: str) -> Iterator[Places]:
    places = Places.of(run_id)
    try:
        yield places
    finally:
        places.close()


def _ledger(spec: AgentSpec, run: Path, resume: bool) -> Ledger:
    if not resume:
        return Ledger.create(run, _header(spec))
    ledger = Ledger.resume(run)
    first = header(ledger.events)
    if first["kind"] != "agent" or AgentSpec.from_json(first["spec"]) != spec:
        ledger.close()
        raise AgentError(f"{run} belongs to another run: resume it as it was started, or name a new --run")
    why = moved(first)
    if why is not None:
        ledger.close()
        raise AgentError(f"{run} cannot go on here ({why}): name a new --run")
    return ledger


def _header(spec: AgentSpec) -> dict[str, Any]:
    model = spec.model
    return {
        "id": uuid.uuid4().hex,
        "kind": "agent",
        "method": spec.method,
        "engines": list(spec.engines),
        "scenario": spec.scenario,
        "profile": spec.profile,
        "model": {
            "path": str(model.path),
            "name": model.name,
            "weights": model.weights,
            "digest": digest(model.path),
        },
        "seeds": {"dev": spec.seed, "eval": spec.eval_seed},
        "budget": spec.budget,
        "devices": len(spec.devices),
        "spec": spec.to_json(),
        "scripted": registry.entry(spec.agent).scripted,
        "host": host_facts(),
        "provenance": {
            "engines": {name: engine_named(name).runtime().version for name in spec.engines},
            "profile": profiles.digest(spec.profile, spec.scenario),
        },
    }


def _case(spec: AgentSpec, run: Path, run_id: str, port: int) -> Case:
    engines = {name: engine_named(name) for name in spec.engines}
    host = this_host()
    real = any(engine.real for engine in engines.values())
    return Case(
        spec=spec,
        run=run.absolute(),
        run_id=run_id,
        engines=engines,
        host=host,
        port=port,
        cuda=_cuda(host, spec.devices) if real else {},
        ready_limit=max(engine.start_timeout(engine.default_config) for engine in engines.values()),
    )


def _cuda(host: Host, devices: tuple[int, ...]) -> Mapping[str, str]:
    if max(devices) >= len(host.devices):
        raise AgentError(f"device {max(devices)} is not here: this machine has {len(host.devices)}")
    return device_variables(tuple(host.devices[i] for i in devices)) if host.kind == "cuda" else {}

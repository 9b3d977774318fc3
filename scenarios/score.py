"""The one scorer: a URL and a scenario in, a measurement out. It knows a tokenizer, not an engine."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from engines.contract import Model
from engines.host import Device, this_host
from engines.nvml import NVML, Inventory
from scenarios import profiles, rows, tokenizer
from scenarios.authenticity import sample
from scenarios.authenticity.evidence import UNASKED, Text
from scenarios.bystanders import Watch
from scenarios.device_use import Gauge
from scenarios.kept import FACTS, FILE, authenticate, compare, judged, rescore, write
from scenarios.load import calibration
from scenarios.load.driver import LoadReport, run
from scenarios.load.entries import AGAIN, PROBES, again
from scenarios.load.plan import Target
from scenarios.measurement import Measurement
from scenarios.provenance import provenance
from scenarios.quality import mix
from scenarios.remote import Remote, Unreachable, ask, chosen
from scenarios.requests import reduce
from scenarios.roofline import roofline
from scenarios.scenario import FULL, Fidelity, Plan, Scenario
from scenarios.trial import Observer, Phase
from scenarios.validity import Facts, Roofline
from scenarios.validity.stream import by_lone_pace
from scenarios.workload import WARMUP, RequestSet

SPEED_ONLY, SIMULATED = "speed only", "simulated"
"""Marks: random weights, whose text means nothing; a server that says that it only plays one."""

MOMENT = 0.1
"""Seconds below which a stage says nothing of how busy its senders were: one that was called off at once."""

__all__ = ["FILE", "Unreachable", "authenticate", "rescore", "score"]


def score(
    url: str,
    scenario: str,
    *,
    profile: str,
    seed: int,
    model: Model,
    fidelity: Fidelity = FULL,
    text: str = "sotu",
    served_model: str | None = None,
    out: Path | None = None,
    observer: Observer | None = None,
    limit_seconds: float | None = None,
    headers: Mapping[str, str] | None = None,
    senders: int = 1,
    devices: tuple[Device, ...] | None = None,
    inventory: Inventory = NVML,
    simulated: bool | None = None,
    check_text: bool = False,
    quality: str | None = None,
    check_quality: bool = False,
    rehearse: bool = True,
) -> Measurement:
    """Score the OpenAI-compatible server at `url`.

    `out` is the directory that gets the measurement's rows, in a directory named by its id; None keeps none.
    `limit_seconds` ends the load after so long, which makes the measurement invalid. `observer` is told when
    warm-up and measuring begin. `devices` are the GPUs that serve, as `inventory` shows them; None takes all
    visible ones for a server on this machine. `simulated` is whether the server is known to play one; None
    takes its word for it. `check_text` holds a sample of the answers against the model afterwards, off the
    clock (see `authenticate`). `quality` is a task (`scenarios.quality.tasks`) of which every scored prompt
    then ends in a question; `check_quality` judges the answers afterwards (see `compare`). `rehearse`
    is False for a server that has nothing left to compile: it was measured in this scenario before and has
    not started again since, or it serves one by one. Raises Unreachable when nothing answers before the run,
    and TaskError, ScenarioError and TextError for a request set that cannot be built.
    """
    plan = Plan(scenario, profile, seed, fidelity, text)
    shape = profiles.scenario(profile, scenario)
    remote = _believed(ask(url, headers), simulated)
    name = chosen(remote, served_model, url)
    request_set, questions = mix.asked(plan, model, quality)
    identity = uuid.uuid4().hex
    keep = tempfile.TemporaryDirectory() if out is None else nullcontext(str(out))
    with keep as parent:
        place = Path(parent) / identity
        begun = _Begun(
            identity, plan, model, url, name, remote, request_set.digest, None if out is None else out.name
        )
        held = _serving(url, remote, inventory) if devices is None else devices
        bound = _bound(url, model, remote, inventory, held, launched=devices is not None)
        facts = _facts(shape, request_set, model, remote, bound)
        write(place, FACTS, asdict(facts))
        load = partial(
            run,
            url,
            request_set,
            shape if rehearse else replace(shape, rehearsal=False),
            served_model=name,
            out=place,
            tokenizer=tokenizer.load(model.path),
            trust_usage=model.weights == "dummy",
            headers=headers,
            limit_seconds=limit_seconds,
            senders=senders,
        )
        with (
            Gauge(facts.asked, held, inventory) as gauge,
            Watch(url, facts.asked, held, inventory) as watch,
        ):
            report = load(on_stage=lambda stage: _tell(observer, stage, gauge, watch))
        after = _identity(url, headers, simulated)
        facts = replace(_observed(facts, report, after), bystanders=watch.seen)
        measured = judged(begun.measurement(report, gauge.read, bound), reduce(rows.scan(place)), facts)
        for turn in range(len(AGAIN)):
            left = None if limit_seconds is None else limit_seconds + begun.started - time.time()
            if (left is not None and left <= 0) or not any(map(by_lone_pace, measured.invalid_reasons)):
                break
            load(only=again(request_set, turn, report.keys + turn * PROBES), limit_seconds=left)
            blank = begun.measurement(report, gauge.read, bound)
            measured = judged(blank, reduce(rows.scan(place)), facts)
        write(place, FACTS, asdict(facts))
        write(place, FILE, measured.to_json())
        sampled = sample.sample(request_set.requests, rows.scan(place), request_set.digest)
        sample.write(place / sample.FILE, sampled)
        if quality is not None:
            mix.write(place / mix.FILE, questions)
        if check_text:
            (measured,) = authenticate([place], model, held)
        if quality is not None and check_quality:
            measured = compare(place, quality, model, held)
    return measured


@dataclass(frozen=True)
class _Begun:
    """What is known of a measurement when it begins; `kept` is the name of the directory of rows."""

    identity: str
    plan: Plan
    model: Model
    url: str
    served: str
    remote: Remote
    digest: str
    kept: str | None
    started: float = field(default_factory=time.time)
    load: tuple[float, float, float] = field(default_factory=os.getloadavg)

    def measurement(
        self, report: LoadReport, devices: Sequence[Mapping[str, Any]], bound: Roofline | None
    ) -> Measurement:
        """With everything but what the rows say."""
        return Measurement(
            id=self.identity,
            scenario=self.plan.scenario,
            profile=self.plan.profile,
            seed=self.plan.seed,
            fidelity=self.plan.fidelity,
            invalid_reasons=(),
            score=None,
            interval=None,
            metrics={},
            requests={},
            request_set=self.digest,
            provenance=provenance(
                self.plan,
                request_set=self.digest,
                server={"url": self.url, "model": self.served, **self.remote.identity},
                client=_client(report),
                devices=devices,
                roofline=asdict(bound.ideal) if bound and bound.ideal else None,
                load_before=self.load,
            ),
            started=self.started,
            seconds=time.time() - self.started,
            rows=None if self.kept is None else f"{self.kept}/{self.identity}",
            mark=_mark(self.model, self.remote),
        )


def _client(report: LoadReport) -> dict[str, Any]:
    known = calibration.saved()
    return {
        "senders": report.senders,
        "stages": [asdict(stage) for stage in report.stages],
        "calibration": None if known is None else asdict(known),
    }


def _tell(observer: Observer | None, stage: str, *watching: Gauge | Watch) -> None:
    for one in watching:
        one.stage(stage)
    if observer is None:
        return
    warming = stage == WARMUP or stage.startswith(rows.REHEARSAL)
    phase = Phase.WARMING if warming else Phase.MEASURING
    observer({"event": "phase", "phase": phase.value, "traffic": stage})


def _serving(url: str, remote: Remote, inventory: Inventory) -> tuple[Device, ...]:
    """The devices of a server that somebody else started: all that are visible, if it is on this machine."""
    return this_host(inventory).devices if _here(url, remote) else ()


def _bound(
    url: str,
    model: Model,
    remote: Remote,
    inventory: Inventory,
    held: tuple[Device, ...],
    *,
    launched: bool,
) -> Roofline | None:
    """The roofline of the server's devices.

    None on a CPU that nobody says is the server's: what answers there may be a tunnel, or on another device.
    """
    host = this_host(inventory)
    if not _here(url, remote) or (host.kind == "cpu" and not launched):
        return None
    return roofline(model, host, held, inventory)


def _here(url: str, remote: Remote) -> bool:
    return Target.parse(url).local and not _simulated(remote)


def _believed(remote: Remote, simulated: bool | None) -> Remote:
    """With who owns its models set right where the caller knows whether it is simulated."""
    if simulated is None or simulated == _simulated(remote):
        return remote
    owners = [SIMULATED] if simulated else [f"not {SIMULATED}, which it says"]
    return replace(remote, identity={**remote.identity, "owners": owners})


def _simulated(remote: Remote) -> bool:
    return remote.identity.get("owners") == [SIMULATED]


def _mark(model: Model, remote: Remote) -> str | None:
    if _simulated(remote):
        return SIMULATED
    return SPEED_ONLY if model.weights == "dummy" else None


def _identity(
    url: str, headers: Mapping[str, str] | None, simulated: bool | None
) -> Mapping[str, Any] | None:
    try:
        return _believed(ask(url, headers), simulated).identity
    except Unreachable:
        return None


def _facts(
    scenario: Scenario, request_set: RequestSet, model: Model, remote: Remote, bound: Roofline | None
) -> Facts:
    words = tokenizer.load(model.path)
    one, other = (words.encode(words.chat([{"role": "user", "content": content}])) for content in ("a", "b"))
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return Facts(
        scenario=scenario,
        asked=dict(Counter(request.traffic for request in request_set.requests)),
        weights=model.weights,
        template_tokens=shared,
        before=remote.identity,
        roofline=bound,
        text=Text(_unchecked(_mark(model, remote))),
    )


def _unchecked(mark: str | None) -> str:
    """Why the text is not checked, before anybody has asked for it."""
    marked = {SPEED_ONLY: "random weights", SIMULATED: "a simulated server's text comes from no model"}
    return UNASKED if mark is None else marked[mark]


def _observed(facts: Facts, report: LoadReport, after: Mapping[str, Any] | None) -> Facts:
    scored = [stage for stage in report.stages if stage.name in facts.asked]
    return replace(
        facts,
        loop_lag=max((stage.lag["p95"] for stage in scored), default=0.0),
        busy=max(
            (stage.cpu / stage.wall / report.senders for stage in scored if stage.wall > MOMENT), default=0.0
        ),
        after=after,
    )

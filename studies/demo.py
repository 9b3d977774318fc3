"""The main job on this machine, whatever it has: engines, a small real model, the baseline, a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engines.contract import EngineNotInstalled, Model
from engines.host import this_host
from engines.install import install
from engines.registry import engine
from scenarios import models
from scenarios.baseline import baseline
from scenarios.profiles import profile
from scenarios.texts import documents
from search.spec import SearchSpec
from studies.live import LiveView
from studies.record import Run
from studies.running import run_search

Say = Callable[[str], None]


@dataclass(frozen=True)
class Demo:
    """What the demo runs. `budget` in GPU-seconds; seeds are fixed, so that two demos ask the same."""

    scenario: str = "C"
    profile: str = "cpu"
    model: str = "smollm2-135m"
    engine: str = "vllm"
    planner: str = "tpe"
    budget: float = 420.0
    seed: int = 21
    eval_seed: int = 1337


def run(demo: Demo, path: Path, say: Say) -> Run:
    """Set up what is missing, measure the torch baseline, then search. Says each step."""
    host = this_host()
    device = host.devices[0]
    say(f"1/4 this machine: {device.name} ({device.kind}), {host.cores} cores, {host.memory / 1e9:.0f} GB")
    for name in ("torch", demo.engine):
        _ensure(name, host.kind == "cpu", say)
    model = _model(demo, say)
    _baseline(demo, model, say)
    say(f"4/4 search: {demo.planner} over {demo.engine}, {demo.budget:.0f} GPU-seconds, into {path}")
    spec = SearchSpec(
        engines=(demo.engine,),
        scenario=demo.scenario,
        profile=demo.profile,
        model=model,
        planner=demo.planner,
        budget=demo.budget,
        seed=demo.seed,
        eval_seed=demo.eval_seed,
    )
    return run_search(spec, path)


def _ensure(name: str, cpu: bool, say: Say) -> None:
    try:
        found = engine(name).runtime()
    except EngineNotInstalled:
        say(f"2/4 engine {name}: installing it into an environment of its own (minutes, once)")
        found = install(name, cpu=cpu, echo=say)
    say(f"2/4 engine {name} {found.version} is here")


def _model(demo: Demo, say: Say) -> Model:
    path = models.fetch(demo.model, say)
    say(f"2/4 model {demo.model} is in {path}")
    shape = profile(demo.profile)
    say(f"2/4 text {documents(shape.text, say).source} is here")
    return models.open_model(path, max_length=shape.max_length)


def _baseline(demo: Demo, model: Model, say: Say) -> None:
    say("3/4 baseline: the naive PyTorch server, measured once a machine and kept")
    with LiveView("torch baseline") as view:
        measured = baseline(model, demo.scenario, demo.profile, demo.seed, observer=view)
    if measured.score is not None:
        say(f"3/4 baseline: score {measured.score:.4g}")
    else:
        say(f"3/4 baseline is invalid: {', '.join(reason.detail for reason in measured.invalid_reasons)}")

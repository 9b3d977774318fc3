"""What a search is asked to do, and whether that can be done here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from engines.contract import Config, Engine, Model, Value, restart_share
from engines.host import Host
from engines.registry import engine as engine_named
from engines.space import Space, SpaceError
from engines.space_file import SpaceFile, load
from engines.warm import Starts
from scenarios import profiles
from scenarios.models import digest
from search import pins, planners, strategies
from search.experts import experts
from search.joint import joint
from search.narrow import narrowed
from search.starts import shortest_start
from search.strategies.strategy import Setting


class SearchError(Exception):
    """A search cannot be begun. The message is one line that names the fix."""


@dataclass(frozen=True)
class SearchSpec:
    """A search, json-able by `to_json`.

    Attributes:
        engines: in order; the first one's default is trial 0.
        budget: GPU-seconds; None: until the space or `trials` is exhausted.
        devices: how many are held; trials of one device each run side by side.
        seed, eval_seed: of the requests searched on, and of those held out for the end.
        planner_seed: None: the same as `seed`.
        fixed: flags that no planner varies, as `flag` (every engine that has it) or `engine/flag`; each at
            one of its choices, or at `default`.
        forced: flags that every trial gets, even if the space does not hold them.
        space_files: files that replace the engines' own spaces (see engines/spaces).
        text: source of the prompts; None: the profile's.
        trials: cap on the trials before the final ones.
        baseline: whether the torch baseline is scored first (or taken from what is kept).
        starts: `auto` imports an engine ahead of its next launch where that disturbs no measurement, `warm`
            does it everywhere, `cold` nowhere.
        also: further scenarios of the profile that a survey measures on every server.
        quality: task whose questions end the prompts of the final measurements (scenarios/quality).
    """

    engines: tuple[str, ...]
    scenario: str
    profile: str
    model: Model
    planner: str = "tpe"
    strategy: str = "ceiling"
    budget: float | None = None
    devices: int = 1
    seed: int = 21
    eval_seed: int = 1337
    planner_seed: int | None = None
    fixed: Mapping[str, Value] = field(default_factory=dict)
    forced: Mapping[str, Value] = field(default_factory=dict)
    space_files: tuple[Path, ...] = ()
    text: str | None = None
    trials: int | None = None
    baseline: bool = True
    starts: Starts = "auto"
    quality: str | None = None
    also: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain dict: what must agree for one search to be the continuation of another."""
        data = asdict(self)
        data["engines"] = list(self.engines)
        data["also"] = list(self.also)
        data["fixed"] = dict(self.fixed)
        data["forced"] = dict(self.forced)
        data["space_files"] = [{"path": str(each), "digest": _digest(each)} for each in self.space_files]
        data["model"] = {
            "path": str(self.model.path),
            "name": self.model.name,
            "max_length": self.model.max_length,
            "weights": self.model.weights,
            "digest": digest(self.model.path),
        }
        return data


@dataclass(frozen=True)
class Prepared:
    """A spec that can be run here: its engines, their spaces as one, and what a strategy is told."""

    spec: SearchSpec
    engines: Mapping[str, Engine]
    spaces: Mapping[str, Space]
    space: Space
    setting: Setting

    @property
    def real(self) -> bool:
        """Whether its servers hold real devices."""
        return any(engine.real for engine in self.engines.values())


def prepare(spec: SearchSpec, host: Host, *, here: bool = True) -> Prepared:
    """Check a spec against a host; `here` says that its devices are all there are, as without a cluster.

    Raises SearchError, or the one-line error of the part that objects.
    """
    if not spec.engines:
        raise SearchError("no engine given: --engine vllm")
    if spec.also and spec.strategy != "survey":
        raise SearchError(f"--also {spec.also[0]}: only --strategy survey measures further scenarios")
    if spec.seed == spec.eval_seed:
        raise SearchError(f"dev and held-out seed are both {spec.seed}: --eval-seed must be another one")
    setting = _setting(spec)
    strategies.strategy(spec.strategy, setting)
    if spec.planner not in planners.names():
        raise SearchError(f"unknown planner {spec.planner!r}: one of {', '.join(planners.names())}")
    engines = {name: engine_named(name) for name in spec.engines}
    if spec.devices < 1:
        raise SearchError(f"--devices {spec.devices}: name at least 1")
    if here:
        _check_devices(spec, engines, host)
    for engine in engines.values():
        engine.runtime()
    _check_budget(spec, engines)
    seen = replace(host, devices=host.devices[: spec.devices])
    spaces = _spaces(spec, engines, seen)
    defaults = {name: _default(engine, spaces[name]) for name, engine in engines.items()}
    if spec.fixed or spec.forced:
        for name, engine in engines.items():
            engine.check(defaults[name], spec.model, seen)
    known = {name: experts(spaces[name], defaults[name]) for name in engines}
    again = {name: restart_share(engine) for name, engine in engines.items()}
    told = replace(setting, defaults=defaults, experts=known, restarts=again)
    return Prepared(spec, engines, spaces, joint(spaces), told)


def _setting(spec: SearchSpec) -> Setting:
    profile = profiles.profile(spec.profile)
    return Setting(
        defaults={name: {} for name in spec.engines},
        scenario=profiles.scenario(profile, spec.scenario),
        profile=spec.profile,
        text=spec.text or profile.text,
        dev_seed=spec.seed,
        eval_seed=spec.eval_seed,
        wall=None if spec.budget is None else spec.budget / spec.devices,
        devices=spec.devices,
        trials=spec.trials,
        also=spec.also,
    )


def _check_devices(spec: SearchSpec, engines: Mapping[str, Engine], host: Host) -> None:
    here = len(host.devices)
    if spec.devices > here and any(engine.real for engine in engines.values()):
        kind = "GPU" if host.kind == "cuda" else "CPU, which counts as one device"
        raise SearchError(
            f"--devices {spec.devices}, but there is {here} here ({kind}): lower it, or join a cluster "
            "with --address"
        )


def _check_budget(spec: SearchSpec, engines: Mapping[str, Engine]) -> None:
    if spec.trials is not None and spec.trials < 1:
        raise SearchError(f"--trials {spec.trials}: name at least 1")
    if spec.budget is None:
        if spec.trials is None:
            raise SearchError("a search needs an end: give --budget 30m, or --trials N")
        return
    wall = spec.budget / spec.devices
    for name, engine in engines.items():
        start = shortest_start(engine)
        if wall <= start:
            raise SearchError(
                f"the budget leaves {wall:.0f} s a device, and one start of {name} takes {start:.0f} s: "
                "raise --budget"
            )


def _spaces(spec: SearchSpec, engines: Mapping[str, Engine], host: Host) -> dict[str, Space]:
    """Each engine's space for this model and host, from its own file or a given one, with what is pinned."""
    files = _files(spec)
    made = {
        name: narrowed(_space(engine, files.get(name), host), engine, spec.model, host)
        for name, engine in engines.items()
    }
    return pins.forced(pins.fixed(made, spec.fixed), spec.forced, engines, spec.model)


def _space(engine: Engine, file: SpaceFile | None, host: Host) -> Space:
    if file is None:
        return engine.space(host)
    return file.space(host, engine.runtime().version, dict.fromkeys(engine.flags(), ()))


def _files(spec: SearchSpec) -> dict[str, SpaceFile]:
    files: dict[str, SpaceFile] = {}
    for path in spec.space_files:
        file = load(path)
        if file.engine not in spec.engines:
            raise SearchError(f"{path} is a space of {file.engine}: search it with --engine {file.engine}")
        if file.engine in files:
            raise SearchError(f"{path} is a second space of {file.engine}: give one --space an engine")
        files[file.engine] = file
    return files


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else None


def _default(engine: Engine, space: Space) -> Config:
    try:
        return space.canonical(engine.default_config)
    except SpaceError:
        return engine.default_config


def same_search(header: Mapping[str, Any], spec: SearchSpec) -> str | None:
    """Why a run's header belongs to another search, None where it is the same."""
    mine = spec.to_json()
    for name, value in header.get("spec", {}).items():
        if name in mine and mine[name] != value:
            return f"its {name.replace('_', ' ')} is {_short(value)}, not {_short(mine[name])}"
    return None


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "digest" in value:
        return f"{Path(value['path']).name} ({value['digest']})"
    return str(value)

"""An agent's workspace: the task, the stub, the clients of the service, and whether they are as given."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from agents.caches import copy_caches, copy_torch_cache
from agents.case import Case
from agents.launcher import FILE, LOGIN, machine, write_script
from agents.sandbox import Bare, Box, Sandbox, model_paths, program_paths
from agents.snapshot import digest, read_plain, remove
from agents.spec import AgentSpec
from agents.tree import INTERPRETER, KEEPER
from engines.contract import Engine
from engines.host import Host
from engines.runtime import home
from engines.space import Parameter
from scenarios.scenario import Scenario

SCRIPTED = Path(__file__).parent / "scripted"
SOCKET = "broker.sock"
CLIENTS = {
    "score": "Score the running server on the dev requests: ./score [--quick]",
    "serve": "Start, stop and watch start_server.sh under supervision: ./serve [start|stop|status|log|show]",
    "timer": "GPU-seconds spent and left: ./timer",
}

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("agents"), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
)


@dataclass(frozen=True)
class Places:
    """Directories of an agent run on the host, outside of the run's own, whose path names nothing.

    `live` is the agent's, `fresh` the final copy's; each holds `workspace`, `home` and `tmp`.
    `socket` is short enough for a Unix socket's address.
    """

    live: Path
    fresh: Path
    socket: Path

    @classmethod
    def of(cls, run_id: str) -> Places:
        """The directories of a run, which survive its driver, and a new one for the socket."""
        top = home() / "sandboxes" / run_id
        top.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(top / "live", top / "fresh", Path(tempfile.mkdtemp(prefix="ceiling-")))

    def close(self) -> None:
        """Remove the socket's directory."""
        shutil.rmtree(self.socket, ignore_errors=True)

    def clear(self) -> None:
        """Remove the workspaces."""
        remove(self.live.parent)


def make_room(place: Path) -> None:
    """Create `workspace`, `home` (with the machine's compile caches) and `tmp`, keeping what is there."""
    for name in ("workspace", "home", "tmp"):
        (place / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    copy_caches(Path.home(), place / "home")
    copy_torch_cache(place / "tmp", user=LOGIN)


def box(spec: AgentSpec, place: Path, visible: Iterable[Path], hidden: Path, socket: Path | None) -> Box:
    """The sandbox over `place`, or none where the spec says so. `hidden` is the run's directory."""
    if not spec.sandbox:
        return Bare(place / "workspace", place / "home", place / "tmp", socket or place)
    return Sandbox(place, tuple(visible), (hidden.absolute(), home()), socket)


def visible(spec: AgentSpec, engines: Iterable[Engine], program: tuple[str, ...] = ()) -> tuple[Path, ...]:
    """Host paths that show in the sandbox: engines, model, and the agent's program."""
    paths = [*program_paths((str(INTERPRETER),), machine()), KEEPER, SCRIPTED, *model_paths(spec.model.path)]
    for engine in engines:
        launch = engine.command(engine.default_config, spec.model, "127.0.0.1", 1)
        paths += program_paths(launch.argv, launch.env if engine.real else {})
        if not engine.real:  # part of the harness, of which only that floor may be seen
            paths.append(Path(__file__).parent.parent / "engines")
    if program:
        paths += program_paths(program, {})
    return tuple(dict.fromkeys(paths))


def brief(case: Case, scenario: Scenario, place: Box) -> dict[str, Any]:
    """All that the task says, as `task.json` holds it. Nothing of the held-out seed is among it."""
    spec = case.spec
    return {
        "scenario": {**asdict(scenario), "score": scenario.score.value},
        "profile": spec.profile,
        "model": {**asdict(spec.model), "path": str(spec.model.path)},
        "budget": spec.budget,
        "devices": len(spec.devices),
        "cuda": case.cuda.get("CUDA_VISIBLE_DEVICES", ""),
        "port": case.port,
        "ready_limit": case.ready_limit,
        "quick": asdict(spec.quick),
        "variant": spec.variant,
        "quality": (spec.quality or "").partition(":")[0],
        "workspace": str(place.workspace),
        "temporary": str(place.temporary),
        "engines": [_offer(engine, spec, case.host) for engine in case.engines.values()],
    }


def _offer(engine: Engine, spec: AgentSpec, host: Host) -> dict[str, Any]:
    return {
        "name": engine.name,
        "version": engine.runtime().version,
        "default": write_script(engine, engine.default_config, spec.model),
        "space": [_flag(parameter) for parameter in engine.space(host)],
    }


def _flag(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "choices": list(parameter.choices),
        "default": parameter.default,
        "ordered": parameter.ordered,
        "when": {name: list(values) for name, values in parameter.when.items()},
        "note": parameter.note,
    }


class Workspace:
    """The files that an agent starts from, in a directory on the host."""

    def __init__(self, path: Path, place: Box) -> None:
        self.path = path
        self._given = {name: _client(name, place).encode() for name in CLIENTS}

    def write(self, task: Mapping[str, Any], *, again: bool = False) -> None:
        """Lay out TASK.md, task.json, the clients and, unless the agent was here before, the stub."""
        files = {"TASK.md": _render("TASK.md.j2", **task), "task.json": json.dumps(task, indent=1) + "\n"}
        if not again:
            files[FILE] = _render("start_server.sh.j2")
        for name, data in {**{name: text.encode() for name, text in files.items()}, **self._given}.items():
            self._replace(name, data, 0o755 if name in (FILE, *self._given) else 0o644)

    def _replace(self, name: str, data: bytes, mode: int) -> None:
        """Write a file anew in place of whatever is there; a planted link is replaced, not followed."""
        path = self.path / name
        if path.is_dir() and not path.is_symlink():
            remove(path)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        path.chmod(mode)

    def changed(self) -> dict[str, str]:
        """Clients that are not as they were given: name -> hash of what is there now, or `gone`."""
        now = {name: read_plain(self.path / name) for name in self._given}
        return {
            name: digest(data) if data is not None else "gone"
            for name, data in now.items()
            if data != self._given[name]
        }


def _client(verb: str, place: Box) -> str:
    return _render(
        "client.py.j2",
        interpreter=INTERPRETER,
        verb=verb,
        purpose=CLIENTS[verb],
        socket=place.broker / SOCKET,
    )


def _render(template: str, **values: Any) -> str:
    return _templates.get_template(template).render(**values)

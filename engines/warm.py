"""Warm interpreters: an engine's imports done ahead of its launch, while the device still serves another.

Of a warm-cached vLLM start on a GPU two thirds are Python imports, which need no device. A warm interpreter
does them under a keeper of its own (engines/warm_child.py) and then waits for a launch, which makes it that
server: same arguments, same variables, same log. A launch whose variables differ from those at import in more
than the engine declares harmless starts cold instead.

The time that the imports take is the host's, not a device's: no device is held for them, and a trial's clock
starts when its device is asked for, which is when the launch is handed over.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from engines.contract import Engine, EngineError, Launch, Model
from engines.environment import clean_environment, held_devices, server_environment
from engines.host import Host
from engines.keeper_process import KeeperProcess
from engines.orphans import RUN_ID, SERVER
from engines.ports import LOOPBACK

CHILD = Path(__file__).with_name("warm_child.py")

CORES = 8
"""Cores a device from which on imports go on beside a server: it, the load's senders and the harness leave
some idle. A CPU engine leaves none."""

Starts = Literal["auto", "cold", "warm"]
"""How servers start: `auto` warms interpreters where that leaves measurements alone, `warm` everywhere."""


@dataclass(frozen=True)
class Warm:
    """What an engine declares, as its attribute `warm`, that can be imported ahead.

    Attributes:
        module: what its launches run (`python -m module`); imported, then run.
        imports: further modules, those of its engine processes; one that is not there is passed over.
        late: variables that the engine reads only after the imports, so that a launch may set them.
        forking: variables, added at hand-over where a launch does not set them, by which the engine's further
            processes are forked off this one and inherit the imports.
    """

    module: str
    imports: tuple[str, ...] = ()
    late: frozenset[str] = frozenset()
    forking: Mapping[str, str] = field(default_factory=dict)


def declared(engine: Engine) -> Warm | None:
    """What the engine declares; None: it always starts cold."""
    found = getattr(engine, "warm", None)
    return found if isinstance(found, Warm) else None


def interpreters(starts: Starts, host: Host) -> Interpreters | None:
    """This process's warm interpreters where starts are to be warm on this host, None where they are cold.

    `auto` asks for GPUs and for idle cores: next to a CPU engine the imports would take what is measured.
    """
    idle = host.kind == "cuda" and len(os.sched_getaffinity(0)) >= CORES * len(host.devices)
    return _INTERPRETERS if starts == "warm" or (starts == "auto" and idle) else None


class Interpreter:
    """An interpreter that imports an engine now, and waits. Raises EngineError if its command cannot be made.

    `devices` are indices as of `engines.server.Server`, `folder` gets its log. It ends with its parent.
    """

    def __init__(
        self, engine: Engine, model: Model, *, devices: tuple[int, ...], run_id: str, folder: Path
    ) -> None:
        warm = declared(engine)
        if warm is None:
            raise EngineError(f"{engine.name} declares nothing that could be imported ahead")
        self.id = uuid.uuid4().hex
        self._warm = warm
        marks = {SERVER: self.id, RUN_ID: run_id} if run_id else {SERVER: self.id}
        launch = engine.command({}, model, LOOPBACK, 0)
        if engine.runtime().kind == "container":
            raise EngineError(f"{engine.name} runs in a container, which starts cold")
        self._program = launch.argv[0]
        self._env = server_environment(launch, held_devices(engine, devices), marks)
        folder.mkdir(parents=True, exist_ok=True)
        log = str((folder / f"warm-{self.id[:8]}.log").absolute())
        plan = {"module": warm.module, "imports": warm.imports, "log": log}
        self._log = Path(log)
        self._keeper = KeeperProcess(
            {
                "argv": (self._program, str(CHILD), json.dumps(plan)),
                "env": self._env,
                "cwd": str(folder.absolute()),
                "log": log,
                "log_limit": 1 << 20,
                "grace": 1.0,
                "parent": os.getpid(),
                "waits": True,
            },
            {**clean_environment(self._program), **marks},
        )

    @property
    def pid(self) -> int | None:
        """Its process id, None until it is known."""
        return self._keeper.pid

    @property
    def unfit(self) -> bool:
        """Whether its imports turned out not to be possible ahead: its launch will be a cold one."""
        return self._keeper.fit is False

    def wait_warm(self, seconds: float) -> bool:
        """Whether the imports are done and it is fit, after waiting for that at most so long."""
        return self._keeper.wait_warm(seconds)

    def hand_over(self, launch: Launch, spec: Mapping[str, object]) -> KeeperProcess | None:
        """Make it the server of this launch; None (and it is gone) where it cannot be that.

        `spec` is what a keeper would get for a cold start. Its imports need not be done yet.
        """
        env = spec["env"]
        assert isinstance(env, dict)
        if not (self._suits(launch, env) and self.living()):
            self.end()
            return None
        forking = {name: value for name, value in self._warm.forking.items() if name not in env}
        if not self._keeper.hand_over({**spec, "env": {**env, **forking}}):
            self.end()
            return None
        return self._keeper

    def living(self) -> bool:
        """Whether it imports or waits."""
        return self._keeper.death() is None

    def end(self) -> None:
        """End it: not once it has become a server."""
        self._keeper.end(5.0)
        self._log.unlink(missing_ok=True)

    def _suits(self, launch: Launch, env: Mapping[str, str]) -> bool:
        """Whether the launch runs what was imported, with variables under which the imports are the same."""
        differing = {
            name for name in env.keys() | self._env.keys() if env.get(name) != self._env.get(name)
        } - self._warm.late
        return not differing and launch.argv[:3] == (self._program, "-m", self._warm.module)


class Interpreters:
    """The warm interpreters that a process keeps: at most one of each engine, for its next launch."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[object, Interpreter]] = {}
        self._unfit: set[str] = set()
        self._lock = threading.Lock()

    def prepare(
        self, engine: Engine, model: Model, *, devices: tuple[int, ...], run_id: str, folder: Path
    ) -> Interpreter | None:
        """Have one import, unless it does already.

        None for an engine that declares nothing, and for one whose imports have once been unfit.
        """
        if declared(engine) is None or engine.name in self._unfit or engine.runtime().kind == "container":
            return None
        with self._lock:
            before = self._kept.get(engine.name)
            if before is not None and before[0] == (devices, run_id) and before[1].living():
                return before[1]
            made = Interpreter(engine, model, devices=devices, run_id=run_id, folder=folder)
            self._kept[engine.name] = ((devices, run_id), made)
        if before is not None:
            before[1].end()
        return made

    def take(self, engine: Engine, *, devices: tuple[int, ...], run_id: str) -> Interpreter | None:
        """The one that was prepared for this, which is then the caller's to hand over or end."""
        with self._lock:
            kept = self._kept.get(engine.name)
            if kept is None or kept[0] != (devices, run_id):
                return None
            interpreter = self._kept.pop(engine.name)[1]
            if interpreter.unfit:
                self._unfit.add(engine.name)
            return interpreter

    def close(self) -> None:
        """End them all."""
        with self._lock:
            kept, self._kept = list(self._kept.values()), {}
        for _, interpreter in kept:
            interpreter.end()


_INTERPRETERS = Interpreters()

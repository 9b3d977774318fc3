"""A running server: started, watched and ended without a trace."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from engines import keeper
from engines.container import named, running
from engines.contract import Config, CrashClass, Engine, Launch, Model, ServerCrashed
from engines.crash_log import telling_line
from engines.environment import clean_environment, held_devices, server_environment
from engines.held import Held
from engines.host import Device
from engines.keeper_process import KeeperProcess
from engines.nvml import NVML, Inventory
from engines.orphans import RUN_ID, SERVER, end, reap, survivors
from engines.ports import LOOPBACK, answers, held_port, is_free
from engines.warm import Interpreters

__all__ = ["Server", "reap", "shell_line"]

GRACE = 8.0
"""Seconds between TERM and KILL."""

SETTLE = 3.0
"""Seconds that a port and device memory get to come free once all processes are gone."""

MEMORY_SLACK = 256 << 20
"""Bytes of device memory that may differ before and after (other tenants breathe)."""

LOG_LIMIT = 256 << 20
TAIL = 256 << 10

_KEEPER_SECONDS = keeper.KILL_SECONDS + 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25


class Server:
    """An engine's server on loopback: ready when entered, gone without a trace when left.

    `log` is written anew and gets all output. `devices` are indices into `this_host().devices`. `run_id`
    marks its processes for `reap`. With `interpreters` (engines/warm.py), a warm one becomes the server if it
    suits, and the next one begins to import once this server is launched. Entering raises ServerCrashed (with
    its class) if it does not become ready, and UnsupportedFlag before anything starts; leaving raises
    ServerCrashed(TEARDOWN) if something stays. Works in any thread. `inventory` is where the GPUs are seen.

    Attributes:
        url, port, launch, pid: known once entered.
        held: what was seen of the devices before the launch and after the teardown.
        seconds: wall seconds of `start` (launch to ready) and `stop` (TERM to confirmed teardown).
    """

    def __init__(
        self,
        engine: Engine,
        config: Config,
        model: Model,
        *,
        log: Path,
        devices: tuple[int, ...] = (0,),
        run_id: str = "",
        start_timeout: float | None = None,
        grace: float = GRACE,
        log_limit: int = LOG_LIMIT,
        interpreters: Interpreters | None = None,
        inventory: Inventory = NVML,
    ) -> None:
        self.engine = engine
        self.config = config
        self.model = model
        self.log = Path(log)
        self.run_id = run_id
        self.seconds: dict[str, float] = {}
        self._indices = devices
        self._start_timeout = start_timeout
        self._grace = grace
        self._log_limit = log_limit
        self._interpreters = interpreters
        self._id = uuid.uuid4().hex
        self._inventory = inventory
        self._held = contextlib.ExitStack()
        self._devices: tuple[Device, ...] = ()
        self.held = Held()
        self._keeper: KeeperProcess | None = None
        self._oom_kills = 0
        self.port = 0
        self.launch = Launch(())

    @property
    def url(self) -> str:
        """Base URL, without a path."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id of what was launched."""
        return self._keeper.pid if self._keeper else None

    @property
    def warm(self) -> bool:
        """Whether it is what a warm interpreter has become."""
        return self._keeper is not None and self._keeper.warm

    def __enter__(self) -> Self:
        started = time.monotonic()
        with self._held:
            self._devices = held_devices(self.engine, self._indices, self._inventory)
            self.port = self._held.enter_context(held_port())
            self.launch = self.engine.command(self.config, self.model, LOOPBACK, self.port)
            try:
                self._begin()
                self._wait_ready()
            except BaseException:
                self._stop()
                raise
            finally:
                self.seconds["start"] = time.monotonic() - started - self.seconds.get("stop", 0.0)
            self._held = self._held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._held:
            self._stop()

    def alive(self) -> bool:
        """Whether it runs and its port answers."""
        return self._keeper is not None and self._keeper.death() is None and answers(self.port)

    def death(self) -> ServerCrashed | None:
        """Why it is no longer alive, None while it is (and before it was launched)."""
        if self.alive() or self._keeper is None:
            return None
        how = self._keeper.death()
        if how is None:
            self._keeper.wait(1.0)
            how = self._keeper.death() or "no longer answers on its port"
        return self._crashed(how, CrashClass.DIED)

    def tail(self, size: int = TAIL) -> str:
        """The end of its log, at most `size` bytes."""
        try:
            with self.log.open("rb") as file:
                file.seek(-min(size, os.fstat(file.fileno()).st_size), os.SEEK_END)
                return file.read(size).decode(errors="replace")
        except FileNotFoundError:
            return ""

    def _begin(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        self.held = Held.before(self._devices, self._inventory)
        self._oom_kills = _oom_kills()
        self._keeper = self._warm_keeper() or self._cold_keeper()
        if self._interpreters is not None:
            self._interpreters.prepare(
                self.engine,
                self.model,
                devices=self._indices,
                run_id=self.run_id,
                folder=self.log.parent,
            )

    def _warm_keeper(self) -> KeeperProcess | None:
        """The keeper of a warm interpreter that was handed the launch, and with it the server's id."""
        if self._interpreters is None:
            return None
        interpreter = self._interpreters.take(self.engine, devices=self._indices, run_id=self.run_id)
        if interpreter is None:
            return None
        self._id = interpreter.id
        return interpreter.hand_over(self.launch, self._keeper_spec())

    def _cold_keeper(self) -> KeeperProcess:
        return KeeperProcess(self._keeper_spec(), {**clean_environment(self.launch.argv[0]), **self._marks()})

    def _keeper_spec(self) -> dict[str, object]:
        detached = self.launch.container is not None
        return {
            "argv": named(self.launch.argv, self._cidfile) if detached else self.launch.argv,
            "container": {"tool": self.launch.container, "cidfile": str(self._cidfile)} if detached else None,
            "env": server_environment(self.launch, self._devices, self._marks()),
            "cwd": str(self.log.parent.absolute()),
            "log": str(self.log.absolute()),
            "log_limit": self._log_limit,
            "grace": self._grace,
            "parent": os.getpid(),
        }

    @property
    def _cidfile(self) -> Path:
        """Where a container's tool writes its id."""
        return self.log.absolute().with_name(f"{self.log.name}.{self._id[:8]}.cid")

    def _marks(self) -> dict[str, str]:
        return {SERVER: self._id, RUN_ID: self.run_id} if self.run_id else {SERVER: self._id}

    def _wait_ready(self) -> None:
        assert self._keeper is not None
        limit = self._start_timeout or self.engine.start_timeout(self.config)
        deadline = time.monotonic() + limit
        pause = _FIRST_PAUSE
        while not (answers(self.port) and self.engine.ready(self.url)):
            how = self._keeper.death()
            if self._keeper.lapsed:
                self._keeper.end(_KEEPER_SECONDS)
                self._keeper = self._cold_keeper()
            elif how is not None:
                raise self._crashed(f"{how} before it was ready", CrashClass.UNKNOWN)
            if time.monotonic() > deadline:
                raise ServerCrashed(
                    CrashClass.START_TIMEOUT,
                    f"{self.engine.name} was not ready after {limit:.0f} s (log: {self.log})",
                    _last_lines(self.tail()),
                )
            self._keeper.wait(pause)
            pause = min(pause * 1.2, _LONGEST_PAUSE)

    def _crashed(self, how: str, otherwise: CrashClass) -> ServerCrashed:
        tail = self.tail()
        crash = self.engine.crash(tail)
        if crash is CrashClass.UNKNOWN:
            crash = CrashClass.OUT_OF_MEMORY if _oom_kills() > self._oom_kills else otherwise
        why = telling_line(tail)
        return ServerCrashed(
            crash, f"{self.engine.name} {how}{why and f': {why}'} (log: {self.log})", _last_lines(tail)
        )

    def _stop(self) -> None:
        """End it and confirm that nothing stays. Raises ServerCrashed(TEARDOWN) if something does."""
        started = time.monotonic()
        if self._keeper is None:
            return
        contained = keeper.CONTAINER_SECONDS if self.launch.container else 0.0
        self._keeper.end(self._grace + _KEEPER_SECONDS + contained)
        stays = self._remains()
        if not stays:
            self._cidfile.unlink(missing_ok=True)
        self.seconds["stop"] = time.monotonic() - started
        if stays:
            raise ServerCrashed(
                CrashClass.TEARDOWN, f"{self.engine.name} left {stays} behind", _last_lines(self.tail())
            )

    def _remains(self) -> str:
        """What is still there once the keeper has done its work, after time to settle; empty if nothing."""
        end(self._is_mine, 0.0)
        deadline = time.monotonic() + SETTLE
        while True:
            stays = "; ".join(self._left())
            if not stays or time.monotonic() > deadline:
                return stays
            time.sleep(0.05)

    def _left(self) -> Iterator[str]:
        processes = survivors(self._is_mine)
        if processes:
            yield f"processes {sorted(processes)}"
        if self.launch.container and (identity := running(self.launch.container, self._cidfile)):
            yield f"container {identity[:12]}"
        if not is_free(self.port):
            yield f"port {self.port} taken"
        self.held = self.held.after(self._inventory)
        grown = self.held.grown(MEMORY_SLACK)
        if grown:
            yield f"memory on device {grown}"

    def _is_mine(self, variables: Mapping[str, str]) -> bool:
        return variables.get(SERVER) == self._id


def shell_line(launch: Launch) -> str:
    """A launch as one line of shell that a person can paste."""
    variables = [f"{name}={shlex.quote(value)}" for name, value in sorted(launch.env.items())]
    return " ".join([*variables, shlex.join(launch.argv)])


def _oom_kills() -> int:
    """Processes that the kernel has killed for want of memory since boot."""
    try:
        found = re.search(r"^oom_kill (\d+)", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found.group(1)) if found else 0


def _last_lines(tail: str, count: int = 40) -> str:
    return "\n".join(line[:400] for line in tail.splitlines()[-count:])

"""The supervised server behind `./serve`: one at a time, started exactly as final scoring starts it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from agents.case import Case, Record
from agents.launcher import Launcher, Script, read_script
from agents.snapshot import take
from engines.contract import EngineError, ServerCrashed
from engines.server import Server
from scenarios.meter import Meter
from scenarios.scenario import FULL
from scenarios.trial import State, Trial

TAIL = 4000
"""Characters of a launcher's log that an agent is shown."""


class NotReady(Exception):
    """A launcher did not become ready; the message is for the agent, with the end of the log."""


@dataclass
class Served:
    """A running server, and the launcher it was started from. `charged` once a trial carries its start."""

    server: Server
    script: Script
    charged: bool = False


class Serving:
    """Starts and stops the workspace's launcher. Callers take turns; `over` tells that the run is ending."""

    def __init__(
        self,
        case: Case,
        record: Record,
        meter: Meter,
        workspace: Path,
        launcher: Launcher,
        over: Callable[[], bool],
    ) -> None:
        self._case = case
        self._record = record
        self._meter = meter
        self._workspace = workspace
        self._launcher = launcher
        self._over = over
        self._log: Path | None = None
        self.now: Served | None = None

    def start(self) -> None:
        """Start the launcher and wait until it is ready. Raises NotReady."""
        script = read_script(self._workspace)
        server = self._server()
        began = time.monotonic()
        try:
            server.__enter__()
        except EngineError as error:
            seconds = time.monotonic() - began
            self._record.started(script, seconds, ready=False)
            self._crashed(script, error, seconds)
            raise NotReady(
                f"start_server.sh did not become ready: {_reason(error)}\n{server.tail()[-TAIL:]}"
            ) from error
        self.now = Served(server, script)
        self._record.started(script, server.seconds["start"], ready=True)

    def stop(self) -> None:
        """End the server, if there is one; what it leaves behind is noted."""
        served, self.now = self.now, None
        if served is None:
            return
        began = time.monotonic()
        try:
            served.server.__exit__(None, None, None)
        except ServerCrashed as error:
            self._record.note("teardown", detail=error.detail)
        self._record.stopped(time.monotonic() - began, served.server.held.to_json())

    def status(self) -> str:
        """JSON for the agent: whether a server runs, and where."""
        served = self.now
        if served is None:
            return json.dumps({"running": False})
        server = served.server
        return json.dumps(
            {
                "running": server.alive(),
                "url": server.url,
                "port": server.port,
                "start_seconds": round(server.seconds["start"], 2),
            }
        )

    def log(self) -> str:
        """The end of the last start's log."""
        if self._log is None or not self._log.exists():
            return "nothing was started yet"
        return self._log.read_text(errors="replace")[-TAIL:]

    def _server(self) -> Server:
        starts = sum(1 for event in self._record.events if event.get("what") == "serve-start")
        self._log = self._case.run / "logs" / f"serve-{starts}.log"
        limit = min(self._launcher.start_timeout({}), self._meter.wall_left)
        return Server(
            self._launcher,
            {},
            self._case.spec.model,
            log=self._log,
            devices=self._case.spec.devices,
            run_id=self._case.run_id,
            start_timeout=max(0.1, limit),
        )

    def _crashed(self, script: Script, error: EngineError, seconds: float) -> None:
        """A launcher that does not start is a trial of its own."""
        number = self._record.number()
        snapshot = take(self._workspace, self._case.run, f"{number:03}")
        self._record.ask(number, script, "agent", snapshot, by="serve")
        crash = error.crash.value if isinstance(error, ServerCrashed) else "unknown"
        blank = blank_trial(self._case, number, script)
        ended = replace(
            blank,
            state=State.STOPPED if self._over() else State.CRASHED,
            crash=None if self._over() else crash,
            detail=_reason(error),
            seconds={"start": round(seconds, 3), "measure": 0.0, "stop": 0.0},
            gpu_seconds=round(seconds * blank.devices, 3),
        )
        self._record.trial(ended, script, snapshot, FULL)


def blank_trial(case: Case, number: int, script: Script) -> Trial:
    """An agent's trial before anything is known of it."""
    return Trial(
        number=number,
        attempt=0,
        engine=script.engine,
        config=script.config,
        origin="agent",
        state=State.COMPLETE,
        devices=len(case.spec.devices),
        launched=time.time(),
        command=case.paste_line,
    )


def _reason(error: EngineError) -> str:
    """An engine error without the host's path of its log."""
    return str(error).partition(" (log: ")[0]

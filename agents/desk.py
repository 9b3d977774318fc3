"""What `./serve`, `./score` and `./timer` do, on the host: seeds, scorer, clock and record are all here."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from agents.broker import Say
from agents.case import Case, Record
from agents.launcher import Launcher, write_script
from agents.scoring import NothingServes, Scoring
from agents.serving import NotReady, Serving
from agents.workspace import Workspace
from engines.contract import Config, EngineError
from engines.server import reap
from engines.space import SpaceError
from scenarios.meter import Meter

OK, FAILED, MISUSED, OVER = 0, 1, 2, 3
"""Exit statuses of the clients: done; invalid, or did not start; bad request; the run is over."""

ACTIONS = ("start", "stop", "status", "log", "show")

Reply = tuple[int, str]


class Misuse(Exception):
    """A request makes no sense; the message says what would."""


class Desk:
    """Answers the clients of one agent, one start, stop or measurement at a time."""

    def __init__(
        self, case: Case, record: Record, meter: Meter, workspace: Workspace, launcher: Launcher
    ) -> None:
        self._case = case
        self._record = record
        self._meter = meter
        self._workspace = workspace
        self._turn = threading.Lock()
        self._closing = threading.Event()
        self._serving = Serving(case, record, meter, workspace.path, launcher, self._over)
        self._scoring = Scoring(case, record, meter, workspace.path, self._over)

    def answer(self, verb: str, arguments: list[str], say: Say) -> Reply:
        """Serve one call of a client. Bad requests and failures are answers, never exceptions."""
        self._record.clients(self._workspace.changed())
        verbs: Mapping[str, Callable[[list[str], Say], Reply]] = {
            "score": self._score,
            "serve": self._serve,
            "timer": self._timer,
        }
        if self._over():
            return OVER, "the run is over"
        if verb not in verbs:
            return MISUSED, f"unknown request {verb[:40]!r}: one of {', '.join(verbs)}"
        try:
            return verbs[verb](arguments, say)
        except (Misuse, NothingServes) as error:
            return MISUSED, str(error)
        except (NotReady, EngineError, SpaceError) as error:
            return FAILED, str(error)

    def close(self) -> None:
        """Refuse further calls, end the supervised server, and return when nothing is in flight."""
        self._closing.set()
        while not self._turn.acquire(timeout=0.2):
            reap(self._case.run_id)
        try:
            self._serving.stop()
        finally:
            self._turn.release()

    def _over(self) -> bool:
        return self._closing.is_set() or self._meter.left <= 0

    def _timer(self, arguments: list[str], say: Say) -> Reply:
        _parse("timer", arguments)
        spent, budget = self._meter.spent, self._case.spec.budget
        clock = {"left": round(budget - spent, 1), "spent": round(spent, 1), "budget": budget}
        return OK, json.dumps(clock)

    def _score(self, arguments: list[str], say: Say) -> Reply:
        options = _parse("score", arguments, ("--quick", {"action": "store_true"}))
        with self._in_turn(say):
            if self._over():
                return OVER, "the run is over"
            say("scoring" + (" (quick)" if options.quick else ""))
            report = self._scoring.measure(self._serving.now, quick=options.quick)
        return (OK if report["valid"] else FAILED), json.dumps(report)

    def _serve(self, arguments: list[str], say: Say) -> Reply:
        options = _parse(
            "serve",
            arguments,
            ("action", {"nargs": "?", "default": "start", "choices": ACTIONS}),
            ("engine", {"nargs": "?", "default": ""}),
            ("config", {"nargs": "?", "default": "{}"}),
        )
        if options.action == "show":
            return OK, self._show(options.engine, _config(options.config))
        if options.action == "log":
            return OK, self._serving.log()
        if options.action in ("start", "stop"):
            self._restart(say, start=options.action == "start")
        return OK, self._serving.status()

    def _restart(self, say: Say, *, start: bool) -> None:
        with self._in_turn(say):
            self._serving.stop()
            if start and not self._over():
                say(f"starting start_server.sh: it has {self._case.ready_limit:.0f} s to be ready")
                self._serving.start()

    def _show(self, name: str, config: Config) -> str:
        engine = self._case.engines.get(name)
        if engine is None:
            raise Misuse(f"./serve show ENGINE CONFIG: the engine is one of {', '.join(self._case.engines)}")
        asked = engine.space(self._case.host).canonical(config)
        engine.check(asked, self._case.spec.model, self._case.host)
        return write_script(engine, asked, self._case.spec.model).rstrip("\n")

    def _in_turn(self, say: Say) -> threading.Lock:
        if self._turn.locked():
            say("waiting for the start or measurement in progress")
        return self._turn


def _config(text: str) -> Config:
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise Misuse(f"the config is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise Misuse('the config is a JSON object: {"flag": value}')
    return config


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Misuse(f"{message}; {self.format_usage().strip()}")


def _parse(verb: str, arguments: list[str], *known: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    parser = _Parser(prog=f"./{verb}", add_help=False)
    for name, options in known:
        parser.add_argument(name, **options)
    return parser.parse_args(arguments)

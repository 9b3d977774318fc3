"""An agent run, resolved on this host: what every part of it needs to know, and its record."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agents.launcher import FILE, Script
from agents.snapshot import Snapshot
from agents.spec import AgentSpec
from engines.contract import Engine
from engines.host import Host
from scenarios.ledger import Ledger
from scenarios.measurement import Measurement
from scenarios.scenario import Fidelity
from scenarios.trial import Observer, Phase, Trial

TRIES = 3
OURS = frozenset({"client-lag", "schedule", "clock-skew", "other-process"})
"""Reasons against a measurement that lie with the harness or this machine, not with the server."""


@dataclass(frozen=True)
class Case:
    """What an agent run is about.

    Attributes:
        engines: those that the agent may use, by name.
        port: the agent's own; supervised starts get others.
        cuda: variables that make the agent's GPUs visible; empty on a machine without any.
        ready_limit: seconds in which a launcher must be ready.
    """

    spec: AgentSpec
    run: Path
    run_id: str
    engines: Mapping[str, Engine]
    host: Host
    port: int
    cuda: Mapping[str, str]
    ready_limit: float

    @property
    def real(self) -> bool:
        """Whether any of the engines is more than a simulation."""
        return any(engine.real for engine in self.engines.values())

    @property
    def paste_line(self) -> str:
        """A launcher's start as a line of shell, run where the snapshot was unpacked."""
        variables = {
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "MODEL_PATH": str(self.spec.model.path),
            "SERVED_MODEL_NAME": self.spec.model.name,
        }
        pairs = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
        return " ".join([*pairs, "bash", FILE])


class Record:
    """What an agent did, as ledger events."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._changed: dict[str, str] = {}

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events so far."""
        return self._ledger.events

    @property
    def baseline(self) -> dict[str, Any] | None:
        """The torch baseline's measurement, where the run has one."""
        kept = (event for event in self.events if event["event"] == "measurement" and event["trial"] is None)
        return next(kept, None)

    def keep_baseline(self, measurement: Measurement) -> None:
        """The run is held against this."""
        self._ledger.append("measurement", trial=None, attempt=0, origin="baseline", **measurement.to_json())

    @property
    def submitted(self) -> bool:
        """Whether final scoring is done: with an answer, or void through the machine once too often."""
        finals = [event for event in self.events if event["event"] == "trial" and event["origin"] == "final"]
        return len(finals) >= TRIES or any(not self._voided(event) for event in finals)

    def _voided(self, trial: Mapping[str, Any]) -> bool:
        ids = set(trial["measurements"])
        measured = (event for event in self.events if event["event"] == "measurement" and event["id"] in ids)
        codes = {reason["code"] for event in measured for reason in event["invalid_reasons"]}
        return bool(codes) and codes <= OURS

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do in the run."""
        return any(event["event"] == "end" and event["reason"] != "interrupted" for event in self.events)

    def noted(self, what: str) -> list[dict[str, Any]]:
        """The notes of a kind."""
        return [event for event in self.events if event["event"] == "note" and event["what"] == what]

    def number(self) -> int:
        """The next trial's number."""
        return 1 + max((event["trial"] for event in self.events if event["event"] == "ask"), default=-1)

    def ask(
        self, number: int, script: Script, origin: str, snapshot: Snapshot, attempt: int = 0, **more: Any
    ) -> None:
        """A launcher is about to be measured, or failed to start: its text is kept here."""
        self._ledger.append(
            "ask",
            trial=number,
            attempt=attempt,
            engine=script.engine,
            config=script.config,
            origin=origin,
            script={"sha256": script.sha256, "text": script.text},
            snapshot=asdict(snapshot),
            **more,
        )

    def phase(self, number: int, phase: Phase) -> None:
        """A trial enters a phase."""
        self._ledger.append("phase", trial=number, attempt=0, phase=phase.value)

    def measurement(self, number: int, measurement: Measurement) -> None:
        """A trial's measurement."""
        self._ledger.append("measurement", trial=number, attempt=0, **measurement.to_json())

    def trial(self, trial: Trial, script: Script, snapshot: Snapshot, fidelity: Fidelity) -> None:
        """A trial's end."""
        self._ledger.append(
            "trial",
            trial=trial.number,
            **trial.to_json(),
            script=script.sha256,
            snapshot=snapshot.file,
            full=fidelity.full,
        )

    def note(self, what: str, **fields: Any) -> None:
        """Anything else worth knowing."""
        self._ledger.append("note", what=what, **fields)

    def started(self, script: Script, seconds: float, *, ready: bool) -> None:
        """A supervised start, and how long it took (s)."""
        self.note("serve-start", script=script.sha256, seconds=round(seconds, 3), ready=ready)

    def stopped(self, seconds: float, held: Mapping[str, Any]) -> None:
        """A supervised stop, how long it took (s), and its GPUs before and after (engines/held.py)."""
        self.note("serve-stop", seconds=round(seconds, 3), held=dict(held))

    def clients(self, changed: Mapping[str, str]) -> None:
        """Clients that the agent changed, once a change."""
        for name, sha256 in changed.items():
            if self._changed.get(name) != sha256:
                self._changed[name] = sha256
                self.note("client-changed", file=name, sha256=sha256)

    def pass_on(self, event: Mapping[str, Any]) -> None:
        """Keep an event of a trial that knows its number."""
        fields = {key: value for key, value in event.items() if key != "event"}
        self._ledger.append(event["event"], **fields)

    def relay(self, number: int) -> Observer:
        """Passes the scorer's events on under a trial's number."""

        def observe(event: Mapping[str, Any]) -> None:
            self.pass_on({"trial": number, "attempt": 0, **event})

        return observe

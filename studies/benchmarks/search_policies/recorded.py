"""A world of recorded trials: what real configs scored, how long they took, and which of them crashed.

A table is CSV or Parquet with columns `engine`, `config` (JSON), `state`, `score` and, in seconds, `start`,
`measure` (of a whole scoring) and `stop`; or it is a run directory, whose ledger is read, or a directory of
such runs, made with one model on machines alike. A config that nobody ran answers as the nearest one that
somebody did. Trials whose `origin` is `expert` (runs have it, a table may) are the engine's expert configs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from engines import registry
from engines.contract import Config, Value, restart_share
from engines.space import Parameter, Space
from scenarios import ledger
from scenarios.measurement import Measurement
from scenarios.scenario import Fidelity, Profile, Scenario
from scenarios.trial import State, Trial
from search.planners.draws import Encoder, key
from search.record import Record
from search.strategies.costs import work
from studies.benchmarks.search_policies.serving import Figures
from studies.benchmarks.search_policies.world import Start
from studies.errors import BadInput

UNSET = "(default)"
EXPERT = "expert"
COLUMNS = ("engine", "config", "state", "score", "start", "measure", "stop")


@dataclass(frozen=True)
class Row:
    """What is known of one config: a score where it served, seconds of its start and of a whole scoring."""

    config: Config
    score: float | None
    start: float
    whole: float
    crash: str | None
    expert: bool = False


class RecordedWorld:
    """Nearest recorded trial, engine by engine."""

    def __init__(
        self, name: str, rows: Mapping[str, Sequence[Row]], profile: Profile, scenario: Scenario
    ) -> None:
        self.name = name
        self.profile = profile
        self.scenario = scenario
        self.spaces: Mapping[str, Space] = {name: _space(name, each) for name, each in rows.items()}
        self.restarts: Mapping[str, float] = {
            name: restart_share(registry.engine(name)) for name in rows if name in registry.names()
        }
        self._nearest = {name: _Nearest(self.spaces[name], each) for name, each in rows.items()}

    @classmethod
    def load(cls, path: Path, profile: Profile, scenario: Scenario) -> RecordedWorld:
        """From a table, a run directory or one of several. Raises BadInput, LedgerError."""
        table = _from_runs(path, scenario) if path.is_dir() else _from_table(path)
        rows: dict[str, list[Row]] = {}
        for engine, each in table.groupby("engine", sort=False):
            rows[str(engine)] = _rows(each)
            if not any(row.score is not None and not row.config for row in rows[str(engine)]):
                raise BadInput(f"{path} has no valid trial of the default of {engine}: record one")
        return cls(path.stem, rows, profile, scenario)

    def refusal(self, engine: str, config: Config) -> str | None:
        """What was refused was never recorded."""
        return None

    def start(self, engine: str, config: Config) -> Start:
        """As the nearest trial started."""
        row = self._nearest[engine](config)
        return Start(row.start, row.crash)

    def figures(self, engine: str, config: Config, fidelity: Fidelity, served: int) -> Figures:
        """As the nearest trial scored; less of the scenario takes less time."""
        row = self._nearest[engine](config)
        requests = sum(traffic.requests for traffic in self.scenario.traffics)
        part = work(self.scenario, fidelity)
        return Figures(row.score or 0.0, row.whole * part, max(1, round(requests * fidelity.requests)))

    def truth(self, engine: str, config: Config) -> float:
        """The recorded score; 0 of what crashed."""
        return self._nearest[engine](config).score or 0.0


class _Nearest:
    def __init__(self, space: Space, rows: Sequence[Row]) -> None:
        self._space = space
        self._rows = rows
        self._encode = Encoder(space)
        self._points = self._encode.matrix([row.config for row in rows])
        self._known: dict[str, Row] = {}

    def __call__(self, config: Config) -> Row:
        name = key(config)
        if name not in self._known:
            apart = np.abs(self._points - self._encode(config)).sum(axis=1)
            self._known[name] = self._rows[int(apart.argmin())]
        return self._known[name]


def _space(engine: str, rows: Sequence[Row]) -> Space:
    """Every flag that was tried, with the values that it had; a config leaves a flag out at its default."""
    seen: dict[str, dict[str, Value]] = {}
    for row in rows:
        for flag, value in row.config.items():
            seen.setdefault(flag, {})[json.dumps(value)] = value
    parameters = []
    for flag, choices in sorted(seen.items()):
        values = list(choices.values())
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        ordered = sorted(values, key=float) if numbers else values
        parameters.append(Parameter(flag, (UNSET, *ordered), UNSET))
    return Space(engine, tuple(parameters), experts=tuple(row.config for row in rows if row.expert))


def _rows(table: pd.DataFrame) -> list[Row]:
    """One row a config: the median of what its trials say."""
    made = []
    for config, trials in table.groupby("config", sort=False):
        served = trials[trials["state"].isin([State.COMPLETE.value, State.PRUNED.value])]
        served = served[served["score"].notna()]
        start = float((served if len(served) else trials)["start"].median())
        whole = float(served["measure"].median()) if len(served) else 0.0
        score = float(served["score"].median()) if len(served) else None
        crash = None if len(served) else "crashed"
        expert = "origin" in trials and bool((trials["origin"] == EXPERT).any())
        made.append(Row(json.loads(str(config)), score, start, whole, crash, expert))
    return made


def _from_table(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise BadInput(f"{path} has no column {missing[0]!r}: a table of trials has {', '.join(COLUMNS)}")
    table["config"] = [key(json.loads(config)) for config in table["config"]]
    return table


def _from_runs(path: Path, scenario: Scenario) -> pd.DataFrame:
    """The trials of all runs at or below a directory. Raises BadInput where they cannot be one landscape."""
    places = sorted(file.parent for file in path.rglob(ledger.FILE)) or [path]
    events = {place: ledger.read(place)[0] for place in places}
    first, *others = events
    for other in others:
        known, found = _circumstances(events[first][0]), _circumstances(events[other][0])
        for name, value in found.items():
            if value != known[name]:
                raise BadInput(f"{other} is no more of {first}: its {name} is {value}, there {known[name]}")
    return pd.concat([_from_run(each, scenario) for each in events.values()], ignore_index=True)


def _circumstances(header: Mapping[str, Any]) -> dict[str, object]:
    """What the runs of one landscape share, off a run's header."""
    devices = header.get("host", {}).get("devices", [])
    model, versions = header.get("model", {}), header.get("provenance", {}).get("engines", {})
    return {
        "profile": header["profile"],
        "model": f"{model.get('name')} ({model.get('digest')})",
        "text": header.get("spec", {}).get("text"),
        "hardware": ", ".join(sorted({device["name"] for device in devices})),
        "engines": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _from_run(events: Sequence[Mapping[str, Any]], scenario: Scenario) -> pd.DataFrame:
    """A run's trials in one scenario (a survey measures several)."""
    record = Record.of(events)
    rows: list[dict[str, Any]] = []
    for trial in record.trials.values():
        if trial.state not in (State.COMPLETE, State.PRUNED, State.CRASHED):
            continue
        own = [each for each in trial.measurements if each.scenario == scenario.letter]
        scores = [each.score for each in own if each.score is not None]
        rows.append(
            {
                "engine": trial.engine,
                "config": key(trial.config),
                "state": trial.state.value,
                "score": median(scores) if scores else None,
                "start": trial.seconds.get("start", 0.0),
                "measure": _whole(trial, own, scenario),
                "stop": trial.seconds.get("stop", 0.0),
                "origin": trial.origin,
            }
        )
    return pd.DataFrame(rows, columns=[*COLUMNS, "origin"])


def _whole(trial: Trial, own: Sequence[Measurement], scenario: Scenario) -> float:
    """Seconds of a whole scoring, from those of its parts and of what lay between all of the trial's."""
    sent = sum(work(scenario, each.fidelity) for each in own)
    if not sent:
        return 0.0
    between = trial.seconds.get("measure", 0.0) - sum(each.seconds for each in trial.measurements)
    return (sum(each.seconds for each in own) + between * len(own) / len(trial.measurements)) / sent

"""The torch baseline: scored once a machine, model, scenario, profile and seed, kept, and reused."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engines.contract import EngineError, Model
from engines.host import Host, this_host
from engines.registry import engine as engine_named
from engines.runtime import home
from scenarios import profiles
from scenarios.measurement import Measurement
from scenarios.models import digest
from scenarios.scenario import Fidelity, Plan
from scenarios.trial import Observer, Trial, TrialSpec
from scenarios.trial_run import run_trial
from scenarios.workload import build

ENGINE = "torch"
FILE = "baseline.json"


class BaselineError(Exception):
    """The baseline could not be measured. The message is one line that names the fix."""


def baseline(
    model: Model,
    scenario: str,
    profile: str,
    seed: int,
    *,
    observer: Observer | None = None,
    force: bool = False,
    text: str | None = None,
    engine: str = ENGINE,
) -> Measurement:
    """The naive PyTorch server's score, from what is kept for this key, else measured and kept now.

    One whose requests are not those that would be sent now is measured again: where prompts are dealt in
    another way, a seed has other ones. Rows and log lie beside it under `home()/baselines`. `force` measures
    again. While another process measures it, this one waits. Raises BaselineError when the server crashes,
    EngineNotInstalled when it is not there, and as `workload.build` does. An invalid measurement is returned,
    but not kept.
    `text` None is the profile's own source.
    """
    key = baseline_key(model, scenario, profile, seed, text, engine)
    place = home() / "baselines" / _name(key)
    requests = build(_plan(key), model).digest
    place.parent.mkdir(parents=True, exist_ok=True)
    with (
        _alone(place),
        tempfile.TemporaryDirectory(prefix=f"{place.name}-", dir=place.parent) as fresh,
    ):
        kept = None if force else _kept(place, requests)
        if kept is not None:
            return kept
        trial = _measured(model, key, Path(fresh), observer)
        measurement = trial.measurements[-1]
        if measurement.valid:
            told = {"key": key, "trial": trial.to_json(), "measurement": measurement.to_json()}
            (Path(fresh) / FILE).write_text(json.dumps(told, indent=2) + "\n")
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(fresh, place)
    return measurement


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One process at a time measures a baseline; whoever waited for it finds it kept."""
    locks = home() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / place.name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def baseline_key(
    model: Model, scenario: str, profile: str, seed: int, text: str | None = None, engine: str = ENGINE
) -> dict[str, Any]:
    """Everything that two baselines must share for one to stand for the other."""
    return {
        "engine": engine,
        "version": engine_named(engine).runtime().version,
        "host": fingerprint(this_host()),
        "model": digest(model.path),
        "weights": model.weights,
        "max_length": model.max_length,
        "scenario": scenario,
        "profile": profile,
        "setting": _setting(scenario, profile),
        "text": text or profiles.profile(profile).text,
        "seed": seed,
    }


def fingerprint(host: Host) -> dict[str, Any]:
    """What makes two hosts alike for a measurement on one device: that device, and its share of the cores."""
    return {
        "devices": [host.devices[0].name],
        "cores": host.cores // len(host.devices),
        "driver": host.driver,
    }


def _setting(scenario: str, profile: str) -> str:
    """Digest of the scenario's figures: a profile file that changes is another profile."""
    figures = profiles.scenario(profile, scenario).figures()
    # The profile's name says it: baselines from before there was a choice stay good.
    del figures["length"]
    told = json.dumps(figures, sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _name(key: dict[str, Any]) -> str:
    told = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return f"{key['engine']}-{key['scenario']}-{told}"


def _kept(place: Path, request_set: str) -> Measurement | None:
    try:
        kept = Measurement.from_json(json.loads((place / FILE).read_text())["measurement"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kept if kept.request_set == request_set else None


def _plan(key: dict[str, Any]) -> Plan:
    serial = profiles.scenario(key["profile"], key["scenario"]).serial_requests
    return Plan(key["scenario"], key["profile"], key["seed"], Fidelity(serial=serial), key["text"])


def _measured(model: Model, key: dict[str, Any], run: Path, observer: Observer | None) -> Trial:
    spec = TrialSpec(0, key["engine"], {}, "baseline", model, _plan(key), str(run))
    try:
        trial = run_trial(spec, observer or _unobserved)
    except EngineError as error:
        raise BaselineError(str(error)) from error
    if not trial.measurements:
        raise BaselineError(f"the {key['engine']} baseline ended {trial.state.value}: {trial.detail}")
    return trial


def _unobserved(_: object) -> None:
    return

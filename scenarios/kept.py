"""Measurements as they are kept: judged by their rows, read and judged again, held against the model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from engines.contract import EngineError, Model
from engines.host import Device
from engines.reference import LIMIT
from scenarios import metrics, rows
from scenarios.authenticity import sample
from scenarios.authenticity.evidence import Text
from scenarios.authenticity.grading import graded
from scenarios.bystanders import Bystanders, shares
from scenarios.device_use import taken
from scenarios.load import calibration
from scenarios.measurement import Measurement
from scenarios.models import ModelError
from scenarios.quality import judging, mix
from scenarios.quality.gate import Paired
from scenarios.quality.tasks import TAU, kind
from scenarios.requests import Reduced, by_usage, natural, reduce
from scenarios.roofline import against
from scenarios.scenario import Scenario, Score, Traffic
from scenarios.validity import Facts, Roofline, judge
from scenarios.validity.quality import WORSE
from scenarios.validity.text import FOREIGN

FILE, FACTS = "measurement.json", "facts.json"
"""Beside the rows: the measurement, and what else it takes to work it out again from them."""


def authenticate(
    directories: Sequence[Path], model: Model, devices: Sequence[Device] = (), limit: float = LIMIT
) -> tuple[Measurement, ...]:
    """Hold the kept samples of measurements against the model, and judge them again by what comes of it.

    What is void already, or marked as what comes from no model, stays as it is. `devices` are GPUs that may
    be used where they have room; `limit` is in seconds.
    """
    measurements = [read(directory) for directory in directories]
    open_ones = [
        directory
        for directory, one in zip(directories, measurements, strict=True)
        if one.valid and one.mark is None and (directory / sample.FILE).is_file()
    ]
    texts = graded([sample.read(each / sample.FILE) for each in open_ones], model, devices, limit)
    for directory, text in zip(open_ones, texts, strict=True):
        facts = replace(read_facts(directory), text=text)
        write(directory, FACTS, asdict(facts))
        write(directory, FILE, rescore(directory).to_json())
    return tuple(read(directory) for directory in directories)


def compare(
    directory: Path, task: str, model: Model, devices: Sequence[Device] = (), limit: float = judging.LIMIT
) -> Measurement:
    """Judge answers to a task's questions beside the model's own, and the measurement by what comes of it.

    A measurement that is void, or marked as what comes from no model, stays as it is.
    """
    measured = read(directory)
    if not measured.valid or measured.mark is not None:
        return measured
    questions = mix.read(directory / mix.FILE)
    try:
        found = judging.judged(task, questions, rows.scan(directory), model, devices, limit)
    except (EngineError, ModelError) as error:
        found = judging.Quality(task, None, str(error))
    write(directory, FACTS, asdict(replace(read_facts(directory), quality=asdict(found))))
    write(directory, FILE, rescore(directory).to_json())
    return read(directory)


def rescore(directory: Path) -> Measurement:
    """Work a measurement out again from its rows, by the rules of this version.

    Raises FileNotFoundError when the directory holds no rows or no measurement.
    """
    for name in (FILE, FACTS):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} holds no {name}: name the rows of one whole measurement")
    return judged(read(directory), reduce(rows.scan(directory)), read_facts(directory))


def read(directory: Path) -> Measurement:
    """The measurement of a directory of rows."""
    return Measurement.from_json(json.loads((directory / FILE).read_text(encoding="utf-8")))


def read_facts(directory: Path) -> Facts:
    """What else its judgement rests on."""
    data: dict[str, Any] = json.loads((directory / FACTS).read_text(encoding="utf-8"))
    scenario = dict(data["scenario"])
    scenario["score"] = Score(scenario["score"])
    scenario["traffics"] = tuple(
        Traffic(**{**traffic, "trace": tuple(traffic["trace"])}) for traffic in scenario["traffics"]
    )
    bound, seen = data["roofline"], data.get("bystanders")
    return Facts(
        **{
            **data,
            "scenario": Scenario(**scenario),
            "roofline": Roofline.from_json(bound) if bound else None,
            "bystanders": Bystanders.read(seen) if seen else None,
            "text": Text.from_json(data["text"]) if "text" in data else Text(),
        }
    )


def write(place: Path, name: str, data: Mapping[str, Any]) -> None:
    """Keep it as JSON; it appears under its name only when it is whole."""
    place.mkdir(parents=True, exist_ok=True)
    partial = place / f"{name}.partial"
    partial.write_text(json.dumps(data, allow_nan=False), encoding="utf-8")
    partial.rename(place / name)


def judged(blank: Measurement, reduced: Reduced, facts: Facts) -> Measurement:
    """With reasons, metrics and score by the rows."""
    if facts.weights == "dummy":
        reduced = by_usage(reduced)
    if facts.scenario.length == "natural":
        reduced = natural(reduced)
    reasons = judge(reduced, facts)
    score = None if reasons else metrics.score(reduced, facts.scenario)
    few = blank.fidelity.serial is not None
    figures = metrics.metrics(reduced, facts.scenario) | _headroom(blank, reduced, facts)
    figures |= taken(blank.provenance.get("devices", ()), metrics.output_tokens(reduced))
    figures |= shares(facts.bystanders)
    figures |= against(reduced, facts.scenario, facts.roofline, score)
    figures |= facts.text.figures()
    return replace(
        blank,
        invalid_reasons=reasons,
        score=score,
        interval=None if reasons else metrics.interval(reduced, facts.scenario, blank.seed, few=few),
        metrics={name: value for name, value in figures.items() if math.isfinite(value)},
        requests=metrics.counts(reduced, sum(facts.asked.values())),
        quality=_quality(facts.quality, passed=all(reason.code != WORSE for reason in reasons)),
        text=facts.text.told(from_model=all(reason.code != FOREIGN for reason in reasons)),
    )


def _headroom(blank: Measurement, reduced: Reduced, facts: Facts) -> dict[str, float]:
    """How many times the busiest traffic's tokens/s the client could have taken, where it was calibrated."""
    client = blank.provenance["client"]
    if client.get("calibration") is None:
        return {}
    rates = metrics.output_rates(reduced, facts.scenario)
    known = calibration.Calibration(**client["calibration"])
    return {"client_headroom": known.headroom(max(rates, default=0.0), client["senders"])}


def _quality(told: Mapping[str, Any] | None, *, passed: bool) -> Mapping[str, Any] | None:
    if told is None or told["paired"] is None:
        return told and {"task": told["task"], "verdict": "not judged", "why": told["why"]}
    verdict = "passed" if passed else "failed"
    paired = Paired(**told["paired"]).to_json(TAU.get(kind(told["task"])))
    return {"task": told["task"], "verdict": verdict, **paired}

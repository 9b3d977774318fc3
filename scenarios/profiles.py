"""Profiles: a size of all four scenarios, kept as YAML beside this module."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

import pydantic
import yaml

from scenarios.rows import REHEARSAL
from scenarios.scenario import Profile, Scenario, ScenarioError, Score, Traffic

NATURAL = "+natural"
"""Ends the name of a profile whose answers may end where the model ends them."""

_DATA = Path(__file__).with_name("profiles")
_TAKEN = ("warmup", "probe")

Letter = Literal["A", "B", "C", "D"]
_Count = Annotated[int, pydantic.Field(gt=0)]
_Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
_Offset = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]


def names() -> tuple[str, ...]:
    """The profiles that come with Ceiling."""
    return tuple(sorted(file.stem for file in _DATA.glob("*.yaml")))


def profile(name: str) -> Profile:
    """A profile by name, or a person's own by the path of its YAML file.

    `NAME+natural` leaves lengths natural; what is measured under one name is never held against another.
    Raises ScenarioError: unknown (lists the choices), or malformed (names file and field).
    """
    if name.endswith(NATURAL):
        return _natural(profile(name.removesuffix(NATURAL)))
    path = Path(name) if name.endswith((".yaml", ".yml")) else _DATA / f"{name}.yaml"
    if not path.is_file():
        raise ScenarioError(f"unknown profile {name}: choose {', '.join(names())}, or name a YAML file")
    return _load(path.resolve())


def _natural(forced: Profile) -> Profile:
    parts = {letter: replace(part, length="natural") for letter, part in forced.scenarios.items()}
    return replace(forced, name=forced.name + NATURAL, scenarios=parts)


def scenario(profile_or_name: Profile | str, letter: str) -> Scenario:
    """One scenario of a profile. Raises ScenarioError, which lists the choices."""
    chosen = profile(profile_or_name) if isinstance(profile_or_name, str) else profile_or_name
    if letter not in chosen.scenarios:
        raise ScenarioError(
            f"unknown scenario {letter}: profile {chosen.name} has {', '.join(chosen.scenarios)}"
        )
    return chosen.scenarios[letter]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class _Traffic(_Strict):
    name: Annotated[str, pydantic.Field(pattern=r"^[a-z0-9_-]+$")]
    kind: Literal["closed", "poisson", "constant", "burst", "ramp", "replay"]
    requests: _Count
    concurrency: _Count | None = None
    rate: _Positive | None = None
    trace: tuple[_Offset, ...] = ()
    trace_file: Path | None = None

    @pydantic.model_validator(mode="after")
    def _complete(self) -> Self:
        if self.name in _TAKEN or self.name.startswith(REHEARSAL):
            raise ValueError(f"{self.name} is a stage of every measurement: choose another name")
        if self.kind == "closed" and self.concurrency is None:
            raise ValueError("closed traffic needs a concurrency")
        if self.kind in ("poisson", "constant", "ramp") and self.rate is None:
            raise ValueError(f"{self.kind} traffic needs a rate")
        if self.kind == "replay" and not (self.trace or self.trace_file):
            raise ValueError("replay traffic needs a trace or a trace_file")
        return self

    def built(self, directory: Path) -> Traffic:
        trace = self.trace if self.trace_file is None else _trace(directory / self.trace_file)
        if self.kind == "replay" and len(trace) < self.requests:
            raise ScenarioError(
                f"traffic {self.name} has {len(trace)} offsets for {self.requests} requests: use a longer one"
            )
        return Traffic(self.name, self.kind, self.requests, self.concurrency, self.rate, trace)


class _Scenario(_Strict):
    bottleneck: str
    score: Score
    input_tokens: _Count
    output_tokens: Annotated[int, pydantic.Field(ge=2)]
    traffics: Annotated[tuple[_Traffic, ...], pydantic.Field(min_length=1)]
    spread: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.8
    warmup_requests: Annotated[int, pydantic.Field(ge=0)] = 2
    temperature_published: float | None = None
    serial_requests: _Count | None = None

    @pydantic.field_validator("traffics")
    @classmethod
    def _distinct(cls, traffics: tuple[_Traffic, ...]) -> tuple[_Traffic, ...]:
        if len({traffic.name for traffic in traffics}) < len(traffics):
            raise ValueError("two traffics have one name")
        return traffics

    def built(self, letter: Letter, directory: Path, rehearsal: bool) -> Scenario:
        return Scenario(
            letter,
            self.bottleneck,
            self.score,
            self.input_tokens,
            self.output_tokens,
            tuple(traffic.built(directory) for traffic in self.traffics),
            self.spread,
            self.warmup_requests,
            self.temperature_published,
            self.serial_requests,
            rehearsal,
        )


class _Profile(_Strict):
    name: str
    scenarios: Annotated[Mapping[Letter, _Scenario], pydantic.Field(min_length=1)]
    max_length: _Count | None = None
    text: str = "sotu"
    note: str = ""
    rehearsal: bool = False

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        for letter, part in self.scenarios.items():
            if self.rehearsal and not part.warmup_requests:
                raise ValueError(f"scenario {letter} rehearses its warm-up's text: give it warmup_requests")
            longest = part.input_tokens + part.output_tokens
            if self.max_length is not None and longest > self.max_length:
                raise ValueError(f"scenario {letter} needs {longest} tokens, max_length is {self.max_length}")
        return self


def digest(profile_name: str, letter: str) -> str:
    """Of a scenario's figures: a profile file that is edited is another one. Raises ScenarioError."""
    told = json.dumps(scenario(profile_name, letter).figures(), sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


@cache
def _load(path: Path) -> Profile:
    try:
        data = _Profile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path} cannot be read as text ({error}): name a YAML file") from error
    except yaml.YAMLError as error:
        raise ScenarioError(f"{path} is not YAML ({' '.join(str(error).split())}): mend it") from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ScenarioError(f"{path}: {field}: {first['msg']}") from error
    try:
        scenarios: dict[str, Scenario] = {
            letter: part.built(letter, path.parent, data.rehearsal) for letter, part in data.scenarios.items()
        }
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from error
    return Profile(data.name, scenarios, data.max_length, data.text, data.note)


def _trace(path: Path) -> tuple[float, ...]:
    """Send offsets in seconds, one a line."""
    if not path.is_file():
        raise ScenarioError(f"trace_file {path} is not a file: name one with an offset in seconds a line")
    times = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        try:
            times += [float(line)] if line.strip() else []
        except ValueError as error:
            raise ScenarioError(
                f"{path}, line {number}: not a number of seconds: {line.strip()[:40]}"
            ) from error
    return tuple(sorted(times))

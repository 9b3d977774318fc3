"""Reads a declarative space file and fits it to an installed version and a host.

A file states, for the releases it was written for, each flag's choices and the engine's own default. Where
these depend on the device, a mapping from device class to value stands in their place; the first key that the
host's device belongs to counts. The device's kind (`cuda`, `cpu`) is always such a class; a file adds others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from engines.argv import ENV, UNSET
from engines.contract import Value
from engines.host import Device, Host
from engines.space import Parameter, Space, SpaceError

FOLDER = Path(__file__).parent / "spaces"

Kind = Literal["cuda", "cpu"]
Scalar = StrictBool | StrictInt | StrictFloat | StrictStr
Choices = Annotated[list[Scalar], Field(min_length=1)]


class SpaceFileError(SpaceError):
    """A space file is wrong. The message is one line that names the file and the field."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceClass(_Strict):
    """Devices that share a default: of this kind, and with at least so much memory, and a name that fits.

    `name` and `name_not` are regular expressions searched in the device's name.
    """

    kind: Kind
    memory_gib: float = 0.0
    name: str | None = None
    name_not: str | None = None

    def holds(self, device: Device) -> bool:
        """Whether a device belongs to it."""
        return (
            device.kind == self.kind
            and device.memory >= self.memory_gib * (1 << 30)
            and (self.name is None or re.search(self.name, device.name) is not None)
            and (self.name_not is None or re.search(self.name_not, device.name) is None)
        )


def _single_as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


class Entry(_Strict):
    """One flag, as the file states it; see `engines.space.Parameter` for the meaning.

    `parallel` marks a flag whose value is a number of devices: choices above the host's count are left out.
    """

    name: str = Field(pattern=r"^[A-Za-z][\w.-]*$")
    choices: Choices | dict[str, Choices]
    default: Scalar | dict[str, Scalar]
    ordered: bool = False
    when: dict[str, Annotated[list[Scalar], BeforeValidator(_single_as_list)]] = Field(default_factory=dict)
    devices: tuple[Kind, ...] = ("cuda", "cpu")
    parallel: bool = False
    note: str = ""

    def stated_choices(self) -> list[Scalar]:
        """Choices on any device."""
        if isinstance(self.choices, dict):
            return [choice for choices in self.choices.values() for choice in choices]
        return self.choices


class Expert(_Strict):
    """A config that people who tune this engine by hand try first."""

    config: dict[str, Scalar]
    devices: tuple[Kind, ...] = ("cuda", "cpu")
    note: str = ""


class SpaceFile(_Strict):
    """A whole file."""

    engine: str
    releases: str = Field(pattern=r"^((>=|<)\d+(\.\d+)*)(,(>=|<)\d+(\.\d+)*)*$")
    classes: dict[str, DeviceClass] = Field(default_factory=dict)
    parameters: tuple[Entry, ...]
    experts: tuple[Expert, ...] = ()

    @model_validator(mode="after")
    def _hangs_together(self) -> SpaceFile:
        before: dict[str, Entry] = {}
        for entry in self.parameters:
            for parent, values in entry.when.items():
                if parent not in before:
                    raise ValueError(f"{entry.name}.when: {parent!r} is not defined before it")
                strange = [value for value in values if value not in before[parent].stated_choices()]
                if strange:
                    raise ValueError(f"{entry.name}.when: {parent} has no choice {strange[0]!r}")
            for field in ("choices", "default"):
                self._classes_known(entry, field)
            before[entry.name] = entry
        for place, expert in enumerate(self.experts):
            for name, value in expert.config.items():
                if name not in before or value not in before[name].stated_choices():
                    raise ValueError(f"experts[{place}]: {name}={value} is not in this space")
        return self

    def _classes_known(self, entry: Entry, field: str) -> None:
        stated = getattr(entry, field)
        if not isinstance(stated, dict):
            return
        for word in stated:
            if word not in {*self.classes, "cuda", "cpu"}:
                raise ValueError(f"{entry.name}.{field}: {word!r} is no device class of this file")
        for kind in entry.devices:
            if kind not in stated:
                raise ValueError(f"{entry.name}.{field}: states nothing for {kind}")

    def suits(self, version: str) -> bool:
        """Whether the file was written for a release."""
        return all(
            (_release(version) >= _release(bound)) == (relation == ">=")
            for relation, bound in re.findall(r"(>=|<)([\d.]+)", self.releases)
        )

    def space(
        self, host: Host, version: str = "", listed: Mapping[str, tuple[str, ...]] | None = None
    ) -> Space:
        """The space on a host, less what the installed version does not list and the device cannot do.

        `listed` maps the flags of the installed CLI to their choices; None leaves the CLI out of it.
        Raises SpaceFileError where a default is not among the choices for this device.
        """
        fitted = _Fitting(self, host, version, listed)
        for entry in self.parameters:
            fitted.add(entry)
        if version and not self.suits(version):
            fitted.left_out["(release)"] = (
                f"no space was written for {self.engine} {version}: this one is for {self.releases}"
            )
        experts = tuple(each.config for each in self.experts if host.kind in each.devices)
        return Space(self.engine, tuple(fitted.parameters.values()), fitted.left_out, experts=experts)


class _Fitting:
    """Fits one file to one host and CLI, parameter by parameter, and notes what is left out and why."""

    def __init__(
        self, file: SpaceFile, host: Host, version: str, listed: Mapping[str, tuple[str, ...]] | None
    ) -> None:
        device = host.devices[0]
        self.parameters: dict[str, Parameter] = {}
        self.left_out: dict[str, str] = {}
        self._file = file
        self._host = host
        self._who = f"{file.engine} {version}".strip()
        self._listed = listed
        self._classes = [name for name, rule in file.classes.items() if rule.holds(device)] + [device.kind]

    def add(self, entry: Entry) -> None:
        why = self._absent(entry)
        if why:
            self.left_out[entry.name] = why
            return
        choices, default = self._here(entry, "choices"), self._here(entry, "default")
        kept = self._kept(entry, choices, default)
        if len(kept) < 2:
            self.left_out[entry.name] = self._too_few(entry)
            return
        try:
            self.parameters[entry.name] = Parameter(
                name=entry.name,
                choices=kept,
                default=default,
                ordered=entry.ordered,
                when=self._conditions(entry),
                devices=entry.devices,
                note=entry.note,
            )
        except SpaceError as error:
            raise SpaceFileError(f"{self._file.engine} space, {error} on {self._host.kind}") from error

    def _conditions(self, entry: Entry) -> dict[str, tuple[Value, ...]]:
        """Less those on parameters that are left out at an allowed default, and values that are not here."""
        return {
            parent: tuple(value for value in values if value in self.parameters[parent].choices)
            for parent, values in entry.when.items()
            if parent in self.parameters
        }

    def _absent(self, entry: Entry) -> str:
        if self._host.kind not in entry.devices:
            return f"not on {self._host.kind}"
        flag = entry.name.split(".")[0]
        if self._listed is not None and not entry.name.startswith(ENV) and flag not in self._listed:
            return f"{self._who} does not list --{flag}"
        for parent, values in entry.when.items():
            if parent in self.left_out and self._default_of(parent) not in values:
                return f"needs {parent}, which is left out"
            if parent in self.parameters and not set(values) & set(self.parameters[parent].choices):
                return f"needs {parent}={values[0]}, which is left out"
        return ""

    def _default_of(self, name: str) -> Value | None:
        entry = next(entry for entry in self._file.parameters if entry.name == name)
        if self._host.kind not in entry.devices:
            return None
        default: Value = self._here(entry, "default")
        return default

    def _here(self, entry: Entry, field: str) -> Any:
        stated = getattr(entry, field)
        if not isinstance(stated, dict):
            return stated
        return next(value for name, value in stated.items() if name in self._classes)

    def _kept(self, entry: Entry, choices: list[Value], default: Value) -> tuple[Value, ...]:
        words = (self._listed or {}).get(entry.name, ())
        kept = []
        for choice in choices:
            unknown = words and isinstance(choice, str) and choice not in (*words, *UNSET, default)
            if unknown:
                self.left_out[f"{entry.name}={choice}"] = f"{self._who} does not list this choice"
            elif not (entry.parallel and isinstance(choice, int) and choice > len(self._host.devices)):
                kept.append(choice)
        return tuple(kept)

    def _too_few(self, entry: Entry) -> str:
        if entry.parallel:
            return f"needs more devices than the {len(self._host.devices)} here"
        return f"only one choice is left on {self._host.kind}"


def load(path: Path) -> SpaceFile:
    """Reads one file. Raises SpaceFileError, one line that names the file and the field."""
    try:
        return _parsed(path, path.read_text())
    except OSError as error:
        raise SpaceFileError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise SpaceFileError(f"{path}: cannot be read as text ({error.reason})") from error


@cache
def _parsed(path: Path, text: str) -> SpaceFile:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpaceFileError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SpaceFileError(f"{path}: no space: write engine, releases and parameters, as in engines/spaces")
    try:
        return SpaceFile.model_validate(content)
    except ValidationError as error:
        raise SpaceFileError(f"{path}: {_first(error, content)}") from error


def written(engine: str, version: str, folder: Path = FOLDER) -> SpaceFile:
    """The file of an engine's release; the newest where none was written for it. Raises SpaceFileError."""
    files = [file for file in map(load, sorted(folder.glob("*.yaml"))) if file.engine == engine]
    if not files:
        raise SpaceFileError(f"{folder}: no space file has engine: {engine}")
    suiting = [file for file in files if file.suits(version)]
    return max(suiting or files, key=lambda file: _release(file.releases))


def _release(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: 0.5.17.post1 gives (0, 5, 17)."""
    found = re.search(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def _first(error: ValidationError, content: object) -> str:
    details = error.errors()[0]
    place: list[str] = []
    for part in details["loc"]:
        if isinstance(part, int) and place == ["parameters"]:
            place = [_name_of(content, part)]
        elif not str(part).startswith(("list[", "dict[", "function-", "tuple[")):
            place.append(str(part))
    message = details["msg"].removeprefix("Value error, ")
    if place[-1:] == ["bool"]:
        place, message = place[:-1], "must be true, false, a number or a word"
    return f"{'.'.join(place)}: {message}" if place else message


def _name_of(content: object, place: int) -> str:
    try:
        return str(content["parameters"][place]["name"])  # type: ignore[index]
    except (KeyError, TypeError, IndexError):
        return f"parameters[{place}]"

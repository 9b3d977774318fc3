"""Study files: YAML that says which methods run on which scenarios, at which budget, with which seeds.

The top level holds settings; `parts`, where given, are blocks that each change some of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
import yaml

from studies import durations
from studies.cell import Cell
from studies.errors import BadInput


def _engines(value: object) -> tuple[str, ...]:
    """One engine, or several that one search may choose from, as a list or `vllm,sglang`."""
    from engines.registry import names

    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed) or not listed:
        raise ValueError("an engine's name, or a list of them")
    chosen = tuple(name.strip() for name in listed)
    for name in chosen:
        if name not in names():
            raise ValueError(f"no engine {name!r}: one of {', '.join(names())}")
    return chosen


def _planner(value: str) -> str:
    from search.planners import names

    if value not in names():
        raise ValueError(f"no planner {value!r}: one of {', '.join(names())}")
    return value


def _strategy(value: str) -> str:
    from search.strategies import NAMES

    if value not in NAMES:
        raise ValueError(f"no strategy {value!r}: one of {', '.join(NAMES)}")
    return value


def _agent(value: str) -> str:
    from agents.registry import COMMAND, names

    known = [name for name in names() if name != COMMAND]
    if value == COMMAND:
        raise ValueError(
            f"a study cannot name {COMMAND}'s executable: run it by `ceiling agent`, and compare"
        )
    if value not in known:
        raise ValueError(f"no agent {value!r}: one of {', '.join(known)}")
    return value


def _quality(value: str) -> str:
    from scenarios.quality.tasks import TaskError, named

    try:
        return named(value)
    except TaskError as error:
        raise ValueError(str(error)) from None


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


Engines = Annotated[tuple[str, ...], pydantic.BeforeValidator(_engines)]
Planner = Annotated[str, pydantic.AfterValidator(_planner)]
Strategy = Annotated[str, pydantic.AfterValidator(_strategy)]
Agent = Annotated[str, pydantic.AfterValidator(_agent)]
Quality = Annotated[str, pydantic.AfterValidator(_quality)]
Budget = Annotated[float, pydantic.BeforeValidator(lambda value: durations.parse(str(value)))]
Seeds = tuple[int, int]


class Settings(pydantic.BaseModel):
    """What a study, or a part of one, may say; None is not said."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    profile: str | None = None
    model: str | None = None
    text: str | None = None
    engines: tuple[Engines, ...] | None = None
    scenarios: tuple[Literal["A", "B", "C", "D"], ...] | None = None
    planners: tuple[Planner, ...] | None = None
    agents: tuple[Agent, ...] | None = None
    strategy: Strategy | None = None
    budget: Annotated[tuple[Budget, ...] | None, pydantic.BeforeValidator(_listed)] = None
    devices: Annotated[int, pydantic.Field(gt=0)] | None = None
    seeds: tuple[Seeds, ...] | None = None
    repeats: Annotated[int, pydantic.Field(gt=0)] | None = None
    quality: Quality | None = None

    @pydantic.field_validator("profile")
    @classmethod
    def _known_profile(cls, value: str | None) -> str | None:
        from scenarios.profiles import profile
        from scenarios.scenario import ScenarioError

        try:
            return value and profile(value).name and value
        except ScenarioError as error:
            raise ValueError(str(error)) from None

    @pydantic.field_validator("seeds")
    @classmethod
    def _held_out(cls, value: tuple[Seeds, ...] | None) -> tuple[Seeds, ...] | None:
        for dev, held_out in value or ():
            if dev == held_out:
                raise ValueError(f"dev and eval seed are both {dev}: the eval seed must be another one")
        return value


class Study(Settings):
    """A study file, checked."""

    name: Annotated[str, pydantic.Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    about: str = ""
    parts: tuple[Settings, ...] = ()

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Self:
        for number, part in enumerate(self.blocks(), start=1):
            where = f"part {number}" if self.parts else "the study"
            for field in ("profile", "model", "engines", "scenarios", "budget"):
                if not part[field]:
                    raise ValueError(f"{where} does not say its {field}: add `{field}:`")
            if not part["planners"] and not part["agents"]:
                raise ValueError(f"{where} has neither planners nor agents: add one of them")
            if part["quality"]:
                _check_real(part["engines"], where)
        return self

    def blocks(self) -> list[dict[str, Any]]:
        """The settings of each part, with what it leaves open taken from the top level."""
        fields = Settings.model_fields
        top = {name: getattr(self, name) for name in fields}
        return [
            {name: top[name] if (own := getattr(part, name)) is None else own for name in fields}
            for part in self.parts or (Settings(),)
        ]

    def cells(self) -> list[Cell]:
        """Every run of the study, in order, none twice."""
        return list(dict.fromkeys(cell for block in self.blocks() for cell in _cells(block)))


def _cells(block: Mapping[str, Any]) -> Iterator[Cell]:
    methods: list[tuple[Literal["search", "agent"], str]] = [
        *(("search", name) for name in block["planners"] or ()),
        *(("agent", name) for name in block["agents"] or ()),
    ]
    seeds = block["seeds"] or ((21, 1337),)
    repeats = range(1, (block["repeats"] or 1) + 1)
    for pair, repeat, scenario, engines, budget, (kind, method) in product(
        seeds, repeats, block["scenarios"], block["engines"], block["budget"], methods
    ):
        yield Cell(
            kind=kind,
            method=method,
            strategy=block["strategy"] if kind == "search" else None,
            engines=engines,
            scenario=scenario,
            profile=block["profile"],
            model=block["model"],
            text=block["text"],
            budget=budget,
            devices=block["devices"] or 1,
            seeds=pair,
            repeat=repeat,
            quality=block["quality"],
        )


def _check_real(listed: Sequence[Engines], where: str) -> None:
    from engines.registry import engine

    for name in {name for engines in listed for name in engines}:
        if not engine(name).real:
            raise ValueError(
                f"{where} asks for quality, and the text of {name} comes from no model: drop one"
            )


def load(path: Path) -> Study:
    """Read a study file. Raises BadInput, one line that names file, line and field."""
    if not path.is_file():
        raise BadInput(f"{path} is not a file: name a study, such as {_shipped()}")
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} cannot be read as text ({error}): name a study, such as {_shipped()}"
        ) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadInput(f"{path}, line {line}: not YAML ({error.problem}): mend that line") from None
    if not isinstance(data, dict) or tree is None:
        raise BadInput(f"{path}, line 1: a study is a mapping of settings, such as `name: my-study`")
    try:
        return Study.model_validate(data)
    except pydantic.ValidationError as error:
        raise BadInput(_first(path, tree, error)) from None


def _shipped() -> str:
    return ", ".join(f"studies/{file.name}" for file in sorted(Path(__file__).parent.glob("*.yaml")))


def _first(path: Path, tree: yaml.Node, error: pydantic.ValidationError) -> str:
    first = error.errors()[0]
    where = [part for part in first["loc"] if not isinstance(part, str) or "[" not in part]
    field = ".".join(str(part) for part in where)
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = [*Settings.model_fields, *(("name", "about", "parts") if len(where) == 1 else ())]
        message = f"unknown field: one of {', '.join(known)}"
    rest = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    said = f"{field}: {message}" if field else message
    return f"{path}, line {_line(tree, where)}: {said}{rest}"


def _line(node: yaml.Node, where: Sequence[Any]) -> int:
    """The line of the deepest place of `where` that the file has."""
    line = node.start_mark.line
    for part in where:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == part), None)
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
    return int(line) + 1

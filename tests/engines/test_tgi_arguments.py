"""TGI's command line and space against the published argument list of its launcher, which is kept as data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines import cli_flags
from engines.contract import Config, Model
from engines.space_file import FOLDER, load
from engines.tgi import TGI
from tests.engines.hosts import H100_X4

PUBLISHED: dict[str, Any] = json.loads(Path(__file__).with_name("tgi_launcher.json").read_text())
UNSET = {"default", "none"}
LISTED = {*PUBLISHED["valued"], *PUBLISHED["switches"], *PUBLISHED["choices"]}


def flag(name: str) -> dict[str, Any] | None:
    """A parameter's flag as published, None for a variable of the environment."""
    if name.startswith("env."):
        return None
    return {
        "choices": PUBLISHED["choices"].get(name),
        "switch": name in PUBLISHED["switches"],
        "default": PUBLISHED["defaults"].get(name),
    }


def parameters() -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    for entry in load(FOLDER / "tgi.yaml").parameters:
        yield entry.name, tuple(entry.stated_choices()), entry.default


@pytest.mark.parametrize(("name", "choices", "default"), list(parameters()), ids=[p[0] for p in parameters()])
def test_every_parameter_is_a_published_flag(name: str, choices: tuple[Any, ...], default: Any) -> None:
    published = flag(name)
    if published is None:
        return
    assert name in LISTED
    assert published["switch"] == all(isinstance(choice, bool) for choice in choices)
    if published["choices"]:
        assert {str(choice) for choice in choices} - UNSET <= set(published["choices"])
    if published["default"] is not None:
        assert str(default) == published["default"]


def help_text() -> str:
    """A help text of the launcher's form, with the published flags in it."""
    lines = ["Text Generation Launcher", "", "Usage: text-generation-launcher [OPTIONS]", "", "Options:"]
    for name in PUBLISHED["valued"]:
        short = "  -p, " if name == "port" else "      "
        lines += [
            f"{short}--{name} <{name.upper()}>",
            "          What it does",
            "",
            f"          [env: {name}=]",
        ]
    for name in PUBLISHED["switches"]:
        lines += [f"      --{name}", "          What it does", ""]
    for name, choices in PUBLISHED["choices"].items():
        lines.append(f"      --{name} <{name.upper()}>")
        if name in ("quantize", "usage-stats"):
            lines += ["          Possible values:", *(f"          - {each}: what it is" for each in choices)]
        else:
            lines.append(f"          [possible values: {', '.join(choices)}]")
    return "\n".join(lines)


def test_the_help_text_is_read_whole() -> None:
    listed = cli_flags.parse(help_text())
    assert set(listed) == LISTED
    assert {name: list(found) for name, found in listed.items() if found} == PUBLISHED["choices"]


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program on PATH that prints that text, and so is the installed launcher."""
    program = tmp_path / "text-generation-launcher"
    (tmp_path / "help.txt").write_text(help_text())
    program.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo text-generation-launcher 3.3.4 || cat {tmp_path}/help.txt\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CEILING_HOME", str(tmp_path / "home"))
    return program


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"quantize": "fp8", "max-batch-prefill-tokens": 4096, "cuda-graphs": "0"},
        {"disable-custom-kernels": True, "kv-cache-dtype": "fp8_e5m2", "num-shard": 2, "speculate": 3},
    ],
)
def test_what_is_launched_is_what_the_launcher_takes(launcher: Path, tmp_path: Path, config: Config) -> None:
    argv = TGI().command(config, Model(tmp_path, "m", 4096), "127.0.0.1", 8004).argv
    assert argv[0] == str(launcher)
    words = iter(argv[1:])
    for word in words:
        name = word.removeprefix("--")
        assert word.startswith("--") and name in LISTED, word
        if name not in PUBLISHED["switches"]:
            value = next(words)
            assert value in PUBLISHED["choices"].get(name, [value])


def test_the_space_keeps_every_choice_that_the_launcher_takes(launcher: Path) -> None:
    space = TGI().space(H100_X4)
    assert not {name for name, _, _ in parameters()} - {parameter.name for parameter in space}

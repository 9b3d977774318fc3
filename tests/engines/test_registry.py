"""Engines by name, built in or added by another distribution."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.contract import Engine, UnknownEngine
from engines.registry import BUILT_IN, engine, names


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution on the path that adds three engines, of which one works."""
    metadata = tmp_path / "strangers-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[ceiling.engines]\n"
        "stranger = tests.engines.nasty_engine:Nasty\n"
        "broken = no_such_module:Engine\n"
        "thing = builtins:dict\n"
        "vllm = tests.engines.nasty_engine:Nasty\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_every_built_in_engine_is_one_and_knows_its_name() -> None:
    for name in BUILT_IN:
        made = engine(name)
        assert isinstance(made, Engine)
        assert made.name == name


def test_an_unknown_engine_names_the_known_ones() -> None:
    with pytest.raises(UnknownEngine, match="'vlm': one of torch, vllm, sglang, tgi, simulated"):
        engine("vlm")


@pytest.mark.usefixtures("added")
def test_another_distribution_adds_an_engine_but_replaces_none() -> None:
    assert names() == (*BUILT_IN, "broken", "stranger", "thing")
    assert engine("stranger").name == "nasty"
    assert type(engine("vllm")).__module__ == "engines.vllm"


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "does not load.*reinstall strangers"),
        ("thing", "dict does not provide what an engine must"),
    ],
)
def test_an_added_engine_that_is_none_says_what_to_do(name: str, said: str) -> None:
    with pytest.raises(UnknownEngine, match=said):
        engine(name)

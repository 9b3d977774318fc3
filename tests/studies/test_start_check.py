"""`ceiling engines check`: one start of an engine's default, and what it says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engines.registry import engine
from scenarios.models import open_model
from studies.start_check import StartCheck, check
from tests.conftest import Ceiling
from tests.engines.nasty_engine import Nasty
from tests.tiny_model import make_tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "model")


def test_an_engine_that_works(ceiling: Ceiling, model: Path, tmp_path: Path) -> None:
    done = ceiling("engines", "check", "simulated", "--model", model, "--json", "told.json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["crash"] == "" and told["start"] > 0 and told["stop"] > 0
    assert done.stdout.startswith(f"simulated {engine('simulated').runtime().version} was ready in ")


def test_one_that_dies_is_told_with_its_class(model: Path) -> None:
    found = check(Nasty("out_of_memory"), open_model(model))
    assert found.crash == "out-of-memory"
    assert found.words.startswith("nasty 1 does not start (out-of-memory): ")
    assert "Tried to allocate 2.00 GiB" in found.words and "log" not in found.words


def test_one_that_is_unknown_is_bad_input(ceiling: Ceiling, model: Path) -> None:
    done = ceiling("engines", "check", "frob", "--model", model)
    assert done.returncode == 2 and "frob" in done.stderr


def test_memory_is_told_where_it_is_known() -> None:
    found = StartCheck("vllm", "1", 51.24, 1.0, (1 << 29, None), (1 << 29, None))
    assert found.words == "vllm 1 was ready in 51.2 s, gone in 1.0 s; GPU memory 0.50 GiB before, 0.50 after"

"""What tests of searches share: one Ray, a tiny model, a text, and searches on the simulated engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.contract import Model
from scenarios.models import open_model
from search.spec import SearchSpec
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(make_tiny_model(tmp_path_factory.mktemp("model")), max_length=1024)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl")


class Specs:
    """Makes specs of searches over scenario A on the simulated engine."""

    def __init__(self, model: Model, text: str) -> None:
        self.model, self.text = model, text

    def __call__(self, **more: Any) -> SearchSpec:
        given: dict[str, Any] = {
            "engines": ("simulated",),
            "scenario": "A",
            "profile": "smoke",
            "model": self.model,
            "planner": "random",
            "text": self.text,
            "baseline": False,
            **more,
        }
        return SearchSpec(**given)


@pytest.fixture(scope="session")
def specs(model: Model, text: str) -> Specs:
    return Specs(model, text)


@pytest.fixture(scope="session")
def one_ray() -> Iterator[None]:
    """A Ray of four pretended devices, started once for all tests of one process."""
    from search.cluster import connected

    with connected(4, None):
        yield


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"

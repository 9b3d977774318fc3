"""A baseline is measured once for everything that it depends on, and then reused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.contract import EngineNotInstalled, Model
from engines.host import Device, Host
from scenarios.baseline import BaselineError, baseline, baseline_key, fingerprint
from scenarios.measurement import Measurement
from scenarios.models import open_model
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model

PROFILE = """
name: tiny
text: {text}
max_length: 1024
scenarios:
  A:
    bottleneck: prefill latency
    score: 1 / TTFT p50
    input_tokens: 64
    output_tokens: 8
    traffics:
      - {{name: closed, kind: closed, requests: {requests}, concurrency: 1}}
"""

Measure = Callable[..., tuple[Measurement, int]]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CEILING_HOME", str(tmp_path / "home"))
    yield


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return open_model(make_tiny_model(tmp_path / "model"), max_length=1024)


@pytest.fixture
def profile(tmp_path: Path) -> str:
    source = write_jsonl(tmp_path / "text.jsonl")
    path = tmp_path / "tiny.yaml"
    path.write_text(PROFILE.format(text=source, requests=6))
    return str(path)


@pytest.fixture
def measure(model: Model, profile: str) -> Measure:
    def run(seed: int = 21, **more: Any) -> tuple[Measurement, int]:
        starts: list[Mapping[str, Any]] = []
        measured = baseline(model, "A", profile, seed, observer=starts.append, engine="simulated", **more)
        assert measured.valid, measured.invalid_reasons
        return measured, sum(1 for event in starts if event.get("phase") == "starting")

    return run


def test_it_is_measured_once_and_reused(measure: Measure, tmp_path: Path) -> None:
    first, starts = measure()
    assert (first.valid, starts) == (True, 1)
    again, starts = measure()
    assert (again, starts) == (first, 0)
    kept = list((tmp_path / "home" / "baselines").glob("simulated-A-*/baseline.json"))
    assert len(kept) == 1
    assert json.loads(kept[0].read_text())["key"]["seed"] == 21
    assert list(kept[0].parent.glob(f"rows/{first.id}/**/*.parquet"))
    assert [each.name for each in (tmp_path / "home" / "baselines").iterdir()] == [kept[0].parent.name]


def test_who_asks_while_it_is_measured_waits_for_it(measure: Measure) -> None:
    with ThreadPoolExecutor() as pool:
        (first, one), (second, other) = pool.map(lambda _: measure(), range(2))
    assert first == second
    assert sorted((one, other)) == [0, 1]


def test_force_measures_again_and_another_seed_is_another_baseline(measure: Measure) -> None:
    first, _ = measure()
    forced, starts = measure(force=True)
    assert starts == 1
    assert forced.id != first.id
    assert forced.request_set == first.request_set
    other, starts = measure(seed=22)
    assert starts == 1
    assert other.request_set != first.request_set
    assert measure()[0] == forced


def test_a_kept_file_that_does_not_read_is_measured_again(measure: Measure, tmp_path: Path) -> None:
    measure()
    kept = next((tmp_path / "home" / "baselines").glob("*/baseline.json"))
    kept.write_text(kept.read_text()[:100])
    assert measure()[1] == 1
    assert measure()[1] == 0


def test_one_of_other_prompts_is_measured_again(measure: Measure, tmp_path: Path) -> None:
    first, _ = measure()
    kept = next((tmp_path / "home" / "baselines").glob("*/baseline.json"))
    kept.write_text(kept.read_text().replace(first.request_set, "0" * 64))
    again, starts = measure()
    assert (again.request_set, starts) == (first.request_set, 1)
    assert measure()[1] == 0


def test_what_makes_another_baseline(model: Model, profile: str, tmp_path: Path) -> None:
    base = baseline_key(model, "A", profile, 21, engine="simulated")
    assert baseline_key(model, "A", profile, 21, engine="simulated") == base
    assert baseline_key(model, "A", profile, 22, engine="simulated") != base
    longer = open_model(model.path, max_length=2048)
    assert baseline_key(longer, "A", profile, 21, engine="simulated") != base
    assert baseline_key(model, "A", profile, 21, "sotu", "simulated") != base
    other = tmp_path / "other.yaml"
    other.write_text(Path(profile).read_text().replace("requests: 6", "requests: 7"))
    assert baseline_key(model, "A", str(other), 21, engine="simulated")["setting"] != base["setting"]


def test_a_server_that_does_not_start_is_said_in_one_line(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CEILING_SIM_MEMORY_GIB", "0.3")
    with pytest.raises(BaselineError, match="the simulated baseline ended crashed: "):
        measure()


def test_torch_that_is_not_installed_names_the_command(
    model: Model, profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CEILING_TORCH_PYTHON", raising=False)
    with pytest.raises(EngineNotInstalled, match="ceiling engines install torch"):
        baseline(model, "A", profile, 21)


def test_a_host_of_several_devices_is_like_one_that_has_what_one_of_them_has() -> None:
    cards = tuple(Device(n, "cuda", "Card", 80 << 30, f"GPU-{n}", str(n)) for n in range(4))
    four = Host(cards, cores=64, memory=1 << 39, driver="580")
    assert fingerprint(four) == fingerprint(replace(four, devices=cards[:1], cores=16))
    assert fingerprint(four) != fingerprint(replace(four, devices=cards[:2]))

"""Bad searches are refused in one line before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.contract import EngineNotInstalled, UnknownEngine
from engines.host import Device, Host, this_host
from engines.space import SpaceError
from scenarios.ledger import FILE
from scenarios.scenario import ScenarioError
from scenarios.texts import TextError
from search.planners import UnknownPlanner
from search.search import SearchError, search
from search.spec import prepare, same_search
from search.starts import remember_start
from search.strategies import UnknownStrategy
from tests.search.conftest import Specs

HOST = Host((Device(0, "cpu", "a CPU", 16 << 30),), 2, 16 << 30)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CEILING_HOME", str(tmp_path / "home"))
    for name in ("VLLM", "TORCH", "SGLANG"):
        monkeypatch.delenv(f"CEILING_{name}_PYTHON", raising=False)
    yield


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"engines": ("nothing",)}, UnknownEngine, "no engine 'nothing'"),
        ({"engines": ()}, SearchError, "no engine given"),
        ({"scenario": "Z"}, ScenarioError, "unknown scenario Z"),
        ({"profile": "huge"}, ScenarioError, "unknown profile huge"),
        ({"planner": "annealing"}, SearchError, "one of random, tpe, gp, smac"),
        ({"strategy": "greedy"}, UnknownStrategy, "one of ceiling, published, full"),
        ({"fixed": {"max-seqs": 3}}, SearchError, "no flag 'max-seqs' in the space of simulated"),
        ({"fixed": {"other/max-num-seqs": 8}}, SearchError, "no flag 'other/max-num-seqs'"),
        ({"fixed": {"max-num-seqs": 7}}, SpaceError, "max-num-seqs=7 is not in the space"),
        ({"engines": ("sglang",)}, EngineNotInstalled, "ceiling engines install sglang"),
        ({"devices": 0}, SearchError, "name at least 1"),
        ({"trials": None}, SearchError, "a search needs an end"),
        ({"trials": 0}, SearchError, "--trials 0"),
        ({"text": "jsonl:nowhere.jsonl"}, TextError, "nowhere.jsonl"),
        ({"profile": "gpu-short"}, ScenarioError, "choose a smaller profile"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    run: Path, specs: Specs, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        search(specs(**{"trials": 3, **given}), run)
    assert "\n" not in str(raised.value)
    assert not (run / FILE).exists()


def test_devices_that_are_not_here(specs: Specs) -> None:
    with pytest.raises(EngineNotInstalled):
        prepare(specs(engines=("torch",), devices=1, trials=1), HOST)
    with pytest.raises(SearchError, match="--devices 2, but there is 1 here"):
        prepare(specs(engines=("torch",), devices=2, trials=1), HOST)
    assert prepare(specs(devices=9, trials=1), HOST).spec.devices == 9


def test_a_budget_shorter_than_one_start(
    specs: Specs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "home" / "engines" / "torch"
    (fake / "bin").mkdir(parents=True)
    (fake / "bin" / "python").touch()
    (fake / "runtime.json").write_text('{"version": "2.0"}')
    from engines.registry import engine

    torch = engine("torch")
    with pytest.raises(
        SearchError, match="leaves 5 s a device, and one start of torch takes 10 s: raise --budget"
    ):
        prepare(specs(engines=("torch",), budget=5.0), HOST)
    remember_start(torch, 62.0)
    remember_start(torch, 70.0)
    with pytest.raises(SearchError, match="takes 62 s"):
        prepare(specs(engines=("torch",), budget=60.0), HOST)


def test_flags_are_fixed_in_the_words_of_a_shell(specs: Specs) -> None:
    given = {"max-num-seqs": "8", "simulated/enforce-eager": "true"}
    prepared = prepare(specs(trials=1, fixed=given), this_host())
    assert prepared.spaces["simulated"].pinned == {"max-num-seqs": 8, "enforce-eager": True}
    assert prepared.setting.defaults == {"simulated": {"max-num-seqs": 8, "enforce-eager": True}}


def test_what_makes_another_search(specs: Specs) -> None:
    spec = specs(trials=3)
    header = {"spec": spec.to_json()}
    assert same_search(header, spec) is None
    for changed in (
        replace(spec, planner="gp"),
        replace(spec, seed=1),
        replace(spec, budget=5.0),
        replace(spec, fixed={"max-num-seqs": 8}),
        replace(spec, engines=("simulated", "torch")),
    ):
        assert same_search(header, changed) is not None
    assert same_search(header, replace(spec, planner="gp")) == "its planner is random, not gp"


def test_planners_are_named() -> None:
    from search.planners import names, planner
    from tests.search.landscape import SMALL

    assert {planner(name, SMALL, 1).name for name in names()} == set(names())
    with pytest.raises(UnknownPlanner):
        planner("none", SMALL, 1)

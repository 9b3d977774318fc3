"""Bad searches are refused in one line before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.contract import EngineNotInstalled, Infeasible, UnknownEngine
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
        ({"fixed": {"max-seqs": 3}}, SpaceError, "no flag 'max-seqs' in the space of simulated"),
        ({"fixed": {"other/max-num-seqs": 8}}, SpaceError, "other is not searched; name one of simulated"),
        ({"forced": {"max-nun-seqs": 8}}, SpaceError, "list no --max-nun-seqs: did you mean max-num-seqs"),
        ({"forced": {"port": 8}}, SpaceError, "every launch of simulated sets --port itself"),
        ({"forced": {"max-num-batched-tokens": 1}}, Infeasible, "max_num_batched_tokens"),
        ({"fixed": {"max-num-seqs": 7}}, SpaceError, "max-num-seqs=7 is not in the space"),
        ({"forced": {"max-num-seqs": "abc"}}, SpaceError, "--set max-num-seqs=abc: it takes a number"),
        ({"seed": 1337}, SearchError, "both 1337: --eval-seed must be another one"),
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


def test_a_flag_is_left_at_its_default(specs: Specs) -> None:
    prepared = prepare(specs(trials=1, fixed={"quantization": "default"}), this_host())
    assert prepared.spaces["simulated"].pinned == {"quantization": "none"}
    assert prepared.setting.defaults == {"simulated": {}}
    assert all("quantization" not in config for config in prepared.setting.experts["simulated"])


def test_flags_are_set_that_the_space_does_not_hold(specs: Specs) -> None:
    given = {"max-num-seqs": "100", "simulated/looping": "0.5", "enforce-eager": "true", "env.OMP": "2"}
    prepared = prepare(specs(trials=1, forced=given), this_host())
    wanted = {"max-num-seqs": 100, "looping": 0.5, "enforce-eager": True, "env.OMP": 2}
    assert prepared.setting.defaults == {"simulated": wanted}
    space = prepared.spaces["simulated"]
    assert not {parameter.name for parameter in space.free} & set(wanted)
    drawn = space.canonical({"kv-cache-dtype": "fp8", **wanted})
    assert {flag: drawn[flag] for flag in wanted} == wanted


SPACE = """
engine: simulated
releases: ">=1,<2"
parameters:
  - {name: max-num-seqs, choices: [16, 64, 96], default: 64, ordered: true}
  - {name: frobnicate, choices: [true, false], default: false}
"""


def test_a_space_file_replaces_the_engine_s_own(specs: Specs, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(SPACE)
    spec = specs(trials=1, space_files=(file,))
    space = prepare(spec, this_host()).spaces["simulated"]
    assert space.names == ("max-num-seqs",)
    assert space["max-num-seqs"].choices == (16, 64, 96)
    assert "does not list --frobnicate" in space.left_out["frobnicate"]
    header = {"spec": spec.to_json()}
    assert same_search(header, spec) is None
    file.write_text(SPACE.replace("96", "97"))
    why = same_search(header, spec)
    assert why is not None and why.startswith("its space files is")
    with pytest.raises(SearchError, match="a second space of simulated"):
        prepare(replace(spec, space_files=(file, file)), this_host())
    file.write_text(SPACE.replace("simulated", "vllm"))
    with pytest.raises(SearchError, match="is a space of vllm: search it with --engine vllm"):
        prepare(spec, this_host())
    with pytest.raises(SpaceError, match="cannot be read"):
        prepare(replace(spec, space_files=(tmp_path / "none.yaml",)), this_host())


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

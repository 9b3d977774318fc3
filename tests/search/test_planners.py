"""The contract that every planner keeps."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable

import pytest

from engines.contract import Config
from engines.space import Space, SpaceError
from scenarios.trial import State
from search.planners import Planner, UnknownPlanner, names, planner
from search.planners.draws import every, key
from tests.search.landscape import SEQS, SMALL, SPACE, crashes, score

Told = tuple[Config, State, float | None]

every_planner = pytest.mark.parametrize("name", names())


def outcome(config: Config, *, crashing: bool = False) -> tuple[State, float | None]:
    if crashing and crashes(config):
        return State.CRASHED, None
    return State.COMPLETE, score(config)


def explore(
    made: Planner, count: int, judge: Callable[[Config], tuple[State, float | None]] = outcome
) -> list[Told]:
    """The default, then `count` proposals, each told before the next is asked."""
    told: list[Told] = [({}, *judge({}))]
    made.tell(0, *told[0])
    for number in range(1, count + 1):
        config = made.ask(number)
        if config is None:
            break
        told.append((config, *judge(config)))
        made.tell(number, *told[-1])
    return told


@every_planner
def test_proposals_are_canonical_new_and_never_the_default(name: str) -> None:
    configs = [config for config, _, _ in explore(planner(name, SPACE, 1), 16)]
    for config in configs[1:]:
        assert SPACE.canonical(config) == config
    assert len({key(config) for config in configs}) == 17


@every_planner
def test_conditions_hold(name: str) -> None:
    for config, _, _ in explore(planner(name, SPACE, 2), 20):
        values = SPACE.filled(config)
        assert ("spec-n" in values) == (values["spec"] != "none")
        assert ("lookup" in values) == (values["spec"] == "ngram" and not values["eager"])
        assert "lookup" not in config or values["spec"] == "ngram"


@every_planner
def test_pins_hold_and_what_hangs_on_them(name: str) -> None:
    pinned = SPACE.fixed({"spec": "draft", "seqs": 512})
    for config, _, _ in explore(planner(name, pinned, 3), 12)[1:]:
        assert config["spec"] == "draft"
        assert config["seqs"] == 512
        assert "lookup" not in config
    without = SPACE.fixed({"spec": "none"})
    for config, _, _ in explore(planner(name, without, 3), 12)[1:]:
        assert not {"spec", "spec-n", "lookup"} & set(config)


@every_planner
def test_the_same_asks_and_tells_give_the_same_proposals(name: str) -> None:
    def course(seed: int) -> list[str]:
        made = planner(name, SPACE, seed)
        made.tell(0, {}, State.COMPLETE, score({}))
        asked = [made.ask(1), made.ask(2)]
        for number in range(3, 16):
            config = asked[number - 3]
            assert config is not None
            made.tell(number - 2, config, *outcome(config, crashing=True))
            asked.append(made.ask(number))
        return [key(config or {}) for config in asked]

    assert course(5) == course(5)
    assert course(5) != course(6)


def test_another_process_proposes_the_same() -> None:
    """Python gives each process another order of sets of strings; a resumed search is another process."""
    script = (
        "from tests.search.test_planners import *\n"
        "for name in names():\n"
        "    print([key(config) for config, _, _ in explore(planner(name, SPACE, 5), 14)])\n"
    )

    def said(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    first = said("1")
    assert len(first.splitlines()) == len(names())
    assert said("2") == first


@every_planner
def test_a_space_is_exhausted_exactly(name: str) -> None:
    made = planner(name, SMALL, 1)
    told = explore(made, 20, lambda config: (State.COMPLETE, 1.0 + len(config)))
    assert {key(config) for config, _, _ in told} == {key(config) for config in every(SMALL)}
    assert len(told) == 9
    assert made.ask(99) is None


@every_planner
def test_a_space_without_choices_has_nothing_to_propose(name: str) -> None:
    single = SMALL.fixed({"a": 2, "b": True})
    made = planner(name, single, 1)
    made.tell(0, single.canonical({}), State.COMPLETE, 1.0)
    assert made.ask(1) is None


@every_planner
def test_it_learns_from_configs_that_it_did_not_ask(name: str) -> None:
    made = planner(name, SPACE, 4)
    foreign: list[Config] = [{"kv": "fp8"}, {"spec": "ngram", "spec-n": 5}, {"eager": True}]
    for number, config in enumerate(foreign):
        made.tell(number, config, *outcome(config))
    asked = [made.ask(number) for number in range(3, 9)]
    assert not {key(config or {}) for config in asked} & {key(config) for config in foreign}
    with pytest.raises(SpaceError):
        made.tell(9, {"kv": "fp4"}, State.COMPLETE, 1.0)


@every_planner
def test_trials_in_flight_are_not_proposed_again(name: str) -> None:
    made = planner(name, SPACE, 7)
    explore(made, 10)
    flying = [made.ask(number) for number in range(11, 17)]
    assert len({key(config or {}) for config in flying}) == 6


@every_planner
def test_asks_before_any_tell_and_tells_out_of_order(name: str) -> None:
    made = planner(name, SPACE, 12)
    flying = [(number, made.ask(number)) for number in range(1, 5)]
    made.tell(0, {}, *outcome({}))
    for number in range(5, 14):
        earlier, config = flying.pop(1)
        assert config is not None
        made.tell(earlier, config, *outcome(config, crashing=True))
        flying.append((number, made.ask(number)))
    assert len({key(config or {}) for _, config in flying}) == 4


@every_planner
def test_failures_carry_no_number_and_stopped_trials_say_nothing(name: str) -> None:
    made = planner(name, SPACE, 8)
    made.tell(0, {}, State.CRASHED, None)
    for number, state in enumerate((State.INFEASIBLE, State.INVALID, State.STOPPED, State.CRASHED), start=1):
        config = made.ask(number)
        assert config is not None
        made.tell(number, config, state, None)
    assert made.ask(9) is not None


@pytest.mark.parametrize("name", ["random", "tpe", "gp"])
def test_crashes_are_learnt_and_left_alone(name: str) -> None:
    told = explore(planner(name, SPACE, 0), 40, lambda config: outcome(config, crashing=True))
    late = statistics.mean(crashes(config) for config, _, _ in told[-16:])
    everywhere = statistics.mean(crashes(config) for config in every(SPACE))
    assert everywhere > 0.35
    assert late < 0.5 * everywhere


def best(name: str, space: Space, seed: int, count: int) -> float:
    return max(value or 0.0 for _, _, value in explore(planner(name, space, seed), count))


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_models_beat_random_search(name: str) -> None:
    def median(which: str) -> float:
        return statistics.median(best(which, SPACE, seed, 30) for seed in range(4))

    assert median(name) > median("random")


def test_order_is_used() -> None:
    """With one ordered parameter of many values, TPE closes in on the best one."""
    made = planner("tpe", SPACE.fixed({"kv": "auto", "spec": "none", "eager": False}), 1)
    told = explore(made, 24)
    tried = [SEQS.index(int(config.get("seqs", 128))) for config, _, _ in told[12:]]
    assert statistics.mean(abs(each - 4) for each in tried) < 1.5


def test_an_unknown_planner_names_the_known_ones() -> None:
    with pytest.raises(UnknownPlanner, match="random, tpe, gp, smac"):
        planner("annealing", SPACE, 1)

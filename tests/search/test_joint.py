"""Several engines in one space: the root choice, prefixed flags, pins."""

from __future__ import annotations

import pytest

from engines.space import Parameter, Space, SpaceError
from scenarios.trial import State
from search.joint import joint, merged, split
from search.planners import names, planner
from search.planners.draws import every, key
from tests.search.landscape import SMALL, SPACE

OTHER = Space("other", (Parameter("a", (1, 2), 1), Parameter("d", ("p", "q"), "p", when={"a": (2,)})))
BOTH = {"small": SMALL, "other": OTHER}


def test_configs_go_in_and_come_out() -> None:
    space = joint(BOTH)
    for engine, config in (
        ("small", {}),
        ("small", {"a": 2, "b": False, "c": "y"}),
        ("other", {"a": 2, "d": "q"}),
    ):
        assert split(space, merged(space, engine, config)) == (engine, config)
    assert merged(space, "small", {}) == {}
    assert merged(space, "other", {}) == {"engine": "other"}
    with pytest.raises(SpaceError):
        merged(space, "other", {"c": "x"})


def test_every_config_of_every_engine_is_in_it_once() -> None:
    space = joint(BOTH)
    pairs = [split(space, config) for config in every(space)]
    expected = [(name, key(config)) for name, each in BOTH.items() for config in every(each)]
    assert sorted((engine, key(config)) for engine, config in pairs) == sorted(expected)


def test_a_single_engine_is_a_joint_space_too() -> None:
    space = joint({"made-up": SPACE})
    assert split(space, {}) == ("made-up", {})
    assert split(space, merged(space, "made-up", {"kv": "fp8"})) == ("made-up", {"kv": "fp8"})


def test_pins_go_along() -> None:
    space = joint({"small": SMALL.fixed({"a": 3}), "other": OTHER})
    configs = [split(space, config) for config in every(space)]
    assert all(config["a"] == 3 for engine, config in configs if engine == "small")
    assert merged(space, "small", {"a": 3}) == {"small/a": 3}


@pytest.mark.parametrize("name", names())
def test_planners_search_both_engines(name: str) -> None:
    space = joint(BOTH)
    made = planner(name, space, 1)
    made.tell(0, merged(space, "small", {}), State.COMPLETE, 1.0)
    made.tell(1, merged(space, "other", {}), State.COMPLETE, 2.0)
    engines = set()
    for number in range(2, 12):
        config = made.ask(number)
        assert config is not None
        engine, flags = split(space, config)
        engines.add(engine)
        assert BOTH[engine].canonical(flags) == flags
        made.tell(number, config, State.COMPLETE, 1.0 + number)
    assert engines == {"small", "other"}
    assert made.ask(12) is None

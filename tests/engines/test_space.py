"""Spaces: conditions, defaults, and the one form that each config has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.contract import Config, Value
from engines.space import Parameter, Space, SpaceError

SPACE = Space(
    "somebody's",
    (
        Parameter("batch", (1, 2, 4), default=4, ordered=True),
        Parameter("eager", (False, True), default=False),
        Parameter("graphs", ("all", "few"), default="all", when={"eager": (False,)}),
        Parameter("graph-size", (8, 16), default=16, when={"graphs": ("all",)}),
        Parameter("draft.method", ("none", "ngram"), default="none"),
        Parameter("draft.tokens", (2, 3), default=3, when={"draft.method": ("ngram",)}),
    ),
)


def any_values() -> st.SearchStrategy[dict[str, Value]]:
    return st.fixed_dictionaries(
        {}, optional={parameter.name: st.sampled_from(parameter.choices) for parameter in SPACE}
    )


def test_the_untouched_default_is_empty() -> None:
    assert SPACE.canonical({}) == {}
    assert SPACE.canonical({"batch": 4, "eager": False, "draft.tokens": 3}) == {}


def test_flags_of_an_inactive_branch_are_dropped() -> None:
    assert SPACE.canonical({"draft.tokens": 2}) == {}
    assert SPACE.canonical({"draft.method": "ngram", "draft.tokens": 2}) == {
        "draft.method": "ngram",
        "draft.tokens": 2,
    }


def test_a_condition_holds_down_the_whole_chain() -> None:
    assert SPACE.active("graph-size", {})
    assert not SPACE.active("graph-size", {"graphs": "few"})
    assert not SPACE.active("graph-size", {"eager": True, "graphs": "all"})


def test_filled_writes_the_defaults_of_active_parameters_out() -> None:
    assert SPACE.filled({"eager": True, "batch": 1}) == {"batch": 1, "eager": True, "draft.method": "none"}


@given(any_values())
def test_a_config_has_one_form(values: Config) -> None:
    once = SPACE.canonical(values)
    assert SPACE.canonical(once) == once
    assert SPACE.canonical(SPACE.filled(once)) == once


@given(any_values())
def test_the_one_form_keeps_the_space_s_order(values: Config) -> None:
    shuffled = dict(reversed(values.items()))
    assert list(SPACE.canonical(shuffled)) == [
        name for name in SPACE.names if name in SPACE.canonical(values)
    ]


def test_pinned_values_stay_and_are_no_planner_s_to_vary() -> None:
    pinned = SPACE.fixed({"batch": 1}).fixed({"eager": True})
    assert pinned.canonical({"batch": 2}) == {"batch": 1, "eager": True}
    assert [parameter.name for parameter in pinned.free] == [
        "graphs",
        "graph-size",
        "draft.method",
        "draft.tokens",
    ]
    assert SPACE.free == SPACE.parameters


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch": 3}, "batch=3 is not in the space: one of 1, 2, 4"),
        ({"batch": True}, "batch=True is not in the space: one of 1, 2, 4"),
        ({"eager": 0}, "eager=0 is not in the space: one of False, True"),
        ({"btach": 1}, "somebody's has no parameter 'btach': one of batch, eager"),
    ],
)
def test_what_the_space_does_not_hold_is_named(values: Config, message: str) -> None:
    for refuse in (SPACE.canonical, SPACE.fixed):
        with pytest.raises(SpaceError) as refused:
            refuse(values)
        assert str(refused.value).startswith(message)


def test_a_default_outside_the_choices_is_refused() -> None:
    with pytest.raises(SpaceError, match="batch: default 3 is not among its choices"):
        Parameter("batch", (1, 2), default=3)
    with pytest.raises(SpaceError, match="eager: default 0 is not among its choices"):
        Parameter("eager", (False, True), default=0)


def test_parents_come_before_children_and_names_once() -> None:
    child = Parameter("child", (1, 2), default=1, when={"parent": (1,)})
    parent = Parameter("parent", (1, 2), default=1)
    with pytest.raises(SpaceError, match="child: its condition 'parent' is not defined before it"):
        Space("any", (child, parent))
    with pytest.raises(SpaceError, match="parent: defined twice"):
        Space("any", (parent, parent))

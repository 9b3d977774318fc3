"""What the static guards refuse in every config is no planner's to propose."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.contract import Config, Infeasible, Model
from engines.host import Device, Host
from engines.simulated.engine import Simulated
from engines.space import Parameter, Space
from search.narrow import narrowed

HOST = Host((Device(0, "cpu", "cpu", 1 << 34),), 2, 1 << 34)
SPACE = Space(
    "guarded",
    (
        Parameter("draft", ("none", "ngram", "tree"), "none"),
        Parameter("draft-tokens", (2, 3), 3, ordered=True, when={"draft": ("ngram", "tree")}),
        Parameter("chunked", (True, False), True),
        Parameter("batch", (256, 4096), 256, ordered=True),
    ),
)


class Guarded(Simulated):
    """Refuses what `refused` names, and long prompts in small batches."""

    def __init__(self, *refused: str) -> None:
        super().__init__()
        self._refused = refused

    def check(self, config: Config, model: Model, host: Host) -> None:
        if config.get("draft", "none") in self._refused:
            raise Infeasible("no drafts for this model")
        if config.get("chunked") is False and config.get("batch", 256) < 4096:
            raise Infeasible("a prompt does not fit in a step")


def narrow(*refused: str) -> Space:
    return narrowed(SPACE, Guarded(*refused), Model(Path(), "model"), HOST)


def test_nothing_is_lost_where_some_config_passes() -> None:
    assert narrow() == SPACE


def test_a_choice_that_no_config_can_carry_is_left_out_and_said() -> None:
    made = narrow("tree")
    assert made["draft"].choices == ("none", "ngram")
    assert made.left_out == {"draft=tree": "no drafts for this model"}
    assert "draft" in {parameter.name for parameter in made.free}


def test_a_parameter_with_nothing_but_its_default_is_pinned_and_its_children_rest() -> None:
    made = narrow("tree", "ngram")
    assert made.pinned == {"draft": "none"}
    assert made.canonical({"draft-tokens": 2}) == {}
    assert list(made.left_out) == ["draft=ngram, tree"]


@pytest.mark.parametrize("refused", [(), ("tree",), ("tree", "ngram")])
def test_defaults_stay(refused: tuple[str, ...]) -> None:
    assert {p.name: p.default for p in narrow(*refused)} == {p.name: p.default for p in SPACE}

"""What an attempt is charged when it is lost."""

from __future__ import annotations

from search.course import charged

PHASES = [(100.0, "starting"), (130.0, "warming"), (131.0, "measuring"), (150.0, "stopping")]


def test_an_attempt_is_charged_from_its_launch_to_its_loss() -> None:
    assert charged(PHASES[:1], 112.0) == 12.0
    assert charged(PHASES, 151.0) == 51.0
    assert charged([], 151.0) == 0.0


def test_holding_answers_against_the_model_is_charged_to_nobody() -> None:
    checked = [*PHASES, (152.0, "checking")]
    assert charged(checked, 600.0) == 52.0
    assert charged([*checked, (600.0, "stopping")], 601.0) == 53.0

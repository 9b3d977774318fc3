"""What an attempt is charged when it is lost, and what a second one may take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from scenarios.ledger import Ledger
from scenarios.measurement import Reason
from scenarios.scenario import FULL, Plan
from search.course import charged
from search.driver import disturbed
from search.record import Ask, Job, Record
from tests.search.world import Search, World

PHASES = [(100.0, "starting"), (130.0, "warming"), (131.0, "measuring"), (150.0, "stopping")]


def test_an_attempt_is_charged_from_its_launch_to_its_loss() -> None:
    assert charged(PHASES[:1], 112.0) == 12.0
    assert charged(PHASES, 151.0) == 51.0
    assert charged([], 151.0) == 0.0


def test_holding_answers_against_the_model_is_charged_to_nobody() -> None:
    checked = [*PHASES, (152.0, "checking")]
    assert charged(checked, 600.0) == 52.0
    assert charged([*checked, (600.0, "stopping")], 601.0) == 53.0


def test_a_second_attempt_leaves_the_final_trials_their_time(tmp_path: Path) -> None:
    search = Search(tmp_path, World(lambda engine, config: 12.0 if config else 10.0), wall=900.0)
    with Ledger.create(tmp_path, search.header()) as ledger:
        course = search.course(ledger)
        kept: dict[int, float] = {}
        while (ask := course.ask(900.0 - search.now)) is not None:
            seconds, trial = search.world.run(ask, course)
            ahead = ask.left - (ask.job.seconds or ask.left)
            if ask.job.origin == "planner" and ask.attempt == 0 and ask.left < 450.0:
                kept[ask.number] = ahead
                search.now += seconds - 2.0
                course.lose(ask, "its worker died", seconds - 2.0, counts=True)
                continue
            if ask.attempt:
                assert ahead == pytest.approx(kept[ask.number])
            search.now += seconds
            for each in trial.measurements:
                course.take(
                    {
                        "event": "measurement",
                        "trial": trial.number,
                        "attempt": trial.attempt,
                        **each.to_json(),
                    }
                )
            course.end(trial)
    assert kept
    finals = course.record.ended("final")
    assert {bool(each.config) for each in finals} == {True, False}, "compared with the default"


@pytest.mark.parametrize(
    ("codes", "why"),
    [
        ((("client-lag",),), "client-lag said"),
        ((("other-process",),), "other-process said"),
        (((), ("other-process",)), "other-process said"),
        ((("text-not-from-model",), ()), None),
        ((("client-lag",), ("looping",)), None),
    ],
)
def test_what_the_machine_voided_is_tried_again(codes: tuple[tuple[str, ...], ...], why: str | None) -> None:
    plain = World(lambda engine, config: 10.0)
    plan = Plan("A", "paper", 1337, FULL, "sotu")
    measured = [
        replace(
            plain._measurement(plan, 10.0, Random(number), bool(each)),
            invalid_reasons=tuple(Reason(code, f"{code} said") for code in each),
            id=str(number),
        )
        for number, each in enumerate(codes)
    ]
    record = Record(measurements={each.id: each for each in measured})
    ask = Ask(5, 0, Job("vllm", {}, "final", (plan,)), 100.0)
    event = {"state": "invalid", "measurements": [each.id for each in measured]}
    assert disturbed(record, ask, event) == why
    record.losses[5] = 2
    assert disturbed(record, ask, event) is None

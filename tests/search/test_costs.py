"""What trials are expected to take, in figures made up and in those of recorded searches on an H200."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.registry import engine
from scenarios import ledger, profiles
from scenarios.measurement import Measurement
from scenarios.scenario import FULL, Fidelity, Plan
from scenarios.trial import State, Trial
from search.record import Ask, Job, Record
from search.strategies.costs import cost, costs, slowest_start, work

SCENARIO = profiles.scenario("gpu-short", "A")
RECORDED = Path(__file__).parents[2] / "studies" / "results" / "h200-8m"


def measured(share: float, seconds: float) -> Measurement:
    return Measurement(
        id="m",
        scenario="A",
        profile="gpu-short",
        seed=21,
        fidelity=Fidelity(requests=share),
        invalid_reasons=(),
        score=1.0,
        interval=None,
        metrics={},
        requests={},
        request_set="r",
        provenance={},
        started=0.0,
        seconds=seconds,
    )


def trial(
    number: int, start: float, *blocks: tuple[float, float], between: float = 0.0, **config: str
) -> Trial:
    done = tuple(measured(share, seconds) for share, seconds in blocks)
    measure = sum(seconds for _, seconds in blocks) + between * len(blocks)
    return Trial(
        number=number,
        attempt=0,
        engine="made-up",
        config=config,
        origin="planner",
        state=State.COMPLETE,
        measurements=done,
        seconds={"start": start, "measure": measure, "stop": 1.0},
    )


def record(*trials: Trial) -> Record:
    return Record(trials={each.number: each for each in trials})


LADDER = ((0.125, 6.0), (0.125, 6.0), (0.25, 10.0), (0.5, 18.0))
"""Two seconds a measurement, and 32 for the whole scenario."""


def final(**config: str) -> Job:
    return Job("made-up", config, "final", (Plan("A", "gpu-short", 1337, FULL),))


def test_what_a_measurement_takes_whatever_it_sends_is_paid_once_by_a_whole_one() -> None:
    known = costs(record(trial(1, 20.0, *LADDER)), SCENARIO)
    assert known is not None
    assert known.of(final().plans) == pytest.approx(21.0 + 2.0 + 32.0)
    told = costs(record(trial(1, 20.0, *LADDER, between=1.0)), SCENARIO)
    assert told is not None
    assert told.of(final().plans) == pytest.approx(21.0 + 3.0 + 32.0)


def test_a_trial_of_one_size_takes_the_others_share_of_it_as_paid_once() -> None:
    dropped = trial(2, 20.0, (0.125, 10.0), speed="low")
    alone = costs(record(dropped), SCENARIO)
    beside = costs(record(trial(1, 20.0, *LADDER, speed="high"), dropped), SCENARIO)
    assert alone is not None and beside is not None
    assert alone.paces[0].of([1.0]) == pytest.approx(10.0 / work(SCENARIO, Fidelity(requests=0.125)))
    slow = next(pace for pace in beside.paces if pace.whole > 40.0)
    assert slow.of([1.0]) == pytest.approx(2.0 + 8.0 / 0.125)


def test_a_config_starts_again_in_the_share_of_its_first_start_that_its_engine_keeps() -> None:
    known = record(trial(0, 40.0, *LADDER), trial(1, 60.0, *LADDER, speed="high"))
    whole = 34.0
    assert cost(known, final(), SCENARIO) == pytest.approx(41.0 + whole)
    assert cost(known, final(), SCENARIO, 0.5) == pytest.approx(20.5 + whole)
    assert cost(known, final(speed="high"), SCENARIO) == pytest.approx(40.75 + whole)
    assert cost(known, final(speed="high"), SCENARIO, 0.5) == pytest.approx(30.5 + whole)
    again = record(*known.trials.values(), trial(2, 25.0, *LADDER, speed="high"))
    assert cost(again, final(speed="high"), SCENARIO, 0.5) == pytest.approx(26.0 + whole)
    assert slowest_start(again, "made-up") == 60.0
    assert slowest_start(again, "another") is None


def test_a_search_s_first_start_is_read_by_those_that_followed() -> None:
    first = trial(0, 90.0, *LADDER)
    assert cost(record(first), final(), SCENARIO) == pytest.approx(45.5 + 34.0)
    later = (trial(number, 30.0, *LADDER, speed=str(number)) for number in (1, 2, 3))
    assert cost(record(first, *later), final(), SCENARIO) == pytest.approx(31.0 + 34.0)


@pytest.mark.parametrize("letter", ["A", "B", "C", "D"])
def test_the_final_trials_of_recorded_searches_took_what_is_expected_of_them(letter: str) -> None:
    events = ledger.read(RECORDED / f"{letter}-ceiling")[0]
    known, scenario = Record.of(events), profiles.scenario("gpu-short", letter)
    ahead = Record()
    again = engine("vllm").restart_share
    for number, each in sorted(known.trials.items()):
        ask: Ask = known.asks[number]
        if each.origin == "final":
            took = sum(each.seconds.values())
            assert 0.8 * took < cost(ahead, ask.job, scenario, again) < 1.25 * took
        ahead.trials[number] = each

"""Schedules are drawn from their key alone, have the rate they claim, and tell when they do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scenarios.arrivals import dispersion, generator, offsets, rate
from scenarios.scenario import ScenarioError, Traffic


def drawn(traffic: Traffic, count: int | None = None, seed: int = 21, block: int = 0) -> list[float]:
    times = offsets(traffic, count or traffic.requests, seed=seed, scenario="C", block=block)
    return [time for time in times if time is not None]


POISSON = Traffic("poisson", "poisson", 4000, rate=25.0)
RAMP = Traffic("ramp", "ramp", 4000, rate=25.0)


def test_a_generator_gives_the_same_numbers_on_every_machine() -> None:
    assert generator("a", 1).integers(0, 1000, 4).tolist() == [61, 353, 538, 635]


def test_keys_do_not_run_together() -> None:
    assert generator("a", 11).integers(0, 2**62) != generator("a1", 1).integers(0, 2**62)


def test_poisson_has_its_rate_and_a_dispersion_of_one() -> None:
    times = drawn(POISSON)
    assert rate(times) == pytest.approx(25.0, rel=0.05)
    assert dispersion(times) == pytest.approx(1.0, abs=0.15)
    assert np.all(np.diff(times) > 0)


def test_fewer_requests_are_the_start_of_more() -> None:
    assert drawn(POISSON, 100) == drawn(POISSON)[:100]
    assert drawn(RAMP, 100) == drawn(RAMP)[:100]


@pytest.mark.parametrize("other", [{"seed": 22}, {"block": 1}])
def test_seeds_and_blocks_draw_other_schedules(other: dict[str, int]) -> None:
    assert drawn(POISSON, 10, **other) != drawn(POISSON, 10)


def test_constant_is_evenly_spaced() -> None:
    times = drawn(Traffic("constant", "constant", 100, rate=8.0))
    assert times[:3] == [0.0, 0.125, 0.25]
    assert rate(times) == pytest.approx(8.0)
    assert dispersion(times) == pytest.approx(0.0, abs=0.01)


def test_burst_is_all_at_once() -> None:
    times = drawn(Traffic("burst", "burst", 16, concurrency=4))
    assert times == [0.0] * 16
    assert rate(times) == math.inf
    assert math.isnan(dispersion(times))


def test_closed_loops_have_no_schedule() -> None:
    closed = Traffic("closed", "closed", 3, concurrency=1)
    assert offsets(closed, 3, seed=1, scenario="A", block=0) == [None, None, None]


def test_a_ramp_ends_at_its_rate() -> None:
    times = drawn(RAMP)
    assert rate(times[-1000:]) == pytest.approx(23.5, rel=0.12)
    assert rate(times[: len(times) // 4]) == pytest.approx(25.0 / 4, rel=0.12)


def test_replay_sends_at_the_offsets_of_its_trace() -> None:
    trace = Traffic("replay", "replay", 3, trace=(0.0, 2.5, 0.5))
    assert drawn(trace) == [0.0, 0.5, 2.5]
    with pytest.raises(ScenarioError, match="3 offsets for 4 requests"):
        drawn(trace, 4)


def test_a_rated_traffic_needs_a_rate() -> None:
    with pytest.raises(ScenarioError, match="without a rate"):
        drawn(Traffic("poisson", "poisson", 3))


def test_senders_that_fire_together_show_in_the_dispersion() -> None:
    one = generator("one").exponential(1.0, 400).cumsum()
    assert dispersion([float(time) for time in np.repeat(one, 16)]) > 8

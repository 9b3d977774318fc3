"""Metrics against rows of known figures, and against anything at all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios import bootstrap, metrics
from scenarios.requests import Sketch, repetition
from scenarios.scenario import Scenario, Score, Traffic
from tests.scenarios.made_rows import TPOT, TTFT, reduced, row

CLOSED = Scenario("D", "x", Score.ALL, 100, 20, (Traffic("closed", "closed", 12, 1),))


def scored(letter: Score) -> Scenario:
    return Scenario("D", "x", letter, 100, 20, CLOSED.traffics)


def test_figures_of_a_known_server() -> None:
    made = metrics.metrics(reduced([row(key) for key in range(12)]), CLOSED)
    assert made["ttft_p50"] == pytest.approx(TTFT)
    assert made["tpot_p50"] == pytest.approx(TPOT)
    assert made["e2e_p50"] == pytest.approx(TTFT + 19 * TPOT)
    assert made["itl_p50"] == pytest.approx(TPOT, rel=0.001)
    assert made["closed.req_per_s"] == pytest.approx(12 / (11 + TTFT + 19 * TPOT))
    assert made["output_tok_per_s"] == pytest.approx(20 * made["req_per_s"])
    assert made["send_lag_max"] == 0


def test_traffics_that_run_one_after_another_add_up_their_time() -> None:
    traffics = tuple(Traffic(name, "closed", 12, 1) for name in ("one", "two"))
    both = Scenario("D", "x", Score.ALL, 100, 20, traffics)
    rows = [
        row(key + 12 * place, traffic=t.name, intended=float(key))
        for place, t in enumerate(traffics)
        for key in range(12)
    ]
    made = metrics.metrics(reduced(rows), both)
    assert made["wall_s"] == pytest.approx(made["one.wall_s"] + made["two.wall_s"])
    assert made["output_tok_per_s"] == pytest.approx(20 * made["req_per_s"])


def test_a_silence_is_somebody_s_wait_while_no_answer_moves() -> None:
    made = [row(key) for key in range(12)]
    assert metrics.metrics(reduced(made), CLOSED)["closed.silence_s"] == pytest.approx(TTFT, abs=0.005)
    waits = [*made, row(12, ttft=3.0), row(13, ttft=2.5), row(14, error="timeout", end=14.5)]
    assert metrics.metrics(reduced(waits), CLOSED)["closed.silence_s"] == pytest.approx(2.5, abs=0.005)
    probed = [*made, row(12, role="fresh", traffic="probe", ttft=9.0)]
    assert metrics.metrics(reduced(probed), CLOSED)["closed.silence_s"] == pytest.approx(TTFT, abs=0.005)


def test_several_tokens_a_chunk_have_the_same_pace_a_token() -> None:
    made = metrics.metrics(reduced([row(key, tokens=[4] * 5) for key in range(12)]), CLOSED)
    assert made["tpot_p50"] == pytest.approx(TPOT)
    assert made["itl_p50"] == pytest.approx(TPOT, rel=0.001)
    assert made["icl_p50"] == pytest.approx(4 * TPOT, rel=0.001)
    assert made["tokens_per_chunk"] == pytest.approx(4)


def test_a_large_first_chunk_gains_nothing() -> None:
    made = metrics.metrics(reduced([row(key, tokens=[11] + [1] * 9) for key in range(12)]), CLOSED)
    assert made["tpot_p50"] == pytest.approx(TPOT)


def test_claimed_tokens_gain_nothing() -> None:
    claimed = metrics.metrics(reduced([row(key, usage_completion=200) for key in range(12)]), CLOSED)
    assert claimed["tpot_p50"] == pytest.approx(TPOT)
    assert claimed["output_tok_per_s"] == pytest.approx(20 * claimed["req_per_s"])


def test_without_usage_the_recount_counts() -> None:
    made = metrics.metrics(reduced([row(key, usage_completion=None) for key in range(12)]), CLOSED)
    assert made["tpot_p50"] == pytest.approx(TPOT)
    assert "recount_over_usage" not in made


def test_latency_runs_from_the_intended_send() -> None:
    late = [row(key, sent=key + 0.15, due=key + 0.15) for key in range(12)]
    assert metrics.metrics(reduced(late), CLOSED)["ttft_p50"] == pytest.approx(TTFT)


def test_a_failure_is_an_infinite_latency_and_no_throughput() -> None:
    rows = [row(key, error="http-503" if key % 3 == 0 else None) for key in range(12)]
    made = metrics.metrics(reduced(rows), CLOSED)
    assert made["ttft_p50"] == pytest.approx(TTFT)
    assert made["ttft_p90"] == math.inf
    assert made["failure_share"] == pytest.approx(1 / 3)
    assert made["req_per_s"] == pytest.approx(8 / (11 + TTFT + 19 * TPOT))
    assert metrics.counts(reduced(rows), 12) == {"asked": 12, "completed": 8, "failed": 4, "short": 0}


def test_a_median_of_failures_scores_nothing() -> None:
    rows = [row(key, error="http-503" if key % 3 else None) for key in range(12)]
    for kind in Score:
        expected = 4 / metrics.wall(reduced(rows).scored) if kind is Score.THROUGHPUT else 0.0
        assert metrics.score(reduced(rows), scored(kind)) == pytest.approx(expected)


def test_short_answers_are_no_throughput() -> None:
    rows = [row(key, asked_output=20, tokens=[1] * 10) for key in range(12)]
    made = metrics.metrics(reduced(rows), CLOSED)
    assert made["req_per_s"] == 0
    assert metrics.counts(reduced(rows), 12)["short"] == 12


def test_percentiles_that_too_few_requests_carry_are_absent() -> None:
    few = metrics.metrics(reduced([row(key) for key in range(9)]), CLOSED)
    assert "ttft_p50" in few
    assert "ttft_p90" not in few
    many = metrics.metrics(reduced([row(key) for key in range(99)]), CLOSED)
    assert "ttft_p90" in many
    assert "ttft_p99" not in many
    assert "ttft_p99" in metrics.metrics(reduced([row(key) for key in range(100)]), CLOSED)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Score.TTFT, 1 / TTFT),
        (Score.TPOT, 1 / TPOT),
        (Score.THROUGHPUT, 12 / (11 + TTFT + 19 * TPOT)),
        (Score.ALL, (1 / TTFT / TPOT * 12 / (11 + TTFT + 19 * TPOT)) ** (1 / 3)),
    ],
)
def test_scores(kind: Score, expected: float) -> None:
    rows = reduced([row(key) for key in range(12)])
    assert metrics.score(rows, scored(kind)) == pytest.approx(expected)
    low, high = metrics.interval(rows, scored(kind), seed=0)
    assert low <= expected * 1.0001
    assert high >= expected * 0.9999


def test_throughput_is_the_geometric_mean_over_traffics() -> None:
    two = Scenario(
        "C",
        "x",
        Score.THROUGHPUT,
        100,
        20,
        (Traffic("closed", "closed", 4, 1), Traffic("fast", "closed", 4, 1)),
    )
    rows = [row(key) for key in range(4)]
    rows += [row(4 + key, traffic="fast", intended=key / 10) for key in range(4)]
    each = [4 / (3 + TTFT + 19 * TPOT), 4 / (0.3 + TTFT + 19 * TPOT)]
    assert metrics.score(reduced(rows), two) == pytest.approx(math.sqrt(each[0] * each[1]))
    assert metrics.metrics(reduced(rows), two)["fast.req_per_s"] == pytest.approx(each[1])


def test_the_interval_is_seeded_and_covers() -> None:
    draw = np.random.default_rng(0)
    hits = 0
    for seed in range(30):
        rows = reduced([row(key, ttft=float(draw.normal(0.2, 0.03))) for key in range(40)])
        low, high = metrics.interval(rows, scored(Score.TTFT), seed)
        hits += low <= 5.0 <= high
    assert 25 <= hits <= 30
    assert (low, high) == metrics.interval(rows, scored(Score.TTFT), seed)


def one_by_one(seed: int, requests: int, waiting: float) -> list[dict[str, Any]]:
    """Answers of 512 tokens, one at a time, by a server whose pace changes every 64 of them."""
    generator, rows, free = np.random.default_rng(seed), [], 0.0
    for key in range(requests):
        gaps = np.repeat(TPOT * generator.choice([0.5, 1.5], 8), 64)
        first = max(free, key * waiting) + TTFT
        times = first + np.concatenate([[0.0], np.cumsum(gaps)[:-1]])
        free = float(times[-1])
        sent = {"intended": key * waiting, "asked_output": 512}
        rows.append(row(key, chunk_times=times.tolist(), chunk_tokens=[1] * 512, ttft=first, **sent))
    return rows


@pytest.mark.parametrize("waiting", [0.0, 30.0])
def test_few_requests_of_a_serial_server_vary_by_its_pace(waiting: float) -> None:
    """The true pace is covered though one request is all there is, or though all but one were queued."""
    covered = 0
    for seed in range(12):
        requests = 4 if waiting == 0 else 1
        rows = reduced(one_by_one(seed, requests, waiting))
        kind = scored(Score.THROUGHPUT if waiting == 0 else Score.TPOT)
        truth = 1 / (TTFT + 511 * TPOT) if waiting == 0 else 1 / TPOT
        low, high = metrics.interval(rows, kind, seed, few=True)
        assert low < metrics.score(rows, kind) < high
        covered += low <= truth <= high
        drawn = metrics.interval(rows, kind, seed)
        assert drawn[1] - drawn[0] < 0.2 * (high - low) or waiting == 0
    assert covered >= 9


def test_few_requests_served_together_are_drawn_as_requests() -> None:
    rows = reduced([row(key, intended=0.01 * key, asked_output=200) for key in range(4)])
    kind = scored(Score.TPOT)
    assert metrics.interval(rows, kind, 0, few=True) == metrics.interval(rows, kind, 0)


def test_a_pace_that_cannot_be_told_leaves_the_requests() -> None:
    rows = reduced([row(key, tpot=0.0, asked_output=200) for key in range(4)])
    kind = scored(Score.THROUGHPUT)
    assert metrics.interval(rows, kind, 0, few=True) == metrics.interval(rows, kind, 0)


def test_requests_in_flight() -> None:
    rows = [row(0, intended=0.0, end=2.0), row(1, intended=1.0, end=3.0), row(2, intended=5.0, end=6.0)]
    assert metrics.in_flight(reduced(rows).scored) == pytest.approx({0: 2.0, 1: 3.0, 2: 1.0})


def test_an_open_loop_is_bound_by_its_schedule() -> None:
    rated = Scenario("C", "x", Score.THROUGHPUT, 100, 20, (Traffic("closed", "constant", 40, None, 1.0),))
    rows = reduced([row(key, ttft=0.1 + 0.02 * (key % 5)) for key in range(40)])
    low, high = metrics.interval(rows, rated, 0)
    assert high / low < 1.001
    made = metrics.metrics(rows, rated)
    assert made["closed.achieved_rate"] == pytest.approx(1.0)
    assert made["closed.offered_dispersion"] < 0.3


@given(st.lists(st.floats(1e-5, 1e3), min_size=1, max_size=60), st.sampled_from([0.01, 0.5, 0.9, 0.99]))
def test_a_sketch_is_right_to_a_thousandth(values: list[float], share: float) -> None:
    sketch = Sketch()
    sketch.add(np.array(values))
    exact = sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]
    assert sketch.quantile(share) == pytest.approx(exact, rel=0.0011)


def test_quantiles_lean_on_infinity_only_where_they_touch_it() -> None:
    values = np.array([1.0, 2.0, 3.0, np.inf])
    assert bootstrap.quantile(values, 0.5) == 2.5
    assert bootstrap.quantile(values, 2 / 3) == pytest.approx(3.0)
    assert bootstrap.quantile(values, 0.7) == math.inf


def test_repetition() -> None:
    assert repetition("the same words again and " * 30) > 0.9
    assert repetition("".join(chr(97 + n * n % 26) + str(n) for n in range(300))) < 0.05
    assert math.isnan(repetition("short"))


ANY = st.fixed_dictionaries(
    {},
    optional={
        "ttft": st.floats(0, 1e6),
        "tpot": st.floats(0, 1e3),
        "tokens": st.lists(st.integers(0, 50), min_size=1, max_size=8),
        "error": st.sampled_from([None, "timeout", "http-500"]),
        "usage_completion": st.none() | st.integers(0, 1 << 30),
        "recount": st.none() | st.integers(0, 1 << 20),
        "first_content": st.none() | st.floats(0, 1e6),
        "sent": st.none() | st.floats(0, 1e6),
        "cached_tokens": st.none() | st.integers(0, 1 << 20),
        "asked_output": st.integers(1, 100),
        "text": st.text(max_size=200),
    },
)


@given(st.lists(ANY, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_rows_have_metrics(changes: list[dict[str, Any]]) -> None:
    rows = reduced([row(key, **change) for key, change in enumerate(changes)])
    made = metrics.metrics(rows, CLOSED)
    assert not any(math.isnan(value) for value in made.values())
    counts = metrics.counts(rows, len(changes))
    assert counts["completed"] + counts["failed"] + counts["short"] == counts["asked"] == len(changes)
    assert counts["failed"] >= sum(change.get("error") is not None for change in changes)
    for kind in Score:
        assert metrics.score(rows, scored(kind)) >= 0

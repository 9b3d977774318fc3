"""Each check: what it condemns, and the honest neighbour that it lets pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios import rows
from scenarios.bystanders import Bystanders
from scenarios.requests import by_usage
from scenarios.scenario import Scenario, Score, Traffic
from scenarios.validity import CHECKS, CODES, Facts, Roofline, judge
from tests.scenarios.made_rows import TPOT, TTFT, probe, reduced, row

Row = dict[str, Any]
ME = {"models": ["m"], "version": "1"}
CLOSED = Traffic("closed", "closed", 20, 1)


def facts(traffic: Traffic = CLOSED, count: int = 20, **changes: Any) -> Facts:
    shape = Scenario("D", "x", Score.ALL, 100, 20, (traffic,))
    return replace(Facts(shape, {traffic.name: count}, template_tokens=10, before=ME, after=ME), **changes)


def some(changes: Callable[[int, float], dict[str, Any]], count: int = 20) -> list[Row]:
    """A closed loop: each request begins when the one before it ends. `changes` of a key and its start."""
    made: list[Row] = []
    for key in range(count):
        start = made[-1]["end"] if made else 0.0
        made.append(row(key, **{"intended": start, **changes(key, start)}))
    return made


def honest(count: int = 20) -> list[Row]:
    return some(lambda key, at: {}, count)


def again(**changes: Any) -> list[Row]:
    """An honest probe but for what a request sent again gets."""
    kept = [one for one in probe(20) if one["role"] == rows.FRESH]
    seen: dict[str, Any] = {"role": rows.REPEAT, "traffic": "probe", "asked_output": 40, "cut": True}
    return kept + [row(23 + place, repeats=place, **{**seen, **changes}) for place in range(3)]


def codes(made: list[Row], known: Facts | None = None, tail: list[Row] | None = None) -> list[str]:
    tail = probe(len(made)) if tail is None else tail
    known = known or facts()
    whole = reduced(made + tail)
    return [reason.code for reason in judge(by_usage(whole) if known.weights == "dummy" else whole, known)]


NOTHING: Row = {"chunk_times": [], "chunk_tokens": []}


def later(at: float) -> list[float]:
    return [at + TTFT + place * TPOT for place in range(19)]


DRAFTED = [1] * 5 + [3] * 5


def with_drafts(at: float) -> list[float]:
    """A server that speculates: steps that find no draft, the first ones among them, take much longer."""
    return [at + TTFT + TPOT * steps for steps in (0, 3.5, 7, 10.5, 14, 15, 16, 17, 18, 19)]


def test_an_honest_server_is_valid() -> None:
    assert codes(honest()) == []


def test_more_lone_requests_make_no_check_milder() -> None:
    """Nine of them, of which one was disturbed so that its faked first token looks like a step."""
    alone: Row = {"role": rows.FRESH, "traffic": "probe", "asked_output": 16}
    faked: Row = {"chunk_times": [0.01, *later(0.0)], "chunk_tokens": [1] * 20}
    kept = [one for one in probe(20) if one["role"] == rows.REPEAT]
    plain = [row(30 + number, **alone) for number in range(9)]
    spoilt = [row(30 + number, **alone, **faked) for number in range(8)] + plain[8:]
    assert "first-token-cadence" in codes(honest(), tail=[*spoilt, *kept])
    assert codes(honest(), tail=[*plain, *kept]) == []


@pytest.mark.parametrize(
    ("code", "made"),
    [
        ("failures", some(lambda key, at: {"error": "http-429"} if key % 4 == 0 else {})),
        ("failures", honest(15)),
        ("short-output", some(lambda key, at: {"tokens": [1] * 12})),
        ("short-output", some(lambda key, at: {"tokens": [1] * 19})),
        ("short-output", some(lambda key, at: {"tokens": [1] * 12, "usage_completion": 20})),
        ("short-output", some(lambda key, at: NOTHING)),
        ("long-output", some(lambda key, at: {"tokens": [1] * 30})),
        ("long-output", some(lambda key, at: {"tokens": [1] * 20, "usage_completion": 21})),
        ("token-mismatch", some(lambda key, at: {"usage_completion": 200})),
        ("token-mismatch", some(lambda key, at: {"usage_completion": 10})),
        ("token-mismatch", some(lambda key, at: {"asked_output": 99, "recount": 95, "usage_completion": 99})),
        ("prompt-mismatch", some(lambda key, at: {"usage_prompt": 50})),
        ("client-lag", some(lambda key, at: {"sent": at + 0.05})),
        ("duplicate-prompts", some(lambda key, at: {"prompt_sha256": "same" if key < 2 else str(key)})),
        ("warm-cache", some(lambda key, at: {"cached_tokens": 96 if key % 2 else 0})),
        ("warm-cache", some(lambda key, at: {"ttft": 0.05, "tpot": TPOT})),
        ("blank-first-token", some(lambda key, at: {"first_blank": at + 0.01})),
        ("first-token-cadence", some(lambda key, at: {"chunk_times": [at + 0.01, *later(at)]})),
        ("held-back", some(lambda key, at: {"ttft": TTFT + 19 * TPOT, "tpot": 0.0})),
        ("held-back", some(lambda key, at: {"tokens": [20]})),
        ("impossible-speed", some(lambda key, at: {"tpot": TPOT / 4})),
        ("clock-skew", some(lambda key, at: {"date_offset": -3600.0})),
        ("concurrency", some(lambda key, at: {"intended": 3.0 * key, "due": 3.0 * key})),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_code(code: str, made: list[Row]) -> None:
    given = judge(reduced(made + probe(len(made))), facts())
    assert code in [reason.code for reason in given]
    reason = next(reason for reason in given if reason.code == code)
    assert "\n" not in reason.detail
    assert reason.evidence


CANNED = {"asked_output": 80, "text": "the same words for everybody " * 10}


@pytest.mark.parametrize(
    ("code", "made"),
    [
        ("canned-text", some(lambda key, at: CANNED)),
        (
            "looping",
            some(lambda key, at: {"tokens": [1, 4, 2, 5, 3, 5], "text": f"again and again in {key} " * 30}),
        ),
    ],
)
def test_what_is_wrong_with_the_text_has_its_code(code: str, made: list[Row]) -> None:
    assert code in codes(made)
    assert code not in codes(made, facts(weights="dummy"))


@pytest.mark.parametrize(
    "made",
    [
        some(lambda key, at: {"usage_completion": None}),
        some(lambda key, at: {"recount": 19, "usage_completion": 20}),
        some(lambda key, at: {"ttft": TTFT * (1 + key % 3)}),
        some(lambda key, at: {"tokens": [1, 4, 2, 5, 3, 5]}),
        some(lambda key, at: {"cached_tokens": 16}),
        some(lambda key, at: {"usage_prompt": 105}),
        some(lambda key, at: {"asked_output": 100, "recount": 99, "usage_completion": 100}),
        some(lambda key, at: {"first_blank": at + TTFT - TPOT}),
        some(lambda key, at: {"text": f"again and again in {key} " * 30}),
        some(lambda key, at: {"ttft": TTFT * 3}),
        some(lambda key, at: {"tpot": TPOT * 3}),
        some(lambda key, at: {"date_offset": 2.0}),
        some(lambda key, at: {"date_offset": None}),
        some(lambda key, at: {"tokens": DRAFTED, "chunk_times": with_drafts(at)}),
    ],
    ids=range(14),
)
def test_an_honest_neighbour_is_valid(made: list[Row]) -> None:
    assert codes(made) == []


def claiming(usage: int | None, recount: int | None, chunks: int) -> list[Row]:
    """Answers of so many chunks to 20 tokens asked for."""
    said = {"usage_completion": usage, "recount": recount, "chunks": chunks}
    shared = [20 // chunks] * chunks if usage else [1] * chunks
    return some(lambda key, at: {**said, "tokens": list(shared), "tpot": TPOT * chunks / 20})


@pytest.mark.parametrize(
    ("usage", "recount", "chunks", "code"),
    [
        (20, 20, 20, None),
        (20, None, 20, None),
        (20, 2, 20, None),
        (20, 22, 5, None),
        (20, 5, 5, "token-mismatch"),
        (None, 20, 20, "no-usage"),
        (None, 1, 1, "no-usage"),
        (19, 20, 20, "short-output"),
    ],
)
def test_random_weights_are_counted_by_usage_that_their_text_bears_out(
    usage: int | None, recount: int | None, chunks: int, code: str | None
) -> None:
    found = codes(claiming(usage, recount, chunks), facts(weights="dummy"))
    assert found == [] if code is None else code in found


def test_an_answer_that_breaks_off_is_told_in_json() -> None:
    """`finish_reason` is missing where a stream ends without one; pandas reads that as NaN."""
    broken = some(lambda key, at: {"tokens": [1], "finish_reason": None})
    (reason,) = (one for one in judge(reduced(broken + probe(20)), facts()) if one.code == "short-output")
    assert json.loads(json.dumps(reason.evidence, allow_nan=False))["finish_reason"] is None


def test_without_usage_all_text_together_is_as_long_as_asked() -> None:
    shorter = some(lambda key, at: {"usage_completion": None, "recount": 18, "tokens": [1] * 18})
    assert codes(shorter) == ["short-output"]
    assert codes(some(lambda key, at: {"usage_completion": None, "recount": 19, "tokens": [1] * 19})) == []


def test_one_failure_in_a_hundred_is_borne() -> None:
    one = some(lambda key, at: {"error": "http-500"} if key == 7 else {}, 100)
    assert codes(one, facts(count=100)) == []
    two = some(lambda key, at: {"error": "http-500"} if key in (7, 8) else {}, 100)
    assert codes(two, facts(count=100)) == ["failures"]


def test_whole_answers_that_come_back_from_a_cache() -> None:
    assert codes(honest(), tail=again(ttft=0.002, tpot=1e-5, cut=False)) == ["repeat-cache"]


def test_a_prefix_cache_is_no_cache_of_answers() -> None:
    assert codes(honest(), tail=again(ttft=0.02)) == []


def test_a_long_answer_whose_first_token_waits() -> None:
    assert codes(honest(), tail=again(ttft=0.5)) == ["held-back"]


def test_faster_than_the_device() -> None:
    bound = Roofline(step=0.02, prefill_token=0.0, device="a slow one")
    assert codes(honest(), facts(roofline=bound)) == ["impossible-speed"]
    prompt = Roofline(step=0.0, prefill_token=0.003, device="a slow one")
    assert codes(honest(), facts(roofline=prompt)) == ["impossible-speed"]
    assert codes(honest(), facts(roofline=Roofline(0.001, 0.0001, "a fast one"))) == []


def test_a_server_that_went_away_or_changed() -> None:
    assert codes(honest(), facts(after=None)) == ["unreachable"]
    assert codes(honest(), facts(after={**ME, "models": ["other"]})) == ["server-changed"]


def test_a_client_without_time() -> None:
    assert codes(honest(), facts(loop_lag=0.1)) == ["client-lag"]
    assert codes(honest(), facts(busy=0.95)) == ["client-lag"]
    assert codes(honest(), facts(loop_lag=0.01, busy=0.5)) == []


def burst(lags: list[float]) -> list[Row]:
    """Requests due at once, sent so late."""
    return [{**row(key, intended=0.0), "sent": lag} for key, lag in enumerate(lags)]


PAUSE = 0.015
PAUSED = [0.0] * 2 + [PAUSE] * 18


@pytest.mark.parametrize(
    ("lags", "score", "lagged"),
    [
        (PAUSED, Score.THROUGHPUT, False),
        (PAUSED, Score.ALL, True),
        ([5 * lag for lag in PAUSED], Score.THROUGHPUT, True),
        ([PAUSE] * 10 + [2 * PAUSE] * 10, Score.THROUGHPUT, True),
        ([PAUSE * place / 10 for place in range(20)], Score.THROUGHPUT, True),
    ],
)
def test_one_pause_in_a_burst_moves_no_rate_and_a_slow_client_does(
    lags: list[float], score: Score, lagged: bool
) -> None:
    traffic = Traffic("closed", "burst", len(lags), None)
    known = facts(traffic, len(lags))
    known = replace(known, scenario=replace(known.scenario, score=score))
    assert ("client-lag" in codes(burst(lags), known)) == lagged


def rated(kind: str, times: list[float], rate: float) -> list[str]:
    traffic = Traffic("closed", kind, len(times), None, rate)  # type: ignore[arg-type]
    made = [row(key, intended=float(at)) for key, at in enumerate(times)]
    return codes(made, facts(traffic, len(times)), probe(len(times)))


@given(st.integers(0, 2**32))
@settings(max_examples=6, deadline=None)
def test_poisson_arrivals_pass_and_others_do_not(seed: int) -> None:
    draw = np.random.default_rng(seed)
    times = np.cumsum(draw.exponential(0.1, 200)).tolist()
    assert rated("poisson", times, 10.0) == []
    assert rated("poisson", times, 20.0) == ["schedule"]
    together = np.repeat(np.cumsum(draw.exponential(1.6, 13)), 16)[:200].tolist()
    assert rated("poisson", together, 10.0) == ["schedule"]


def test_a_constant_rate() -> None:
    assert rated("constant", [place / 10 for place in range(100)], 10.0) == []
    assert rated("constant", [place / 9 for place in range(100)], 10.0) == ["schedule"]


def test_every_code_is_explained_and_every_check_documented() -> None:
    assert all(meaning and "\n" not in meaning for meaning in CODES.values())
    assert all(check.__doc__ for check in CHECKS)


ANY = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from([rows.SCORED, rows.FRESH, rows.REPEAT, rows.WARMUP]),
        "ttft": st.floats(0, 1e6),
        "tpot": st.floats(0, 1e3),
        "tokens": st.lists(st.integers(0, 50), min_size=1, max_size=8),
        "error": st.sampled_from([None, "timeout", "http-500"]),
        "usage_completion": st.none() | st.integers(0, 1 << 30),
        "recount": st.none() | st.integers(0, 1 << 20),
        "first_content": st.none() | st.floats(0, 1e6),
        "first_blank": st.none() | st.floats(0, 1e6),
        "sent": st.none() | st.floats(0, 1e6),
        "cached_tokens": st.none() | st.integers(0, 1 << 20),
        "asked_output": st.integers(1, 100),
        "date_offset": st.none() | st.floats(-1e9, 1e9),
    },
)


@given(st.lists(ANY, min_size=1, max_size=10), st.sampled_from(["closed", "burst", "poisson", "constant"]))
@settings(max_examples=30, deadline=None)
def test_any_rows_are_judged(changes: list[dict[str, Any]], kind: str) -> None:
    traffic = Traffic("closed", kind, 10, 2, 5.0)  # type: ignore[arg-type]
    made = [row(key, **change) for key, change in enumerate(changes)]
    given_codes = codes(made, facts(traffic, 10), [])
    assert set(given_codes) <= CODES.keys()
    if sum(1 for one in made if one["ok"] and one["role"] == rows.SCORED) < 9:
        assert "failures" in given_codes


ALONE = Bystanders(10.0, 2, 0.02, 0.5, 0.0, {}, (), ((100, 5),), ((100, 5),))


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        (None, ALONE),
        (None, replace(ALONE, share=0.4)),
        (None, replace(ALONE, share=0.2, idle=0.0)),
        (None, replace(ALONE, share=None, idle=0.0)),
        (None, replace(ALONE, listeners_after=((100, 5), (101, 9)))),
        (None, replace(ALONE, listeners=(), listeners_after=())),
        ("other-process", replace(ALONE, share=0.4, idle=0.05, names={"cc1 (7)": 3.0})),
        ("other-process", replace(ALONE, tenants=(4711,))),
        ("server-changed", replace(ALONE, listeners_after=((200, 9),))),
        ("server-changed", replace(ALONE, listeners_after=((100, 9),))),
    ],
)
def test_company(code: str | None, seen: Bystanders) -> None:
    assert codes(honest(), facts(bystanders=seen)) == ([code] if code else [])


def test_load_beside_a_simulated_server_disturbs_no_device() -> None:
    told = {**ME, "owners": ["simulated"]}
    seen = replace(ALONE, share=0.9, idle=0.0)
    assert codes(honest(), facts(bystanders=seen, before=told, after=told)) == []

"""The result is a function of the events and of nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from search.record import Record
from search.result import result
from tests.search.landscape import score
from tests.search.world import START, STOP, Search, World

Events = list[dict[str, Any]]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Events:
    search = Search(tmp_path_factory.mktemp("run") / "run", World(lambda _, config: score(config)), trials=12)
    return search.begin()


def test_the_same_events_give_the_same_result_and_stay_as_they_are(events: Events) -> None:
    before = copy.deepcopy(events)
    assert result(events) == result(copy.deepcopy(events))
    assert events == before


def test_where_the_gpu_seconds_went(events: Events) -> None:
    outcome = result(events)
    ended = [event for event in events if event["event"] == "trial"]
    assert outcome["split"]["start"] == START * len(ended)
    assert outcome["split"]["stop"] == STOP * len(ended)
    assert outcome["split"]["idle"] == pytest.approx(0.0, abs=0.01)
    assert sum(outcome["split"].values()) == pytest.approx(outcome["gpu_seconds"], abs=0.01)
    assert outcome["trials"] == len(ended) == sum(outcome["outcomes"].values())


def test_an_attempt_that_was_lost_is_not_idle_time(events: Events) -> None:
    more = copy.deepcopy(events)
    lost = {"event": "lost", "trial": 3, "attempt": 0, "why": "the client lagged", "gpu_seconds": 49.0}
    at = next(n for n, event in enumerate(more) if event["event"] == "trial" and event["trial"] == 3)
    more.insert(at, lost)
    more[-1]["gpu_seconds"] += 49.0
    split = result(more)["split"]
    assert split == {**result(events)["split"], "lost": 49.0}


def test_the_curve_rises_to_what_was_found(events: Events) -> None:
    curve = result(events)["curve"]
    scores = [point[1] for point in curve]
    assert scores == sorted(set(scores))
    complete = [
        event["score"]
        for event in events
        if event["event"] == "trial" and event["state"] == "complete" and event["origin"] != "final"
    ]
    assert scores[-1] == max(complete)


def test_the_baseline_is_the_measurement_marked_so(events: Events) -> None:
    measured = next(event for event in events if event["event"] == "measurement")
    extra = {**measured, "id": "torch", "score": 0.5, "trial": None, "origin": "baseline"}
    outcome = result([events[0], extra, *events[1:]])
    assert outcome["baseline"] == {"score": 0.5, "measurement": "torch"}
    assert result(events)["baseline"] is None
    assert {**outcome, "baseline": None} == result(events)


def test_a_run_cut_off_has_a_result_too(events: Events) -> None:
    for lines in range(1, len(events)):
        outcome = result(events[:lines])
        assert outcome["trials"] == len(Record.of(events[:lines]).trials)
        finals = [e for e in events[:lines] if e["event"] == "trial" and e["origin"] == "final"]
        assert (outcome["submitted"] is not None) == bool(finals)

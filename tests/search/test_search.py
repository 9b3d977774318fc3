"""Whole searches over Ray Tune on the simulated engine."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from engines.orphans import RUN_ID
from scenarios import ledger as ledgers
from scenarios.ledger import LedgerError
from search.result import result
from search.search import search
from tests.search.conftest import Specs

Events = list[dict[str, Any]]


def events_of(run: Path) -> Events:
    events, damaged = ledgers.read(run)
    assert damaged == []
    return events


def servers(run_id: str) -> list[int]:
    """Processes that carry a run's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN_ID) == run_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def at_once(events: Events) -> int:
    """The most trials that ever held a device together."""
    holding: set[int] = set()
    most = 0
    for event in events:
        if event["event"] == "phase":
            holding.add(event["trial"])
        elif event["event"] in ("trial", "lost"):
            holding.discard(event["trial"])
        most = max(most, len(holding))
    return most


def test_a_search_from_header_to_end(run: Path, specs: Specs, one_ray: None) -> None:
    seen: Events = []
    outcome = search(specs(trials=2), run, observer=lambda event: seen.append(dict(event)))
    events = events_of(run)
    assert outcome.reason == "trials"
    assert seen == events[1:] or seen == events
    header = events[0]
    assert (header["event"], header["kind"], header["method"]) == ("run", "search", "random")
    assert header["seeds"] == {"dev": 21, "eval": 1337}
    asks = [event for event in events if event["event"] == "ask"]
    assert (asks[0]["origin"], asks[0]["config"]) == ("default", {})
    ends = Counter(event["trial"] for event in events if event["event"] == "trial")
    assert ends == Counter(event["trial"] for event in asks)
    assert [event["event"] for event in events[-2:]] == ["result", "end"]
    told = {key: value for key, value in events[-2].items() if key not in ("schema", "event", "at")}
    assert told == result(events)
    assert outcome.result["submitted"]["valid"], outcome.result["submitted"]
    assert outcome.result["submitted"]["command"].count("--model") == 1
    measured = {event["id"] for event in events if event["event"] == "measurement"}
    assert all((run / "rows" / each).is_dir() for each in measured)
    split = outcome.result["split"]
    assert sum(split.values()) == pytest.approx(outcome.result["gpu_seconds"], abs=0.5)
    assert servers(header["id"]) == []
    again = search(specs(trials=2), run, resume=True)
    assert again.reason == "trials"
    assert len(events_of(run)) == len(events)
    with pytest.raises(LedgerError, match="already holds a run"):
        search(specs(trials=2), run)
    with pytest.raises(LedgerError, match="its planner is random, not tpe"):
        search(specs(trials=2, planner="tpe"), run, resume=True)


def test_several_devices_run_side_by_side_within_the_budget(run: Path, specs: Specs, one_ray: None) -> None:
    budget = 36.0
    outcome = search(specs(devices=3, budget=budget), run)
    events = events_of(run)
    assert outcome.reason == "budget"
    assert at_once(events) == 3
    last_stop = max((e["seconds"].get("stop", 0.0) for e in events if e["event"] == "trial"), default=0.0)
    assert outcome.result["gpu_seconds"] <= budget + 3 * (last_stop + 1.5)
    assert outcome.result["outcomes"].get("complete", 0) >= 1
    assert sum(outcome.result["outcomes"].values()) >= 3
    refused = [e for e in events if e["event"] == "trial" and e["state"] == "infeasible"]
    assert all(trial["gpu_seconds"] == 0 for trial in refused)


def test_a_worker_that_dies_loses_its_trial_which_is_asked_again(
    run: Path, specs: Specs, one_ray: None
) -> None:
    killed: list[int] = []

    def kill(event: Mapping[str, Any]) -> None:
        if event["event"] == "phase" and event["phase"] == "measuring" and not killed:
            worker = next(p for p in psutil.process_iter() if _holds(p, events_of(run)[0]["id"]))
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    search(specs(trials=2, strategy="full"), run, observer=kill)
    events = events_of(run)
    assert killed
    lost = [event for event in events if event["event"] == "lost" and "client" not in event["why"]]
    assert [(event["trial"], event["attempt"]) for event in lost] == [(0, 0)]
    assert lost[0]["gpu_seconds"] > 0
    again = [event["attempt"] for event in events if event["event"] == "ask" and event["trial"] == 0]
    assert again == [0, 1]
    ends = [event for event in events if event["event"] == "trial"]
    assert Counter(event["trial"] for event in ends).most_common(1)[0][1] == 1
    assert next(event["attempt"] for event in ends if event["trial"] == 0) == 1
    assert servers(events[0]["id"]) == []


def _holds(process: psutil.Process, run_id: str) -> bool:
    """Whether it is the Ray worker above a run's servers."""
    try:
        children = process.children()
        return process.name().startswith("ray::") and any(
            child.environ().get(RUN_ID) == run_id for child in children
        )
    except psutil.Error:
        return False


def test_a_search_outside_the_main_thread(run: Path, specs: Specs, one_ray: None) -> None:
    reasons: list[str] = []
    thread = threading.Thread(
        target=lambda: reasons.append(search(specs(trials=1, strategy="full"), run).reason)
    )
    thread.start()
    thread.join(120)
    assert reasons == ["trials"]

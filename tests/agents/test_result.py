"""The result as a function of the events: what counts, what is put down to 1.00x, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.case import TRIES, Record
from agents.result import result
from scenarios.ledger import Ledger

Event = dict[str, Any]


def trial(number: int, score: float | None, *, origin: str = "agent", state: str = "complete") -> Event:
    """A trial's end."""
    return {
        "event": "trial", "trial": number, "origin": origin, "state": state, "score": score, "engine": "vllm",
        "config": {}, "command": "", "snapshot": "", "measurements": [f"m{number}"], "crash": None,
        "detail": "failures: 3 of 10", "seconds": {"start": 1.0, "measure": 2.0},
    }  # fmt: skip


def baseline(score: float) -> Event:
    """The torch baseline's measurement."""
    return {"event": "measurement", "trial": None, "origin": "baseline", "score": score, "id": "b"}


METER = [
    {"event": "meter", "segment": 0, "devices": 2, "gpu_seconds": 0.0},
    {"event": "meter", "segment": 0, "devices": 2, "gpu_seconds": 30.0},
    {"event": "meter", "segment": 1, "devices": 2, "gpu_seconds": 0.0},
    {"event": "meter", "segment": 1, "devices": 2, "gpu_seconds": 10.0},
]


def test_found_is_the_best_full_score_and_submitted_the_last_final() -> None:
    events = [
        baseline(2.0),
        trial(0, 5.0),
        trial(1, 9.0, state="pruned"),
        trial(2, 8.0),
        trial(3, None, state="invalid"),
        trial(4, None, origin="final", state="invalid"),
        trial(4, 6.0, origin="final"),
    ]
    got = result(Path("run"), events)
    assert got.found and (got.found["trial"], got.found["score"]) == (2, 8.0)
    assert got.submitted and (got.submitted["score"], got.submitted["speedup"]) == (6.0, 3.0)
    assert got.outcomes == {"complete": 2, "pruned": 1, "invalid": 1}
    assert got.trials == 4


@pytest.mark.parametrize(
    ("final", "score", "reason"),
    [
        (trial(1, None, origin="final", state="invalid"), None, "invalid: failures: 3 of 10"),
        (trial(1, None, origin="final", state="crashed"), None, "crashed: failures: 3 of 10"),
        (trial(1, 1.0, origin="final"), 1.0, "slower than the torch baseline (0.50x)"),
    ],
)
def test_what_does_not_count_is_one(final: Event, score: float | None, reason: str) -> None:
    submitted = result(Path("run"), [baseline(2.0), trial(0, 5.0), final]).submitted
    assert submitted
    assert (submitted["speedup"], submitted["score"], submitted["reason"]) == (1.0, score, reason)


def test_without_a_baseline_there_is_no_speedup() -> None:
    submitted = result(Path("run"), [trial(0, 5.0, origin="final")]).submitted
    assert submitted and submitted["speedup"] is None and submitted["valid"]


def test_every_gpu_second_goes_somewhere() -> None:
    notes = [
        {"event": "note", "what": "serve-start", "seconds": 3.0, "script": "a", "ready": True},
        {"event": "note", "what": "serve-stop", "seconds": 1.0},
        {"event": "note", "what": "serve-start", "seconds": 2.0, "script": "b", "ready": False},
    ]
    asked = {"event": "ask", "trial": 0, "origin": "agent", "script": {"sha256": "a", "text": ""}}
    got = result(Path("run"), [*METER, *notes, asked, trial(0, 5.0)])
    assert got.gpu_seconds == 40.0
    assert got.split == {"start": 10.0, "measure": 4.0, "stop": 2.0, "idle": 24.0}
    assert got.configs == 2


def final(number: int, *codes: str) -> list[tuple[str, dict[str, Any]]]:
    reasons = [{"code": code, "detail": "", "evidence": {}} for code in codes]
    return [
        ("measurement", {"id": str(number), "invalid_reasons": reasons}),
        ("trial", {"origin": "final", "measurements": [str(number)]}),
    ]


@pytest.mark.parametrize(
    ("scorings", "submitted"),
    [
        ([], False),
        ([()], True),
        ([("other-process",)], False),
        ([("client-lag", "looping")], True),
        ([("other-process",), ()], True),
        ([("other-process",)] * TRIES, True),
    ],
)
def test_what_the_machine_voided_is_no_submission_yet(
    scorings: list[tuple[str, ...]], submitted: bool, tmp_path: Path
) -> None:
    with Ledger.create(tmp_path / "run", {}) as ledger:
        for number, codes in enumerate(scorings):
            for event, fields in final(number, *codes):
                ledger.append(event, **fields)
        assert Record(ledger).submitted == submitted

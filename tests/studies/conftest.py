"""Runs made by hand, written with the real ledger."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scenarios.ledger import Ledger

HOST = {"devices": [{"index": 0, "kind": "cpu", "name": "Test CPU", "memory": 8 << 30}], "cores": 2}
MODEL = {"path": "/models/small", "name": "small", "weights": "real", "digest": "d1"}
_ids = itertools.count()


@dataclass
class RunBuilder:
    """Writes a run directory.

    Attributes:
        scores: dev-seed scores of the trials; the first is the default's; None for a crash.
        share: fidelity of their measurements.
        metrics, provenance: what their measurements say besides.
        held: what their trials say of the GPUs.
        told: other fields of their measurements, such as `text` and `quality`.
        submitted: held-out score, or the reason why there is none.
        measured: which measurement the baseline is; None where nothing tells.
    """

    path: Path
    method: str = "tpe"
    kind: str = "search"
    engines: Sequence[str] = ("vllm",)
    scenario: str = "C"
    seeds: tuple[int, int] = (21, 1337)
    budget: float = 600.0
    baseline: float | None = 1.0
    measured: str | None = None
    scores: Sequence[float | None] = (2.0, 3.0)
    submitted: float | str | None = 2.9
    ratio: float | None = None
    share: float = 1.0
    end: str | None = "budget"
    metrics: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    held: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)

    def write(self) -> Path:
        """The directory, written."""
        with Ledger.create(self.path, self._header()) as ledger:
            ledger.append("meter", segment=0, devices=1, gpu_seconds=0.0)
            for number, score in enumerate(self.scores):
                self._trial(ledger, number, score)
            ledger.append("meter", segment=0, devices=1, gpu_seconds=10.0 * len(self.scores))
            if self.end is not None:
                if self.end != "interrupted":
                    ledger.append("result", **self._result())
                ledger.append("end", reason=self.end)
        return self.path

    def _header(self) -> dict[str, Any]:
        return {
            "id": f"id{next(_ids)}",
            "kind": self.kind,
            "method": self.method,
            "engines": list(self.engines),
            "scenario": self.scenario,
            "profile": "cpu",
            "model": MODEL,
            "seeds": {"dev": self.seeds[0], "eval": self.seeds[1]},
            "budget": self.budget,
            "devices": 1,
            "spec": {},
            "host": HOST,
            "provenance": {"harness": "0.1.0", "commit": "abc123"},
            **self.header,
        }

    def _trial(self, ledger: Ledger, number: int, score: float | None) -> None:
        config = {"max-num-seqs": 8 * number} if number else {}
        origin = "planner" if number else "default"
        ask = {"trial": number, "attempt": 0, "engine": self.engines[0], "config": config, "origin": origin}
        ledger.append("ask", **ask)
        for phase in ("starting", "warming", "measuring", "stopping"):
            ledger.append("phase", trial=number, attempt=0, phase=phase)
        measured = measurement(score or 0.0, self.scenario, self.seeds[0], self.share)
        measured["metrics"] |= self.metrics
        measured["provenance"] |= self.provenance
        measured |= self.told
        if score is not None:
            ledger.append("measurement", **ask, **measured)
        ledger.append(
            "trial",
            **ask,
            state="crashed" if score is None else "complete",
            score=score,
            measurements=[measured["id"]] if score is not None else [],
            crash="out-of-memory" if score is None else None,
            detail="no room" if score is None else "",
            seconds={"start": 6.0, "measure": 3.0, "stop": 1.0},
            gpu_seconds=10.0,
            command=f"vllm serve --max-num-seqs {8 * number}",
            held=self.held,
        )

    def _result(self) -> dict[str, Any]:
        done = [(score, number) for number, score in enumerate(self.scores) if score is not None]
        best = max(done, default=None)
        crashed = len(self.scores) - len(done)
        return {
            "baseline": self.baseline and {"score": self.baseline, "measurement": self.measured},
            "default": self._default(),
            "found": best and self._found(*best),
            "submitted": self._submitted(best),
            "gpu_seconds": 10.0 * len(self.scores),
            "split": {"start": 6.0, "measure": 3.0, "stop": 1.0, "idle": 0.0},
            "trials": len(self.scores),
            "outcomes": {"complete": len(done), **({"crashed": crashed} if crashed else {})},
        }

    def _default(self) -> dict[str, Any] | None:
        if not self.scores or self.scores[0] is None:
            return None
        return {"engine": self.engines[0], "trial": 0, "score": self.scores[0]}

    def _found(self, score: float, number: int) -> dict[str, Any]:
        config = {"max-num-seqs": 8 * number} if number else {}
        return {
            "trial": number,
            "engine": self.engines[0],
            "config": config,
            "score": score,
            "measurement": None,
            "command": f"vllm serve --max-num-seqs {8 * number}",
        }

    def _submitted(self, best: tuple[float, int] | None) -> dict[str, Any] | None:
        if self.submitted is None:
            return None
        valid = not isinstance(self.submitted, str)
        return {
            "trial": best[1] if best else None,
            "engine": self.engines[0],
            "config": {"max-num-seqs": 8},
            "score": self.submitted if valid else None,
            "valid": valid,
            "reason": None if valid else self.submitted,
            "measurement": None,
            "ratio": self.ratio,
            "ratio_interval": [0.9 * self.ratio, 1.1 * self.ratio] if self.ratio else None,
        }


def measurement(score: float, scenario: str, seed: int, share: float = 1.0) -> dict[str, Any]:
    """The fields of a valid measurement."""
    return {
        "id": f"m{next(_ids)}",
        "scenario": scenario,
        "profile": "cpu",
        "seed": seed,
        "fidelity": {"requests": share, "output": 1.0, "block": 0},
        "invalid_reasons": [],
        "score": score,
        "interval": [score * 0.95, score * 1.05],
        "metrics": {"ttft_p50": 0.5},
        "requests": {"asked": 8, "completed": 8, "failed": 0, "short": 0},
        "request_set": "0" * 64,
        "provenance": {},
        "started": 0.0,
        "seconds": 3.0,
        "rows": None,
        "mark": None,
        "valid": True,
    }


MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run below the test's directory; keywords are RunBuilder's."""

    def make(name: str, **fields: Any) -> Path:
        return RunBuilder(tmp_path / "runs" / name, **fields).write()

    return make

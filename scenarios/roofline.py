"""The least time that devices need for a model: peak bandwidth and peak arithmetic, nothing else.

Two uses, one place. `Roofline.step` and `.prefill_token` are bounds that nothing can beat, loose on purpose:
weights of half a byte a parameter, the fastest arithmetic that the device has. Whoever is quicker has not run
the model. `Ideal` is the roofline of the model as it is (16-bit numbers, one weight read a step): what a
result is a fraction of. Quantised weights or speculation do less work than that and may exceed it.

    first token   the prompt's operations at peak, or one reading of the weights if that takes longer
    other tokens  weights and the answer's context read once at peak bandwidth
    requests/s    all operations and all bytes of the requests, perfectly overlapped, the weights shared by as
                  many as may be in flight; never more than arrive, nor than fit in flight at ideal latency
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from engines.contract import Model
from engines.host import Device, Host
from engines.model_shape import ModelShape, shape_of
from engines.nvml import NVML, Inventory
from engines.peaks import Peaks, peaks
from scenarios.bootstrap import combine, median
from scenarios.requests import Reduced
from scenarios.scenario import Scenario, Traffic

Floats = npt.NDArray[np.float64]

CORE_BANDWIDTH = 50e9
CORE_OPERATIONS = 8e12
"""Of one CPU core, at most: a share of a server's memory channels, and a matrix unit."""
LEAST_BYTES = 0.5
"""Of a parameter, at the most extreme quantisation."""
USUAL_BYTES = 2.0
SCHEDULED = ("poisson", "constant", "ramp", "replay")


@dataclass(frozen=True)
class Ideal:
    """What the model as it is takes of all its devices together.

    Attributes:
        bandwidth, flops: peaks, bytes/s and dense bf16 operations/s.
        weights: bytes that a step reads.
        token_flops, head_flops: operations of a token in the layers, and in the output head.
        attention_flops, kv_bytes: of a token, for each token of its context.
        window: tokens that attention looks back at most, None for all.
        source: where the peaks come from.
    """

    bandwidth: float
    flops: float
    weights: float
    token_flops: float
    head_flops: float
    attention_flops: float
    kv_bytes: float
    window: int | None
    source: str

    def prefill(self, prompt: Floats) -> Floats:
        """Operations of prompts of so many tokens; a token attends to itself and to those before it."""
        seen = np.minimum(prompt, self.window or np.inf)
        pairs = seen * (seen + 1) / 2 + (prompt - seen) * seen
        return np.asarray(prompt * self.token_flops + self.head_flops + pairs * self.attention_flops)

    def first_token(self, prompt: Floats) -> Floats:
        """Seconds to the first token."""
        return np.maximum(self.prefill(prompt) / self.flops, self.weights / self.bandwidth)

    def token(self, context: Floats) -> Floats:
        """Seconds of a further token, alone on the device."""
        return np.maximum(
            (self.weights + self._kv(context)) / self.bandwidth, self._work(context) / self.flops
        )

    def rate(self, prompt: Floats, output: Floats, at_once: int) -> float:
        """Requests/s of these requests with so many in flight."""
        steps, context = output - 1, prompt + output / 2
        work = self.prefill(prompt) + steps * self._work(context)
        moved = steps * (self.weights / at_once + self._kv(context))
        fastest = max(float(work.sum()) / self.flops, float(moved.sum()) / self.bandwidth)
        return len(prompt) / max(fastest, float(self.alone(prompt, output).sum()) / at_once)

    def alone(self, prompt: Floats, output: Floats) -> Floats:
        """Seconds of a whole request on an idle device."""
        return self.first_token(prompt) + (output - 1) * self.token(prompt + output / 2)

    def _kv(self, context: Floats) -> Floats:
        return self.kv_bytes * np.minimum(context, self.window or np.inf)

    def _work(self, context: Floats) -> Floats:
        seen = np.minimum(context, self.window or np.inf)
        return self.token_flops + self.head_flops + self.attention_flops * seen


@dataclass(frozen=True)
class Roofline:
    """The least time that the device needs, however good the engine (seconds): a step, a token of a prompt.

    `ideal` is None where the device's own peaks are not known, as on a CPU.
    """

    step: float
    prefill_token: float
    device: str
    ideal: Ideal | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Roofline:
        """The inverse of `asdict`."""
        ideal = data.get("ideal")
        return cls(**{**data, "ideal": Ideal(**ideal) if ideal else None})


def roofline(
    model: Model, host: Host, devices: tuple[Device, ...] = (), inventory: Inventory = NVML
) -> Roofline | None:
    """The roofline of `devices` together, or of all of the host's; None for unknown devices or models."""
    held, shape = devices or host.devices, shape_of(model)
    if shape is None or not shape.weight_bytes:
        return None
    if host.kind == "cpu":
        return _bounds(shape, CORE_BANDWIDTH * host.cores, CORE_OPERATIONS * host.cores, held)
    known = [peaks(device, inventory) for device in held]
    found = [each for each in known if each is not None]
    if len(found) < len(known):
        return None
    bandwidth = sum(each.bandwidth for each in found)
    return _bounds(shape, bandwidth, sum(each.fastest for each in found), held, _ideal(shape, found))


def _bounds(
    shape: ModelShape,
    bandwidth: float,
    operations: float,
    devices: tuple[Device, ...],
    ideal: Ideal | None = None,
) -> Roofline:
    read = min(1.0, (shape.active + shape.head) / shape.parameters)
    parameters = read * shape.weight_bytes / shape.dtype_bytes
    return Roofline(
        step=parameters * LEAST_BYTES / bandwidth,
        prefill_token=2 * parameters / operations,
        device=devices[0].name,
        ideal=ideal,
    )


def _ideal(shape: ModelShape, found: list[Peaks]) -> Ideal:
    element = min(USUAL_BYTES, shape.weight_bytes / shape.parameters)
    return Ideal(
        bandwidth=sum(each.bandwidth for each in found),
        flops=sum(each.bf16 for each in found),
        weights=element * (shape.active + shape.head),
        token_flops=2.0 * shape.active,
        head_flops=2.0 * shape.head,
        attention_flops=4.0 * shape.layers * shape.heads * shape.head_dim,
        kv_bytes=shape.kv_bytes(1, min(USUAL_BYTES, shape.dtype_bytes)),
        window=shape.window,
        source=found[0].source,
    )


def against(
    reduced: Reduced, scenario: Scenario, bound: Roofline | None, score: float | None
) -> dict[str, float]:
    """The roofline of what was asked, and the score as a fraction of it; empty where there is none.

    `roofline_ttft` and `roofline_tpot` in seconds (medians), `roofline_req_per_s`, `of_roofline`.
    """
    if bound is None or bound.ideal is None or reduced.scored.empty:
        return {}
    ideal, scored = bound.ideal, reduced.scored
    prompt, output = _lengths(scored, scenario)
    longer = output > 1
    ttft = median(ideal.first_token(prompt))
    tpot = median(ideal.token(prompt + output / 2)[longer])
    rates = [
        _rate(ideal, scored[scored["traffic"] == traffic.name], traffic, scenario)
        for traffic in scenario.traffics
    ]
    known = [rate for rate in rates if rate is not None]
    rate = float(np.prod(known) ** (1 / len(known)))
    figures = {"roofline_ttft": ttft, "roofline_tpot": tpot, "roofline_req_per_s": rate}
    best = combine(scenario.score, ttft, tpot, rate)
    return figures | ({"of_roofline": score / best} if score is not None and best > 0 else {})


def _rate(ideal: Ideal, frame: pd.DataFrame, traffic: Traffic, scenario: Scenario) -> float | None:
    if frame.empty:
        return None
    prompt, output = _lengths(frame, scenario)
    counted = float(frame["credit"].mean()) if scenario.length == "natural" else 1.0
    rate = counted * ideal.rate(prompt, output, traffic.concurrency or len(frame))
    if traffic.kind not in SCHEDULED:
        return rate
    last = frame["intended"].to_numpy(dtype=float).argmax()
    span = float(frame["intended"].max() - frame["intended"].min())
    return min(rate, counted * len(frame) / (span + float(ideal.alone(prompt, output)[last])))


def _lengths(frame: pd.DataFrame, scenario: Scenario) -> tuple[Floats, Floats]:
    """Tokens of prompts and answers: as asked, or as they came where the model decides."""
    output = frame["asked_output"] if scenario.length == "forced" else frame["tokens"].clip(lower=1.0)
    return frame["asked_input"].to_numpy(dtype=float), output.to_numpy(dtype=float)

"""How fast a simulated server serves a whole traffic, in closed form.

The simulated engine's performance model gives the length of a step. Here steps are added up without taking
them: `b` requests decode together for as long as one lives, and each request's prompt slows all of them once.

    b       = least of requests, concurrency, max_num_seqs, and what the KV cache holds
    step    = base + sequence x b + kv x b x (input + output / 2) + prefill x drafts x b
    life    = output / (1 + accepted) x step + b x (prefill x input + pair x input^2 / 2)
    seconds = requests / b x life, and at least as long as the schedule takes to send them
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from engines.model_shape import ModelShape
from engines.simulated import crashes, landscape, performance
from engines.simulated.crashes import Crash
from engines.simulated.performance import Costs
from engines.simulated.settings import Settings
from scenarios.bootstrap import combine
from scenarios.scenario import Fidelity, Scenario, Traffic
from scenarios.workload import WARMUP_OUTPUT, share

SHAPE = ModelShape(
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    max_length=32768,
    dtype_bytes=2,
    weight_bytes=14_483_464_192,
)
"""Mistral-7B."""

PROBE_SECONDS = 2.0
"""What a scoring takes beside warm-up and traffic: the probe, and the client's own processes."""

DRAFTED = {2: 0.5, 3: 0.2, 4: 0.1}
"""Share of steps in which the last so many tokens of prose have been seen before, and a draft is made."""

ACCEPTED = 0.2
"""Tokens of such a draft that turn out right."""

_FINE = 1000


@dataclass(frozen=True)
class Figures:
    """A scoring without noise: the score, wall seconds that it took, and requests that it sent."""

    score: float
    seconds: float
    requests: int


@dataclass(frozen=True)
class Stretch:
    """One traffic: wall seconds, time to the first token, and time a token, in seconds."""

    seconds: float
    ttft: float
    tpot: float


class Serving:
    """A config's server on the imaginary device, with Mistral-7B's shape.

    `turnover` is the number of requests after which the `fidelity-disagrees` landscape has turned over.
    """

    def __init__(self, settings: Settings, name: str, turnover: int, max_length: int) -> None:
        self._settings = settings
        self._landscape = name
        self._turnover = turnover
        self._costs = performance.costs(settings, SHAPE, name)
        memory = performance.device_memory(SHAPE)
        self._capacity = performance.kv_capacity(settings, SHAPE, memory)
        self.refusal = crashes.incompatible(settings, SHAPE, max_length)
        self.crash: Crash | None = crashes.crash(settings, SHAPE, max_length, memory, name)
        self.start_share = performance.start_share(settings)

    def figures(self, scenario: Scenario, fidelity: Fidelity, served: int) -> Figures:
        """A scoring of a server that has answered `served` requests before."""
        seconds, sent, rates, stretches = PROBE_SECONDS, served + scenario.warmup_requests, [], []
        seconds += scenario.warmup_requests * self._warmup(scenario)
        for traffic in scenario.traffics:
            count = share(traffic, fidelity)
            stretch = self.stretch(scenario, traffic, count, fidelity.output, self._aged(sent, count))
            stretches.append((count, stretch))
            rates.append(count / stretch.seconds)
            seconds += stretch.seconds
            sent += count
        rate = math.prod(rates) ** (1 / len(rates))
        ttft, tpot = _mean(stretches, "ttft"), _mean(stretches, "tpot")
        return Figures(combine(scenario.score, ttft, tpot, rate), seconds, sent - served)

    def stretch(
        self, scenario: Scenario, traffic: Traffic, count: int, shortened: float = 1.0, aged: float = 1.0
    ) -> Stretch:
        """One traffic of `count` requests; `aged` multiplies every step."""
        settings, costs = self._settings, self._costs
        mean = (1 + scenario.spread) / 2
        inputs, outputs = scenario.input_tokens * mean, scenario.output_tokens * mean * shortened
        at_once = self._at_once(traffic, count, inputs + outputs)
        prompt = costs.prefill * inputs + costs.pair * inputs**2 / 2
        step, tokens = self._step(at_once, inputs + outputs / 2), 1.0 + self._accepted()
        if settings.enable_chunked_prefill:
            room = max(1, settings.max_num_batched_tokens - at_once)
            chunks = math.ceil(inputs / room)
            waits = max(0.0, at_once * inputs / room - outputs / tokens) * costs.base
        else:
            chunks, waits = 1, at_once * costs.base
        life = (outputs / tokens * step + at_once * prompt + waits) * aged
        first = (prompt + chunks * costs.base + (step if at_once > 1 else 0.0)) * aged
        due = count / traffic.rate if traffic.rate else 0.0
        return Stretch(max(count / at_once * life, due), first, (life - prompt * aged) / outputs)

    def _at_once(self, traffic: Traffic, count: int, context: float) -> int:
        most = min(count, traffic.concurrency or count, self._settings.max_num_seqs)
        return max(1, min(most, int(self._capacity / context)))

    def _step(self, at_once: int, context: float) -> float:
        costs: Costs = self._costs
        drafts = self._drafts() * costs.prefill * at_once
        return costs.base + costs.sequence * at_once + costs.kv * at_once * context + drafts

    def _drafts(self) -> float:
        if self._settings.speculative_method == "none":
            return 0.0
        return DRAFTED[self._settings.prompt_lookup_max] * self._settings.num_speculative_tokens

    def _accepted(self) -> float:
        if self._settings.speculative_method == "none":
            return 0.0
        return DRAFTED[self._settings.prompt_lookup_max] * ACCEPTED

    def _warmup(self, scenario: Scenario) -> float:
        costs = self._costs
        prompt = costs.prefill * scenario.input_tokens + costs.pair * scenario.input_tokens**2 / 2
        return prompt + min(scenario.output_tokens, WARMUP_OUTPUT) * self._step(1, scenario.input_tokens)

    def _aged(self, served: int, count: int) -> float:
        """The landscape's multiplier, averaged from `served` to `served + count` requests."""
        ages = [min(1.0, (served + place) / self._turnover) for place in range(count)]
        young = round(_FINE * sum(ages) / count)
        return landscape.aging(self._landscape, self._settings, young, _FINE)


def _mean(stretches: list[tuple[int, Stretch]], name: str) -> float:
    """Over all requests."""
    total = sum(count for count, _ in stretches)
    return float(sum(count * getattr(stretch, name) for count, stretch in stretches)) / total

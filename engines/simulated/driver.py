"""What moves answers along in real time: the performance model's steps, or a fixed timetable."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from math import exp
from typing import Protocol

from engines.simulated import landscape, performance
from engines.simulated.answer import Answer
from engines.simulated.blocks import chain
from engines.simulated.clock import Alarm
from engines.simulated.drafts import Drafter
from engines.simulated.performance import Costs
from engines.simulated.scheduler import Scheduler, Sequence, Step
from engines.simulated.settings import Fixed, Settings, Simulation

SLIP = 0.02
"""Seconds by which the machine may run behind the model before the model waits for it."""

SEND_SECONDS = 12e-6
"""Tokens of one step leave one after another: what a write to a socket takes."""

Done = Callable[[Answer], None]


class Driver(Protocol):
    """Takes answers and emits their tokens when they are due."""

    def submit(self, answer: Answer) -> None:
        """Start on an answer."""
        ...

    def cancel(self, answer: Answer) -> None:
        """Drop an answer whose client has gone."""
        ...

    def reset(self) -> bool:
        """Forget kept prompts; False while they are in use."""
        ...

    def counters(self) -> dict[str, float]:
        """Figures for /metrics."""
        ...


class Noise:
    """Log-normal noise: one factor a start, and one a step.

    The same seed and settings give the same noise; without a seed every start draws its own.
    """

    def __init__(self, settings: Settings, simulation: Simulation) -> None:
        seed = simulation.noise_seed
        self._random = random.Random(None if seed is None else f"{seed} {settings}")
        self._scale = simulation.noise
        self.start = exp(self._random.gauss(0.0, performance.START_NOISE * self._scale))

    def step(self) -> float:
        """The next step's factor."""
        return self.start * exp(self._random.gauss(0.0, performance.STEP_NOISE * self._scale))


class Batching:
    """Steps of the scheduler, each as long as the performance model says.

    A step ends at its intended moment whatever the machine does. Its tokens are due then, each SEND_SECONDS
    after the one before. Answers that arrive during a step join the next.
    """

    def __init__(
        self, settings: Settings, simulation: Simulation, costs: Costs, capacity: int, done: Done
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._settings = settings
        self._simulation = simulation
        self._costs = costs
        self._noise = Noise(settings, simulation)
        self._scheduler = Scheduler(settings, capacity)
        self._alarm = Alarm(loop, self._end)
        self._done = done
        self._arrived: deque[tuple[float, Answer]] = deque()
        self._answers: dict[Sequence, Answer] = {}
        self._step: Step | None = None
        self._until = 0.0
        self._planned = False
        self._served = 0
        self._shapes: set[int] = set()
        self._totals = dict.fromkeys(("steps", "queries", "hits", "drafted", "accepted"), 0)

    def submit(self, answer: Answer) -> None:
        """Queue an answer; an idle engine starts on it at its arrival."""
        now = time.monotonic()
        self._arrived.append((now if now - answer.arrival > SLIP else answer.arrival, answer))
        if self._step is None and not self._planned:
            self._begin(self._arrived[0][0])

    def cancel(self, answer: Answer) -> None:
        """Drop an answer and free its blocks."""
        for sequence, held in list(self._answers.items()):
            if held is answer:
                self._scheduler.cancel(sequence)
                del self._answers[sequence]

    def reset(self) -> bool:
        """Empty the prefix cache."""
        return self._scheduler.pool.reset()

    def counters(self) -> dict[str, float]:
        """Figures for /metrics."""
        pool = self._scheduler.pool
        return {
            "num_requests_running": len(self._scheduler.running),
            "num_requests_waiting": len(self._scheduler.waiting) + len(self._arrived),
            "kv_cache_usage": pool.used / max(1, pool.capacity),
            "num_preemptions": self._scheduler.preemptions,
            "steps": self._totals["steps"],
            "prefix_cache_queries": self._totals["queries"],
            "prefix_cache_hits": self._totals["hits"],
            "spec_decode_num_draft_tokens": self._totals["drafted"],
            "spec_decode_num_accepted_tokens": self._totals["accepted"],
        }

    def _begin(self, moment: float) -> None:
        """Plan the step that starts at `moment`."""
        self._planned = False
        self._enter(moment)
        step = self._scheduler.plan()
        self._step = step
        if step is None:
            if self._arrived:
                self._begin(self._arrived[0][0])
            return
        seconds = performance.step_seconds(self._costs, step.work) * self._noise.step() * self._age()
        self._until = moment + (seconds + self._compiled(step)) / self._simulation.speed
        self._totals["steps"] += 1
        self._alarm.at(self._until)

    def _end(self) -> None:
        """Send what the step has made; the next is planned once that is on its way."""
        step, moment = self._step, self._until
        gap = SEND_SECONDS / self._simulation.speed
        if step is None:
            return
        self._step, self._planned = None, True
        for place, (sequence, tokens) in enumerate(self._scheduler.finish(step)):
            answer = self._answers.get(sequence)
            if answer is not None:
                answer.cached = sequence.cached or 0
                answer.emit(tokens, moment + place * gap)
                if answer.done:
                    self._finish(sequence, answer)
        late = time.monotonic() - moment
        self._loop.call_soon(self._begin, moment if late < SLIP else moment + late)

    def _enter(self, moment: float) -> None:
        while self._arrived and self._arrived[0][0] <= moment:
            _, answer = self._arrived.popleft()
            if not answer.gone:
                sequence = self._sequence(answer)
                self._answers[sequence] = answer
                self._scheduler.submit(sequence)

    def _sequence(self, answer: Answer) -> Sequence:
        hashes = (
            chain(answer.prompt, self._settings.block_size) if self._settings.enable_prefix_caching else ()
        )
        drafter = None
        if self._settings.speculative_method == "ngram":
            drafter = Drafter(answer, self._settings.prompt_lookup_max, self._settings.num_speculative_tokens)
        return Sequence(len(answer.prompt), answer.target, hashes, drafter)

    def _finish(self, sequence: Sequence, answer: Answer) -> None:
        del self._answers[sequence]
        self._served += 1
        self._totals["queries"] += sequence.prompt
        self._totals["hits"] += sequence.cached or 0
        self._totals["drafted"] += sequence.drafted
        self._totals["accepted"] += sequence.accepted
        self._done(answer)

    def _compiled(self, step: Step) -> float:
        """Seconds spent on kernels for a number of tokens that has not occurred before."""
        shape = ((sum(share.tokens for share in step.shares) - 1).bit_length() + 1) // 2
        known = shape in self._shapes
        self._shapes.add(shape)
        return 0.0 if known else self._simulation.compile_seconds

    def _age(self) -> float:
        simulation = self._simulation
        return landscape.aging(simulation.landscape, self._settings, self._served, simulation.aging_requests)


class Timetable:
    """Fixed timing: token i of an answer is due at arrival + ttft + i x tpot, whatever else is going on.

    The first token is a chunk of its own; the rest come in chunks of `chunk` tokens, each when its last is
    due, so that TTFT and TPOT are exact for every length.
    """

    def __init__(self, fixed: Fixed, done: Done) -> None:
        self._fixed = fixed
        self._done = done
        self._alarm = Alarm(asyncio.get_running_loop(), self._ring)
        self._due: list[tuple[float, int, Answer]] = []
        self._order = count()

    def submit(self, answer: Answer) -> None:
        """Put the first token on the timetable."""
        self._push(answer)
        self._set()

    def cancel(self, answer: Answer) -> None:
        """Nothing to do: an answer that is gone is passed over when it is due."""

    def reset(self) -> bool:
        """There is no cache."""
        return True

    def counters(self) -> dict[str, float]:
        """Figures for /metrics."""
        return {"num_requests_running": len(self._due)}

    def _chunk(self, answer: Answer) -> int:
        return min(self._fixed.chunk, answer.target - answer.produced) if answer.produced else 1

    def _push(self, answer: Answer) -> None:
        last = answer.produced + self._chunk(answer) - 1
        moment = answer.arrival + self._fixed.ttft + last * self._fixed.tpot
        heapq.heappush(self._due, (moment, next(self._order), answer))

    def _set(self) -> None:
        if self._due:
            self._alarm.at(self._due[0][0])

    def _ring(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            moment, _, answer = heapq.heappop(self._due)
            if answer.gone:
                continue
            answer.emit(self._chunk(answer), moment)
            if answer.done:
                self._done(answer)
            else:
                self._push(answer)
        self._set()

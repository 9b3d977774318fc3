"""What strategies share before their final trials: defaults, then the planner while the budget lasts.

Between them a strategy may try the expert configs of the engines' space files, first ones first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from engines.contract import Config
from scenarios.scenario import Plan
from scenarios.trial import Trial
from search.record import Job, Record
from search.strategies.costs import fits, slowest_start
from search.strategies.strategy import Propose, Setting

EXPLORED = ("default", "expert", "planner")

SLOW = 3.0
"""Times its engine's slowest start so far that a start may take, and at least `START_SHARE` of the budget
or, where there is none, `START_LEAST` seconds.

What takes longer builds kernels that no other config uses: on an H200, vLLM with quantization=fp8_per_block
was not ready after 254 s, where other configs took 61 at most.
"""

START_SHARE = 0.1
START_LEAST = 60.0


class Exploring:
    """Hands out the defaults, then expert configs, then proposals, each if it can end in time."""

    def __init__(self, setting: Setting, plans: Sequence[Plan], *, own: bool = False) -> None:
        """With `own`, beyond what is published: expert configs, and an end to starts that take too long."""
        self._setting = setting
        self._plans = tuple(plans)
        self._experts = _in_turn(setting) if own else ()
        self._own = own
        self.exhausted = False

    def next(self, record: Record, left: float, propose: Propose, rival: int | None) -> Job | None:
        """The next job of exploration; None: it is over, or nothing fits now."""
        default = self._default(record)
        if default is not None:
            return default if fits(record, default, left, self._setting.scenario) else None
        if self.over(record) or not self._fits(record, left):
            return None
        seconds = None if left == float("inf") else round(left, 3)
        tried = record.count("expert")
        if tried < len(self._experts):
            origin, (engine, config) = "expert", self._experts[tried]
        else:
            proposal = propose()
            if proposal is None:
                self.exhausted = True
                return None
            origin, (engine, config) = "planner", proposal
        limit = self._start_limit(record, engine) if self._own else None
        return Job(engine, config, origin, self._plans, rival, seconds, limit)

    def over(self, record: Record) -> bool:
        """Whether no proposal may follow, whatever the budget."""
        cap = self._setting.trials
        return self.exhausted or (cap is not None and record.count(*EXPLORED) >= cap)

    def _default(self, record: Record) -> Job | None:
        asked = {ask.job.engine for ask in record.asks.values() if ask.job.origin == "default"}
        for engine, config in self._setting.defaults.items():
            if engine not in asked:
                return Job(engine, config, "default", self._plans)
        return None

    def _start_limit(self, record: Record, engine: str) -> float | None:
        """Seconds in which a server must be ready; None before one of its engine was."""
        wall, slowest = self._setting.wall, slowest_start(record, engine)
        if slowest is None:
            return None
        return round(max(SLOW * slowest, START_LEAST if wall is None else START_SHARE * wall), 3)

    def _fits(self, record: Record, left: float) -> bool:
        """Any engine may be proposed: the dearest one must fit."""
        return all(
            fits(record, Job(engine, {}, "planner", self._plans), left, self._setting.scenario)
            for engine in self._setting.defaults
        )


def _in_turn(setting: Setting) -> tuple[tuple[str, Config], ...]:
    """Each engine's first expert config, then each one's second, and so on."""
    queues = [[(engine, config) for config in setting.experts.get(engine, ())] for engine in setting.defaults]
    return tuple(each for row in zip_longest(*queues) for each in row if each is not None)


def first_complete_default(record: Record) -> Trial | None:
    """The default that scores are compared with."""
    return next(iter(record.complete("default")), None)

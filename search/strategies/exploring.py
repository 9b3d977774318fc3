"""What strategies share before their final trials: defaults, then the planner while the budget lasts."""

from __future__ import annotations

from collections.abc import Sequence

from scenarios.scenario import Plan
from scenarios.trial import Trial
from search.record import Job, Record
from search.strategies.costs import fits
from search.strategies.strategy import Propose, Setting

EXPLORED = ("default", "expert", "planner")


class Exploring:
    """Hands out the defaults, then proposals, each only if it can end in what is left."""

    def __init__(self, setting: Setting, plans: Sequence[Plan]) -> None:
        self._setting = setting
        self._plans = tuple(plans)
        self.exhausted = False

    def next(self, record: Record, left: float, propose: Propose, rival: int | None) -> Job | None:
        """The next job of exploration; None: it is over, or nothing fits now."""
        default = self._default(record)
        if default is not None:
            return default if fits(record, default, left, self._setting.scenario) else None
        if self.over(record) or not self._fits(record, left):
            return None
        proposal = propose()
        if proposal is None:
            self.exhausted = True
            return None
        engine, config = proposal
        seconds = None if left == float("inf") else round(left, 3)
        return Job(engine, config, "planner", self._plans, rival, seconds)

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

    def _fits(self, record: Record, left: float) -> bool:
        """Any engine may be proposed: the dearest one must fit."""
        return all(
            fits(record, Job(engine, {}, "planner", self._plans), left, self._setting.scenario)
            for engine in self._setting.defaults
        )


def first_complete_default(record: Record) -> Trial | None:
    """The default that scores are compared with."""
    return next(iter(record.complete("default")), None)

"""The default strategy: nothing is submitted that does not beat the engine's default on held-out requests.

1. Each engine's default first, then its expert configs (the `experts` of its space file), then the planner's
   proposals.
2. A trial climbs a ladder of request blocks and is dropped when it is clearly behind the best trial so far on
   the same requests.
3. A share of the budget is kept for the end: the best trials are measured in full on the held-out seed,
   interleaved with the default (default, candidates, default). A candidate wins only if it is significantly
   faster there; otherwise the default is the answer. Where only one measurement still fits, or the default
   did not serve, the best trial is measured and submitted, and it is said that nothing was compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scenarios.trial import Decide, State, Trial
from search.record import Ask, Job, Record
from search.strategies.compare import Reading, gap, readings
from search.strategies.costs import fits
from search.strategies.exploring import EXPLORED, Exploring, first_complete_default
from search.strategies.final import MOST_CANDIDATES, Finals, verdict
from search.strategies.ladder import held_out, ladder
from search.strategies.race import PATIENCE, Race
from search.strategies.strategy import Propose, Setting, Verdict

RESERVE = 0.3
"""Share of the budget that the final trials may take."""

LAST_RESERVE = 0.6
"""Share that the smallest comparison with the default may take where budgets are short."""

SPARE = 1.1
"""Times what the final trials are expected to take that is kept: the trial before them may overrun."""


class Ceiling:
    """See the module's docstring."""

    name = "ceiling"

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._plans = ladder(setting)
        self._exploring = Exploring(setting, self._plans, own=True)
        self._blocks = (held_out(setting), held_out(setting, block=1))

    def next(self, record: Record, left: float, propose: Propose) -> Job | None:
        """Exploration while the final trials still fit after it, then those."""
        if not record.count("final"):
            rival = self.best(record)
            number = rival.number if rival else None
            job = self._exploring.next(record, left - self._reserve(record), propose, number)
            if job is not None or record.in_flight:
                return job
        return self._next_final(record, left)

    def decide(self, job: Job, record: Record) -> Decide | None:
        """Exploration races the rival; final trials run to their end."""
        rival = record.trials[job.rival] if job.rival is not None else None
        if job.origin == "final" or rival is None:
            return Race(job.plans)
        return Race(job.plans, readings(rival.measurements), rival.number)

    def value(self, record: Record, trial: Trial) -> float | None:
        """The default's score times the geometric mean of the ratios to it on the blocks that both served.

        A trial cut off in its first block counts as slower than the default by as much as it was given time.
        """
        own = readings(trial.measurements)
        if trial.state not in (State.COMPLETE, State.PRUNED):
            return None
        default = first_complete_default(record)
        reference = readings(default.measurements) if default else ()
        if not own:
            return math.exp(_mean_log(reference)) / PATIENCE if reference else None
        apart = gap(own, reference)
        if apart is None:
            return math.exp(_mean_log(own))
        return math.exp(_mean_log(reference) + apart.log)

    def best(self, record: Record) -> Trial | None:
        """The highest value among the trials that climbed to the top."""
        ranked = self._ranked(record)
        return ranked[0] if ranked else None

    def verdict(self, record: Record) -> Verdict:
        """The winner over the default, or the default."""
        before, _ = _before_finals(record)
        return verdict(record, rivals=len(self._contest(before)[1]))

    def _ranked(self, record: Record) -> list[Trial]:
        return sorted(record.complete(*EXPLORED), key=lambda trial: -(self.value(record, trial) or 0.0))

    def _reserve(self, record: Record) -> float:
        """Wall seconds kept for the final trials, as if the next trial became one more candidate."""
        default, better = self._contest(record)
        wall = self._setting.wall
        if wall is None:
            return 0.0
        if default is None:
            return SPARE * self._cost(record, Finals.least(None, better, self._blocks))
        return SPARE * self._expected(record, default, better, wall)

    def _expected(self, record: Record, default: Trial, better: list[Trial], wall: float) -> float:
        padded = [*better, default][:MOST_CANDIDATES]
        for finals in Finals.choices(default, padded, self._blocks, self._setting.devices):
            cost = self._cost(record, finals)
            if cost <= (RESERVE if finals.rich else LAST_RESERVE) * wall:
                return cost
        least = Finals.least(default, padded, self._blocks)
        return self._cost(record, Finals(least.jobs[:1]))

    def _next_final(self, record: Record, left: float) -> Job | None:
        """The next of the final jobs, which all belong to the comparison chosen when the first was asked."""
        before, asked = _before_finals(record)
        chosen = self._chosen(before, asked[0].left if asked else left)
        job = chosen.jobs[len(asked)] if len(asked) < len(chosen.jobs) else None
        if job is None:
            return None
        again = self._setting.restarts.get(job.engine, 1.0)
        return job if fits(record, job, left, self._setting.scenario, again) else None

    def _chosen(self, record: Record, left: float) -> Finals:
        default, better = self._contest(record)
        return next(
            (
                each
                for each in Finals.choices(default, better, self._blocks, self._setting.devices)
                if self._cost(record, each) < left
            ),
            Finals.least(default, better, self._blocks),
        )

    def _contest(self, record: Record) -> tuple[Trial | None, list[Trial]]:
        """The best default, and the trials above it, the best one first."""
        ranked = self._ranked(record)
        default = next((trial for trial in ranked if trial.origin == "default"), None)
        return default, ranked[: ranked.index(default)] if default else ranked

    def _cost(self, record: Record, finals: Finals) -> float:
        return finals.wall(record, self._setting)


def _before_finals(record: Record) -> tuple[Record, list[Ask]]:
    """The record as it was when the final trials were chosen, and the final asks since, in order."""
    asks = {number: ask for number, ask in record.asks.items() if ask.job.origin != "final"}
    trials = {number: trial for number, trial in record.trials.items() if number in asks}
    final = [ask for number, ask in sorted(record.asks.items()) if number not in asks]
    return Record(asks, trials), final


def _mean_log(own: Sequence[Reading]) -> float:
    return sum(reading.log for reading in own) / len(own)

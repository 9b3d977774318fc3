"""A landscape on record: every config serves one block of every scenario asked for, and nothing is compared.

What it writes down feeds the race of search policies (studies/benchmarks/search_policies), one scenario at
a time. Nothing is dropped, so that slow configs are on record too, and nothing is submitted.
"""

from __future__ import annotations

from dataclasses import replace

from scenarios import profiles
from scenarios.scenario import Plan
from scenarios.trial import Decide, State, Trial
from search.record import Job, Record
from search.strategies.exploring import EXPLORED, Exploring
from search.strategies.ladder import ladder
from search.strategies.race import Race
from search.strategies.strategy import Propose, Setting, Verdict


class Survey:
    """See the module's docstring. The search's own scenario comes last, and is a trial's score."""

    name = "survey"

    def __init__(self, setting: Setting) -> None:
        self._exploring = Exploring(setting, _plans(setting), own=True)

    def next(self, record: Record, left: float, propose: Propose) -> Job | None:
        """The next config that fits."""
        return self._exploring.next(record, left, propose, None)

    def decide(self, job: Job, record: Record) -> Decide | None:
        """One plan after another."""
        return Race(job.plans)

    def value(self, record: Record, trial: Trial) -> float | None:
        """The score in the search's own scenario."""
        return trial.score if trial.state is State.COMPLETE else None

    def best(self, record: Record) -> Trial | None:
        """The highest value."""
        whole = record.complete(*EXPLORED)
        return max(whole, key=lambda trial: self.value(record, trial) or 0.0, default=None)

    def verdict(self, record: Record) -> Verdict:
        """Nothing is held against the default, so nothing is submitted."""
        return Verdict(None, "a survey submits nothing")


def _plans(setting: Setting) -> tuple[Plan, ...]:
    own = setting.scenario.letter
    letters = [*dict.fromkeys(letter for letter in setting.also if letter != own), own]
    each = (replace(setting, scenario=profiles.scenario(setting.profile, letter)) for letter in letters)
    return tuple(ladder(one)[0] for one in each)

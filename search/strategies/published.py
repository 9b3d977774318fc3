"""The published protocol: quick trials, the best of them measured once more in full on the held-out seed.

Quick trials send four requests a traffic and no more, as the published ones did: of a scenario that keeps 64
in flight they see little. The default is measured first, for the record, but it is no candidate and teaches
the planner nothing. Kinder than published: failures stay out of the objective, and configs that surely crash
are left alone.
"""

from __future__ import annotations

from scenarios.scenario import FULL, Fidelity
from scenarios.trial import Decide, Trial
from search.record import Job, Record
from search.strategies.costs import costs
from search.strategies.exploring import Exploring
from search.strategies.ladder import held_out, plan
from search.strategies.strategy import Propose, Setting, Verdict

QUICK_REQUESTS = 4
"""Requests a traffic of a published trial, whatever the concurrency."""


class Published:
    """One finalist, no fallback. `quick` trials run four requests a traffic; otherwise the whole scenario."""

    def __init__(self, setting: Setting, *, quick: bool) -> None:
        self.name = "published" if quick else "full"
        self._setting = setting
        self._quick = quick
        most = max(traffic.requests for traffic in setting.scenario.traffics)
        share = min(1.0, QUICK_REQUESTS / most)
        fidelity = Fidelity(requests=share, serial=QUICK_REQUESTS) if quick else FULL
        self._exploring = Exploring(setting, [plan(setting, setting.dev_seed, fidelity)])
        self._final = held_out(setting)

    def next(self, record: Record, left: float, propose: Propose) -> Job | None:
        """Trials while the final one still fits after them, then that."""
        if not record.count("final"):
            job = self._exploring.next(record, left - self._reserve(record), propose, None)
            if job is not None or record.in_flight:
                return job
            best = self.best(record)
            if best is not None:
                return Job(best.engine, best.config, "final", (self._final,))
        return None

    def decide(self, job: Job, record: Record) -> Decide | None:
        """One measurement a trial."""
        return None

    def value(self, record: Record, trial: Trial) -> float | None:
        """The score as measured."""
        return None if self._quick and trial.origin == "default" else trial.score

    def best(self, record: Record) -> Trial | None:
        """The highest score on the dev seed; a default only where nothing else was measured."""
        return max(
            record.complete("planner" if self._quick else "default", "expert", "planner")
            or record.complete("default"),
            key=lambda trial: trial.score or 0.0,
            default=None,
        )

    def verdict(self, record: Record) -> Verdict:
        """The finalist, whatever became of it."""
        finals = record.ended("final")
        if not finals:
            return Verdict(None, "no trial was left to measure on the held-out seed")
        return Verdict(finals[0].number, "the best trial, measured once on the held-out seed")

    def _reserve(self, record: Record) -> float:
        known = costs(record, self._setting.scenario)
        return known.of([self._final]) if known else 0.0

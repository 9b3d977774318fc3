"""Who won a scenario, by how much, at what cost, and how sure that is; in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from studies.compare import KINDS, Entry, Row, Table
from studies.durations import short
from studies.estimates import Estimate, Interval, log_error, quantile
from studies.noise_floor import is_noise, noise_floor

NO_DIFFERENCE = "no difference"


@dataclass(frozen=True)
class Verdict:
    """The winner of one scenario, or of the aggregate (`scenario` None).

    `lead` is the winner's speedup over the runner-up's; `sure` says in words how far to trust it.
    """

    scenario: str | None
    winner: Row
    speedup: Estimate
    runner_up: Row | None
    lead: float | None
    sure: str
    cost: str


def verdicts(table: Table) -> list[Verdict]:
    """One verdict a scenario, in order."""
    return [made for letter in table.scenarios if (made := _verdict(table, letter))]


def _verdict(table: Table, letter: str) -> Verdict | None:
    rows = [row for row in table.ranked(letter) if row.kind != "baseline"]
    if not rows:
        return None
    winner, rest = rows[0], rows[1:]
    speedup = winner.entries[letter].speedup
    second = rest[0] if rest else None
    other = second.entries[letter].speedup if second else None
    floor = noise_floor(table, letter, (winner, second)) if second else None
    return Verdict(
        scenario=letter,
        winner=winner,
        speedup=speedup,
        runner_up=second,
        lead=speedup.mean / other.mean if other else None,
        sure=sureness(speedup, other, floor) + _own_interval(winner.entries[letter]),
        cost=_cost(winner, winner.entries[letter]),
    )


def sureness(first: Estimate, second: Estimate | None, floor: float | None = None) -> str:
    """How sure a lead is: against the machine's noise floor (a ratio), then from the standard errors."""
    if second is None:
        return "nothing to compare with"
    if first.mean == second.mean:
        return "a tie"
    if floor is not None and is_noise(first, second, floor):
        return f"{NO_DIFFERENCE}: {apart(first, second)} apart, this machine's noise floor is {floor - 1:.1%}"
    if first.sem is None or second.sem is None:
        fewest = min(first.n, second.n)
        return f"unknown, as {pairs(fewest)} shows no spread"
    error = math.hypot(first.sem, second.sem)
    if error == 0:
        return "clear: no spread between seed pairs"
    distance = (first.mean - second.mean) / error
    needed = quantile([(first.sem, first.n - 1), (second.sem, second.n - 1)])
    word = "clear" if distance >= needed else "within the error, no clear winner"
    few = f", and {pairs(min(first.n, second.n))} ask for {needed:.1f}"
    return f"{word}: the gap is {distance:.1f} standard errors{few}"


def _own_interval(entry: Entry) -> str:
    """What a lone run knows by itself: its server against the default's on the same held-out requests."""
    submitted = entry.runs[0].result.get("submitted") if len(entry.runs) == 1 else None
    if not submitted or not submitted.get("ratio_interval"):
        return ""
    low, high = submitted["ratio_interval"]
    over = f"{submitted['ratio']:.2f}x the default (95 % {low:.2f} to {high:.2f})"
    return f"; on the same held-out requests {over}"


def _cost(row: Row, entry: Entry) -> str:
    if row.kind == "default":
        return "no search: the engine as it comes"
    return f"{short(entry.gpu_seconds)} of GPU time and {entry.configs:g} configs a run"


def pairs(count: int) -> str:
    """`1 seed pair`, `3 seed pairs`."""
    return f"{count} seed pair{'s' if count != 1 else ''}"


def sentence(verdict: Verdict, reference: str) -> str:
    """The verdict as one sentence."""
    over = "the torch baseline" if reference == "torch" else "the engine default"
    if verdict.runner_up is not None and verdict.sure.startswith(NO_DIFFERENCE):
        both = f"{verdict.winner.method} and {verdict.runner_up.method}"
        return (
            f"{verdict.scenario}: {both} lead with {amount(verdict.speedup)} over {over}; {verdict.sure}. "
            f"Cost of the first: {verdict.cost}."
        )
    lead = ""
    if verdict.runner_up is not None and verdict.lead is not None:
        lead = f", {verdict.lead:.2f}x the next best ({verdict.runner_up.method})"
    verb = "won" if verdict.sure.startswith("clear") else "leads"
    won = f"{verdict.winner.method} {verb} with {amount(verdict.speedup)} over {over}{lead}"
    return f"{verdict.scenario}: {won}; {verdict.sure}. Cost: {verdict.cost}."


def amount(value: Estimate) -> str:
    """`3.21x ± 0.05 (3 seed pairs)`."""
    error = f" ± {value.sem:.2f}" if value.sem is not None else ""
    return f"{value.mean:.2f}x{error} ({pairs(value.n)})"


def apart(first: Estimate, second: Estimate) -> str:
    """How far two estimates lie apart, as a share."""
    return f"{max(first.mean, second.mean) / min(first.mean, second.mean) - 1:.1%}"


@dataclass(frozen=True)
class OverDefault:
    """A method against the engine's default in several scenarios, by the geometric mean of its ratios.

    `interval` is of 95 %, from the spread between seed pairs, or from the held-out requests of one pair.
    """

    method: str
    scenarios: tuple[str, ...]
    ratio: float
    interval: Interval

    @property
    def words(self) -> str:
        """One sentence."""
        low, high = self.interval
        mean = f"{self.ratio:.2f}x the engine default by geometric mean"
        return f"{''.join(self.scenarios)}: {self.method} reads {mean} (95 % {low:.2f} to {high:.2f})"


def over_default(table: Table) -> list[OverDefault]:
    """Per method with several scenarios of which every one was held against the default, best first."""
    found = []
    for row in table.rows:
        parts = [_log_ratio(entry) for entry in row.entries.values()]
        known = [part for part in parts if part is not None]
        if row.kind in KINDS and len(known) == len(parts) > 1:
            log = fmean(ratio for ratio, *_ in known)
            wide = quantile([(error, freedom) for _, error, freedom in known])
            spread = wide * math.hypot(*(error for _, error, _ in known)) / len(known)
            interval = math.exp(log - spread), math.exp(log + spread)
            found.append(OverDefault(row.method, tuple(row.entries), math.exp(log), interval))
    return sorted(found, key=lambda each: -each.ratio)


def _log_ratio(entry: Entry) -> tuple[float, float, float] | None:
    """Logarithm of the ratio to the default, its standard error and the degrees of freedom of that."""
    ratio = entry.over_default
    if ratio is not None and ratio.sem is not None and ratio.mean > 0:
        return math.log(ratio.mean), ratio.sem / ratio.mean, ratio.n - 1
    submitted = (entry.runs[0].result.get("submitted") or {}) if len(entry.runs) == 1 else {}
    if entry.reasons or not submitted.get("ratio_interval"):
        return None
    return math.log(submitted["ratio"]), log_error(submitted["ratio_interval"]), math.inf


def search_against_agents(table: Table) -> Sequence[str]:
    """Per scenario, how the best search stands to the best agent; empty without both."""
    lines = []
    for letter in table.scenarios:
        rows = table.ranked(letter)
        search = next((row for row in rows if row.kind == "search"), None)
        agent = next((row for row in rows if row.kind == "agent"), None)
        if search and agent:
            ours, theirs = search.entries[letter].speedup, agent.entries[letter].speedup
            ratio = ours.mean / theirs.mean
            sure = sureness(max(ours, theirs, key=_mean), min(ours, theirs, key=_mean))
            if is_noise(ours, theirs, noise_floor(table, letter, (search, agent))):
                lines.append(
                    f"{letter}: {NO_DIFFERENCE} between search and the best agent ({agent.method}): "
                    f"{apart(ours, theirs)} apart, under this machine's noise floor"
                )
            elif ratio >= 1:
                lines.append(f"{letter}: search reaches {ratio:.2f}x the best agent ({agent.method}); {sure}")
            else:
                lines.append(f"{letter}: search falls short of {agent.method}, {ratio:.2f}x of it; {sure}")
    return lines


def _mean(value: Estimate) -> float:
    return value.mean

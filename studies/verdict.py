"""Who won a scenario, by how much, at what cost, and how sure that is; in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from studies.compare import Entry, Row, Table
from studies.durations import short
from studies.estimates import Estimate

CLEAR = 2.0
"""Standard errors of the difference from which on a lead is called clear."""


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
    return Verdict(
        scenario=letter,
        winner=winner,
        speedup=speedup,
        runner_up=second,
        lead=speedup.mean / other.mean if other else None,
        sure=sureness(speedup, other),
        cost=_cost(winner, winner.entries[letter]),
    )


def sureness(first: Estimate, second: Estimate | None) -> str:
    """How sure a lead is, from the standard errors over seed pairs."""
    if second is None:
        return "nothing to compare with"
    if first.mean == second.mean:
        return "a tie"
    if first.sem is None or second.sem is None:
        fewest = min(first.n, second.n)
        return f"unknown, as {pairs(fewest)} shows no spread"
    error = math.hypot(first.sem, second.sem)
    if error == 0:
        return "clear: no spread between seed pairs"
    distance = (first.mean - second.mean) / error
    word = "clear" if distance >= CLEAR else "within the error, no clear winner"
    return f"{word}: the gap is {distance:.1f} standard errors"


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


def search_against_agents(table: Table) -> Sequence[str]:
    """Per scenario, how the best search stands to the best agent; empty without both."""
    lines = []
    for letter in table.scenarios:
        rows = table.ranked(letter)
        search = next((row for row in rows if row.kind == "search"), None)
        agent = next((row for row in rows if row.kind == "agent"), None)
        if search and agent:
            ratio = search.entries[letter].speedup.mean / agent.entries[letter].speedup.mean
            if ratio >= 1:
                lines.append(f"{letter}: search reaches {ratio:.2f}x the best agent ({agent.method})")
            else:
                lines.append(f"{letter}: search falls short of {agent.method}: {ratio:.2f}x of it")
    return lines

"""Checks on what else ran on the machine, and on whether the server is still the process that it was."""

from __future__ import annotations

from dataclasses import asdict

from scenarios.measurement import Reason
from scenarios.validity.facts import Case

TAKEN, SPARE = 0.25, 0.10
"""Share of the cores' time that bystanders may take, and what must lie idle where they take more: less of
either shows as noise between repeats, not as a fault."""


def other_process(case: Case) -> Reason | None:
    """Another process had the device: a GPU tenant, or CPU time that the server then lacked."""
    seen = case.facts.bystanders
    if seen is None:
        return None
    if seen.tenants:
        who = ", ".join(map(str, seen.tenants))
        detail = f"processes that are not the server's computed on its GPU during the run: {who}"
        return Reason("other-process", detail, asdict(seen))
    if case.simulated or seen.share is None or seen.share <= TAKEN or seen.idle >= SPARE:
        return None
    busiest = ", ".join(f"{name} {spent:.1f} s" for name, spent in seen.names.items())
    detail = (
        f"other processes took {seen.share:.0%} of the CPU time during the run, {seen.idle:.0%} was idle: "
        f"{busiest or 'short-lived ones'}"
    )
    return Reason("other-process", detail, asdict(seen))


def restarted(case: Case) -> Reason | None:
    """The process that listens at the server's address is another one than when the run began."""
    seen = case.facts.bystanders
    if seen is None or not seen.listeners or not seen.listeners_after:
        return None
    if set(seen.listeners) & set(seen.listeners_after):
        return None
    before, after = (
        ", ".join(str(pid) for pid, _ in some) for some in (seen.listeners, seen.listeners_after)
    )
    detail = f"the server was restarted during the run: process {before} before, {after} after"
    return Reason("server-changed", detail, asdict(seen))

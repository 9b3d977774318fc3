"""Checks on the client itself, and on whether the server stayed the one that was asked."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from scenarios import arrivals, bootstrap
from scenarios.measurement import Reason
from scenarios.scenario import Score, Traffic
from scenarios.validity.facts import LIMIT, Case, seconds

LAG = 0.010
LAG_SHARE = 0.05
LOOP_LAG = 0.025
LOOP_LAG_SHARE = 0.1
BUSY = 0.9
SIGMAS = 5.0
"""Honest draws lie so many standard deviations off once in two million measurements."""
KEPT_UP = 0.9
SKEW = 30.0
"""Seconds that a server's clock may be off: machines that keep time at all are within one."""


def client_lag(case: Case) -> Reason | None:
    """The client sent late, stamped late, or had no time left: its own delay is in the figures.

    Limits: 10 ms or 5 % of the median TTFT, whichever is more, for the p99 of send lag (p90 of fewer than
    100 sends: one hiccup of the machine moves no median, and in a burst counts once); 25 ms or 10 % for the
    p95 of loop lag; 90 % of a core.
    """
    lag = _lags(case)
    if not len(lag):
        return None
    label, share = ("p99", 0.99) if len(lag) >= 100 else ("p90", 0.9)
    late = bootstrap.quantile(lag, share)
    typical = bootstrap.median(case.scored["ttft"].to_numpy(dtype=float))
    typical = typical if math.isfinite(typical) else 0.0
    loop, busy = case.facts.loop_lag, case.facts.busy
    faults = [
        (late > max(LAG, LAG_SHARE * typical), f"sends came {seconds(late)} late ({label})"),
        (loop > max(LOOP_LAG, LOOP_LAG_SHARE * typical), f"its event loop came {seconds(loop)} late (p95)"),
        (busy > BUSY, f"a sender took {busy:.0%} of its core"),
    ]
    texts = [text for wrong, text in faults if wrong]
    if not texts:
        return None
    detail = f"the client lagged: {'; '.join(texts)}: free a core, or use more senders"
    return Reason("client-lag", detail, {f"send_lag_{label}": late, "loop_lag_p95": loop, "busy": busy})


def _lags(case: Case) -> npt.NDArray[np.float64]:
    """Seconds by which each send came late.

    Where requests per second are the score, one pause among sends due at once counts for one of them only, if
    it is short beside the time that they all took: it moves no rate.
    """
    known = case.scored[case.scored["lag"].notna()].sort_values("lag")
    if case.facts.scenario.score is not Score.THROUGHPUT:
        return known["lag"].to_numpy(dtype=float)
    lags = []
    for (_, due), together in known.groupby(["traffic", "due"], sort=False):
        lag = together["lag"].to_numpy(dtype=float)
        pauses = np.diff(lag, prepend=0.0)
        longest = int(pauses.argmax())
        if pauses[longest] <= LAG_SHARE * (together["end"].max() - due):
            lag = lag - np.where(np.arange(len(lag)) > longest, pauses[longest], 0.0)
        lags.append(lag)
    return np.concatenate(lags) if lags else np.empty(0)


def schedule(case: Case) -> Reason | None:
    """A drawn schedule does not have its rate or its dispersion, or was not kept."""
    for name in case.facts.asked:
        traffic, frame = case.facts.traffic(name), case.scored[case.scored["traffic"] == name]
        if traffic.kind not in ("poisson", "constant") or traffic.rate is None or len(frame) < 8:
            continue
        fault = _off(frame["intended"], traffic) or _sent_off(frame, traffic)
        if fault:
            return Reason("schedule", f"{name}: {fault}", {"traffic": name, "rate": traffic.rate})
    return None


def _sent_off(frame: pd.DataFrame, traffic: Traffic) -> str | None:
    held = (frame["due"] > frame["intended"]).mean()
    sent = frame["sent"].dropna()
    return _off(sent, traffic) if held == 0 and len(sent) == len(frame) else None


def _off(times: pd.Series[float], traffic: Traffic) -> str | None:
    assert traffic.rate is not None
    count, poisson = len(times), traffic.kind == "poisson"
    rate, dispersion = arrivals.rate(times.tolist()), arrivals.dispersion(times.tolist())
    margin = SIGMAS / math.sqrt(count - 1) if poisson else 0.02
    if not abs(traffic.rate / rate - 1) <= margin:
        return f"{rate:.2f} requests/s where {traffic.rate:g} were to be sent"
    windows = max(int(count / arrivals.WINDOW), 2)
    low, high = _chi_square(windows - 1, -SIGMAS), _chi_square(windows - 1, SIGMAS)
    if not poisson:
        low, high = 0.0, 0.5
    if not math.isnan(dispersion) and not low <= dispersion <= high:
        return f"arrivals have a dispersion of {dispersion:.2f}, a {traffic.kind} schedule {float(poisson):g}"
    return None


def _chi_square(freedom: int, sigmas: float) -> float:
    """Chi-square over its degrees of freedom, so many standard deviations out (Wilson and Hilferty)."""
    part = 2 / (9 * freedom)
    return float(max(1 - part + sigmas * math.sqrt(part), 0.0) ** 3)


def concurrency(case: Case) -> Reason | None:
    """Fewer requests were in flight than the profile says."""
    for name, asked in case.facts.asked.items():
        traffic, frame = case.facts.traffic(name), case.scored[case.scored["traffic"] == name]
        if traffic.kind not in ("closed", "burst") or traffic.concurrency is None or frame.empty:
            continue
        wanted = min(traffic.concurrency, asked)
        most, mean = _levels(frame)
        if most < wanted or (asked >= 2 * wanted and mean < KEPT_UP * wanted):
            detail = f"{name}: {most} requests in flight at most, {mean:.1f} on average, {wanted} wanted"
            return Reason("concurrency", detail, {"traffic": name, "most": most, "mean": mean})
    return None


def _levels(frame: pd.DataFrame) -> tuple[int, float]:
    """Most in flight, and the mean until the last send."""
    sent = frame[frame["sent"].notna()]
    if sent.empty:
        return 0, 0.0
    last, first = float(sent["sent"].max()), float(sent["sent"].min())
    changes = sorted([(at, 1) for at in sent["sent"]] + [(at, -1) for at in sent["end"]])
    level = most = 0
    area, before = 0.0, first
    for at, change in changes:
        area += level * max(min(at, last) - before, 0.0)
        before = max(before, min(at, last))
        level += change
        most = max(most, level)
    return most, area / (last - first) if last > first else float(most)


def unreachable(case: Case) -> Reason | None:
    """The server no longer answered after the run."""
    if case.facts.after is not None or case.facts.before is None:
        return None
    return Reason("unreachable", "the server did not answer any more after the run", {})


def server_changed(case: Case) -> Reason | None:
    """The server says something else of itself after the run than before."""
    before, after = case.facts.before, case.facts.after
    if before is None or after is None or before == after:
        return None
    names = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    detail = f"the server says another {', '.join(names)} after the run than before it"
    return Reason("server-changed", detail, {"before": dict(before), "after": dict(after)})


def clock_skew(case: Case) -> Reason | None:
    """The server dates its answers otherwise than this machine's clock: a clock is wrong, or lies.

    No figure rests on the server's clock; whoever moves it means somebody's to.
    """
    offset = case.scored["date_offset"].dropna()
    wrong = offset[offset.abs() > SKEW]
    if len(wrong) <= LIMIT * case.asked:
        return None
    detail = f"{len(wrong)} answers are dated up to {wrong.abs().max():.0f} s off this machine's clock"
    return Reason("clock-skew", detail, {"answers": len(wrong), "median": float(wrong.median())})

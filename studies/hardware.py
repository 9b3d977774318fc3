"""What a measurement took of its GPUs, and how near it came to their roofline, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.record import Run

Metrics = Mapping[str, float]
GIGA = 1e9


def share_words(share: float | None) -> str:
    """A fraction of the roofline as `31 %`; `-` where nothing is known."""
    return "-" if share is None else f"{100 * share:.0f} %"


def of_roofline(run: Run, part: Mapping[str, Any] | None) -> float | None:
    """The fraction of the roofline that a part of a run's result reached, None where none was worked out."""
    named = part is not None and (part.get("measurement") or part.get("trial") is not None)
    measured = run.measurement_of(part) if part and named else None
    share = (measured or {}).get("metrics", {}).get("of_roofline")
    return None if share is None else float(share)


def roofline_words(metrics: Metrics, provenance: Mapping[str, Any]) -> str | None:
    """One line: the fraction reached, and the peaks that it refers to."""
    bound = provenance.get("roofline")
    if bound is None or "of_roofline" not in metrics:
        return None
    share = share_words(metrics["of_roofline"])
    peaks = f"{bound['bandwidth'] / 1e12:.2f} TB/s, {bound['flops'] / 1e12:.0f} TFLOP/s bf16"
    more = "; over 100 %: quantised weights or speculation" if metrics["of_roofline"] > 1 else ""
    return f"{share} of the roofline ({peaks}: {bound['source']}){more}"


def use_words(metrics: Metrics) -> str | None:
    """One line: peak memory, power and energy of the measured interval; None where no GPU was measured."""
    if "memory_peak_bytes" not in metrics:
        return None
    words = [f"{metrics['memory_peak_bytes'] / GIGA:.1f} GB at most"]
    if "power_mean_w" in metrics:
        words.append(f"{metrics['power_mean_w']:.0f} W on average")
    if "power_max_w" in metrics:
        words.append(f"{metrics['power_max_w']:.0f} W at most")
    if "energy_j" in metrics:
        words.append(f"{metrics['energy_j'] / 1e3:.2f} kJ")
    if "energy_j_per_output_token" in metrics:
        words.append(f"{metrics['energy_j_per_output_token']:.3g} J an output token")
    return "GPU while measured: " + ", ".join(words)


def memory_words(run: Run) -> str | None:
    """One line: what the GPUs held before and after the run's trials, and who else was there."""
    held = [trial["held"] for trial in run.trials if trial.get("held")]
    if not held:
        return None
    before, after = (_most(held, name) for name in ("memory_before", "memory_after"))
    others = sum(any(each["others_before"]) for each in held)
    ends = [event for event in run.events if event["event"] == "devices" and event["when"] == "end"]
    last = f", {_most(ends[-1:], 'memory_after')} when the run ended" if ends else ""
    company = f"; other processes computed there before {others} of them" if others else ""
    trials = f"GPU memory over {len(held)} trials: {before} before the launch at most, {after} after"
    return trials + last + company


def _most(held: list[Mapping[str, Any]], name: str) -> str:
    known = [value for each in held for value in each[name] if value is not None]
    return f"{max(known) / GIGA:.2f} GB" if known else "unknown"

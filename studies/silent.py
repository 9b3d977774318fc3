"""Whether a server left everybody waiting for most of a measurement, in words."""

from __future__ import annotations

from collections.abc import Mapping

LEAST, SHARE = 1.0, 0.5
"""Told of: more than a second, and more than that share of a traffic's time."""
NAME = ".silence_s"


def silence_words(metrics: Mapping[str, float]) -> str | None:
    """One line: the longest silences of the traffics that were mostly one; None where there was none such."""
    told = []
    for name in (one for one in metrics if one.endswith(NAME)):
        traffic, seconds = name.removesuffix(NAME), metrics[name]
        wall = metrics[f"{traffic}.wall_s"]
        if seconds > max(LEAST, SHARE * wall):
            told.append(f"{seconds:.1f} of {wall:.1f} s ({traffic})")
    if not told:
        return None
    return f"nobody was answered for {', '.join(told)}: was something compiled meanwhile?"

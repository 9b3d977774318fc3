"""Durations as people write them: `90s`, `30m`, `2h`."""

from __future__ import annotations

import re

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smh])")


class DurationError(ValueError):
    """Not a duration. The message is one line that shows what one looks like."""


def parse(text: str) -> float:
    """Seconds of `90s`, `30m`, `2h`, `1h30m`. Raises DurationError for anything else, zero included."""
    parts = _PART.findall(text.strip().lower())
    if "".join(number + unit for number, unit in parts) != text.strip().lower() or not parts:
        raise DurationError(f"{text!r} is not a duration: write it as 90s, 30m or 2h")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise DurationError(f"{text!r} is no time at all: write it as 90s, 30m or 2h")
    return seconds


def short(seconds: float) -> str:
    """Seconds as one or two units, such as `45s`, `12m30s` or `2h`; `parse` reads it back to the second."""
    whole = round(max(seconds, 0.0))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes:02d}m" if minutes else f"{hours}h"
    if minutes:
        return f"{minutes}m{left:02d}s" if left else f"{minutes}m"
    return f"{left}s"


def clock(seconds: float) -> str:
    """Seconds as `mm:ss`, or `h:mm:ss` from an hour on."""
    whole = int(max(seconds, 0.0))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes:02d}:{left:02d}"

"""Durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.durations import DurationError, clock, parse, short


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("2H", 7200)],
)
def test_reads_what_people_write(text: str, seconds: float) -> None:
    assert parse(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "2 hours", "h", "-5m", "0s", "5m!", "1e3s", "nan", "2d"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(DurationError, match="90s, 30m or 2h"):
        parse(text)


@given(st.integers(1, 3599))
def test_short_is_read_back(seconds: int) -> None:
    assert parse(short(seconds)) == seconds


def test_short_and_clock() -> None:
    assert [short(s) for s in (0, 45, 60, 750, 7200, 7260)] == ["0s", "45s", "1m", "12m30s", "2h", "2h01m"]
    assert [clock(s) for s in (5, 65, 3661)] == ["00:05", "01:05", "1:01:01"]

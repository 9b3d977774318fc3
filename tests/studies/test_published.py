"""The published figures, as shipped."""

from __future__ import annotations

import pytest

from studies.published import counterpart, leaderboard, table


def test_shipped_tables_are_the_published_ones() -> None:
    best = {row.method: row for row in leaderboard()}
    assert best["SMAC3 (vLLM, 2 h)"].speedups == {"A": 4.37, "B": 15.23, "C": 46.70, "D": 5.69}
    assert best["Random (TGI, 2 h)"].speedups["C"] == 89.0
    assert len(best) == len(leaderboard()) == 28
    assert [row["aggregate"] for row in table("found_vs_submitted")] == ["8.62", "12.34", "14.3"]


@pytest.mark.parametrize(
    ("method", "engines", "published"),
    [
        ("tpe", ("vllm",), "TPE (vLLM, 2 h)"),
        ("smac", ("tgi",), "SMAC3 (TGI, 2 h)"),
        ("published-tpe", ("vllm",), "TPE (vLLM, 2 h)"),
        ("vllm default", (), "vLLM default"),
    ],
)
def test_counterparts(method: str, engines: tuple[str, ...], published: str) -> None:
    found = counterpart(method, engines)
    assert found is not None and found.method == published


def test_no_counterpart_for_what_was_not_published() -> None:
    assert counterpart("tpe", ("vllm", "sglang")) is None
    assert counterpart("agent:greedy", ("vllm",)) is None
    assert counterpart("gp", ("vllm",)) is None

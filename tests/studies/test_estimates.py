"""Statistics of a comparison, against hand-worked values."""

from __future__ import annotations

import math

import pytest

from studies.estimates import Estimate, estimate, geometric, ratio_interval


def test_standard_error_uses_the_sample_sd() -> None:
    made = estimate([1.0, 2.0, 4.0])
    assert made is not None
    assert made.mean == pytest.approx(7 / 3)
    assert made.sem == pytest.approx(
        math.sqrt(((4 / 3) ** 2 + (1 / 3) ** 2 + (5 / 3) ** 2) / 2) / math.sqrt(3)
    )
    assert made.n == 3


def test_one_pair_has_no_error_and_none_is_none() -> None:
    assert estimate([2.0]) == Estimate(2.0, None, 1)
    assert estimate([]) is None


def test_geometric_mean_of_the_published_best_search() -> None:
    parts = [Estimate(value, 0.1 * value, 3) for value in (5.06, 15.23, 89.0, 6.1)]
    made = geometric(parts)
    assert made is not None
    assert made.mean == pytest.approx(14.30, abs=0.01)
    assert made.sem == pytest.approx(made.mean * 0.1 / 2)


def test_geometric_mean_lacks_an_error_where_one_part_does() -> None:
    made = geometric([Estimate(2.0, 0.1, 3), Estimate(8.0, None, 1)])
    assert made == Estimate(pytest.approx(4.0), None, 1)
    assert geometric([]) is None


def test_ratio_interval_widens_with_both_errors() -> None:
    both = ratio_interval(2.0, (1.8, 2.2222), 1.0, (0.9, 1.1111))
    one = ratio_interval(2.0, (1.8, 2.2222), 1.0, (1.0, 1.0))
    assert both is not None and one is not None
    assert one == pytest.approx((1.8, 2.2222), rel=1e-3)
    assert both[0] < one[0] < 2.0 < one[1] < both[1]
    assert math.log(both[1] / 2.0) == pytest.approx(math.sqrt(2) * math.log(2.2222 / 2.0), rel=1e-3)


def test_no_interval_where_one_is_missing() -> None:
    assert ratio_interval(2.0, None, 1.0, (0.9, 1.1)) is None
    assert ratio_interval(2.0, (0.0, 2.2), 1.0, (0.9, 1.1)) is None

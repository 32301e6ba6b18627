"""The time of a query as a straight line over the gallery's size."""

from __future__ import annotations

import pytest

from harness.measure.law import fit_law


def test_a_straight_line_is_found_again():
    law = fit_law({10: 5.0, 100: 14.0, 1000: 104.0})
    assert (law.intercept_ms, law.ms_per_item) == pytest.approx((4.0, 0.1))
    assert law.residual == pytest.approx(0, abs=1e-9)
    assert law.ms(1_000_000) == pytest.approx(100_004)
    assert law.fitted == (10, 100, 1000)


def test_only_the_largest_galleries_are_fitted():
    medians = {1: 999.0} | {size: 2.0 * size for size in (10, 20, 40, 80)}
    law = fit_law(medians)
    assert law.fitted == (10, 20, 40, 80)
    assert law.ms(100) == pytest.approx(200)


def test_no_part_of_the_law_is_negative():
    law = fit_law({10: 1.0, 20: 3.0})  # a line through both would start below zero
    assert law.intercept_ms == 0
    # least squares of relative deviations: (10 b - 1)^2 + (20 b / 3 - 1)^2 is least at b = (50 / 3) / (1300 / 9)
    assert law.ms_per_item == pytest.approx(3 / 26)
    assert law.residual == pytest.approx(1 - 20 / 3 * 3 / 26)


def test_one_gallery_makes_no_law():
    with pytest.raises(ValueError, match="needs two galleries, got 1"):
        fit_law({10: 1.0})

from __future__ import annotations

import math

import pytest

from pytest_vastgpu.measuring.comparing import student

PUBLISHED = (
    (1, (0.325, 1.000, 3.078, 6.314, 12.706, 31.821, 63.657, 636.619)),
    (2, (0.289, 0.816, 1.886, 2.920, 4.303, 6.965, 9.925, 31.599)),
    (3, (0.277, 0.765, 1.638, 2.353, 3.182, 4.541, 5.841, 12.924)),
    (5, (0.267, 0.727, 1.476, 2.015, 2.571, 3.365, 4.032, 6.869)),
    (10, (0.260, 0.700, 1.372, 1.812, 2.228, 2.764, 3.169, 4.587)),
    (30, (0.256, 0.683, 1.310, 1.697, 2.042, 2.457, 2.750, 3.646)),
    (120, (0.254, 0.677, 1.289, 1.658, 1.980, 2.358, 2.617, 3.373)),
)
"""The usual table (NIST/SEMATECH e-Handbook 1.3.6.7.2, Fisher and Yates), by degrees of freedom."""
SHARES = (0.6, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9995)


@pytest.mark.parametrize(("df", "row"), PUBLISHED)
def test_quantiles_are_those_of_published_tables(df: int, row: tuple[float, ...]) -> None:
    assert [round(student.quantile(share, df), 3) for share in SHARES] == list(row)
    assert [round(student.quantile(1 - share, df), 3) for share in SHARES] == [-each for each in row]


@pytest.mark.parametrize("df", [0.7, 1, 1.5, 2, 4.2, 9.9, 60, 1e6])
def test_the_cdf_is_the_inverse_of_quantiles(df: float) -> None:
    for share in (0.001, 0.1, 0.5, 0.6, 0.95, 0.999):
        assert student.cdf(student.quantile(share, df), df) == pytest.approx(share, rel=1e-6)


@pytest.mark.parametrize("t", [-40, -1.3, 0, 0.2, 5])
def test_the_cdf_has_its_closed_forms(t: float) -> None:
    assert student.cdf(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-12)
    assert student.cdf(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=1e-12)


def test_its_ends_are_none_and_all() -> None:
    assert student.cdf(-math.inf, 5) == 0
    assert student.cdf(math.inf, 5) == 1
    assert student.quantile(0.5, 3) == 0

"""How a number is shown."""

from __future__ import annotations

import math

import pytest

from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.figures import difference
from pytest_vastgpu.measuring.figures import exact
from pytest_vastgpu.measuring.figures import percent


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(0.0123456, "s", 0.01, 0.0151), "12.3 ms (10.0 to 15.1)"),
        (Figure(123456.7, "tokens/s", 120000.4, 130000.0), "123,457 tokens/s (120,000 to 130,000)"),
        (Figure(0.05, "s", 0.04995, 0.05005), "50.00 ms (49.95 to 50.05)"),
        (Figure(10.0, "1/s", 10.0 - 1e-14, 10.0), "10.0 requests/s"),
        (Figure(0.9, "s", 0.8, 1.1), "900 ms (800 to 1,100)"),
        (Figure(154.23, "1/s", 154.21, 154.25), "154.23 requests/s (154.21 to 154.25)"),
        (Figure(154.2, "1/s", 90.0, math.inf), "154 requests/s (90.0 to ∞)"),
        (exact(12), "12"),
        (exact(81559, "MiB"), "81,559 MiB"),
        (Figure(0, "%", 0, 3.6), "0 % (0 to 3.60)"),
    ],
)
def test_a_figure_is_shown_everywhere_with_unit_and_interval(figure: Figure, text: str) -> None:
    assert str(figure) == text


def test_a_figure_for_another_amount_has_its_interval_and_keeps_what_is_better() -> None:
    assert Figure(10, "W", 9, 12, -1).times(2, "J") == Figure(20, "J", 18, 24, -1)
    assert Figure(10, "W", 9, 12).times(2, "J", -1).better == -1


def test_a_share_and_a_difference_are_percent() -> None:
    assert [percent(0.0625), percent(0.0625, 0), percent(math.nan)] == ["6.2 %", "6 %", "not known"]
    assert [difference(0.0625), difference(-0.5), difference(math.inf)] == ["+6.2 %", "-50.0 %", "not known"]


@pytest.mark.parametrize("size", [1e15, 1e100, 1e300, 1e307])
@pytest.mark.parametrize("unit", ["s", "1/s", ""])
def test_no_number_fills_a_line(size: float, unit: str) -> None:
    for value in (size, -size):
        for text in (str(Figure(value, unit, value / 2, 2 * value)), str(exact(value, unit))):
            assert len(text) <= 60
        assert len(percent(value)) <= 12
        assert len(difference(value)) <= 12
    assert percent(9999) == "999900.0 %"
    assert difference(1e300) == "+1e+302 %"

"""How a number is shown."""

from __future__ import annotations

import pytest

from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.figures import exact


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(0.0123456, "s", 0.01, 0.0151), "0.01235 s (0.01 to 0.0151)"),
        (Figure(123456.7, "tokens/s", 120000.4, 130000.0), "123457 tokens/s (120000 to 130000)"),
        (Figure(0.05, "s", 0.049999, 0.050001), "0.05 s"),
        (exact(12), "12"),
        (exact(81559, "MiB"), "81559 MiB"),
        (Figure(0, "%", 0, 3.6), "0 % (0 to 3.6)"),
    ],
)
def test_a_figure_shows_unit_and_interval(figure: Figure, text: str) -> None:
    assert str(figure) == text


def test_a_figure_for_another_amount_has_its_interval_and_keeps_what_is_better() -> None:
    assert Figure(10, "W", 9, 12, -1).times(2, "J") == Figure(20, "J", 18, 24, -1)
    assert Figure(10, "W", 9, 12).times(2, "J", -1).better == -1

"""Checks the amounts of money in a market's answers, so that no impossible amount enters a calculation. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_vastgpu.core.text.durations import DAY_S


@dataclass(frozen=True)
class Figure:
    """A number in the market's JSON, and the range in which it is believable."""

    field: str
    unit: str
    most: float
    least: float = 0.0


PRICE = Figure("dph_total", "USD/h", 1000.0)
"""Vast accepts bids up to 128 USD/h for a machine; no machine costs eight times that."""
FIGURES = (
    PRICE,
    # The dearest clouds ask about 0.2 USD for a GB of traffic, and about 0.5 USD for a GB of disk a month.
    Figure("inet_down_cost", "USD/GB", 10.0),
    Figure("inet_up_cost", "USD/GB", 10.0),
    Figure("storage_cost", "USD/GB a month", 100.0),
    # A hundred years: longer than any machine lasts.
    Figure("duration", "s", 100 * 365 * DAY_S),
)
"""The numbers that an offer must have so that its cost can be computed before it is rented."""
CREDIT = Figure("credit", "USD", 1e9, least=-1e9)
"""An account may owe money. No account has or owes a thousand million."""


def read(row: Mapping[str, Any], figure: Figure) -> tuple[float, str]:
    """The number, and what is wrong with it, in words.

    A wrong number is returned as infinity, which passes no limit even if a caller ignores the words.
    """
    number, wrong = _number(row.get(figure.field), figure)
    return number, f"{figure.field} is {wrong}" if wrong else ""


def problems(row: Mapping[str, Any]) -> str:
    """What is wrong with an offer's numbers, in words; empty where nothing is."""
    return ", ".join(wrong for figure in FIGURES if (wrong := read(row, figure)[1]))


def _number(value: object, figure: Figure) -> tuple[float, str]:
    if value is None:
        return math.inf, "missing"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.inf, f"a {type(value).__name__}, not a number"
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.inf, f"{str(value)[:40]!r}, not a number"
    if math.isnan(number) or math.isinf(number):
        return math.inf, f"{number}, not an amount"
    if number < figure.least:
        return math.inf, f"{number:g} {figure.unit}, below {figure.least:g}"
    if number > figure.most:
        return math.inf, f"{number:g} {figure.unit}, above anything there is ({figure.most:g})"
    return number, ""

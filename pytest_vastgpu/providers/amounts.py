"""What a market says of money, checked in one place: nothing is reckoned with an amount that cannot be true. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A figure of the market's JSON, and between what it must lie to be believed."""

    field: str
    unit: str
    most: float
    least: float = 0.0


PRICE = Figure("dph_total", "USD/h", 1000.0)
"""Vast takes bids up to 128 USD/h for a machine; eight times that is no machine's price."""
FIGURES = (
    PRICE,
    # The dearest clouds ask about 0.2 USD for a GB of traffic, and about 0.5 USD for a GB of disk a month.
    Figure("inet_down_cost", "USD/GB", 10.0),
    Figure("inet_up_cost", "USD/GB", 10.0),
    Figure("storage_cost", "USD/GB a month", 100.0),
    # A hundred years: longer than any machine lasts.
    Figure("duration", "s", 100 * 365 * 86400.0),
)
"""What an offer must say so that its cost can be told before it is rented."""
CREDIT = Figure("credit", "USD", 1e9, least=-1e9)
"""An account can owe something. A thousand million either way is nobody's account."""


def read(row: Mapping[str, Any], figure: Figure) -> tuple[float, str]:
    """The number, and what is wrong with it, in words.

    What is wrong is infinitely dear, so that it passes no limit, also where nobody reads the words.
    """
    number, wrong = _number(row.get(figure.field), figure)
    return number, f"{figure.field} is {wrong}" if wrong else ""


def problems(row: Mapping[str, Any]) -> str:
    """What is wrong with an offer's figures; empty where nothing is."""
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

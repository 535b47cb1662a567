"""A number with its unit and its interval, and how it is written. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

UNKNOWN = "not known"
UNITS: Mapping[str, str] = {"1/s": "requests/s"}
"""Units in words, where the word is another."""
_SCALES = {"s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))}
_MORE = 4
"""Digits that a number has beyond those of others, at most."""
_MOST = 9
"""Digits behind the point, at most."""
_LONG, _LONG_PERCENT = 1e15, 1e6
"""From here on a number has a power of ten: its digits would fill a line, and nobody counts them."""

_EXACT = 1e-9
"""A number that is known better than this share of it is exact: the rest is of the arithmetic."""


@dataclass(frozen=True)
class Figure:
    """A measured number. It says how sure it is."""

    value: float
    unit: str
    """``s``, ``1/s``, ``tokens/s``, ``W``, ``J``, ``MiB``, ``MHz``, ``%``, ``USD``; empty: a count."""
    low: float
    high: float
    """The 95 % interval; both are the value where it is exact, such as a count."""
    better: int = 0
    """1: more is better; -1: less is; 0: neither."""

    def __str__(self) -> str:
        """``12.3 ms (12.0 to 12.7)``."""
        return f"{self.middle}{f' ({self.interval})' if self.interval else ''}"

    @property
    def middle(self) -> str:
        """Its value with its unit, in as many digits as its interval: ``12.3 ms``."""
        return amount(self.value, self.unit, self._doubt)

    @property
    def interval(self) -> str:
        """Its interval in the unit of its value: ``12.0 to 12.7``; empty where it is exact."""
        if not self._doubt or math.isnan(self.value):
            return ""
        factor, _ = scale(self.value, self.unit)
        low, high = (number(edge / factor, self._doubt / factor) for edge in (self.low, self.high))
        return f"{low} to {high}"

    @property
    def _doubt(self) -> float:
        half = (self.high - self.low) / 2
        return half if half > _EXACT * abs(self.value) else 0.0

    def times(self, factor: float, unit: str, better: int | None = None) -> Figure:
        """The same in another unit, or for another amount.

        :param factor: Above 0.
        """
        better = self.better if better is None else better
        return Figure(self.value * factor, unit, self.low * factor, self.high * factor, better)


def exact(value: float, unit: str = "", better: int = 0) -> Figure:
    """A number without doubt: a count, or the largest value that was seen."""
    return Figure(value, unit, value, value, better)


def scale(largest: float, unit: str) -> tuple[float, str]:
    """What numbers up to that one are divided by, and the unit they have then: 0.02 s is shown in ms."""
    for factor, name in _SCALES.get(unit, ()):
        if abs(largest) >= factor:
            return factor, name
    return (1.0, UNITS.get(unit, unit)) if unit not in _SCALES or not largest else _SCALES[unit][-1]


def number(value: float, doubt: float = 0.0) -> str:
    """A number with about three digits that count: ``1,234``, ``12.3``, ``0.00123``.

    :param doubt: How far it may be off; one that is known better has more digits.
    """
    if not math.isfinite(value):
        return UNKNOWN if math.isnan(value) else "∞" if value > 0 else "-∞"
    size = abs(value)
    if size >= _LONG:
        return f"{value:.3g}"
    places = 0 if size >= 100 or not size else 1 if size >= 10 else 2 if size >= 1 else 2 - math.floor(math.log10(size))
    if 0 < doubt < math.inf:
        places = max(places, min(-math.floor(math.log10(doubt)), places + _MORE))
    return f"{value:,.{min(places, _MOST)}f}"


def amount(value: float, unit: str, doubt: float = 0.0) -> str:
    """A number with its unit: ``12.3 ms``."""
    if math.isnan(value):
        return UNKNOWN
    factor, name = scale(value, unit)
    if not unit and float(value).is_integer() and abs(value) < _LONG:
        return f"{value:,.0f}"
    return f"{number(value / factor, doubt / factor)} {name}".rstrip()


def percent(share: float, places: int = 1) -> str:
    """``6.2 %``."""
    value = 100 * share
    if not math.isfinite(value):
        return UNKNOWN
    return f"{value:.{places}f} %" if abs(value) < _LONG_PERCENT else f"{value:.3g} %"


def difference(share: float) -> str:
    """``+6.2 %``."""
    text = percent(share)
    return text if share < 0 or text == UNKNOWN else f"+{text}"

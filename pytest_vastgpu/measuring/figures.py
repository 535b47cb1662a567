"""A number with its unit and its interval. Pure."""

from __future__ import annotations

from dataclasses import dataclass


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
        return " ".join(filter(None, (_digits(self.value), self.unit, self.interval)))

    @property
    def interval(self) -> str:
        """``(1.2 to 1.4)``; empty where it cannot be told from the value."""
        low, high = _digits(self.low), _digits(self.high)
        return "" if low == high == _digits(self.value) else f"({low} to {high})"

    def times(self, factor: float, unit: str, better: int | None = None) -> Figure:
        """The same in another unit, or for another amount.

        :param factor: Above 0.
        """
        better = self.better if better is None else better
        return Figure(self.value * factor, unit, self.low * factor, self.high * factor, better)


def exact(value: float, unit: str = "", better: int = 0) -> Figure:
    """A number without doubt: a count, or the largest value that was seen."""
    return Figure(value, unit, value, value, better)


def _digits(value: float) -> str:
    """Four digits that count: ``12340``, ``0.01234``."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"

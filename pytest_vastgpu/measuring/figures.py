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
        if self.low == self.high:
            return f"{self.value:.4g} {self.unit}".strip()
        return f"{self.value:.4g} {self.unit} ({self.low:.4g} to {self.high:.4g})".replace("  ", " ")

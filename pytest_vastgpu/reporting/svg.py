"""Draws axes, lines, points and words as inline SVG. Pure; every text is escaped here.

A picture is 360 units wide, so that its words are readable on a telephone, where a unit is a pixel. Colours are
classes: the page gives them for light and for dark.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 360
_CHARACTER = 7.0
"""About the width of one."""


@dataclass(frozen=True)
class Axis:
    """Where values are in the picture."""

    low: float
    high: float
    start: float
    """Where the lowest value is."""
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The place of a value; those outside are at the edge."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        share = (self._scaled(min(max(value, self.low), self.high)) - low) / ((high - low) or 1.0)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, about: int = 6) -> list[float]:
        """Round values, about as many as asked for."""
        return _round_logarithms(self.low, self.high) if self.log else _round_values(self.low, self.high, about)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value


def _round_values(low: float, high: float, about: int) -> list[float]:
    step = (high - low) / about
    if not step > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(step))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= step * 0.999)
    return [step * each for each in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _round_logarithms(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) < 4 else (1,)
    return [each for power in powers for step in steps if low <= (each := step * 10.0**power) <= high]


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start", most: int = 48) -> str:
    """Words at a place. Longer ones lose their end."""
    words = words if len(words) <= most else f"{words[: most - 1]}…"
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{_kind(kind)}>{html.escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"{_kind(kind)}/>'


def path(points: Iterable[tuple[float, float]], kind: str) -> str:
    """A line through points."""
    return f'<polyline points="{" ".join(f"{x:g},{y:g}" for x, y in points)}"{_kind(kind)}/>'


def point(x: float, y: float, kind: str, told: str, radius: float = 4.0) -> str:
    """A point that says what it is when it is pointed at."""
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}"{_kind(kind)}><title>{html.escape(told)}</title></circle>'


def wide(words: str) -> float:
    """About how wide words are."""
    return len(words) * _CHARACTER


def left_axis(y: Axis, labels: Sequence[tuple[float, str]], right: float) -> str:
    """Lines from left to right, with their values."""
    left = left_of(labels)
    return "".join(
        line(left, y.at(value), right, y.at(value), "grid") + text(left - 6, y.at(value) + 4, label, "tick", "end")
        for value, label in labels
    )


def left_of(labels: Sequence[tuple[float, str]]) -> float:
    """Where the picture begins right of such labels."""
    return 12 + math.ceil(max((wide(label) for _, label in labels), default=0))


def bottom_axis(x: Axis, labels: Sequence[tuple[float, str]], top: float, bottom: float) -> str:
    """Lines from top to bottom, with their values below. A label that would touch an earlier one is left out."""
    parts: list[str] = []
    taken: list[tuple[float, float]] = []
    for value, label in labels:
        place = x.at(value)
        half = wide(label) / 2 + 3
        if place + half > WIDTH or any(place - half < end and start < place + half for start, end in taken):
            continue
        taken.append((place - half, place + half))
        parts += [line(place, top, place, bottom, "grid"), text(place, bottom + 16, label, "tick", "middle")]
    return "".join(parts)


def picture(title: str, height: int, body: str, about: str) -> str:
    """A picture with its title.

    :param about: What it shows, for those who cannot see it.
    """
    return (
        f'<figure><figcaption>{html.escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(about)}">{body}</svg></figure>'
    )


def _kind(kind: str) -> str:
    return f' class="{kind}"' if kind else ""

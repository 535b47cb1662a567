"""Durations as people write and read them. Pure."""

from __future__ import annotations

import math
import re

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
UNITS_S = {"s": 1.0, "m": 60.0, "h": HOUR_S, "d": DAY_S, "w": 7 * DAY_S}
"""Seconds by the letter that stands for the unit."""
_MOST_S = 100 * 365 * DAY_S
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def parse_duration(text: str) -> float:
    """Seconds of ``90m``, ``36h``, ``1d12h``.

    :raises ValueError: if it is not a duration, is 0, or is longer than a century.
    """
    if re.fullmatch(rf"(?:{_PART.pattern})+", text):
        seconds = math.fsum(float(number) * UNITS_S[unit] for number, unit in _PART.findall(text))
        if 0 < seconds < _MOST_S:
            return seconds
    raise ValueError(f"{text!r} is not a duration such as 90m, 36h, 7d or 1d12h")


def measured(seconds: float, digits: int = 0) -> str:
    """A duration in a table: ``12 s``, or ``-`` where nothing was measured."""
    return f"{seconds:.{digits}f} s" if seconds else "-"


def shown(seconds: float) -> str:
    """A duration in the largest unit that leaves a whole number: ``30m``, ``2h``, ``90s``."""
    unit = next((unit for unit in "hm" if seconds and seconds % UNITS_S[unit] == 0), "s")
    return f"{seconds / UNITS_S[unit]:g}{unit}"


def spoken(seconds: float) -> str:
    """A duration for people who wait: ``45 s``, ``4 min 30 s``, ``1 h 5 min``."""
    minutes, rest_s = divmod(int(seconds), 60)
    hours, rest_min = divmod(minutes, 60)
    parts = ((hours, "h"), (rest_min, "min")) if hours else ((minutes, "min"), (rest_s, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def lasting(seconds: float) -> str:
    """A time span in a table, in a unit that suits it: ``43 min``, ``5.2 h``, ``3.1 d``."""
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 60 / 24:.1f} d"

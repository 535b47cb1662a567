"""Student's t distribution, for the few values of a comparison. Pure."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist


def cdf(t: float, df: float) -> float:
    """How likely a value of Student's t distribution with ``df`` degrees of freedom (above 0) is at most ``t``."""
    if math.isinf(t):
        return float(t > 0)
    tail = 0.5 * _incomplete_beta(df / (df + t * t), df / 2, 0.5)
    return 1 - tail if t > 0 else tail


@functools.lru_cache(maxsize=256)
def quantile(p: float, df: float) -> float:
    """The value that a share ``p`` (above 0, below 1) of the distribution with ``df`` degrees of freedom is below."""
    if p < 0.5:
        return -quantile(1 - p, df)
    # Newton's method from below: the function is concave there, so it never steps beyond.
    t, step = NormalDist().inv_cdf(p), math.inf
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    while step > 1e-9 * (1 + t):
        step = (p - cdf(t, df)) / (scale * (1 + t * t / df) ** (-(df + 1) / 2))
        t += step
    return t


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function."""
    if not 0 < x < 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # beyond, its fraction converges slowly
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    return front / a * _continued_fraction(x, a, b)


def _continued_fraction(x: float, a: float, b: float) -> float:
    """Lentz's method; see DLMF 8.17.22."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 1000):
        before = value
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + step * d)
            c = 1 + step / c
            value *= c * d
        if abs(value - before) < 1e-15 * abs(value):
            break
    return value

"""Computes how long to wait after failures. Pure."""

from __future__ import annotations

import math

_MOST_DOUBLINGS = 60


def backoff_s(first_s: float, failures: int, most_s: float = math.inf) -> float:
    """Seconds to wait after that many failures in a row; each failure doubles them.

    :param first_s: Seconds after the first failure.
    :param failures: At least 1.
    :param most_s: Longest wait in seconds.
    """
    return min(first_s * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), most_s)

"""Pauses between polls of the market and between connection attempts during a boot. Pure; times are seconds.

A pause is a share of the time waited so far: short for a quick boot, and longer, but by the same share, for a slow one.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_vastgpu.core.backoff import backoff_s
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.supervisor.rental.give_up import ConnectAttempt

LOOK_SHARE = 0.02
YOUNG_SHARE = 0.1
"""The share in the first seconds, in which an instance of a local market boots."""
YOUNG_MOST_S = 0.5
"""Longest pause by that share; no instance elsewhere is ready so soon that a shorter one would show."""
KNOCK_SHARE = 0.01
KNOCK_LEAST_S = 0.1
KNOCK_MOST_S = 0.5
EARLY_KNOCK_S = 1.0
"""Pause between two attempts before the market reports the instance running."""


def poll_pause_s(awaited_s: float, timeouts: Timeouts = DEFAULTS) -> float:
    """Pause between two polls of the market.

    :param awaited_s: How long the youngest instance has been booting.
    """
    young_s = min(YOUNG_SHARE * awaited_s, YOUNG_MOST_S)
    return min(max(LOOK_SHARE * awaited_s, young_s, timeouts.look_least_s), timeouts.look_most_s)


def connect_pause_s(attempts: Sequence[ConnectAttempt], running_at_s: float, timeouts: Timeouts = DEFAULTS) -> float:
    """Pause between a failed attempt to connect and the next.

    :param attempts: All attempts so far, oldest first; at least one, and all failed.
    :param running_at_s: When the instance was first seen running; ``inf`` before that.
    """
    refused = 0
    for attempt in reversed(attempts):
        if ProbeFailure.AUTHENTICATION not in attempt.failures:
            break
        refused += 1
    young_s = attempts[-1].at_s - running_at_s
    pause = min(max(KNOCK_SHARE * young_s, KNOCK_LEAST_S), KNOCK_MOST_S) if young_s >= 0 else EARLY_KNOCK_S
    if refused:
        pause = max(pause, backoff_s(timeouts.refused_key_s, refused, timeouts.refused_key_most_s))
    return pause

"""How often to look and to knock while an instance boots. Pure; times are seconds.

A pause is a share of what was waited already: it is short where a boot is quick, and where it is slow what it adds is
as small beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.supervisor.rental.policy import ConnectAttempt

LOOK_SHARE = 0.02
KNOCK_SHARE = 0.01
KNOCK_LEAST_S = 0.1
KNOCK_MOST_S = 0.5
EARLY_KNOCK_S = 1.0
"""Between two tries before the market says that the instance runs."""


def poll_pause_s(awaited_s: float, timeouts: Timeouts = DEFAULTS) -> float:
    """From one look at the market to the next.

    :param awaited_s: For how long the youngest instance is waited for.
    """
    return min(max(LOOK_SHARE * awaited_s, timeouts.look_least_s), timeouts.look_most_s)


def connect_pause_s(attempts: Sequence[ConnectAttempt], running_at_s: float, timeouts: Timeouts = DEFAULTS) -> float:
    """From a failed try to connect to the next.

    :param knocks: All tries so far, oldest first; at least one, and all failed.
    :param running_at_s: When the instance was first seen running; ``inf`` where it was not yet.
    """
    refused = 0
    for attempt in reversed(attempts):
        if ProbeFailure.AUTHENTICATION not in attempt.failures:
            break
        refused += 1
    young_s = attempts[-1].at_s - running_at_s
    pause = min(max(KNOCK_SHARE * young_s, KNOCK_LEAST_S), KNOCK_MOST_S) if young_s >= 0 else EARLY_KNOCK_S
    if refused:
        pause = max(pause, min(timeouts.refused_key_s * 2 ** (refused - 1), timeouts.refused_key_most_s))
    return pause

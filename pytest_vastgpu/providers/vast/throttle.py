"""Keeps the API's rate limits across all processes of a user.

The market requires a minimum interval between two calls of one kind by one account, from any process. So each call
first reserves a time slot in a small file that all processes share, and then waits for its slot without holding a lock.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from filelock import Timeout

from pytest_vastgpu.core.directories import private_directory

INTERVALS_S: Mapping[str, float] = {
    "create": 4.5,
    "search": 2.0,
    "show": 2.0,
    "destroy": 3.0,
    "list": 1.0,
    "attach_key": 2.0,
    "keys": 1.0,
    "delete_key": 1.0,
    "logs": 1.0,
    "account": 1.0,
}
"""Seconds between two calls of one kind. Source: the minimum intervals that Vast.ai publishes per endpoint in its API
specification; for log requests and the account it publishes none, and 1 s stays below the limit over all calls."""

MARGIN_S = 0.1
"""Added to each interval: the market measures arrival times, and the network's delay varies."""

LOCK_TIMEOUT_S = 5.0
"""Time limit for the lock. A process holds it for a fraction of a millisecond, unless the process is suspended."""


def reserve(slots: Sequence[float], now: float, interval_s: float) -> tuple[float, list[float]]:
    """The next free slot, and the slots to remember. Pure.

    A call waits at most one interval for each slot reserved ahead of it. So a file written before the clock was set
    back cannot make calls wait for the difference.

    :param slots: Times reserved so far, in any order, including past ones.
    """
    ahead = sum(1 for slot in slots if slot > now)
    after_last = max(slots, default=-math.inf) + interval_s
    slot = min(max(now, after_last), now + interval_s * (ahead + 1))
    return slot, [*(earlier for earlier in slots if now - interval_s < earlier < slot), slot]


class Throttle:
    """Keeps the intervals between calls of one account to one market. Processes and threads may share a directory.

    It is best effort: where the files are unusable (a full disk, a suspended process that holds the lock, another
    user's directory), this process keeps the intervals for itself alone. The client handles the market's answer to
    calls that come too fast.

    :param directory: Directory of the state; created when first needed.
    :param identity: See :func:`~pytest_vastgpu.providers.open.account_identity`.
    :param wait: Waits for a number of seconds; it may raise an exception to cancel the call.
    :param clock: Epoch seconds.
    :param spaced: False for a local market that enforces no intervals: no call waits for its turn.
    """

    def __init__(
        self,
        directory: Path,
        identity: str,
        *,
        wait: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        spaced: bool = True,
        lock_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        self._directory = directory
        self._identity = identity
        self._wait = wait
        self._clock = clock
        self._spaced = spaced
        self._lock_s = lock_s
        self._own_slots: dict[str, list[float]] = {}
        self._own_lock = threading.Lock()

    def turn(self, endpoint: str) -> None:
        """Wait until a call to this endpoint is allowed. The first one is allowed at once.

        :param endpoint: A key of :data:`INTERVALS_S`.
        """
        if not self._spaced:
            return
        interval_s = INTERVALS_S[endpoint] + MARGIN_S
        try:
            slot = self._reserve_for_all(endpoint, interval_s)
        except (OSError, Timeout):
            slot = self._reserve_for_this_process(endpoint, interval_s)
        delay = slot - self._clock()
        if delay > 0:
            self._wait(delay)

    def interval_s(self, endpoint: str) -> float:
        """Seconds between two calls of a kind; 0 where calls are not spaced."""
        return INTERVALS_S[endpoint] if self._spaced else 0.0

    def _reserve_for_all(self, endpoint: str, interval_s: float) -> float:
        private_directory(self._directory)
        state = self._directory / f"{self._identity}.{endpoint}.json"
        # Short polls: filelock's default of 50 ms would be the longest wait of a local run.
        with FileLock(state.with_suffix(".lock"), timeout=self._lock_s, poll_interval=0.005):
            slot, slots = reserve(_read(state), self._clock(), interval_s)
            state.write_text(json.dumps(slots))
        return slot

    def _reserve_for_this_process(self, endpoint: str, interval_s: float) -> float:
        with self._own_lock:
            slots = self._own_slots.get(endpoint, [])
            slot, self._own_slots[endpoint] = reserve(slots, self._clock(), interval_s)
        return slot


def _read(state: Path) -> list[float]:
    """The slots in a state file; none where it is missing or damaged, so that at worst one call comes too early."""
    try:
        slots = json.loads(state.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return []
    if not isinstance(slots, list):
        return []
    return [float(slot) for slot in slots if type(slot) in {int, float} and math.isfinite(slot)]

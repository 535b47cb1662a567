"""Keeps the API's rate limits across all processes of a user.

Vast.ai requires a minimum interval between two calls of one kind by one account, from any process. So each call first
reserves a time slot in a small file that all processes share, and then waits for its slot without holding a lock.
Another market may set no limits: there a kind of call is spaced only once the market has refused one as too early.
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
from pytest_vastgpu.providers.base import MarketWait

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

NAMES: Mapping[str, str] = {
    "show": "look at an instance",
    "list": "list of instances",
    "attach_key": "attaching of an SSH key",
    "keys": "list of SSH keys",
    "delete_key": "removal of an SSH key",
    "logs": "request for a log",
    "account": "look at the account",
}
"""Kinds of calls in words, where the word is another."""

LOOKS = frozenset({"show", "list", "logs"})
"""Calls that are made again and again while something else is waited for. That they wait for their own predecessor is
of no interest to anyone."""

MARGIN_S = 0.1
"""Added to each interval: the market measures arrival times, and the network's delay varies."""

TOLD_FROM_S = 1.0
"""A longer wait is told."""

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
    :param spaced: Whether every call waits for its turn.
    :param learns: Whether, if not every call does, those of a kind do of which the market has refused one as too early.
    :param tell: Called with each wait of more than :data:`TOLD_FROM_S` seconds, when it begins.
    """

    def __init__(
        self,
        directory: Path,
        identity: str,
        *,
        wait: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        spaced: bool = True,
        learns: bool = False,
        tell: Callable[[MarketWait], None] = lambda _: None,
        lock_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        self._directory = directory
        self._identity = identity
        self._wait = wait
        self._clock = clock
        self._spaced = frozenset(INTERVALS_S if spaced else ())
        self._learns = learns
        self._tell = tell
        self._lock_s = lock_s
        self._own_slots: dict[str, list[float]] = {}
        self._own_lock = threading.Lock()

    def turn(self, endpoint: str) -> None:
        """Wait until a call to this endpoint is allowed. The first one is allowed at once.

        :param endpoint: A key of :data:`INTERVALS_S`.
        """
        if endpoint not in self._spaced:
            return
        interval_s = INTERVALS_S[endpoint] + MARGIN_S
        try:
            slot = self._reserve_for_all(endpoint, interval_s)
        except (OSError, Timeout):
            slot = self._reserve_for_this_process(endpoint, interval_s)
        delay = slot - self._clock()
        if delay > 0:
            if delay > max(TOLD_FROM_S, 1.5 * interval_s if endpoint in LOOKS else 0.0):
                self._tell(MarketWait(NAMES.get(endpoint, endpoint), delay, INTERVALS_S[endpoint]))
            self._wait(delay)

    def refused(self, endpoint: str, pause_s: float) -> None:
        """Note that the market has refused a call as too early. A market that refuses sets limits: they are kept.

        :param pause_s: How long this call is about to wait.
        """
        if self._learns:
            self._spaced |= {endpoint}
        if pause_s > TOLD_FROM_S:
            self._tell(MarketWait(NAMES.get(endpoint, endpoint), pause_s))

    def interval_s(self, endpoint: str) -> float:
        """Seconds between two calls of a kind; 0 where calls are not spaced."""
        return INTERVALS_S[endpoint] if endpoint in self._spaced else 0.0

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

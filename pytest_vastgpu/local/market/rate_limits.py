"""The rate limits of the market: a minimum interval for each endpoint and key, and a daily search quota."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pytest_vastgpu.core.text.durations import DAY_S

INTERVALS_S: Mapping[str, float] = {
    "search": 2.0,
    "search_get": 0.8,
    "create": 4.5,
    "create_bulk": 4.5,
    "launch": 2.0,
    "list": 1.0,
    "show": 2.0,
    "update": 1.0,
    "update_bulk": 4.0,
    "destroy": 3.0,
    "destroy_bulk": 3.0,
    "reboot": 1.0,
    "recycle": 1.0,
    "bid_price": 5.5,
    "update_template": 2.0,
    "command": 1.5,
    "keys": 1.0,
    "delete_key": 1.0,
    "instance_keys": 2.0,
    "templates": 1.9,
    "spend_rate": 2.0,
    "list_v0": 20.0,
    "report": 1.2,
}
"""The shortest time between two calls of an endpoint; other endpoints have no limit. Source: the minimum intervals in
Vast's API specification."""

TOLERANCE_S = 0.05
"""Subtracted from the intervals: a client measures when it sends, the market when the call arrives."""


class Limiter:
    """Enforces the minimum intervals. A call that is rejected does not count."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], float] = {}

    def wait_s(self, key: str, endpoint: str, now: float) -> float:
        """Return 0 and count the call if it is allowed; otherwise return the seconds to wait.

        :param now: Seconds on a monotonic clock.
        """
        interval = INTERVALS_S.get(endpoint, 0.0)
        due = self._last.get((key, endpoint), -math.inf) + interval - TOLERANCE_S
        if now < due:
            return due + TOLERANCE_S - now
        self._last[key, endpoint] = now
        return 0.0


class SearchQuota:
    """Counts the offers that searches return to an account.

    :param rows: The number that is allowed in a day, which ends at 00:00 UTC.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._day = -1
        self._used = 0

    def left(self, now: float) -> int:
        """Return how many offers are left today.

        :param now: Epoch seconds.
        """
        if int(now // DAY_S) != self._day:
            self._day, self._used = int(now // DAY_S), 0
        return max(0, self.rows - self._used)

    def use(self, rows: int) -> None:
        """Count the offers of an answer."""
        self._used += rows


def until_tomorrow_s(now: float) -> int:
    """Return the seconds until the quota is renewed.

    :param now: Epoch seconds.
    """
    return math.ceil(DAY_S - now % DAY_S)

"""How often each endpoint of the API was called, and by which kind of key."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field


@dataclass
class CallCount:
    """The calls of one endpoint by one kind of key."""

    count: int = 0
    rate_limited: int = 0
    last: float = 0.0
    spacing_s: float | None = None
    """The smallest time between two of them; None before the second."""


@dataclass
class CallCounts:
    """The calls of a market."""

    by_key: dict[tuple[str, str], CallCount] = field(default_factory=dict)
    """By kind of key (``account``, ``container`` or ``anonymous``) and endpoint."""

    def add(self, caller: str, endpoint: str, status: int, now: float) -> None:
        """Count a call.

        :param status: The HTTP status of its answer.
        :param now: Seconds on a monotonic clock.
        """
        calls = self.by_key.setdefault((caller, endpoint), CallCount())
        if calls.count:
            spacing = now - calls.last
            calls.spacing_s = spacing if calls.spacing_s is None else min(calls.spacing_s, spacing)
        calls.count += 1
        calls.rate_limited += status == 429
        calls.last = now

"""What an instance on its way shows to people who wait for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    """The newest sign of what goes on, and the time limit that runs."""

    text: str = ""
    window: str = ""
    """The time limit's name: ``warm-up window``; empty: none."""
    window_s: float = 0.0
    ends: float = 0.0
    """When it is over, on the clock."""

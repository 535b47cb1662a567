"""What tests of every kind look at from outside, and how they wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pytest_vastgpu.local.embed import LocalMarket

_T = TypeVar("_T")
PATIENCE_S = 120.0
"""Nothing that is waited for takes so long, unless it never comes."""


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it does not only wait to be waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def alive(market: LocalMarket) -> set[int]:
    """The ids of what the market says is alive."""
    return {row["id"] for row in market.status()["alive"]}


def until(look: Callable[[], _T], good: Callable[[_T], bool]) -> _T:
    """What ``look`` gives, once it is good."""
    deadline = time.monotonic() + PATIENCE_S
    while not good(seen := look()):
        assert time.monotonic() < deadline, f"still {seen!r}"
        time.sleep(0.02)
    return seen

"""Time limits for tests."""

from __future__ import annotations

from pytest_vastgpu.core.timeouts import Timeouts

UNSPACED = Timeouts(rate_limits=False)
"""For markets that have their rate limits off: no call waits for its turn."""


def conftest_with(**limits: float) -> str:
    """The text of a conftest file: its run has these limits, and else the usual ones."""
    changes = ", ".join(f"{name}={value!r}" for name, value in limits.items())
    return f"""
from dataclasses import replace
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.plugin.options import TIMEOUTS

def pytest_configure(config):
    config.stash[TIMEOUTS] = replace(DEFAULTS, {changes})
"""

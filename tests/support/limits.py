"""Time limits for tests."""

from __future__ import annotations

from pytest_vastgpu.core.timeouts import Timeouts

UNSPACED = Timeouts(rate_limits=False)
"""For markets that have their rate limits off: no call waits for its turn."""

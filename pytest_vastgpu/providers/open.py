"""Opening a provider. The only module outside of ``vast/`` that names it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from pytest_vastgpu.core.directories import state_directory
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.vast.client import MarketClient
from pytest_vastgpu.providers.vast.throttle import Throttle


def account_identity(url: str, api_key: str | Secret) -> str:
    """One account on one market, as a file name that tells nothing about the key."""
    return hashlib.sha256(f"{url}\0{Secret.of(api_key).reveal()}".encode()).hexdigest()[:20]


def open_provider(
    url: str,
    api_key: str | Secret,
    throttle_directory: Path | None = None,
    wait: Callable[[float], None] = time.sleep,
    timeouts: Timeouts = DEFAULTS,
) -> Provider:
    """A provider whose calls are spaced together with those of all processes of this user.

    :param throttle_directory: Where the spacing is noted; None: where all runs of this user note it.
    :param wait: Waits that many seconds; may raise to call everything off.
    """
    directory = throttle_directory or state_directory() / "throttle"
    throttle = Throttle(directory, account_identity(url, api_key), wait=wait, spaced=timeouts.rate_limits)
    return MarketClient(url, api_key, throttle, wait=wait, first_pause_s=timeouts.market_pause_s)

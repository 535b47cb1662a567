"""Where runs leave what outlives them, and the market client that all processes of a user share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import platformdirs

from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.providers.vast.client import MarketClient
from pytest_vastgpu.providers.vast.throttle import Throttle
from pytest_vastgpu.providers.vast.throttle import identity
from pytest_vastgpu.supervisor.ledger.ledger import make_directory


def state_dir() -> Path:
    """Where runs leave their ledgers: ``$XDG_STATE_HOME/pytest-vastgpu`` or its like."""
    return platformdirs.user_state_path("pytest-vastgpu")


def runs_dir() -> Path:
    """A directory for each run, named by its id."""
    return state_dir() / "runs"


def make_run_directory(run_id: str) -> Path:
    """Make the directory of a run, for this user only; it survives a crash.

    :raises pytest_vastgpu.errors.ConfigurationError: if it cannot be made, or would lie in somebody else's directory.
    """
    for directory in (state_dir(), runs_dir(), runs_dir() / run_id):
        make_directory(directory)
    return directory


def open_client(
    url: str,
    api_key: str | Secret,
    throttle_dir: Path | None = None,
    wait: Callable[[float], None] = time.sleep,
    timeouts: Timeouts = DEFAULTS,
) -> MarketClient:
    """A client whose calls are spaced together with those of all processes of this user.

    :param throttle_dir: Where the spacing is noted; None: where all runs of this user note it.
    :param wait: Waits that many seconds; may raise to call everything off.
    """
    throttle = Throttle(
        throttle_dir or state_dir() / "throttle", identity(url, api_key), wait=wait, spaced=timeouts.rate_limits
    )
    return MarketClient(url, api_key, throttle, wait=wait, first_pause_s=timeouts.market_pause_s)

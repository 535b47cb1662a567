"""Opens the provider of a market. No other module outside of ``vast/`` names the implementation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pytest_vastgpu.core.account import account_identity
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.directories import state_directory
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.providers.base import MarketWait
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.market_name import VAST
from pytest_vastgpu.providers.market_name import market_name
from pytest_vastgpu.providers.vast.client import MarketClient
from pytest_vastgpu.providers.vast.schema import SCOPES
from pytest_vastgpu.providers.vast.throttle import Throttle
from pytest_vastgpu.ssh.address import SshAddress

_VAST_SSH_PROXY = SshAddress("ssh5.vast.ai", 22022, "proxy")


def scope_of(call: str) -> str:
    """The scope that an API key needs for a kind of call, such as ``search``, ``account`` or ``create``."""
    return SCOPES[call]


def ssh_proxy(url: str) -> SshAddress | None:
    """An address like those at which a market's proxy leads to instances; None where none is known.

    The port may belong to no instance. Then a refusal is the answer, which also shows that SSH leaves this network.
    """
    return _VAST_SSH_PROXY if market_name(url) == VAST else None


def open_provider(
    url: str,
    api_key: str | Secret,
    throttle_directory: Path | None = None,
    cancel: CancelToken | None = None,
    timeouts: Timeouts = DEFAULTS,
    tell: Callable[[MarketWait], None] = lambda _: None,
) -> Provider:
    """Open a provider. All processes of this user share its rate limits.

    Those of Vast.ai are documented, and kept from the first call on. Another market's are kept once it has refused a
    call; what it does not limit is not waited for.

    :param throttle_directory: Directory for the state of the rate limits; None: one that all runs share.
    :param cancel: Ends every call when it is cancelled.
    :param tell: Called when a call begins to wait because of the market's limits.
    """
    directory = throttle_directory or state_directory() / "throttle"
    cancel = cancel or CancelToken()
    throttle = Throttle(
        directory,
        account_identity(url, api_key),
        wait=cancel.wait,
        spaced=timeouts.rate_limits and market_name(url) == VAST,
        learns=timeouts.rate_limits,
        tell=tell,
    )
    return MarketClient(
        url,
        api_key,
        throttle,
        timeout_s=timeouts.exchange_s,
        wait=cancel.wait,
        cancel=cancel,
        insist_s=timeouts.create_insist_s,
        first_pause_s=timeouts.market_pause_s,
    )

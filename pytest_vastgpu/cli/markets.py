"""The markets that the commands look at: that of the user's account, and those of living runs of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_vastgpu.core import environment
from pytest_vastgpu.core.account import account_identity
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.settings import DEFAULT_URL
from pytest_vastgpu.supervisor.ledger import embedded_market
from pytest_vastgpu.supervisor.ledger.run_directory import is_alive
from pytest_vastgpu.supervisor.ledger.run_directory import run_directories


@dataclass(frozen=True)
class Market:
    """A market that can be asked."""

    client: Provider
    url: str
    identity: str
    """Of account and market; see :func:`pytest_vastgpu.providers.open.account_identity`."""
    run_id: str = ""
    """The run to which it belongs; empty for that of the user's account."""


@dataclass(frozen=True)
class Markets:
    """All that can be asked."""

    all: Sequence[Market]
    no_account: str = ""
    """Why the user's account is not among them, and what to do; empty where it is, or is not meant to be."""


class NothingToAsk(MarketError):
    """There is no market that could be asked."""


@contextmanager
def account(timeouts: Timeouts) -> Iterator[Market | None]:
    """Open the market of the user's account; None where the user rents on this machine only.

    :raises NothingToAsk: if there is no key to it.
    """
    key = Secret(environment.api_key(os.environ))
    if not key:
        if not environment.only_local(os.environ):
            raise NothingToAsk(_no_account())
        yield None
        return
    url = environment.market_url(os.environ) or DEFAULT_URL
    with open_provider(url, key, timeouts=timeouts) as client:
        yield Market(client, url, account_identity(url, key))


@contextmanager
def markets(timeouts: Timeouts) -> Iterator[Markets]:
    """Open all markets.

    :raises NothingToAsk: if there is none, although the user may have an account.
    """
    with ExitStack() as stack:
        found = []
        for directory in run_directories():
            market = embedded_market.read(directory)
            if market is not None and is_alive(directory):
                client = open_provider(market.url, market.key, directory / "throttle", timeouts=timeouts)
                identity = account_identity(market.url, market.key)
                found.append(Market(stack.enter_context(client), market.url, identity, directory.name))
        try:
            own = stack.enter_context(account(timeouts))
        except NothingToAsk as problem:
            if not found:
                raise
            yield Markets(found, str(problem))
        else:
            yield Markets([*([own] if own else []), *found])


def _no_account() -> str:
    return (
        f"{environment.missing_key(os.environ)}: set it to the key of the account to look at, or set "
        f"{environment.BACKEND}=local if you rent on this machine only"
    )

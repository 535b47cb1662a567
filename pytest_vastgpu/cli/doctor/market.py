"""Asks the market everything at once, without changing anything there."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vastgpu.cli.doctor.limits import Limits
from pytest_vastgpu.cli.doctor.pending import Pending
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.core.timeouts import Timeouts

if TYPE_CHECKING:
    from pytest_vastgpu.model import Offer
    from pytest_vastgpu.providers.base import Account
    from pytest_vastgpu.providers.base import AccountKey
    from pytest_vastgpu.providers.base import InstanceStatus
    from pytest_vastgpu.providers.base import Provider

_PAUSE_S = 0.1
"""Before a call is repeated: nobody waits for a market here that comes back in a minute."""
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True)
class Greeting:
    """An answer of the market to somebody without a key."""

    seconds: float
    """How long it took."""
    ahead_s: float | None
    """Seconds by which this machine's clock is ahead of the market's; None where the answer has no date."""


@dataclass(frozen=True)
class Market:
    """The market's answers, as they come."""

    url: str
    key: Secret
    greeting: Pending[Greeting]
    account: Pending[Account]
    offers: Pending[Sequence[Offer]]
    instances: Pending[Sequence[InstanceStatus]]
    keys: Pending[Sequence[AccountKey]]


def ask(url: str, key: Secret, limits: Limits, timeouts: Timeouts, throttle: Path | None = None) -> Market:
    """Ask the market: all calls at once."""
    short = replace(timeouts, exchange_s=limits.exchange_s, market_pause_s=_PAUSE_S)

    def provider() -> Provider:
        from pytest_vastgpu.providers.open import open_provider

        return open_provider(url, key, throttle, timeouts=short)

    def search() -> Sequence[Offer]:
        from pytest_vastgpu.selection.offer_query import OfferQuery

        with provider() as client:
            return client.search(OfferQuery((), disk_gb=8.0, limit=1))

    def account() -> Account:
        with provider() as client:
            return client.account()

    def instances() -> Sequence[InstanceStatus]:
        with provider() as client:
            return client.list_instances()

    def keys() -> Sequence[AccountKey]:
        with provider() as client:
            return client.account_keys()

    return Market(
        url,
        key,
        Pending(lambda: greet(url, limits.exchange_s), limits.call_s),
        Pending(account, limits.call_s),
        Pending(search, limits.call_s),
        Pending(instances, limits.call_s),
        Pending(keys, limits.call_s),
    )


def greet(url: str, within_s: float) -> Greeting:
    """Ask for something that takes a key, without one: what counts is that there is an answer, and its date.

    :raises httpx.HTTPError: if there is none.
    """
    import httpx

    trust_env = httpx.URL(url).host not in _LOOPBACK  # as for all calls to a market
    with httpx.Client(timeout=within_s, trust_env=trust_env) as client:
        began, clock = time.monotonic(), time.time()
        answer = client.head(f"{url}/api/v0/users/current")
        seconds = time.monotonic() - began
    ahead_s = ahead(answer.headers.get("Date", ""), answer.headers.get("Age", ""), clock + seconds / 2)
    return Greeting(seconds, ahead_s)


def ahead(date: str, age: str, now: float) -> float | None:
    """Seconds by which a clock is ahead of that of an answer. Pure.

    :param date: The header of that name.
    :param age: Likewise: the seconds for which a cache has kept the answer.
    :param now: The clock, in epoch seconds.
    """
    try:
        sent = email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return now - sent - (int(age) if age.isdecimal() else 0)

"""Looks at the market and at what is remembered of its machines, and changes neither."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pytest_vastgpu.core import environment
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.model import Workload
from pytest_vastgpu.planning.client import Answer
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.reputation.cache_path import cache_path
from pytest_vastgpu.reputation.cache_path import market_at
from pytest_vastgpu.reputation.host_cache import HostCache
from pytest_vastgpu.reputation.outcomes import workload_key
from pytest_vastgpu.selection.requirements import OfferRequirements
from pytest_vastgpu.selection.search import remembering
from pytest_vastgpu.selection.search import survey
from pytest_vastgpu.settings import Settings


def look(
    settings: Settings,
    workloads: Sequence[Workload],
    environ: Mapping[str, str],
    started_in: Path,
    timeouts: Timeouts,
) -> Answer:
    """Ask the market for offers for each workload, and for the account's credit.

    :param environ: The environment, with the account's key.
    :param started_in: The directory in which a relative path of the host cache begins.
    :raises MarketError: if the market cannot be asked.
    :raises HostCacheError: if what is remembered cannot be read.
    """
    notes: list[str] = []
    now = time.time()
    known = Reputation()  # of an embedded market, which ends with its run, nothing is remembered
    if settings.backend != "local":
        path = cache_path(settings.host_cache, environ, started_in)
        known = HostCache(path, notes.append, market_at(settings.url)).read(now)
    with _market(settings, environ, timeouts) as client:
        search = remembering(client.search)
        surveys = tuple(
            survey(search, OfferRequirements.under(settings, workload, workload_key(workload), known, now))
            for workload in workloads
        )
        try:
            credit_usd: float | None = client.account().credit_usd
        except NotAuthorized:
            credit_usd = None
    return Answer(surveys, credit_usd, tuple(notes))


@contextmanager
def _market(settings: Settings, environ: Mapping[str, str], timeouts: Timeouts) -> Iterator[Provider]:
    if settings.backend != "local":
        with open_provider(settings.url, environment.api_key(environ), timeouts=timeouts) as client:
            yield client
        return
    from pytest_vastgpu.local.embed import LocalMarket

    unspaced = replace(timeouts, rate_limits=False)
    with (
        tempfile.TemporaryDirectory(prefix="vastgpu-") as throttle,
        LocalMarket(rate_limits=False) as market,
        open_provider(market.url, Secret(market.api_key), Path(throttle), timeouts=unspaced) as client,
    ):
        yield client

"""Reads the reputation of machines for a run, and records the outcomes of its attempts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pytest_vastgpu.errors import HostCacheError
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reputation.cache_path import market_at
from pytest_vastgpu.reputation.contents import union
from pytest_vastgpu.reputation.host_cache import HostCache
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.reputation.scoring import reputation

OWN_FILE = "hosts.yaml"
"""The cache file in the run's directory."""


class Records:
    """The records of the run's market. Any thread may use them.

    Records of real machines are kept in the user's host cache. A market that ends with the run, and simulated machines,
    have their records in the run's directory, so that no other run learns from them.

    :param url: The market's URL; empty for a market that ends with the run.
    :param cache: The user's host cache; not read for a market that ends with the run.
    :param directory: The run's directory.
    :param tell: Called with each sentence that the user should read.
    :raises HostCacheError: if the user's cache is needed and cannot be read or written.
    :raises ConfigurationError: if the URL is invalid.
    """

    def __init__(self, url: str, cache: Path, directory: Path, tell: Callable[[str], None]) -> None:
        self._tell = tell
        market = market_at(url) if url else "http://localhost"
        self._own = HostCache(directory / OWN_FILE, tell, market)
        self._users = HostCache(cache, tell, market) if url else None
        if self._users is not None:
            self._users.read()
            self._users.require_writable()

    def read(self) -> Reputation:
        """The current reputation.

        :raises HostCacheError: if it cannot be read.
        """
        book = self._own.book()
        if self._users is not None:
            book = union(self._users.book(), book)
        return reputation(book.evidence.values(), book.machines, book.hosts, time.time())

    def record(self, attempt: Attempt, workload: Workload, run_id: str) -> None:
        """Record an attempt's outcome, unless the fault was ours. A record that cannot be written is reported."""
        if attempt.verdict is not None and attempt.verdict.failure_class is FailureClass.OWN_FAULT:
            return
        kept = self._own if self._users is None or attempt.offer.simulated else self._users
        try:
            kept.record(Outcome.of(attempt, workload, run_id, time.time()))
        except HostCacheError as error:
            self._tell(f"how machine {attempt.offer.machine_id} did is not recorded: {error}")

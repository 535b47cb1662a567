"""Local markets for the tests of other people's Vast tooling, as a pytest plugin of its own.

::

    # conftest.py
    pytest_plugins = ["pytest_vastgpu.local.fixtures"]


    # test_my_tool.py
    def test_my_tool_takes_the_next_offer(vast_local_market):
        market = vast_local_market({"machines": [{"faults": ["offer_taken"]}, {"price_usd_h": 0.5}]})
        my_tool.rent(url=market.url, api_key=market.api_key)
        [instance] = market.status()["alive"]
        assert instance["usd_h"] >= 0.5

See :mod:`pytest_vastgpu.local.fleet.fleet` for the machines, durations and faults of a fleet.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from typing import Protocol

import pytest

from pytest_vastgpu.local.embed import LocalMarket


class StartMarket(Protocol):
    """The value of the fixture :func:`vast_local_market`."""

    def __call__(self, fleet: Path | Mapping[str, Any] | None = None, *, rate_limits: bool = False) -> LocalMarket:
        """Start a market; it ends with the test, and its instances with it.

        :param fleet: A fleet file, or its content as a mapping; None: this machine.
        :param rate_limits: Whether Vast's minimum intervals between calls are enforced, which costs a test seconds.
        :raises LocalMarketError: if it does not start, with the wrong line of the fleet.
        """
        ...


@pytest.fixture
def vast_local_market() -> Iterator[StartMarket]:
    """Starts a local market for each call: rent with its ``url`` and ``api_key``, and check its ``status()``."""
    with ExitStack() as markets:

        def start(fleet: Path | Mapping[str, Any] | None = None, *, rate_limits: bool = False) -> LocalMarket:
            return markets.enter_context(LocalMarket(fleet, rate_limits=rate_limits))

        yield start

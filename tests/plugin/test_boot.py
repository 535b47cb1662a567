from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_vastgpu.market.client import MarketClient
from pytest_vastgpu.model import InstanceStatus
from tests.plugin.conftest import AGGRESSIVE
from tests.plugin.conftest import BAD
from tests.plugin.conftest import WORKLOAD
from tests.plugin.conftest import RentFrom
from tests.plugin.conftest import fleet

TEST = """
def test_it(vast_instance):
    assert httpx.get(vast_instance.endpoint).text == "here I am"
"""


def test_a_status_that_lags_keeps_nobody_from_getting_in(
    pytester: pytest.Pytester, rent_from: RentFrom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The market lists the address, but goes on saying that the instance loads."""
    listed = MarketClient.list_instances

    def lagging(client: MarketClient, label: str | None = None) -> list[InstanceStatus]:
        return [replace(status, actual_status="loading", cur_state="loading") for status in listed(client, label)]

    monkeypatch.setattr(MarketClient, "list_instances", lagging)
    market = rent_from(fleet({"name": "ssh_reset", "times": 3}, stages={"loading_s": 0.3}))
    pytester.makepyfile(WORKLOAD + TEST)
    pytester.runpytest_inprocess(AGGRESSIVE, "--vast-boot-timeout=30").assert_outcomes(passed=1)
    assert [rent["machine_id"] for rent in market.status()["ended"]] == [BAD]

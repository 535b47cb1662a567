"""Plans for tests: of workloads, and of offers that the market is said to have."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.client.calls import Warm
from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.model import Workload
from pytest_vastgpu.planning.plan import Found
from pytest_vastgpu.planning.plan import Plan
from pytest_vastgpu.planning.plan import make_plan
from pytest_vastgpu.selection.requirements import OfferRequirements
from pytest_vastgpu.selection.search import survey
from pytest_vastgpu.servers.host import numbered
from pytest_vastgpu.settings import OPTIONS
from pytest_vastgpu.settings import Settings
from tests.selection.values import NOW
from tests.selection.values import offer
from tests.selection.values import workload

LARGE = workload(model="large", gpu_ram_gb=40)
SMALL = workload(model="small", gpu_ram_gb=20)
OFFERS = (
    offer(id=11, machine_id=1, host_id=1, price_usd_h=0.40),
    offer(id=12, machine_id=2, host_id=2, price_usd_h=0.30),
    offer(id=13, machine_id=3, host_id=3, price_usd_h=0.80, gpu_name="A100 PCIE", gpu_ram_mb=40960),
    offer(id=14, machine_id=4, host_id=4, price_usd_h=0.20, reliability=0.96),
    offer(id=15, machine_id=5, host_id=5, price_usd_h=1.50, gpu_name="A100 PCIE", gpu_ram_mb=40960),
)


def settings(**changes: Any) -> Settings:
    values = {option.field: option.default for option in OPTIONS}
    given = {**values, "backend": "vast", **changes}
    return Settings(**given, backend_reason="", url="https://market", sources=dict.fromkeys(values, "default"))


def expect(*workloads: Workload | None, certain: bool = True) -> dict[str, Expected]:
    """A test for each."""
    return {f"test_{n}": Expected(each, certain) for n, each in enumerate(workloads)}


def plan(
    tests: Mapping[str, Expected] | None = None,
    offers: Sequence[Offer] = OFFERS,
    known: Reputation | None = None,
    *,
    workers: int = 1,
    credit_usd: float | None = None,
    own: int = 0,
    warm: Sequence[Warm] = (),
    **changes: Any,
) -> Plan:
    """The plan of a run on a market with these offers."""
    tests = expect(SMALL) if tests is None else tests
    wanted = settings(**changes)
    found = {}
    for each in tests.values():
        if each.workload is not None:
            need = OfferRequirements.under(wanted, each.workload, each.workload.model, known or Reputation(), NOW)
            there = survey(lambda _: offers, need)
            found[each.workload] = Found(there, there.ranked)
    return make_plan(tests, found, wanted, workers=workers, credit_usd=credit_usd, own=own, warm=warm)


def hosts(number: int, **fields: Any) -> dict[str, Expected]:
    """What a run on that many hosts is planned for."""
    one = Workload(HOST, port=0, **fields)
    return {f"host {n}": Expected(numbered(one, n)) for n in range(1, number + 1)}

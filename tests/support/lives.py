"""Whole lives of instances on a virtual clock: a workload, offers, machines that behave as scripted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import pytest

from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.options import resolve
from pytest_vastgpu.selection.offer_query import OfferQuery
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.ssh.keys import KeyPair
from pytest_vastgpu.ssh.keys import load_key
from pytest_vastgpu.supervisor.money.budget import Budget
from pytest_vastgpu.supervisor.money.run_budgets import RunBudgets
from pytest_vastgpu.supervisor.pool.provisioner import Provisioner
from pytest_vastgpu.supervisor.rental.instance_poller import InstancePoller
from pytest_vastgpu.supervisor.rental.keep import Keeper
from pytest_vastgpu.supervisor.rental.rental import Rental
from pytest_vastgpu.supervisor.rental.services import RentalServices
from tests.support.factories import make_offer
from tests.support.memory import MemoryConnector
from tests.support.memory import MemoryProvider
from tests.support.memory import Script
from tests.support.memory import fleet
from tests.support.virtual import VirtualClock

WORKLOAD = Workload(adapter="scripted", gpus=0)


class ScriptedAdapter:
    """Ready when the log says so; a server that ends has failed."""

    name = "scripted"
    default_image = "any/image"
    warmup_s = 120.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        return Launch("exec serve\n")

    def headers(self, workload: Workload, api_key: str) -> Mapping[str, str]:
        return {}

    def probes(self, workload: Workload) -> tuple[Probe, ...]:
        return ()

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        if seen.exit_code is not None:
            return Failed(Verdict(FailureClass.WORKLOAD_FATAL, "server_ended", f"exit code {seen.exit_code}"))
        lines = seen.log.split()
        return Ready() if "ready" in lines else Warming(Progress(lines[-1] if lines else "starting"))


class MemoryLedger:
    """What would be on disk."""

    def __init__(self) -> None:
        self.steps: dict[str, list[str]] = {}
        self.destroyed: set[str] = set()
        """The labels of what the user has destroyed."""

    def destroyed_by_user(self, label: str) -> bool:
        return label in self.destroyed

    def write(self, label: str, step: str, **facts: object) -> None:
        self.steps.setdefault(label, []).append(step)


class MemoryEvents:
    """What would be in the event log."""

    path = Path(os.devnull)

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: Event) -> None:
        self.events.append(event)


RUN = "abcd1234"
"""The id of the pytest run that everything is rented for."""


@dataclass
class Life:
    """One workload, from its demand until all that was rented for it is gone."""

    directory: Path
    scripts: Sequence[Script]
    """The first is that of the cheapest machine, and so on."""
    key: KeyPair
    options: Mapping[str, str] = field(default_factory=dict)
    records: list[Attempt] = field(default_factory=list)
    adapter: Adapter = field(default_factory=lambda: ScriptedAdapter())
    workload: Workload = WORKLOAD

    def __post_init__(self) -> None:
        self.clock = VirtualClock()
        offers = fleet(make_offer(num_gpus=0, gpu_name=""), len(self.scripts))
        scripts = {offer.machine_id: script for offer, script in zip(offers, self.scripts, strict=True)}
        self.provider = MemoryProvider(self.clock, offers, scripts)
        self.connector = MemoryConnector(self.provider, self.clock)
        self.ledger = MemoryLedger()
        self.events = MemoryEvents()
        settings = resolve(lambda _: None, self.options.get, {})
        self.budget = Budget(settings.budget, settings.longest_life, self.clock.monotonic)
        self.budgets = RunBudgets()
        self.budgets.join(RUN, self.budget)
        self.services = RentalServices(
            self.provider,
            self.provider,
            settings,
            self.key,
            self.ledger,
            self.events,
            "abcd1234",
            self.directory / "artifacts",
            self.budgets,
            InstancePoller(self.provider.list_instances, clock=self.clock),
            Keeper(settings.keep, self.directory, self.key, self.clock),
            self.connector,
            clock=self.clock,
        )
        self.rentals: list[Rental] = []
        self.cancel = CancelToken(self.clock)
        self.provisioner = Provisioner(
            self.services,
            lambda _run, workload, failed, gone: self.find(workload, failed, gone),
            lambda attempt, _: self.records.append(attempt),
            self.rentals.append,
            lambda _rental, _attempt: None,
        )

    def find(self, workload: Workload, failed: frozenset[int], gone: frozenset[int]) -> Sequence[Offer]:
        offers: Sequence[Offer] = self.provider.search(OfferQuery((), 10, 64))
        return [offer for offer in offers if offer.machine_id not in failed and offer.id not in gone]

    def bring_up(self, workload: Workload | None = None) -> Rental:
        """:raises VastGpuError: if no instance became ready."""
        return self.provisioner.provision(workload or self.workload, self.adapter, self.cancel, RUN)

    def revive(self, rental: Rental) -> Verdict | None:
        """See whether its server serves, and start it again where that is due."""
        return self.provisioner.revive(rental, self.adapter, self.cancel)

    def live(self, use_s: float = 60.0) -> VastGpuError | None:
        """Bring it up, use it for a while, give everything back; why it never became ready, if so."""
        try:
            rental = self.bring_up()
        except VastGpuError as problem:
            return problem
        self.clock.sleep(use_s)
        rental.give_back()
        return None


def any_key() -> KeyPair:
    """One for all: making a key takes longer than a life."""
    return load_key({}, Path("/nonexistent"))


def reasons(life: Life) -> list[str]:
    """How each attempt ended."""
    return [attempt.verdict.reason if attempt.verdict else "ready" for attempt in life.records]


def assert_nothing_is_left(life: Life) -> None:
    """See that all was given back, closed and paid."""
    assert life.provider.instances == {}
    assert all(connection.closed for connection in life.connector.connections)
    assert all(forward.closed for forward in life.connector.forwards)
    assert {steps[-1] for steps in life.ledger.steps.values()} <= {"gone", "not_created"}
    assert life.budget.committed_usd == pytest.approx(sum(rental.cost.usd for rental in life.rentals))

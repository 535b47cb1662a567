"""The market: its offers and instances, and what each API call changes."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections import Counter
from collections import deque
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from pytest_vastgpu.local.faults.effects import Charges
from pytest_vastgpu.local.faults.effects import Leftover
from pytest_vastgpu.local.fleet.fleet import Fleet
from pytest_vastgpu.local.fleet.fleet import Host
from pytest_vastgpu.local.market.account_keys import Keyring
from pytest_vastgpu.local.market.billing import Rates
from pytest_vastgpu.local.market.call_counts import CallCounts
from pytest_vastgpu.local.market.create_body import CreateBody
from pytest_vastgpu.local.market.errors import ApiError
from pytest_vastgpu.local.market.errors import invalid
from pytest_vastgpu.local.market.errors import no_such_instance
from pytest_vastgpu.local.market.instance import Instance
from pytest_vastgpu.local.market.lifecycle import LifecycleContext
from pytest_vastgpu.local.market.lifecycle import boot
from pytest_vastgpu.local.market.listings import Listings
from pytest_vastgpu.local.market.rate_limits import Limiter
from pytest_vastgpu.local.market.rate_limits import SearchQuota

_HISTORY = 10_000
"""The number of ended instances that are remembered."""
_RESULTS = 200
"""The number of logs that are kept to be fetched."""
UNAVAILABLE = "Required resources are currently unavailable, state change queued."


@dataclass(frozen=True)
class Ended:
    """An instance that was destroyed."""

    instance: Instance
    ended_at: float


@dataclass
class Market:
    """All state of a market. Only its event loop may change it."""

    fleet: Fleet
    context: LifecycleContext
    api_key: str
    limiter: Limiter = field(default_factory=Limiter)
    instances: dict[int, Instance] = field(default_factory=dict)
    history: deque[Ended] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    rents: Counter[str] = field(default_factory=Counter)
    """The number of instances created with each label."""
    calls: CallCounts = field(default_factory=CallCounts)
    keyring: Keyring = field(default_factory=Keyring)
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)
    results: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Texts that can be fetched without a key, by token, and the time on the monotonic clock when they appear."""
    started_at: float = field(default_factory=time.time)
    not_isolated: str = ""
    """Why this system does not isolate instances; empty if it does, or if that is not known yet."""

    def __post_init__(self) -> None:
        self.quota = SearchQuota(self.fleet.rules.search_rows_per_day)
        self.listings = Listings(self.fleet.hosts, self.started_at)
        # Clients remember ids, so a market must not reuse those of an earlier one: ids start at the current time.
        self._next_instance = time.time_ns() // 10_000_000 % 1_000_000_000
        self._spent_usd = 0.0
        self._vanishing: set[asyncio.Task[None]] = set()

    # --- rent and give back -------------------------------------------------------------------------------------------

    def create(self, offer_id: int, create_body: CreateBody, made_by: str) -> Instance:
        """Rent an offer.

        :param made_by: The User-Agent of the client.
        :raises ApiError: if the offer is gone or too small, or the credit is used up. If its body has
            ``new_contract``, a stopped instance was created all the same.
        """
        host = self.listings.host(offer_id)
        if host is None:
            text = f"error 404/3603: no_such_ask Instance type by id {offer_id} is not available."
            raise ApiError(404, "no_such_ask", text)
        if self.credit_usd(time.time()) <= 0:
            raise ApiError(400, "insufficient_credit", "You lack credit.")
        if create_body.disk_gb > host.machine.disk_space_gb:
            raise invalid(
                f"disk: {create_body.disk_gb:g} GB is more than the machine's {host.machine.disk_space_gb:g} GB"
            )
        if create_body.bid_usd_h is not None and create_body.bid_usd_h < host.machine.min_bid_usd_h:
            raise invalid(f"Please set a bid price >= {host.machine.min_bid_usd_h:g}.")
        gone = not self.listings.is_current(offer_id)
        if gone or not self.listings.has_room(host):
            if create_body.cancel_unavail or gone:
                text = f"error 410/3907: no_such_ask Instance type {offer_id} is no longer available."
                raise ApiError(410, "no_such_ask", text)
            raise self._leave_behind(host, create_body, made_by)
        if any(isinstance(fault.effect, Leftover) for fault in host.faults):
            raise self._leave_behind(host, create_body, made_by)
        instance = self._add(host, create_body, made_by)
        if create_body.starts:
            self._start_now(instance)
        else:
            instance.stopped_by_market()
            instance.becomes("stopped")
        return instance

    def _leave_behind(self, host: Host, create_body: CreateBody, made_by: str) -> ApiError:
        instance = self._add(host, create_body, made_by)
        instance.stopped_by_market()
        instance.becomes("stopped")
        return ApiError(200, "resources_unavailable", UNAVAILABLE, new_contract=instance.id)

    def _add(self, host: Host, create_body: CreateBody, made_by: str) -> Instance:
        machine = host.machine
        self._next_instance += 1
        instance = Instance(
            id=self._next_instance,
            host=host,
            create_body=create_body,
            made_by=made_by,
            api_key=secrets.token_hex(32),
            label=create_body.label or "",
            rates=Rates(
                storage_usd_gb_month=machine.storage_usd_gb_month,
                disk_gb=create_body.disk_gb,
                inet_down_usd_gb=machine.inet_down_usd_gb,
                inet_up_usd_gb=machine.inet_up_usd_gb,
            ),
            full_gpu_usd_h=_on_demand_usd_h(host) if create_body.bid_usd_h is None else create_body.bid_usd_h,
            keys=self.keyring.all(),
        )
        self.instances[instance.id] = instance
        self.rents[instance.label] += 1
        return instance

    def find(self, instance_id: int) -> Instance:
        """Return the instance with this id.

        :raises ApiError: if there is none.
        """
        try:
            return self.instances[instance_id]
        except KeyError:
            raise no_such_instance(instance_id) from None

    async def destroy(self, instance: Instance) -> None:
        """Destroy an instance. The API shows it no more at once; on return its processes and its disk are gone."""
        if self.instances.pop(instance.id, None) is None:
            return
        ended_at = time.time()
        self._spent_usd += instance.bill(ended_at).total_usd
        self.history.append(Ended(instance, ended_at))
        held_slot = instance.holds_slot
        await self._end(instance)
        if instance.container is not None:
            await instance.container.destroy()
        # A start that failed may have left a disk without a container.
        await asyncio.to_thread(shutil.rmtree, self.context.disks / str(instance.id), ignore_errors=True)
        if held_slot:
            self._give_back(instance.host)

    async def destroy_all(self) -> None:
        """Destroy every instance."""
        await asyncio.gather(*(self.destroy(instance) for instance in list(self.instances.values())))
        await asyncio.gather(*self._vanishing)

    def vanish(self, instance: Instance) -> None:
        """Destroy an instance in the background, without a request."""
        task = asyncio.ensure_future(self.destroy(instance))
        self._vanishing.add(task)
        task.add_done_callback(self._vanishing.discard)

    def _give_back(self, host: Host) -> None:
        """Free a slot, and start a queued instance in it."""
        self.listings.give_back(host)
        for waiting in self.instances.values():
            if waiting.host is host and waiting.next_state == "queued" and self.listings.has_room(host):
                self._start_now(waiting)

    async def _end(self, instance: Instance) -> None:
        """End all processes of an instance; its disk stays."""
        if instance.task is not None and instance.task is not asyncio.current_task():
            instance.task.cancel()
            await asyncio.gather(instance.task, return_exceptions=True)
            instance.task = None
        if instance.container is not None:
            await instance.container.stop()

    # --- start and stop -----------------------------------------------------------------------------------------------

    def start(self, instance: Instance) -> None:
        """Start an instance.

        :raises ApiError: if another instance has the GPUs; it is then queued and starts when they are free.
        """
        if instance.holds_slot:
            if instance.actual_status == "exited":
                self._boot(instance)
            return
        if not self.listings.has_room(instance.host):
            instance.intended_status, instance.next_state = "running", "queued"
            instance.becomes("scheduling")
            raise ApiError(200, "resources_unavailable", UNAVAILABLE)
        self._start_now(instance)

    def _start_now(self, instance: Instance) -> None:
        self.listings.take(instance.host)
        instance.intended_status = instance.next_state = "running"
        self._boot(instance)

    def _boot(self, instance: Instance) -> None:
        instance.task = asyncio.ensure_future(boot(instance, self.context, self.vanish))
        instance.task.add_done_callback(_report_error)

    async def stop(self, instance: Instance) -> None:
        """Stop an instance: its disk stays and still costs, its GPUs become free."""
        held_slot = instance.holds_slot
        instance.stopped_by_market()
        await self._end(instance)
        instance.becomes("exited" if instance.starts else "stopped", cur_state="stopped")
        if held_slot:
            self._give_back(instance.host)

    async def restart(self, instance: Instance, *, fresh: bool = False) -> None:
        """Stop and start an instance on the same machine.

        :param fresh: Whether its disk is emptied.
        :raises ApiError: if it has no container.
        """
        if instance.container is None or instance.actual_status != "running":
            raise ApiError(200, "invalid_id", "Invalid instance id. Is the container started?")
        instance.becomes("recycling" if fresh else "rebooting")
        await self._end(instance)
        if fresh:
            await instance.container.destroy()
        self._boot(instance)

    def publish(self, text: str) -> str:
        """Publish a text after the fleet's ``log_delay_s``, as an upload would; returns its token."""
        token = secrets.token_hex(16)
        self.results[token] = (time.monotonic() + self.fleet.rules.log_delay_s, text)
        while len(self.results) > _RESULTS:
            self.results.pop(next(iter(self.results)))
        return token

    # --- money --------------------------------------------------------------------------------------------------------

    def spent_usd(self, now: float) -> float:
        """What all instances have cost until now, in epoch seconds."""
        return self._spent_usd + sum(instance.bill(now).total_usd for instance in self.instances.values())

    def credit_usd(self, now: float) -> float:
        """The credit that is left. The rest of a prepayment returns to it when its instance is destroyed."""
        paid_in = sum(instance.paid_in_usd(now) for instance in self.instances.values())
        return self.fleet.rules.credit_usd - self.spent_usd(now) - paid_in

    async def stop_what_cannot_be_paid(self) -> None:
        """Once the credit is used up, stop all instances that no prepayment covers."""
        now = time.time()
        if self.credit_usd(now) <= 0:
            for instance in list(self.instances.values()):
                if instance.holds_slot and not instance.paid_in_usd(now):
                    await self.stop(instance)


def _on_demand_usd_h(host: Host) -> float:
    """USD an hour for the GPUs of an instance: the price of the offer, unless a fault raises it."""
    price = host.machine.price_usd_h
    for fault in host.faults:
        if isinstance(fault.effect, Charges):
            price *= fault.parameters["times"]
    return price


def _report_error(task: asyncio.Task[None]) -> None:
    """Report a bug in the task of an instance, and keep the market running."""
    if not task.cancelled() and (error := task.exception()) is not None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "an instance's task ended in an error", "exception": error, "task": task}
        )

"""An instance: its state in the market, and its row in the API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

from pytest_vastgpu.local.container.container import Container
from pytest_vastgpu.local.faults.effects import Reports
from pytest_vastgpu.local.faults.effects import Says
from pytest_vastgpu.local.fleet.fleet import Host
from pytest_vastgpu.local.market.billing import Bill
from pytest_vastgpu.local.market.billing import Change
from pytest_vastgpu.local.market.billing import Rates
from pytest_vastgpu.local.market.billing import bill
from pytest_vastgpu.local.market.create_body import CreateBody
from pytest_vastgpu.local.market.offer_rows import Row
from pytest_vastgpu.local.market.offer_rows import machine_row
from pytest_vastgpu.local.market.offer_rows import overlaid
from pytest_vastgpu.local.market.prepay import Prepayment
from pytest_vastgpu.local.market.prepay import prepayment

_MEASURE_S = 2.0
"""The shortest time between two measurements of a disk."""


@dataclass
class Instance:
    """An instance, from its creation until its destruction."""

    id: int
    host: Host
    create_body: CreateBody
    made_by: str
    """The User-Agent of the client that created it."""
    api_key: str
    """The restricted key in its environment."""
    label: str
    rates: Rates
    full_gpu_usd_h: float
    """Without a discount."""
    keys: list[tuple[int, str]] = field(default_factory=list)
    """The ids and lines of the SSH keys that may log in."""
    created_at: float = field(default_factory=time.time)
    actual_status: str | None = None
    intended_status: str = "running"
    cur_state: str = "unloaded"
    next_state: str = "running"
    status_msg: str = ""
    changes: list[Change] = field(default_factory=list)
    discount: float = 0.0
    """The discount that a prepayment bought: 0.2 is a fifth less."""
    covered_usd: float = 0.0
    """Prepayments cover its costs up to this total."""
    down_gb: float = 0.0
    container: Container | None = None
    starts: int = 0
    task: asyncio.Task[None] | None = None
    """Runs it through its states."""
    fault_tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """The faults that are to happen while it runs, each waiting for its time."""
    disk_usage_gb: float = -1.0
    """The last measurement; -1 before it runs."""
    measured_at: float = 0.0
    overrides: dict[str, str] = field(default_factory=dict)
    """The fields that a fault replaces; see :func:`~pytest_vastgpu.local.market.offer_rows.overlaid`."""

    def __post_init__(self) -> None:
        self.changes.append(Change(self.created_at, "created", self.gpu_usd_h))

    def becomes(self, actual: str | None, text: str | None = None, *, cur_state: str | None = None) -> None:
        """Change its state; the bill follows."""
        self.actual_status = actual
        if text is not None:
            self.status_msg = text.replace("{image}", self.create_body.image)
        self.cur_state = cur_state or self.cur_state
        self.changes.append(Change(time.time(), actual or "created", self.gpu_usd_h))

    def stopped_by_market(self) -> None:
        """Mark it as stopped, as the market does without a request."""
        self.intended_status = self.next_state = "stopped"
        self.cur_state = "stopped"

    def reprice(self, bid_usd_h: float) -> None:
        """Change its bid from now on."""
        self.create_body = replace(self.create_body, bid_usd_h=bid_usd_h)
        self.full_gpu_usd_h = bid_usd_h
        self.becomes(self.actual_status)

    def raise_price(self, times: float) -> None:
        """Multiply the price of its GPUs from now on."""
        self.full_gpu_usd_h *= times
        self.becomes(self.actual_status)

    def prepay(self, amount_usd: float) -> Prepayment:
        """Prepay; from now on it may cost less."""
        bought = prepayment(amount_usd, self.full_gpu_usd_h, self.rates.storage_usd_h)
        self.covered_usd = max(self.covered_usd, self.bill(time.time()).total_usd) + amount_usd
        self.discount = max(self.discount, bought.discount)
        self.becomes(self.actual_status)
        return bought

    def bill(self, until: float) -> Bill:
        """Compute its costs until a time, in epoch seconds."""
        return bill(self.rates, self.changes, until, self.down_gb)

    async def measure(self) -> None:
        """Measure its disk, at most every two seconds: a full disk takes long."""
        if self.container is not None and time.time() - self.measured_at > _MEASURE_S:
            self.measured_at = time.time()
            self.disk_usage_gb = await asyncio.to_thread(self.container.disk_usage_gb)

    @property
    def holds_slot(self) -> bool:
        """Whether it occupies the machine's GPUs; a stopped instance does not."""
        return self.intended_status == "running" and self.next_state != "queued"

    @property
    def gpu_usd_h(self) -> float:
        return self.full_gpu_usd_h * (1 - self.discount)

    def paid_in_usd(self, now: float) -> float:
        """The rest of its prepayments."""
        return max(0.0, self.covered_usd - self.bill(now).total_usd)

    @property
    def usd_h(self) -> float:
        return self.gpu_usd_h + self.rates.storage_usd_h


async def shown(instance: Instance) -> Row:
    """Measure an instance's disk and return its row."""
    await instance.measure()
    return instance_row(instance, time.time())


def instance_row(instance: Instance, now: float) -> Row:
    """Return an instance as the API shows it.

    :param now: Epoch seconds.
    """
    container = instance.container
    runs = instance.actual_status == "running" and container is not None
    machine = instance.host.machine
    create_body = instance.create_body
    ports: Mapping[str, int] = container.direct_ports if container is not None and runs else {}
    ssh = create_body.ssh and container is not None
    row = {
        **machine_row(machine),
        "id": instance.id,
        "bundle_id": machine.machine_id,
        "label": instance.label or None,
        "actual_status": instance.actual_status,
        "intended_status": instance.intended_status,
        "cur_state": instance.cur_state,
        "next_state": "running" if instance.next_state == "queued" else instance.next_state,
        "status_msg": instance.status_msg or None,
        "image_uuid": create_body.image,
        "image_args": list(create_body.args),
        "image_runtype": create_body.runtype,
        "extra_env": [list(pair) for pair in create_body.env_pairs],
        "onstart": create_body.onstart or None,
        "template_id": None,
        "template_hash_id": create_body.template,
        "template_name": None,
        "ssh_host": container.ssh_host if ssh and container else None,
        "ssh_port": container.ssh_port if ssh and container else None,
        "ssh_idx": "1",
        "machine_dir_ssh_port": ports.get("22/tcp", -1),
        "public_ipaddr": "127.0.0.1" if runs else None,
        "local_ipaddrs": "127.0.0.1",
        "ports": {name: [{"HostIp": "127.0.0.1", "HostPort": str(port)}] for name, port in ports.items()},
        "direct_port_start": min(ports.values(), default=-1),
        "direct_port_end": max(ports.values(), default=-1),
        "jupyter_token": None,
        "start_date": instance.created_at,
        "end_date": instance.created_at + machine.duration_s,
        "duration": machine.duration_s - (now - instance.created_at),
        "uptime_mins": None,
        "gpu_util": 0.0 if runs and machine.num_gpus else None,
        "gpu_temp": None,
        "vmem_usage": None,
        "cpu_util": 0.0,
        "mem_usage": None,
        "mem_limit": machine.cpu_ram_mb / 1000,
        "disk_space": create_body.disk_gb,
        "disk_usage": instance.disk_usage_gb if runs else -1.0,
        "disk_util": instance.disk_usage_gb / max(create_body.disk_gb, 1e-9) if runs else -1.0,
        "inet_down_billed": instance.down_gb or None,
        "inet_up_billed": None,
        "dph_base": instance.gpu_usd_h,
        "dph_total": instance.usd_h,
        "storage_total_cost": instance.rates.storage_usd_h,
        "is_bid": create_body.bid_usd_h is not None,
        "volume_info": None,
        "credit_balance": None,
        "credit_discount": None,
    }
    return _misreported(row, instance, runs=runs)


def _misreported(row: Row, instance: Instance, *, runs: bool) -> dict[str, Any]:
    for fault in instance.host.faults:
        if isinstance(fault.effect, Says) and fault.effect.of == "look" and fault.concerns_look():
            row = overlaid(row, {fault.parameters["field"]: fault.parameters["says"]})
        if isinstance(fault.effect, Reports) and fault.effect.while_running == runs and fault.concerns_look():
            row.update(fault.effect.fields)
            for name in fault.effect.missing:
                row.pop(name, None)
    return overlaid(row, instance.overrides)

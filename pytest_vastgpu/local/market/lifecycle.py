"""The states of an instance, from its creation on, with the faults of its machine."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.container.container import Container
from pytest_vastgpu.local.container.spec import ContainerFaults
from pytest_vastgpu.local.container.spec import ContainerSpec
from pytest_vastgpu.local.faults.base import Fault
from pytest_vastgpu.local.faults.base import Layer
from pytest_vastgpu.local.faults.catalogue import catalogue
from pytest_vastgpu.local.faults.effects import Delivers
from pytest_vastgpu.local.faults.effects import MidTest
from pytest_vastgpu.local.faults.effects import NeverBoots
from pytest_vastgpu.local.faults.effects import NoNetwork
from pytest_vastgpu.local.faults.effects import Raises
from pytest_vastgpu.local.faults.effects import Says
from pytest_vastgpu.local.faults.effects import SlowBoot
from pytest_vastgpu.local.faults.effects import SoldTwice
from pytest_vastgpu.local.faults.effects import Turns
from pytest_vastgpu.local.faults.effects import Unset
from pytest_vastgpu.local.faults.effects import Vanishes
from pytest_vastgpu.local.faults.effects import Within
from pytest_vastgpu.local.faults.status import SOLD_TWICE
from pytest_vastgpu.local.market.create_body import entrypoint
from pytest_vastgpu.local.market.instance import Instance

_UNKNOWN_IMAGE = "image_manifest_unknown"


@dataclass(frozen=True)
class LifecycleContext:
    """What every instance needs to know of its market."""

    url: str
    socket: Path
    """The Unix socket of the same API."""
    disks: Path
    """The directory with the disks of all instances."""
    images: dict[str, str]
    """Entrypoints by image pattern; the first match wins."""
    image_gb: float
    seed: int
    hides: tuple[str, ...] = ()
    """Directories of this machine that no instance sees."""


async def boot(instance: Instance, context: LifecycleContext, vanish: Callable[[Instance], None]) -> None:
    """Take an instance from its creation to running, then apply the faults of its machine until it ends.

    :param vanish: Removes the instance from the market.
    """
    stages, rng = instance.host.stages, random.Random(f"{context.seed} {instance.id}")  # noqa: S311 -- not a secret
    for fault in instance.host.faults:
        if isinstance(fault.effect, SoldTwice):
            await _lost_to_another(instance, fault, vanish)
            return
    if instance.starts == 0:
        await asyncio.sleep(stages.provisioning_s.draw(rng))
        instance.becomes("created")
        await asyncio.sleep(stages.created_s.draw(rng))
    instance.becomes("loading", "{image}: Pulling fs layer")
    if await _prevented_by_fault(instance):
        return
    await asyncio.sleep(stages.loading_s.draw(rng))
    if instance.starts == 0:
        instance.down_gb += context.image_gb
    command = "" if instance.create_body.ssh else entrypoint(instance.create_body, context.images)
    if command is None:
        await _never_boots(instance, catalogue()[_UNKNOWN_IMAGE].effect, 420.0)
        return
    try:
        await _start_container(instance, container_spec(instance, context, command))
    except LocalMarketError as error:
        instance.becomes("created", f"Error response from daemon: {error}")
        return
    instance.starts += 1
    suffix = "/ssh" if instance.create_body.ssh else ""
    instance.becomes("running", f"success, running {{image}}{suffix}", cur_state="running")
    await _run(instance, vanish)


async def _start_container(instance: Instance, spec: ContainerSpec) -> None:
    """Start the container. A cancelled start is completed first: a container that is half started cannot be stopped."""
    starting = asyncio.ensure_future(Container.start(spec))
    try:
        instance.container = await asyncio.shield(starting)
    except asyncio.CancelledError:
        instance.container = await starting
        raise
    # Keys may have been attached or detached while it started.
    lines = {line for _, line in instance.keys}
    for line in lines.difference(spec.authorized_keys):
        instance.container.add_key(line)
    for line in set(spec.authorized_keys) - lines:
        instance.container.remove_key(line)


def container_spec(instance: Instance, context: LifecycleContext, command: str) -> ContainerSpec:
    """Return the specification of an instance's container, with the faults of its machine."""
    machine, create_body, faults = instance.host.machine, instance.create_body, instance.host.faults
    gpus, network, container_faults, unset = machine.gpus, machine.network, dict[str, Any](), set[str]()
    for fault in faults:
        if isinstance(fault.effect, Delivers):
            gpus = fault.effect.gpus(gpus, fault.parameters)
        elif isinstance(fault.effect, Within):
            container_faults.update(fault.effect.faults(fault.parameters))
        elif isinstance(fault.effect, NoNetwork):
            network = False
        elif isinstance(fault.effect, Unset):
            unset |= fault.effect.variables
    market_variables = {
        "CONTAINER_ID": str(instance.id),
        "CONTAINER_API_KEY": instance.api_key,
        "VAST_CONTAINERLABEL": f"C.{instance.id}",
        "PUBLIC_IPADDR": "127.0.0.1",
        "GPU_COUNT": str(machine.num_gpus),
        "VAST_URL": context.url,
        "SSH_PUBLIC_KEY": "\n".join(line for _, line in instance.keys),
        "DATA_DIRECTORY": "/workspace/",
    }
    return ContainerSpec(
        instance_id=instance.id,
        directory=context.disks / str(instance.id),
        environment={
            **create_body.environment,
            **{name: value for name, value in market_variables.items() if name not in unset},
        },
        authorized_keys=tuple(line for _, line in instance.keys),
        onstart=create_body.onstart if create_body.ssh else "",
        command=command,
        ssh=create_body.ssh,
        direct=create_body.direct,
        jupyter=create_body.jupyter,
        ports=create_body.ports,
        host_name=create_body.host_name,
        market_url=context.url,
        market_socket=context.socket,
        gpus=gpus,
        network=network,
        hides=context.hides,
        faults=ContainerFaults(**container_faults),
    )


async def _prevented_by_fault(instance: Instance) -> bool:
    """Whether a fault keeps it from ever running; a fault that only delays it is waited for."""
    for fault in instance.host.faults:
        if isinstance(fault.effect, NeverBoots):
            if fault.effect.for_strangers and _logged_in(instance, fault):
                continue
            await _never_boots(instance, fault.effect, fault.parameters["stops_after_s"])
            return True
        if isinstance(fault.effect, SlowBoot):
            instance.becomes(fault.effect.actual_status, fault.effect.text)
            await _sleep(fault.parameters["for_s"])
            instance.becomes("loading")
    return False


def _logged_in(instance: Instance, fault: Fault) -> bool:
    given = instance.create_body.image_login
    return bool(given) and fault.parameters["login"] in {"", given}


async def _lost_to_another(instance: Instance, fault: Fault, vanish: Callable[[Instance], None]) -> None:
    await _sleep(fault.parameters["after_s"])
    if fault.parameters["how"] == "vanishes":
        vanish(instance)
    elif fault.parameters["how"] == "stopped":
        instance.stopped_by_market()
    else:
        instance.becomes("created", SOLD_TWICE[fault.parameters["how"]])


async def _never_boots(instance: Instance, effect: object, stops_after_s: float) -> None:
    if isinstance(effect, NeverBoots):
        instance.becomes(effect.actual_status, effect.text)
    await _sleep(stops_after_s)
    instance.stopped_by_market()


async def _run(instance: Instance, vanish: Callable[[Instance], None]) -> None:
    """Apply the faults that concern a running instance, until its first process ends."""
    assert instance.container is not None  # noqa: S101 -- it has just been started
    for fault in instance.host.faults:
        if isinstance(fault.effect, MidTest) and fault.kind.layer is Layer.MID_TEST:
            inject_fault(instance, fault, vanish)
    try:
        code = await instance.container.wait()
    finally:
        for task in instance.fault_tasks:
            task.cancel()
        instance.fault_tasks.clear()
    if instance.actual_status == "running":
        instance.becomes("exited", f"container exited with code {code}", cur_state="stopped")


def inject_fault(instance: Instance, fault: Fault, vanish: Callable[[Instance], None]) -> None:
    """Apply a mid-test fault to a running instance, after its ``after_s``.

    :param vanish: Removes the instance from the market.
    """
    task = asyncio.ensure_future(_apply(instance, fault, vanish))
    instance.fault_tasks.add(task)
    task.add_done_callback(instance.fault_tasks.discard)


async def _apply(instance: Instance, fault: Fault, vanish: Callable[[Instance], None]) -> None:
    await _sleep(fault.parameters["after_s"])
    effect = fault.effect
    if isinstance(effect, Vanishes):
        vanish(instance)
    elif isinstance(effect, Says):
        instance.overrides[fault.parameters["field"]] = fault.parameters["says"]
    elif isinstance(effect, Raises):
        instance.raise_price(fault.parameters["times"])
    elif isinstance(effect, Turns):
        before = instance.cur_state
        instance.intended_status = effect.intended_status
        instance.becomes(effect.actual_status, effect.text or None, cur_state=effect.cur_state)
        if effect.intended_status == "stopped":
            instance.stopped_by_market()
        if effect.ends and instance.container is not None:
            await instance.container.stop()
        elif "for_s" in fault.parameters:
            await _sleep(fault.parameters["for_s"])
            instance.becomes("running", cur_state=before)


async def _sleep(seconds: float) -> None:
    """Sleep; infinity means for ever, which ``asyncio.sleep`` does not take."""
    if math.isinf(seconds):
        await asyncio.Event().wait()
    await asyncio.sleep(seconds)

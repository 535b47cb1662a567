"""How an instance passes through its states, and what faults make of that."""

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
from pytest_vastgpu.local.faults.effects import NoWayOut
from pytest_vastgpu.local.faults.effects import Raises
from pytest_vastgpu.local.faults.effects import Says
from pytest_vastgpu.local.faults.effects import SlowBoot
from pytest_vastgpu.local.faults.effects import Turns
from pytest_vastgpu.local.faults.effects import Unset
from pytest_vastgpu.local.faults.effects import Vanishes
from pytest_vastgpu.local.faults.effects import Within
from pytest_vastgpu.local.market.create_body import entrypoint
from pytest_vastgpu.local.market.instance import Instance

_UNKNOWN_IMAGE = "image_manifest_unknown"


@dataclass(frozen=True)
class LifecycleContext:
    """What instances need of the market they are in."""

    url: str
    socket: Path
    """The Unix socket of the same API."""
    disks: Path
    """Where each instance has its disk."""
    images: dict[str, str]
    """Entrypoints by image pattern, the first match wins."""
    image_gb: float
    seed: int


async def boot(instance: Instance, site: LifecycleContext, vanish: Callable[[Instance], None]) -> None:
    """Carry an instance from nothing to running, and on through what its machine's faults do to it.

    :param vanish: Called when the instance is to be gone without a trace.
    """
    stages, dice = instance.host.stages, random.Random(f"{site.seed} {instance.id}")  # noqa: S311 -- not a secret
    if instance.starts == 0:
        await asyncio.sleep(stages.provisioning_s.draw(dice))
        instance.becomes("created")
        await asyncio.sleep(stages.created_s.draw(dice))
    instance.becomes("loading", "{image}: Pulling fs layer")
    if await _kept_from_running(instance):
        return
    await asyncio.sleep(stages.loading_s.draw(dice))
    if instance.starts == 0:
        instance.down_gb += site.image_gb
    command = "" if instance.order.ssh else entrypoint(instance.order, site.images)
    if command is None:
        await _never_boots(instance, catalogue()[_UNKNOWN_IMAGE].effect, 420.0)
        return
    try:
        await _start_container(instance, container_spec(instance, site, command))
    except LocalMarketError as error:
        instance.becomes("created", f"Error response from daemon: {error}")
        return
    instance.starts += 1
    suffix = "/ssh" if instance.order.ssh else ""
    instance.becomes("running", f"success, running {{image}}{suffix}", cur_state="running")
    await _run(instance, vanish)


async def _start_container(instance: Instance, spec: ContainerSpec) -> None:
    """Start the container. Who cancels this finds it started, and can end it: half a container cannot be ended."""
    starting = asyncio.ensure_future(Container.start(spec))
    try:
        instance.container = await asyncio.shield(starting)
    except asyncio.CancelledError:
        instance.container = await starting
        raise
    # Keys that were attached or detached while it started.
    lines = {line for _, line in instance.keys}
    for line in lines.difference(spec.authorized_keys):
        instance.container.add_key(line)
    for line in set(spec.authorized_keys) - lines:
        instance.container.remove_key(line)


def container_spec(instance: Instance, site: LifecycleContext, command: str) -> ContainerSpec:
    """What the container shall be."""
    machine, order, faults = instance.host.machine, instance.order, instance.host.faults
    gpus, network, within, unset = machine.gpus, machine.network, dict[str, Any](), set[str]()
    for fault in faults:
        if isinstance(fault.effect, Delivers):
            gpus = fault.effect.gpus(gpus, fault.parameters)
        elif isinstance(fault.effect, Within):
            within.update(fault.effect.faults(fault.parameters))
        elif isinstance(fault.effect, NoWayOut):
            network = False
        elif isinstance(fault.effect, Unset):
            unset |= fault.effect.variables
    told = {
        "CONTAINER_ID": str(instance.id),
        "CONTAINER_API_KEY": instance.api_key,
        "VAST_CONTAINERLABEL": f"C.{instance.id}",
        "PUBLIC_IPADDR": "127.0.0.1",
        "GPU_COUNT": str(machine.num_gpus),
        "VAST_URL": site.url,
        "SSH_PUBLIC_KEY": "\n".join(line for _, line in instance.keys),
        "DATA_DIRECTORY": "/workspace/",
    }
    return ContainerSpec(
        instance_id=instance.id,
        directory=site.disks / str(instance.id),
        environment={**order.environment, **{name: value for name, value in told.items() if name not in unset}},
        authorized_keys=tuple(line for _, line in instance.keys),
        onstart=order.onstart if order.ssh else "",
        command=command,
        ssh=order.ssh,
        direct=order.direct,
        jupyter=order.jupyter,
        ports=order.ports,
        host_name=order.host_name,
        market_url=site.url,
        market_socket=site.socket,
        gpus=gpus,
        network=network,
        faults=ContainerFaults(**within),
    )


async def _kept_from_running(instance: Instance) -> bool:
    """Whether a fault keeps it from ever running; waits for those that only keep it for a time."""
    for fault in instance.host.faults:
        if isinstance(fault.effect, NeverBoots):
            await _never_boots(instance, fault.effect, fault.parameters["stops_after_s"])
            return True
        if isinstance(fault.effect, SlowBoot):
            instance.becomes(fault.effect.actual_status, fault.effect.text)
            await _sleep(fault.parameters["for_s"])
            instance.becomes("loading")
    return False


async def _never_boots(instance: Instance, effect: object, stops_after_s: float) -> None:
    if isinstance(effect, NeverBoots):
        instance.becomes(effect.actual_status, effect.text)
    await _sleep(stops_after_s)
    instance.stopped_by_market()


async def _run(instance: Instance, vanish: Callable[[Instance], None]) -> None:
    """Until its first process ends, do to it what its faults say."""
    assert instance.container is not None  # noqa: S101 -- it has just been started
    for fault in instance.host.faults:
        if isinstance(fault.effect, MidTest) and fault.kind.layer is Layer.MID_TEST:
            befall(instance, fault, vanish)
    try:
        code = await instance.container.wait()
    finally:
        for turn in instance.turns:
            turn.cancel()
        instance.turns.clear()
    if instance.actual_status == "running":
        instance.becomes("exited", f"container exited with code {code}", cur_state="stopped")


def befall(instance: Instance, fault: Fault, vanish: Callable[[Instance], None]) -> None:
    """Let a fault of the middle of a test happen to a running instance, after its ``after_s``.

    :param vanish: Called when the instance is to be gone without a trace.
    """
    turn = asyncio.ensure_future(_turn(instance, fault, vanish))
    instance.turns.add(turn)
    turn.add_done_callback(instance.turns.discard)


async def _turn(instance: Instance, fault: Fault, vanish: Callable[[Instance], None]) -> None:
    await _sleep(fault.parameters["after_s"])
    effect = fault.effect
    if isinstance(effect, Vanishes):
        vanish(instance)
    elif isinstance(effect, Says):
        instance.said[fault.parameters["field"]] = fault.parameters["says"]
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
    """Sleep; infinity is for ever."""
    if math.isinf(seconds):
        await asyncio.Event().wait()
    await asyncio.sleep(seconds)

"""Endpoints that Vast's API does not have: the status of the market, and faults on demand."""

from __future__ import annotations

from pytest_vastgpu.local.api.call import ApiCall
from pytest_vastgpu.local.api.call import Endpoint
from pytest_vastgpu.local.faults.base import Layer
from pytest_vastgpu.local.faults.catalogue import FaultInvalid
from pytest_vastgpu.local.faults.catalogue import catalogue
from pytest_vastgpu.local.faults.catalogue import make_fault
from pytest_vastgpu.local.faults.effects import MidTest
from pytest_vastgpu.local.market.errors import invalid
from pytest_vastgpu.local.market.lifecycle import inject_fault
from pytest_vastgpu.local.market.status import status


async def market_status(call: ApiCall) -> object:
    """``GET /_market/status``."""
    return status(call.market)


async def strike(call: ApiCall) -> object:
    """``POST /_market/instances/{id}/strike``: apply a fault, written as in a fleet file, to a running instance."""
    instance = call.market.find(call.number("instance_id"))
    given = {"after_s": 0.0, **call.object}
    name = str(given.pop("name", ""))
    kind = catalogue().get(name)
    if kind is not None and (not isinstance(kind.effect, MidTest) or kind.layer is not Layer.MID_TEST):
        raise invalid(f"fault {name!r} does not happen to a running instance: give it to its machine in the fleet")
    try:
        fault = make_fault(name, given)
    except FaultInvalid as error:
        raise invalid(str(error)) from error
    if instance.actual_status != "running":
        raise invalid(f"instance {instance.id} is not running, but {instance.actual_status}")
    inject_fault(instance, fault, call.market.vanish)
    return {"success": True}


ENDPOINTS = (
    Endpoint("market_status", "GET", "/_market/status", market_status),
    Endpoint("strike", "POST", "/_market/instances/{instance_id}/strike", strike),
)

"""What the local market has beside Vast's API: its accounts, and faults on demand."""

from __future__ import annotations

from pytest_vastgpu.local.api.call import ApiCall
from pytest_vastgpu.local.api.call import Endpoint
from pytest_vastgpu.local.api.errors import invalid
from pytest_vastgpu.local.faults.base import Layer
from pytest_vastgpu.local.faults.catalogue import FaultInvalid
from pytest_vastgpu.local.faults.catalogue import catalogue
from pytest_vastgpu.local.faults.catalogue import make_fault
from pytest_vastgpu.local.faults.effects import MidTest
from pytest_vastgpu.local.market.lifecycle import befall
from pytest_vastgpu.local.market.status import status


async def market_status(exchange: ApiCall) -> object:
    """``GET /_market/status``."""
    return status(exchange.market)


async def strike(exchange: ApiCall) -> object:
    """``POST /_market/instances/{id}/strike``: a fault as in a fleet file, for one running instance and now."""
    instance = exchange.market.find(exchange.number("instance_id"))
    given = {"after_s": 0.0, **exchange.object}
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
    befall(instance, fault, exchange.market.vanish)
    return {"success": True}


ENDPOINTS = (
    Endpoint("market_status", "GET", "/_market/status", market_status),
    Endpoint("strike", "POST", "/_market/instances/{instance_id}/strike", strike),
)

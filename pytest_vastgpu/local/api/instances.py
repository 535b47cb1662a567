"""Endpoints of instances, except create and list."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace

from starlette.responses import PlainTextResponse

from pytest_vastgpu.local.api.call import Access
from pytest_vastgpu.local.api.call import ApiCall
from pytest_vastgpu.local.api.call import Endpoint
from pytest_vastgpu.local.api.execute import run_command
from pytest_vastgpu.local.market.create_body import parse_create_body
from pytest_vastgpu.local.market.errors import ApiError
from pytest_vastgpu.local.market.errors import invalid
from pytest_vastgpu.local.market.errors import not_authorized
from pytest_vastgpu.local.market.instance import Instance
from pytest_vastgpu.local.market.instance import shown

_LONGEST_LABEL = 1024
_MOST_AT_ONCE = 64


async def show(call: ApiCall) -> object:
    """``GET /instances/{id}/``: null for an unknown id."""
    instance = call.market.instances.get(call.number("instance_id"))
    return {"instances": None if instance is None else await shown(instance)}


async def update(call: ApiCall) -> object:
    """``PUT /instances/{id}/``: change the state, the label, or both."""
    await _update(call, call.market.find(call.number("instance_id")))
    return {"success": True}


async def update_bulk(call: ApiCall) -> object:
    """``PUT /instances/``: change several instances."""
    for instance_id in _ids(call, "ids"):
        await _update(call, call.market.find(instance_id))
    return {"success": True}


async def destroy(call: ApiCall) -> object:
    """``DELETE /instances/{id}/``."""
    await call.market.destroy(call.market.find(call.number("instance_id")))
    return {"success": True}


async def destroy_bulk(call: ApiCall) -> object:
    """``DELETE /instances/``: destroy several instances."""
    market = call.market
    found = [market.instances[each] for each in _ids(call, "instance_ids") if each in market.instances]
    if not found:
        raise ApiError(404, "instances_not_found", "No instance was found.")
    await asyncio.gather(*(market.destroy(instance) for instance in found))
    return {"success": True, "msg": f"{len(found)} instances destroyed."}


async def reboot(call: ApiCall) -> object:
    """``PUT /instances/reboot/{id}/``: restart; the disk stays."""
    await call.market.restart(call.market.find(call.number("instance_id")))
    return {"success": True}


async def recycle(call: ApiCall) -> object:
    """``PUT /instances/recycle/{id}/``: restart with an empty disk."""
    await call.market.restart(call.market.find(call.number("instance_id")), fresh=True)
    return {"success": True}


async def bid_price(call: ApiCall) -> object:
    """``PUT /instances/bid_price/{id}/``: change the bid."""
    instance = call.market.find(call.number("instance_id"))
    if instance.create_body.bid_usd_h is None:
        raise invalid("Can't change price of on-demand contract.")
    price = call.object.get("price")
    if isinstance(price, bool) or not isinstance(price, (int, float)) or price < instance.host.machine.min_bid_usd_h:
        raise invalid(f"Please set a bid price >= {instance.host.machine.min_bid_usd_h:g}.")
    instance.reprice(float(price))
    return {"success": True}


async def prepay(call: ApiCall) -> object:
    """``PUT /instances/prepay/{id}/``: prepay for an instance; a large sum brings a discount."""
    instance = call.market.find(call.number("instance_id"))
    amount = call.object.get("amount")
    if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 < amount < math.inf:
        raise invalid("'amount' must be a number above 0")
    if amount > call.market.credit_usd(time.time()):
        raise ApiError(400, "insufficient_credit", "You lack credit.")
    bought = instance.prepay(amount)
    return {"success": True, "timescale": bought.months, "discount_rate": bought.discount}


async def update_template(call: ApiCall) -> object:
    """``PUT /instances/update_template/{id}/``: change image, environment or start script for the next start."""
    instance = call.market.find(call.number("instance_id"))
    old = instance.create_body
    kept = {"image": old.image, "env": dict(old.env_pairs), "onstart": old.onstart, "runtype": old.runtype}
    create_body = parse_create_body({**kept, **call.object}, call.market.templates)
    instance.create_body = replace(
        create_body, disk_gb=old.disk_gb, label=old.label, args=old.args, bid_usd_h=old.bid_usd_h
    )
    if call.object.get("recycle"):
        await call.market.restart(instance, fresh=True)
    return {"success": True, "updated_instance": await shown(instance)}


async def request_logs(call: ApiCall) -> object:
    """``PUT /instances/request_logs/{id}/``: publish the log; the answer has its URL, which works a moment later."""
    instance_id = call.number("instance_id")
    instance = call.market.instances.get(instance_id)
    if instance is None:
        raise ApiError(404, "invalid_id", f"Invalid instance id {instance_id}.")
    options = call.object
    lines = (instance.container.log() if instance.container else "").splitlines()
    if str(options.get("daemon_logs", "")).lower() == "true":
        lines = instance.status_msg.splitlines()
    if wanted := str(options.get("filter") or ""):
        lines = [line for line in lines if wanted in line]
    try:
        tail = int(options.get("tail") or 1000)
    except (ValueError, TypeError, OverflowError):
        raise invalid("'tail' must be a number") from None
    text = "".join(f"{line}\n" for line in lines[-tail:])
    return {"success": True, "result_url": _publish(call, text), "msg": "Logs are being uploaded."}


async def command(call: ApiCall) -> object:
    """``PUT /instances/command/{id}/``: run a command on the disk of a stopped instance."""
    instance = call.market.find(call.number("instance_id"))
    if instance.actual_status == "running":
        raise invalid("Use ssh to run commands on running instances.")
    text = await run_command(str(call.object.get("command") or ""), call.market.context.disks / str(instance.id))
    return {
        "success": True,
        "writeable_path": "",
        "result_url": _publish(call, text),
        "msg": "Command is executing, wait a few seconds and then view the result_url",
    }


async def result(call: ApiCall) -> object:
    """``GET /_market/results/{token}``, which a ``result_url`` leads to: 404 until the text is published."""
    ready_at, text = call.market.results.get(call.path["token"], (float("inf"), ""))
    if time.monotonic() < ready_at:
        return PlainTextResponse("Not found", 404)
    return PlainTextResponse(text)


def _publish(call: ApiCall, text: str) -> str:
    return f"{call.base_url}/_market/results/{call.market.publish(text)}"


async def _update(call: ApiCall, instance: Instance) -> None:
    wanted = call.object
    if "label" in wanted and call.caller == "container":
        raise not_authorized()
    if "label" in wanted:
        label = wanted["label"]
        if label is not None and (not isinstance(label, str) or len(label) > _LONGEST_LABEL):
            raise invalid("label_too_long")
        instance.label = label or ""
    state = wanted.get("state")
    if state == "running":
        call.market.start(instance)
    elif state == "stopped":
        await call.market.stop(instance)
    elif state is not None or "label" not in wanted:
        raise invalid("Invalid target state")


def _ids(call: ApiCall, field: str) -> list[int]:
    ids = call.object.get(field)
    if not isinstance(ids, list) or not 0 < len(ids) <= _MOST_AT_ONCE or not all(isinstance(each, int) for each in ids):
        raise invalid(f"'{field}' must be a list of 1 to {_MOST_AT_ONCE} instance IDs")
    return ids


ENDPOINTS = (
    Endpoint("update_bulk", "PUT", "/api/v0/instances", update_bulk),
    Endpoint("destroy_bulk", "DELETE", "/api/v0/instances", destroy_bulk),
    Endpoint("reboot", "PUT", "/api/v0/instances/reboot/{instance_id}", reboot),
    Endpoint("recycle", "PUT", "/api/v0/instances/recycle/{instance_id}", recycle),
    Endpoint("bid_price", "PUT", "/api/v0/instances/bid_price/{instance_id}", bid_price),
    Endpoint("prepay", "PUT", "/api/v0/instances/prepay/{instance_id}", prepay),
    Endpoint("update_template", "PUT", "/api/v0/instances/update_template/{instance_id}", update_template),
    Endpoint("logs", "PUT", "/api/v0/instances/request_logs/{instance_id}", request_logs),
    Endpoint("command", "PUT", "/api/v0/instances/command/{instance_id}", command),
    Endpoint("show", "GET", "/api/v0/instances/{instance_id}", show, Access.OWN),
    Endpoint("update", "PUT", "/api/v0/instances/{instance_id}", update, Access.OWN),
    Endpoint("destroy", "DELETE", "/api/v0/instances/{instance_id}", destroy, Access.OWN),
    Endpoint("result", "GET", "/_market/results/{token}", result, Access.ANYONE),
)

"""Instances: list, show, start, stop, label, log, destroy."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections import Counter
from dataclasses import replace
from typing import Any

from starlette.responses import PlainTextResponse

from pytest_vastgpu.local.exchange import Access
from pytest_vastgpu.local.exchange import Endpoint
from pytest_vastgpu.local.exchange import Exchange
from pytest_vastgpu.local.execute import run_command
from pytest_vastgpu.local.instance import Instance
from pytest_vastgpu.local.instance import instance_row
from pytest_vastgpu.local.offers import Row
from pytest_vastgpu.local.offers import only
from pytest_vastgpu.local.order import parse_order
from pytest_vastgpu.local.refusal import Refusal
from pytest_vastgpu.local.refusal import invalid
from pytest_vastgpu.local.search import QueryInvalid
from pytest_vastgpu.local.search import conditions
from pytest_vastgpu.local.search import rank

_PAGE = 25
_PAGE_BELOW_ONE = 5
_LONGEST_LABEL = 1024
_MOST_AT_ONCE = 64
_STORED = frozenset(
    {
        *("id", "machine_id", "host_id", "bundle_id", "label", "is_bid", "start_date", "end_date"),
        *("actual_status", "intended_status", "cur_state", "next_state"),
        *("image_uuid", "image_runtype", "template_id", "template_hash_id"),
        *("gpu_name", "verification", "geolocation", "public_ipaddr", "ssh_host", "ssh_port"),
    }
)
"""What the list can be filtered and ordered by; what is computed from these cannot."""


async def list_v1(exchange: Exchange) -> object:
    """``GET /v1/instances/``: a page, the token of the next one, and how many there are."""
    rows = _filtered(await _rows(exchange), exchange.json_parameter("select_filters", {}))
    order = exchange.json_parameter("order_by", [{"col": "id", "dir": "asc"}])
    for each in reversed(order if isinstance(order, list) else [order]):
        column = each.get("col") if isinstance(each, dict) else each
        if not isinstance(each, dict) or not isinstance(column, str) or column not in _STORED:
            raise _unknown_key(str(column))
        rows.sort(key=lambda row: rank(row.get(column)), reverse=str(each.get("dir", "asc")).lower() == "desc")
    try:
        asked = int(exchange.query.get("limit") or _PAGE)
    except ValueError:
        raise Refusal(400, "invalid_request", "Error in query parameters: limit is not a number") from None
    limit = _PAGE_BELOW_ONE if asked <= 0 else min(asked, _PAGE)
    start = _position(rows, exchange.query.get("after_token"))
    page = rows[start : start + limit]
    columns = exchange.columns(exchange.json_parameter("select_cols", None))
    return {
        "success": True,
        "total_instances": len(rows),
        "label_counts": Counter(row["label"] or "" for row in rows),
        "instances_found": len(page),
        "instances": [only(row, columns) for row in page],
        "next_token": _token(page[-1]["id"]) if start + limit < len(rows) else None,
    }


async def list_v0(_: Exchange) -> object:
    """``GET /v0/instances/``: withdrawn."""
    text = "/api/v0/instances/ is deprecated. Use /api/v1/instances/ instead."
    raise Refusal(410, "deprecated_endpoint", text)


async def filters(exchange: Exchange) -> object:
    """``GET /instances/filters/``: the values that instances have."""
    rows = await _rows(exchange)
    names = ("actual_status", "verification", "gpu_name")
    return {"success": True, "filters": [{name: row[name] for name in names} for row in rows]}


async def show(exchange: Exchange) -> object:
    """``GET /instances/{id}/``: null for one that is not there."""
    instance = exchange.market.instances.get(exchange.number("instance_id"))
    return {"instances": None if instance is None else await _row(instance)}


async def update(exchange: Exchange) -> object:
    """``PUT /instances/{id}/``: a state, a label, or both."""
    await _update(exchange, exchange.market.find(exchange.number("instance_id")))
    return {"success": True}


async def update_bulk(exchange: Exchange) -> object:
    """``PUT /instances/``: the same for many."""
    for instance_id in _ids(exchange, "ids"):
        await _update(exchange, exchange.market.find(instance_id))
    return {"success": True}


async def destroy(exchange: Exchange) -> object:
    """``DELETE /instances/{id}/``."""
    await exchange.market.destroy(exchange.market.find(exchange.number("instance_id")))
    return {"success": True}


async def destroy_bulk(exchange: Exchange) -> object:
    """``DELETE /instances/``: many at once."""
    market = exchange.market
    found = [market.instances[each] for each in _ids(exchange, "instance_ids") if each in market.instances]
    if not found:
        raise Refusal(404, "instances_not_found", "No instance was found.")
    await asyncio.gather(*(market.destroy(instance) for instance in found))
    return {"success": True, "msg": f"{len(found)} instances destroyed."}


async def reboot(exchange: Exchange) -> object:
    """``PUT /instances/reboot/{id}/``: the processes end, the disk stays."""
    await exchange.market.restart(exchange.market.find(exchange.number("instance_id")))
    return {"success": True}


async def recycle(exchange: Exchange) -> object:
    """``PUT /instances/recycle/{id}/``: a new container from the image."""
    await exchange.market.restart(exchange.market.find(exchange.number("instance_id")), fresh=True)
    return {"success": True}


async def bid_price(exchange: Exchange) -> object:
    """``PUT /instances/bid_price/{id}/``."""
    instance = exchange.market.find(exchange.number("instance_id"))
    if instance.order.bid_usd_h is None:
        raise invalid("Can't change price of on-demand contract.")
    price = exchange.object.get("price")
    if isinstance(price, bool) or not isinstance(price, (int, float)) or price < instance.host.machine.min_bid_usd_h:
        raise invalid(f"Please set a bid price >= {instance.host.machine.min_bid_usd_h:g}.")
    instance.reprice(float(price))
    return {"success": True}


async def update_template(exchange: Exchange) -> object:
    """``PUT /instances/update_template/{id}/``: another image, environment or start script, from the next start on."""
    instance = exchange.market.find(exchange.number("instance_id"))
    old = instance.order
    kept = {"image": old.image, "env": dict(old.env_pairs), "onstart": old.onstart, "runtype": old.runtype}
    order = parse_order({**kept, **exchange.object}, exchange.market.templates)
    instance.order = replace(order, disk_gb=old.disk_gb, label=old.label, args=old.args, bid_usd_h=old.bid_usd_h)
    if exchange.object.get("recycle"):
        await exchange.market.restart(instance, fresh=True)
    return {"success": True, "updated_instance": await _row(instance)}


async def request_logs(exchange: Exchange) -> object:
    """``PUT /instances/request_logs/{id}/``: where the log will be in a moment."""
    instance = exchange.market.find(exchange.number("instance_id"))
    asked = exchange.object
    lines = (instance.container.log() if instance.container else "").splitlines()
    if str(asked.get("daemon_logs", "")).lower() == "true":
        lines = instance.status_msg.splitlines()
    if wanted := str(asked.get("filter") or ""):
        lines = [line for line in lines if wanted in line]
    try:
        tail = int(asked.get("tail") or 1000)
    except (ValueError, TypeError, OverflowError):
        raise invalid("'tail' must be a number") from None
    text = "".join(f"{line}\n" for line in lines[-tail:])
    return {"success": True, "result_url": _publish(exchange, text), "msg": "Logs are being uploaded."}


async def command(exchange: Exchange) -> object:
    """``PUT /instances/command/{id}/``: a look at the disk of a stopped instance."""
    instance = exchange.market.find(exchange.number("instance_id"))
    if instance.actual_status == "running":
        raise invalid("Use ssh to run commands on running instances.")
    text = await run_command(str(exchange.object.get("command") or ""), exchange.market.site.disks / str(instance.id))
    return {
        "success": True,
        "writeable_path": "",
        "result_url": _publish(exchange, text),
        "msg": "Command is executing, wait a few seconds and then view the result_url",
    }


async def result(exchange: Exchange) -> object:
    """What ``result_url`` leads to: 404 until it is there."""
    ready_at, text = exchange.market.results.get(exchange.path["token"], (float("inf"), ""))
    if time.monotonic() < ready_at:
        return PlainTextResponse("Not found", 404)
    return PlainTextResponse(text)


def _publish(exchange: Exchange, text: str) -> str:
    return f"{exchange.base_url}/_market/results/{exchange.market.publish(text)}"


async def _update(exchange: Exchange, instance: Instance) -> None:
    wanted = exchange.object
    if "label" in wanted:
        label = wanted["label"]
        if label is not None and (not isinstance(label, str) or len(label) > _LONGEST_LABEL):
            raise invalid("label_too_long")
        instance.label = label or ""
    state = wanted.get("state")
    if state == "running":
        exchange.market.start(instance)
    elif state == "stopped":
        await exchange.market.stop(instance)
    elif state is not None or "label" not in wanted:
        raise invalid("Invalid target state")


def _ids(exchange: Exchange, field: str) -> list[int]:
    ids = exchange.object.get(field)
    if not isinstance(ids, list) or not 0 < len(ids) <= _MOST_AT_ONCE or not all(isinstance(each, int) for each in ids):
        raise invalid(f"'{field}' must be a list of 1 to {_MOST_AT_ONCE} instance IDs")
    return ids


async def _rows(exchange: Exchange) -> list[Row]:
    return [await _row(instance) for instance in list(exchange.market.instances.values())]


async def _row(instance: Instance) -> Row:
    await instance.measure()
    return instance_row(instance, time.time())


def _filtered(rows: list[Row], wanted: object) -> list[Row]:
    if not isinstance(wanted, dict):
        raise Refusal(400, "invalid_request", "Error in query parameters: select_filters must be an object")
    for key, tests in wanted.items():
        if key not in _STORED:
            raise _unknown_key(key)
        try:
            checks = conditions(key, tests)
        except QueryInvalid as error:
            raise Refusal(400, "invalid_request", str(error)) from error
        rows = [row for row in rows if all(check.holds(row.get(key)) for check in checks)]
    return rows


def _unknown_key(key: str) -> Refusal:
    return Refusal(400, "invalid_request", f"Error in query parameters: {key} is not a valid search key")


def _token(last_id: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"values": {"id": last_id}}).encode()).decode()


def _position(rows: list[Row], token: str | None) -> int:
    """Where the page after a token starts: after the instance that was last, or where it was if it is gone."""
    if not token:
        return 0
    try:
        values: Any = json.loads(base64.urlsafe_b64decode(token))
        last = int(values["values"]["id"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise Refusal(400, "invalid_token", "Invalid token") from None
    at = next((index for index, row in enumerate(rows) if row["id"] == last), None)
    return at + 1 if at is not None else sum(1 for row in rows if row["id"] < last)


ENDPOINTS = (
    Endpoint("list", "GET", "/api/v1/instances", list_v1),
    Endpoint("list_v0", "GET", "/api/v0/instances", list_v0),
    Endpoint("update_bulk", "PUT", "/api/v0/instances", update_bulk),
    Endpoint("destroy_bulk", "DELETE", "/api/v0/instances", destroy_bulk),
    Endpoint("filters", "GET", "/api/v0/instances/filters", filters),
    Endpoint("reboot", "PUT", "/api/v0/instances/reboot/{instance_id}", reboot),
    Endpoint("recycle", "PUT", "/api/v0/instances/recycle/{instance_id}", recycle),
    Endpoint("bid_price", "PUT", "/api/v0/instances/bid_price/{instance_id}", bid_price),
    Endpoint("update_template", "PUT", "/api/v0/instances/update_template/{instance_id}", update_template),
    Endpoint("logs", "PUT", "/api/v0/instances/request_logs/{instance_id}", request_logs),
    Endpoint("command", "PUT", "/api/v0/instances/command/{instance_id}", command),
    Endpoint("show", "GET", "/api/v0/instances/{instance_id}", show, Access.OWN),
    Endpoint("update", "PUT", "/api/v0/instances/{instance_id}", update, Access.OWN),
    Endpoint("destroy", "DELETE", "/api/v0/instances/{instance_id}", destroy, Access.OWN),
    Endpoint("result", "GET", "/_market/results/{token}", result, Access.ANYONE),
)

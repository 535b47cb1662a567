"""Search and create."""

from __future__ import annotations

import time
from typing import Any

from pytest_vastgpu.local.api.call import Access
from pytest_vastgpu.local.api.call import ApiCall
from pytest_vastgpu.local.api.call import Endpoint
from pytest_vastgpu.local.api.errors import ApiError
from pytest_vastgpu.local.api.errors import invalid
from pytest_vastgpu.local.api.rate_limits import until_tomorrow_s
from pytest_vastgpu.local.api.responses import overlaid
from pytest_vastgpu.local.faults.effects import Says
from pytest_vastgpu.local.market.create_body import CreateBody
from pytest_vastgpu.local.market.create_body import parse_create_body
from pytest_vastgpu.local.market.offer_rows import Row
from pytest_vastgpu.local.market.offer_rows import only
from pytest_vastgpu.local.market.query import QueryInvalid
from pytest_vastgpu.local.market.query import evaluate
from pytest_vastgpu.local.market.query import parse_query

_MOST_AT_ONCE = 64


async def search(exchange: ApiCall) -> object:
    """``POST /bundles/``: the body is the query."""
    return {"offers": _found(exchange, exchange.body)}


async def search_get(exchange: ApiCall) -> object:
    """``GET /bundles/?q=``."""
    return {"offers": _found(exchange, exchange.json_parameter("q", {}))}


async def search_asks(exchange: ApiCall) -> object:
    """``PUT /search/asks/``: the query is ``q`` of the body, ``select_cols`` says what to show."""
    columns = exchange.columns(exchange.object.get("select_cols"))
    rows = _found(exchange, exchange.object.get("q") or {})
    return {"success": True, "offers": [only(row, columns) for row in rows]}


async def create(exchange: ApiCall) -> object:
    """``PUT /asks/{id}/``."""
    order = parse_create_body(exchange.body, exchange.market.templates)
    return _created(exchange, exchange.number("offer_id"), order)


async def create_bulk(exchange: ApiCall) -> object:
    """``POST /asks/bulk/``: the same for many offers; each has its own result."""
    began = time.monotonic()
    ids = exchange.object.get("ids")
    if not isinstance(ids, list) or not 0 < len(ids) <= _MOST_AT_ONCE or not all(isinstance(each, int) for each in ids):
        raise invalid(f"'ids' must be a list of 1 to {_MOST_AT_ONCE} offer IDs")
    order = parse_create_body(exchange.body, exchange.market.templates)
    results: list[dict[str, Any]] = []
    for offer_id in ids:
        try:
            made = _created(exchange, offer_id, order)
            results.append({"ask_id": offer_id, **made, "state": "running" if order.starts else "stopped"})
        except ApiError as refusal:
            results.append({"ask_id": offer_id, **refusal.body})
    return {
        "success": all(result["success"] for result in results),
        "results": results,
        "created": [result["new_contract"] for result in results if result["success"]],
        "failed": [result["ask_id"] for result in results if not result["success"]],
        "elapsed": time.monotonic() - began,
    }


async def launch(exchange: ApiCall) -> object:
    """``PUT /launch_instance/``: search with ``q`` and create from the first offer that can still be had."""
    order = parse_create_body(exchange.body, exchange.market.templates)
    for row in _found(exchange, exchange.object.get("q") or {}):
        try:
            return _created(exchange, row["id"], order)
        except ApiError as refusal:
            if refusal.code != "no_such_ask":
                raise
    raise ApiError(404, "no_such_ask", "No offers found that match the query.")


async def gpu_names(exchange: ApiCall) -> object:
    """``GET /gpu_names/unique/``."""
    names = {row["gpu_name"] for row in exchange.market.shelf.rows()}
    return {"success": True, "gpu_names": sorted(filter(None, names))}


def _created(exchange: ApiCall, offer_id: int, order: CreateBody) -> dict[str, Any]:
    instance = exchange.market.create(offer_id, order, exchange.user_agent)
    return {"success": True, "new_contract": instance.id, "instance_api_key": instance.api_key}


def _found(exchange: ApiCall, query: object) -> list[Row]:
    market = exchange.market
    try:
        parsed = parse_query({} if query is None else query, market.fleet.rules.offers_per_search)
    except QueryInvalid as error:
        code = "invalid_request" if not isinstance(query, dict) else "bad_request"
        raise ApiError(400, code, str(error)) from error
    now = time.time()
    if market.fleet.rules.rate_limits and market.quota.left(now) == 0:
        seconds, limit = until_tomorrow_s(now), market.quota.rows
        text = "Daily search quota exceeded"
        raise ApiError(429, "search_quota_exceeded", text, retry_after=seconds, limit=limit, remaining=0)
    rows = evaluate(parsed, market.shelf.rows())
    market.quota.use(len(rows))
    return [_as_told(exchange, row) for row in rows]


def _as_told(exchange: ApiCall, row: Row) -> Row:
    """An offer as faults of its machine have it."""
    host = exchange.market.shelf.host(row["id"])
    said = {
        fault.parameters["field"]: fault.parameters["says"]
        for fault in (host.faults if host else ())
        if isinstance(fault.effect, Says) and fault.effect.of == "offer"
    }
    return overlaid(row, said) if said else row


ENDPOINTS = (
    Endpoint("search", "POST", "/api/v0/bundles", search, Access.ANYONE),
    Endpoint("search_get", "GET", "/api/v0/bundles", search_get, Access.ANYONE),
    Endpoint("search", "PUT", "/api/v0/search/asks", search_asks, Access.ANYONE),
    Endpoint("create_bulk", "POST", "/api/v0/asks/bulk", create_bulk),
    Endpoint("create", "PUT", "/api/v0/asks/{offer_id}", create),
    Endpoint("launch", "PUT", "/api/v0/launch_instance", launch),
    Endpoint("gpu_names", "GET", "/api/v0/gpu_names/unique", gpu_names, Access.ANYONE),
)

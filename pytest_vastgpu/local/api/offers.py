"""Endpoints that search offers and create instances."""

from __future__ import annotations

import time
from typing import Any

from pytest_vastgpu.local.api.call import Access
from pytest_vastgpu.local.api.call import ApiCall
from pytest_vastgpu.local.api.call import Endpoint
from pytest_vastgpu.local.faults.effects import Says
from pytest_vastgpu.local.market.create_body import CreateBody
from pytest_vastgpu.local.market.create_body import parse_create_body
from pytest_vastgpu.local.market.errors import ApiError
from pytest_vastgpu.local.market.errors import invalid
from pytest_vastgpu.local.market.offer_rows import Row
from pytest_vastgpu.local.market.offer_rows import only
from pytest_vastgpu.local.market.offer_rows import overlaid
from pytest_vastgpu.local.market.query import QueryInvalid
from pytest_vastgpu.local.market.query import evaluate
from pytest_vastgpu.local.market.query import parse_query
from pytest_vastgpu.local.market.rate_limits import until_tomorrow_s

_MOST_AT_ONCE = 64


async def search(call: ApiCall) -> object:
    """``POST /bundles/``: search; the body is the query."""
    return {"offers": _found(call, call.body)}


async def search_get(call: ApiCall) -> object:
    """``GET /bundles/?q=``: search."""
    return {"offers": _found(call, call.json_parameter("q", {}))}


async def search_asks(call: ApiCall) -> object:
    """``PUT /search/asks/``: search; the query is ``q`` of the body, ``select_cols`` selects columns."""
    columns = call.columns(call.object.get("select_cols"))
    rows = _found(call, call.object.get("q") or {})
    return {"success": True, "offers": [only(row, columns) for row in rows]}


async def create(call: ApiCall) -> object:
    """``PUT /asks/{id}/``: create an instance from an offer."""
    create_body = parse_create_body(call.body, call.market.templates)
    return _created(call, call.number("offer_id"), create_body)


async def create_bulk(call: ApiCall) -> object:
    """``POST /asks/bulk/``: create an instance from each of several offers; each has its own result."""
    began = time.monotonic()
    ids = call.object.get("ids")
    if not isinstance(ids, list) or not 0 < len(ids) <= _MOST_AT_ONCE or not all(isinstance(each, int) for each in ids):
        raise invalid(f"'ids' must be a list of 1 to {_MOST_AT_ONCE} offer IDs")
    create_body = parse_create_body(call.body, call.market.templates)
    results: list[dict[str, Any]] = []
    for offer_id in ids:
        try:
            made = _created(call, offer_id, create_body)
            results.append({"ask_id": offer_id, **made, "state": "running" if create_body.starts else "stopped"})
        except ApiError as error:
            results.append({"ask_id": offer_id, **error.body})
    return {
        "success": all(result["success"] for result in results),
        "results": results,
        "created": [result["new_contract"] for result in results if result["success"]],
        "failed": [result["ask_id"] for result in results if not result["success"]],
        "elapsed": time.monotonic() - began,
    }


async def launch(call: ApiCall) -> object:
    """``PUT /launch_instance/``: search with ``q`` and create from the first offer that is still free."""
    create_body = parse_create_body(call.body, call.market.templates)
    for row in _found(call, call.object.get("q") or {}):
        try:
            return _created(call, row["id"], create_body)
        except ApiError as error:
            if error.code != "no_such_ask":
                raise
    raise ApiError(404, "no_such_ask", "No offers found that match the query.")


async def gpu_names(call: ApiCall) -> object:
    """``GET /gpu_names/unique/``: the GPU names of all offers."""
    names = {row["gpu_name"] for row in call.market.listings.rows()}
    return {"success": True, "gpu_names": sorted(filter(None, names))}


def _created(call: ApiCall, offer_id: int, create_body: CreateBody) -> dict[str, Any]:
    instance = call.market.create(offer_id, create_body, call.user_agent)
    return {"success": True, "new_contract": instance.id, "instance_api_key": instance.api_key}


def _found(call: ApiCall, query: object) -> list[Row]:
    market = call.market
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
    rows = evaluate(parsed, market.listings.rows())
    market.quota.use(len(rows))
    return [_with_faults(call, row) for row in rows]


def _with_faults(call: ApiCall, row: Row) -> Row:
    """Replace the fields of an offer that faults of its machine change."""
    host = call.market.listings.host(row["id"])
    overrides = {
        fault.parameters["field"]: fault.parameters["says"]
        for fault in (host.faults if host else ())
        if isinstance(fault.effect, Says) and fault.effect.of == "offer"
    }
    return overlaid(row, overrides) if overrides else row


ENDPOINTS = (
    Endpoint("search", "POST", "/api/v0/bundles", search, Access.ANYONE),
    Endpoint("search_get", "GET", "/api/v0/bundles", search_get, Access.ANYONE),
    Endpoint("search", "PUT", "/api/v0/search/asks", search_asks, Access.ANYONE),
    Endpoint("create_bulk", "POST", "/api/v0/asks/bulk", create_bulk),
    Endpoint("create", "PUT", "/api/v0/asks/{offer_id}", create),
    Endpoint("launch", "PUT", "/api/v0/launch_instance", launch),
    Endpoint("gpu_names", "GET", "/api/v0/gpu_names/unique", gpu_names, Access.ANYONE),
)

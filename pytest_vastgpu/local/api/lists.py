"""Endpoints that list instances."""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from typing import Any

from pytest_vastgpu.local.api.call import ApiCall
from pytest_vastgpu.local.api.call import Endpoint
from pytest_vastgpu.local.market.errors import ApiError
from pytest_vastgpu.local.market.instance import shown
from pytest_vastgpu.local.market.offer_rows import Row
from pytest_vastgpu.local.market.offer_rows import only
from pytest_vastgpu.local.market.query import QueryInvalid
from pytest_vastgpu.local.market.query import conditions
from pytest_vastgpu.local.market.query import rank

_PAGE = 25
_PAGE_BELOW_ONE = 5
_STORED = frozenset(
    {
        *("id", "machine_id", "host_id", "bundle_id", "label", "is_bid", "start_date", "end_date"),
        *("actual_status", "intended_status", "cur_state", "next_state"),
        *("image_uuid", "image_runtype", "template_id", "template_hash_id"),
        *("gpu_name", "verification", "geolocation", "public_ipaddr", "ssh_host", "ssh_port"),
    }
)
"""The fields to filter and sort by. Vast does not allow the others, which it computes."""


async def list_v1(call: ApiCall) -> object:
    """``GET /v1/instances/``: a page of the list, with the token of the next page and the number of instances."""
    rows = _filtered(await _rows(call), call.json_parameter("select_filters", {}))
    order = call.json_parameter("order_by", [{"col": "id", "dir": "asc"}])
    for each in reversed(order if isinstance(order, list) else [order]):
        column = each.get("col") if isinstance(each, dict) else each
        if not isinstance(each, dict) or not isinstance(column, str) or column not in _STORED:
            raise _unknown_key(str(column))
        rows.sort(key=lambda row: rank(row.get(column)), reverse=str(each.get("dir", "asc")).lower() == "desc")
    try:
        requested = int(call.query.get("limit") or _PAGE)
    except ValueError:
        raise ApiError(400, "invalid_request", "Error in query parameters: limit is not a number") from None
    limit = _PAGE_BELOW_ONE if requested <= 0 else min(requested, _PAGE)
    start = _position(rows, call.query.get("after_token"))
    page = rows[start : start + limit]
    columns = call.columns(call.json_parameter("select_cols", None))
    return {
        "success": True,
        "total_instances": len(rows),
        "label_counts": Counter(row["label"] or "" for row in rows),
        "instances_found": len(page),
        "instances": [only(row, columns) for row in page],
        "next_token": _token(page[-1]["id"]) if start + limit < len(rows) else None,
    }


async def list_v0(call: ApiCall) -> object:
    """``GET /v0/instances/``: withdrawn; with the fleet's ``list_v0`` it answers, as for old accounts."""
    if call.market.fleet.rules.list_v0:
        rows = await _rows(call)
        return {"success": True, "instances_found": len(rows), "instances": rows}
    text = "/api/v0/instances/ is deprecated. Use /api/v1/instances/ instead."
    raise ApiError(410, "deprecated_endpoint", text)


async def filters(call: ApiCall) -> object:
    """``GET /instances/filters/``: the values of three fields, for each instance."""
    rows = await _rows(call)
    names = ("actual_status", "verification", "gpu_name")
    return {"success": True, "filters": [{name: row[name] for name in names} for row in rows]}


async def _rows(call: ApiCall) -> list[Row]:
    return [await shown(instance) for instance in list(call.market.instances.values())]


def _filtered(rows: list[Row], wanted: object) -> list[Row]:
    if not isinstance(wanted, dict):
        raise ApiError(400, "invalid_request", "Error in query parameters: select_filters must be an object")
    for key, tests in wanted.items():
        if key not in _STORED:
            raise _unknown_key(key)
        try:
            checks = conditions(key, tests)
        except QueryInvalid as error:
            raise ApiError(400, "invalid_request", str(error)) from error
        rows = [row for row in rows if all(check.holds(row.get(key)) for check in checks)]
    return rows


def _unknown_key(key: str) -> ApiError:
    return ApiError(400, "invalid_request", f"Error in query parameters: {key} is not a valid search key")


def _token(last_id: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"values": {"id": last_id}}).encode()).decode()


def _position(rows: list[Row], token: str | None) -> int:
    """Return the index where the page after a token starts, also if the last instance of the page before is gone."""
    if not token:
        return 0
    try:
        values: Any = json.loads(base64.urlsafe_b64decode(token))
        last = int(values["values"]["id"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise ApiError(400, "invalid_token", "Invalid token") from None
    at = next((index for index, row in enumerate(rows) if row["id"] == last), None)
    return at + 1 if at is not None else sum(1 for row in rows if row["id"] < last)


ENDPOINTS = (
    Endpoint("list", "GET", "/api/v1/instances", list_v1),
    Endpoint("list_v0", "GET", "/api/v0/instances", list_v0),
    Endpoint("filters", "GET", "/api/v0/instances/filters", filters),
)

"""Endpoints of the account: its data, SSH keys, templates and spending."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

from starlette.responses import PlainTextResponse

from pytest_vastgpu.local.api import certificate
from pytest_vastgpu.local.api.call import Access
from pytest_vastgpu.local.api.call import ApiCall
from pytest_vastgpu.local.api.call import Endpoint
from pytest_vastgpu.local.faults.effects import Says
from pytest_vastgpu.local.market.account_keys import KeyRecord
from pytest_vastgpu.local.market.account_keys import checked_key
from pytest_vastgpu.local.market.account_keys import same_key
from pytest_vastgpu.local.market.errors import ApiError
from pytest_vastgpu.local.market.errors import invalid
from pytest_vastgpu.local.market.errors import not_authorized
from pytest_vastgpu.local.market.offer_rows import overlaid
from pytest_vastgpu.local.market.query import QueryInvalid
from pytest_vastgpu.local.market.query import conditions

_LONGEST_REPORT = 512


async def current_user(call: ApiCall) -> object:
    """``GET /users/current``."""
    market, now = call.market, time.time()
    overrides = {
        fault.parameters["field"]: fault.parameters["says"]
        for fault in market.fleet.faults
        if isinstance(fault.effect, Says) and fault.effect.of == "account"
    }
    row = {
        "id": 1,
        "username": "local",
        "email": "local@localhost",
        "fullname": "Local Market",
        "credit": market.credit_usd(now),
        "balance": 0.0,
        "balance_threshold": 0.0,
        "balance_threshold_enabled": False,
        "ssh_key": "",
        "sid": "",
        "key_id": 1,
        "api_key": "",  # older clients remove it before they show the rest, and fail if it is missing
        "has_billing": True,
        "can_pay": True,
        "total_spend": -market.spent_usd(now),
        "rights": {},
    }
    return overlaid(row, overrides)


async def spend_rate(call: ApiCall) -> object:
    """``GET /users/spend-rate``: USD an hour of all instances in their present states."""
    instances = call.market.instances.values()
    return {
        "gpu_cost_per_hour": sum(each.gpu_usd_h for each in instances if each.actual_status == "running"),
        "container_storage_cost_per_hour": sum(each.rates.storage_usd_h for each in instances),
        "volume_storage_cost_per_hour": 0.0,
        "has_active_resources": bool(instances),
    }


# --- SSH keys ---------------------------------------------------------------------------------------------------------


async def list_keys(call: ApiCall) -> object:
    """``GET /ssh/``."""
    return [record.row() for record in call.market.keyring.records.values()]


async def add_key(call: ApiCall) -> object:
    """``POST /ssh/``: add a key for new instances."""
    return {"success": True, "key": call.market.keyring.add(call.object.get("ssh_key")).row()}


async def change_key(call: ApiCall) -> object:
    """``PUT /ssh/{id}/``: replace a key."""
    record = call.market.keyring.find(call.number("key_id"))
    record.line = checked_key(call.object.get("ssh_key"))
    return {"success": True, "key": record.row()}


async def delete_key(call: ApiCall) -> object:
    """``DELETE /ssh/{id}/``."""
    record = call.market.keyring.find(call.number("key_id"))
    del call.market.keyring.records[record.id]
    return {"success": True}


async def instance_keys(call: ApiCall) -> object:
    """``GET /instances/{id}/ssh/``: the keys, as JSON within a JSON string."""
    instance = call.market.find(call.number("instance_id"))
    rows = [KeyRecord(key_id, line).row() for key_id, line in instance.keys]
    return {"success": True, "ssh_keys": json.dumps(rows)}


async def attach_key(call: ApiCall) -> object:
    """``POST /instances/{id}/ssh/``: attach a key; the account gets it too."""
    instance = call.market.find(call.number("instance_id"))
    line = checked_key(call.object.get("ssh_key"))
    if any(same_key(line, known) for _, known in instance.keys):
        return {"success": False, "msg": "SSH key already associated with instance."}
    record = call.market.keyring.find_or_add(line)
    instance.keys.append((record.id, record.line))
    if instance.container is not None:
        instance.container.add_key(record.line)
    return {"success": True, "msg": "SSH key added to instance.", "key": json.dumps(record.row())}


async def detach_key(call: ApiCall) -> object:
    """``DELETE /instances/{id}/ssh/{key}/``."""
    instance = call.market.find(call.number("instance_id"))
    key_id = call.number("key_id")
    for known_id, line in instance.keys:
        if known_id == key_id:
            instance.keys.remove((known_id, line))
            if instance.container is not None:
                instance.container.remove_key(line)
            return {"success": True}
    raise invalid(f"no_ssh_key: {key_id}")


# --- templates --------------------------------------------------------------------------------------------------------


async def list_templates(call: ApiCall) -> object:
    """``GET /template/``."""
    wanted = call.json_parameter("select_filters", {})
    if not isinstance(wanted, dict):
        raise ApiError(400, "invalid_request", "Error in query parameters: select_filters must be an object")
    rows = list(call.market.templates.values())
    try:
        checks = [check for field, tests in wanted.items() for check in conditions(field, tests)]
    except QueryInvalid as error:
        raise ApiError(400, "invalid_request", str(error)) from error
    found = [row for row in rows if all(check.holds(row.get(check.field)) for check in checks)]
    return {"success": True, "templates_found": len(found), "templates": found}


async def add_template(call: ApiCall) -> object:
    """``POST /template/``: add a template; its hash is that of its content."""
    body = call.object
    if not isinstance(body.get("name"), str) or not isinstance(body.get("image"), str):
        raise invalid("'name' and 'image' are required")
    template = _template(body, len(call.market.templates) + 1)
    known = call.market.templates.setdefault(template["hash_id"], template)
    if known is not template:
        return {"success": False, "msg": "Existing Template Found", "template": known}
    return {"success": True, "template": template}


async def change_template(call: ApiCall) -> object:
    """``PUT /template/``, in version 0 and 1: change the template with this ``hash_id``; its hash changes too."""
    old = call.market.templates.pop(str(call.object.get("hash_id")), None)
    if old is None:
        raise ApiError(404, "no_such_template", "Template not found")
    template = _template({**old, **call.object}, old["id"])
    call.market.templates[template["hash_id"]] = template
    return {"success": True, "template": template}


async def delete_template(call: ApiCall) -> object:
    """``DELETE /template/``: delete by ``hash_id`` or ``template_id``."""
    body, templates = call.object, call.market.templates
    for known in list(templates.values()):
        if known["hash_id"] == body.get("hash_id") or known["id"] == body.get("template_id"):
            del templates[known["hash_id"]]
            return {"success": True, "msg": "Template deleted"}
    raise ApiError(404, "no_such_template", "Template not found")


def _template(body: dict[str, Any], template_id: int) -> dict[str, Any]:
    content = {name: value for name, value in body.items() if name not in {"hash_id", "id"}}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
    runtype = body.get("runtype") or ("ssh_direc ssh_proxy" if body.get("ssh_direct") else "ssh")
    return {"tag": "", "env": "", "onstart": "", **content, "runtype": runtype, "id": template_id, "hash_id": digest}


# --- others -----------------------------------------------------------------------------------------------------------


async def report(call: ApiCall) -> object:
    """``PUT /machines/{id}/report``: only an account with an instance on the machine may report it."""
    machine_id = call.number("machine_id")
    if all(each.host.machine.machine_id != machine_id for each in call.market.instances.values()):
        raise not_authorized()
    if len(str(call.object.get("message") or "")) > _LONGEST_REPORT:
        raise invalid(f"'message' must be at most {_LONGEST_REPORT} characters long")
    return {"success": True}


async def root_certificate(_: ApiCall) -> object:
    """``GET /static/jvastai_root.cer``."""
    return PlainTextResponse(certificate.root_certificate())


ENDPOINTS = (
    Endpoint("account", "GET", "/api/v0/users/current", current_user),
    Endpoint("spend_rate", "GET", "/api/v0/users/spend-rate", spend_rate),
    Endpoint("keys", "GET", "/api/v0/ssh", list_keys),
    Endpoint("keys", "POST", "/api/v0/ssh", add_key),
    Endpoint("keys", "PUT", "/api/v0/ssh/{key_id}", change_key),
    Endpoint("delete_key", "DELETE", "/api/v0/ssh/{key_id}", delete_key),
    Endpoint("instance_keys", "GET", "/api/v0/instances/{instance_id}/ssh", instance_keys),
    Endpoint("instance_keys", "POST", "/api/v0/instances/{instance_id}/ssh", attach_key),
    Endpoint("instance_keys", "DELETE", "/api/v0/instances/{instance_id}/ssh/{key_id}", detach_key),
    Endpoint("templates", "GET", "/api/v0/template", list_templates),
    Endpoint("templates", "POST", "/api/v0/template", add_template),
    Endpoint("templates", "PUT", "/api/v0/template", change_template),
    Endpoint("templates", "PUT", "/api/v1/template", change_template),
    Endpoint("templates", "DELETE", "/api/v0/template", delete_template),
    Endpoint("report", "PUT", "/api/v0/machines/{machine_id}/report", report),
    Endpoint("root_certificate", "GET", "/static/jvastai_root.cer", root_certificate, Access.ANYONE),
)

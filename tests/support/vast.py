"""Values of the provider, told in the words of Vast's API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytest_vastgpu.model import Offer
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.vast import schema
from pytest_vastgpu.providers.vast.client import MarketClient

_INSTANCE: Mapping[str, Any] = {
    "id": 555,
    "label": "vastgpu-abcd1234-1-7fffffff",
    "machine_id": 42,
    "host_id": 7,
    "actual_status": "loading",
    "intended_status": "running",
    "cur_state": "loading",
    "dph_total": 0.36,
}


def make_status(**changes: Any) -> InstanceStatus:
    """An instance as the API shows it; fields that no row has are those of our own value."""
    ports = {name: [{"HostPort": str(port)}] for name, port in changes.pop("ports", {}).items()}
    ours = {name: changes.pop(name) for name in ("price_usd_h", "disk_usage_gb", "incredible") if name in changes}
    status = schema.one_instance({"instances": {**_INSTANCE, "ports": ports, **changes}})
    assert status is not None
    return replace(status, **ours)


def search_offers(client: Provider, query: Mapping[str, object]) -> list[Offer]:
    """What a search in the API's own words gives."""
    assert isinstance(client, MarketClient)
    return schema.offers(client._transport.call("POST", "search", "/api/v0/bundles/", doing="search", body=query))

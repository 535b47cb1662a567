"""Translates a search into Vast's query language. Pure."""

from __future__ import annotations

from pytest_vastgpu.selection.offer_query import OfferQuery

_FIELDS: dict[str, tuple[str, float]] = {
    "num_gpus": ("num_gpus", 1),
    "gpu_name": ("gpu_name", 1),
    "gpu_ram_mb": ("gpu_ram", 1),
    "compute_cap": ("compute_cap", 100),
    "cuda_max_good": ("cuda_max_good", 1),
    "disk_space_gb": ("disk_space", 1),
    "rentable": ("rentable", 1),
    "rented": ("rented", 1),
    "verified": ("verified", 1),
    "duration_s": ("duration", 1),
    "reliability": ("reliability", 1),
    "direct_port_count": ("direct_port_count", 1),
    "inet_down_mbps": ("inet_down", 1),
    "geolocation": ("geolocation", 1),
    "price_usd_h": ("dph_total", 1),
}
"""By our name of an offer's field: Vast's name, and the factor from our unit to Vast's."""
_OPERATORS = {"==": "eq", ">=": "gte", "<=": "lte", "not in": "notin"}


def search_body(query: OfferQuery) -> dict[str, object]:
    """The body of a search request."""
    body: dict[str, object] = {
        "type": "on-demand",
        "order": [["dph_total", "asc"]],
        "limit": query.limit,
        "allocated_storage": query.disk_gb,
    }
    for each in query.filters:
        name, scale = _FIELDS[each.field]
        value: object = each.value
        if isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, float) or scale != 1:
            value = round(float(each.value) * scale, 6)  # type: ignore[arg-type] # texts have no scale
        body[name] = {_OPERATORS[each.operator]: value}
    return body

"""The status of the market: its instances and who created them, their costs, the calls of the API."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from pytest_vastgpu.local.market.instance import Instance
from pytest_vastgpu.local.market.market import Market


def status(market: Market) -> dict[str, Any]:
    """Return the status as JSON values.

    Money is in USD, times are epoch seconds, ``spacing_s`` is the smallest time between two calls.
    """
    now = time.time()
    return {
        "url": market.context.url,
        "started_at": market.started_at,
        "now": now,
        "not_isolated": market.not_isolated,
        "credit_usd": market.credit_usd(now),
        "spent_usd": market.spent_usd(now),
        "alive": [_instance(instance, now) for instance in market.instances.values()],
        "ended": [{**_instance(each.instance, each.ended_at), "ended_at": each.ended_at} for each in market.history],
        "rents_per_label": dict(market.rents),
        "calls": [
            {
                "endpoint": endpoint,
                "key": caller,
                "count": calls.count,
                "rate_limited": calls.rate_limited,
                "spacing_s": calls.spacing_s,
            }
            for (caller, endpoint), calls in sorted(market.calls.by_key.items())
        ],
    }


def _instance(instance: Instance, until: float) -> dict[str, Any]:
    due = instance.bill(until)
    return {
        "id": instance.id,
        "label": instance.label,
        "machine_id": instance.host.machine.machine_id,
        "image": instance.create_body.image,
        "made_by": instance.made_by,
        "created_at": instance.created_at,
        "actual_status": instance.actual_status,
        "intended_status": instance.intended_status,
        "usd_h": instance.usd_h,
        "cost": {**asdict(due), "total_usd": due.total_usd},
        "states": [{"at": change.at, "state": change.state} for change in instance.changes],
    }

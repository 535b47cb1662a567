"""Shows a plan as a JSON document. Pure."""

from __future__ import annotations

import math
from typing import Any

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.model import Workload
from pytest_vastgpu.planning.plan import Plan
from pytest_vastgpu.planning.plan import WorkloadPlan
from pytest_vastgpu.planning.plan import worst_case_usd
from pytest_vastgpu.planning.report import OF_PYTEST
from pytest_vastgpu.planning.report import Wording
from pytest_vastgpu.selection.pricing import hourly_usd
from pytest_vastgpu.selection.pricing import transfer_usd
from pytest_vastgpu.selection.ranking import Ranked
from pytest_vastgpu.selection.requirements import NEEDS


def as_json(plan: Plan, most: int | None = None, wording: Wording = OF_PYTEST) -> dict[str, Any]:
    """The plan as a JSON document; amounts in USD, times in seconds, what is not known as null.

    :param most: Most offers of each workload; None: all.
    """
    document = {
        "possible": not plan.problems,
        "problems": [wording.options(": ".join(filter(None, problem))) for problem in plan.problems],
        "market": plan.settings.url or "local",
        "settings": {
            "strictness": plan.settings.strictness,
            "max_price_usd_h": plan.settings.max_price,
            "budget_usd": plan.settings.budget,
            "attempts": plan.settings.attempts,
            "max_lifetime_s": plan.settings.max_lifetime,
            "max_instances": plan.settings.max_instances,
        },
        "run": {
            "set_aside_usd": plan.set_aside_usd,
            "every_attempt_usd": plan.every_attempt_usd,
            "worst_usd": plan.worst_usd,
            "until_ready_usd": plan.until_ready_usd,
            "expected_usd": plan.expected_usd,
            "first_ready_s": _finite(next((each.ready_s for each in plan.workloads if each.possible), math.inf)),
            "all_ready_s": _finite(max((each.ready_s for each in plan.workloads), default=math.inf)),
            "first_offers_without_record": plan.unrecorded,
            "credit_usd": plan.credit_usd,
            "tests_known_when_they_run": plan.unknown,
            "tests_that_rent_themselves": plan.own,
        },
        "starts": [
            {
                "workload": next(each.name for each in plan.workloads if each.workload == start.workload),
                "offer_id": start.offer.id,
                "machine_id": start.offer.machine_id,
                "worst_usd": start.worst_usd,
            }
            for start in plan.starts
        ],
        "workloads": [_workload(each, plan, most, wording) for each in plan.workloads],
    }
    clean: dict[str, Any] = sanitize.clean(document)  # type: ignore[assignment] # a mapping stays one
    return clean


def _workload(each: WorkloadPlan, plan: Plan, most: int | None, wording: Wording) -> dict[str, Any]:
    survey = each.found.survey
    return {
        "workload": each.name,
        "needs": {name: getattr(each.workload, name) for name in NEEDS},
        "tests": each.tests,
        "tests_sure_to_ask": each.certain,
        "instances_when_collection_ends": each.at_once,
        "budget": each.affordable.value if each.affordable else None,
        "worst_usd": each.worst_usd,
        "every_attempt_usd": each.every_attempt_usd,
        "ready_s": _finite(each.ready_s),
        "warm": [
            {
                "instance_id": warm.instance_id,
                "workload": warm.workload,
                "usd_h": warm.price_usd_h,
                "server_is_replaced": not same,
            }
            for warm, same in plan.warm_for(each)
        ],
        "changed_by_hook": each.found.by_hook,
        "offers": [
            _offer(rank, ranked, each.workload, plan) for rank, ranked in enumerate(each.found.ranked[:most], 1)
        ],
        "offers_admitted": len(each.found.ranked),
        "offers_seen": survey.seen,
        "why_none": survey.why_none,
        "removed": [removed._asdict() for removed in survey.removed],
        "changes": [
            {
                "steps": wording.steps(change),
                "machine_id": change.offer.machine_id,
                "gpu_name": change.offer.gpu_name,
                "usd_h": change.hourly_usd,
            }
            for change in survey.changes
        ],
    }


def _offer(rank: int, ranked: Ranked, workload: Workload, plan: Plan) -> dict[str, Any]:
    offer, record = ranked.offer, ranked.record
    return {
        "rank": rank,
        "offer_id": offer.id,
        "machine_id": offer.machine_id,
        "host_id": offer.host_id,
        "gpu_name": offer.gpu_name,
        "num_gpus": offer.num_gpus,
        "gpu_ram_gb": offer.gpu_ram_mb / 1000,
        "geolocation": offer.geolocation,
        "usd_h": hourly_usd(offer, workload),
        "usd_h_without_transfer": offer.price_usd_h,
        "transfer_usd": transfer_usd(offer, workload),
        "expected_cost_usd": ranked.expected_cost_usd,
        "chance": ranked.chance,
        "ready_s": ranked.seconds,
        "worst_usd": worst_case_usd(offer, workload, plan.settings),
        "record": {"successes": record.successes, "infra_failures": record.infra_failures} if record else None,
        "why": ranked.why,
    }


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None

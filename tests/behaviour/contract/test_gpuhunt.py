"""dstack's catalogue of GPU offers, which searches without a key."""

from __future__ import annotations

import pytest

from tests.behaviour.contract.conftest import Vastai

SEARCH = """
import json, os
import gpuhunt
from gpuhunt.providers import vastai

vastai.bundles_url = os.environ["VAST_URL"] + "/api/v0/bundles/"  # it has no setting for that
filters = {
    "direct_port_count": {"gte": 1}, "reliability2": {"gte": 0.9}, "inet_down": {"gt": 128},
    "verified": {"eq": True}, "cuda_max_good": {"gte": 12.2}, "compute_cap": {"gte": 600}, "score": {"gte": 0},
}
provider = vastai.VastAIProvider(community_cloud=%(community)s, extra_filters=filters, order=[("dph_base", "asc")])
found = provider.get(gpuhunt.QueryFilter(%(query)s))
print(json.dumps([[item.gpu_name, item.gpu_count, item.spot, item.price > 0, item.location] for item in found]))
"""
OURS = [["RTX4090", 1, spot, True, "se-sweden"] for spot in (True, False)]


@pytest.mark.parametrize(
    ("query", "community", "items"),
    [
        ("", True, OURS),
        ("", False, OURS),
        ("gpu_name=['RTX4090'], min_gpu_count=1, max_gpu_count=1, max_price=1.0, min_disk_size=100", True, OURS),
        ("min_compute_capability=(8, 9), min_cpu=8, max_cpu=64, min_gpu_memory=16, max_gpu_memory=30", True, OURS),
        ("gpu_name=['H100']", True, []),
        ("max_price=0.01", True, []),
    ],
)
def test_a_search(vastai: Vastai, query: str, community: bool, items: list[list[object]]) -> None:
    assert vastai.script(SEARCH % {"query": query, "community": community}) == items

"""What a whole run says of what its tests have measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import pytest_vastgpu.reporting.measurement_page  # noqa: F401 - once, since runs in this process drop what they load
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom


def test_a_run_reports_its_measurements_before_its_costs_and_beside_them(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path
) -> None:
    rent_from({"machines": [{}]})
    pytester.makepyfile(
        f"""{WORKLOAD}
from pytest_vastgpu.plugin.measurements import keep
from tests.support.measured import measured

def test_it(vast_instance, request):
    keep(request.node, measured())
"""
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*- vastgpu: 1 measurement -*",
            "throughput * 123 requests/s (120 to 127)",
            "vastgpu: numbers are in *measurements.json, pictures in *measurements.html",
            "*- vastgpu: 1 instance, * USD -*",
        ]
    )
    (costs,) = home.glob(".local/state/pytest-vastgpu/runs/*/cost.json")
    found = json.loads(costs.with_name("measurements.json").read_text())
    assert found["run"] == json.loads(costs.read_text())["run"]
    assert "test_it" in costs.with_name("measurements.html").read_text(encoding="utf-8")

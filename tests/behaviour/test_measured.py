"""What a whole run says of what its tests have measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pytest_vastgpu.reporting.measurement_page  # noqa: F401 - once, since runs in this process drop what they load
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom

MEASURES = f"""{WORKLOAD}
from pytest_vastgpu import shell

def test_it(vast_instance):
    vast_instance.measure(shell("true", warmup_s=0), seconds=3)
"""


@pytest.fixture(autouse=True)
def market(rent_from: RentFrom) -> None:
    rent_from({"machines": [{}]})


def written(home: Path) -> tuple[Any, str]:
    """What is beside the costs, which are of the same run: the numbers and the page."""
    (costs,) = home.glob(".local/state/pytest-vastgpu/runs/*/cost.json")
    found = json.loads(costs.with_name("measurements.json").read_text())
    assert found["run"] == json.loads(costs.read_text())["run"]
    return found, costs.with_name("measurements.html").read_text(encoding="utf-8")


def test_a_run_reports_its_measurements_before_its_costs_and_beside_them(pytester: pytest.Pytester, home: Path) -> None:
    pytester.makepyfile(MEASURES)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*- vastgpu: 1 measurement -*",
            "load * shell 'true', 1 at a time, for 3 s",
            "throughput * requests/s *",
            "vastgpu: numbers are in *measurements.json, pictures in *measurements.html",
            "*- vastgpu: 1 instance, * USD -*",
        ]
    )
    found, page = written(home)
    assert [each["workload"] for each in found["measurements"]] == ["command 'exec python3 server.py'"]
    assert "test_it" in page


@pytest.mark.slow
def test_without_a_terminal_numbers_and_pictures_are_written_all_the_same(
    pytester: pytest.Pytester, home: Path
) -> None:
    pytester.makepyfile(MEASURES)
    assert pytester.runpytest_inprocess("-p", "no:terminal").ret == 0
    found, page = written(home)
    assert len(found["measurements"]) == 1
    assert "test_it" in page

"""The GPUs of an instance are watched while a test measures it, on a whole run."""

from __future__ import annotations

import pytest

from tests.behaviour.conftest import AGGRESSIVE
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import fleet

TEST = """
from pytest_vastgpu import http_load

def test_it(vast_instance):
    vast_instance.run("echo 50 > ~/.gpu-load")
    seen = vast_instance.measure(http_load("/", method="GET", warmup_s=1), seconds=10)
    print(seen)
    print("hardware_problem:", seen.hardware_problem)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "hardware_problem"),
    [
        ((), ""),
        (({"name": "throttled"},), "GPU 0 was slowed down in 100% of the samples: its hardware is too hot"),
    ],
)
def test_the_gpus_are_watched_while_an_instance_is_measured(
    pytester: pytest.Pytester, rent_from: RentFrom, faults: tuple[dict[str, str], ...], hardware_problem: str
) -> None:
    rent_from(fleet(*faults))
    pytester.makepyfile(WORKLOAD + TEST)
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "gpu_memory_peak * MiB",
            "gpu_utilisation * %",
            "gpu_power * W",
            "energy * J",
            "gpu_clock * MHz",
            "gpu_throttled * %*",
            f"hardware_problem: {hardware_problem}",
        ]
    )

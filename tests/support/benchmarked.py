"""Runs of the fixture ``vast_benchmark``, on instances that do not exist."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.model import GpuCheck
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.carried import carried
from pytest_vastgpu.plugin.measurements import MEASUREMENT
from tests.plugin.test_test_ends import Notes
from tests.support.factories import make_offer

HEAD = """
import os, pytest
from pytest_vastgpu import command, completions
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.measurement import Measurement

LOAD = completions(model="m", concurrency=4)

@pytest.fixture
def vast_workload():
    return command("serve --api-key sesame-open", env={"HF_TOKEN": "hf_not_to_be_kept"})

@pytest.fixture
def vast_instance(vast_instance):
    def measure(load, seconds):
        value = float(os.environ["SPEED"]) / load.concurrency
        return Measurement(load, seconds, {"throughput": Figure(value, "1/s", value, value, 1)})
    vast_instance.measure = measure
    return vast_instance
"""
ONE = f"{HEAD}\ndef test_it(vast_benchmark): assert vast_benchmark(LOAD)['throughput'].unit == '1/s'\n"
KEPT = Path(".vastgpu/baselines/RTX_4090")


class Machines(Notes):
    """Gives instances on the machine that a test names."""

    machine = 42
    found = GpuCheck()

    def acquire(self, test: str, workload: Workload, exclusive: bool) -> Lease:
        lease = super().acquire(test, workload, exclusive)
        return Lease(lease.label, lease.instance_id, make_offer(machine_id=self.machine), lease.endpoint, {})

    def acquire_alone(self, test: str, workload: Workload) -> Lease:
        self._note("alone", test)
        return self.acquire(test, workload, exclusive=False)

    def check_gpus(self, label: str) -> GpuCheck:
        return self.found


class Run:
    """A run of pytest in this process, and what its tests have noted."""

    def __init__(self, pytester: pytest.Pytester, *options: str) -> None:
        self.measured: list[Any] = []
        self.result = pytester.runpytest_inprocess("-p", "no:randomly", *options, plugins=[self])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.measured += [json.loads(text) for text in carried(report, MEASUREMENT)]

    @property
    def notes(self) -> list[str]:
        return [note for each in self.measured for note in each["notes"]]

"""What a test measures with ``vast_instance.measure`` is in the run's report, on instances that do not exist."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_vastgpu.client import measure
from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.measuring.figures import exact
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.model import Workload
from tests.support.benchmarked import Machines
from tests.support.benchmarked import Run

HEAD = """
import pytest
from pytest_vastgpu import command, shell

LOAD = shell("true")

@pytest.fixture
def vast_workload():
    return command("serve")
"""


@pytest.fixture
def several(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> Machines:
    def measured(_run: object, _lease: Lease, load: Load, seconds: float) -> Measurement:
        return Measurement(load, seconds, {"throughput": exact(40.0)})

    def acquire_several(test: str, workloads: Sequence[Workload]) -> list[Lease]:
        return [machines.acquire(test, each, exclusive=True) for each in workloads]

    monkeypatch.setattr(measure, "measure", measured)
    monkeypatch.setattr(machines, "acquire_several", acquire_several, raising=False)
    return machines


def reported(pytester: pytest.Pytester, text: str) -> list[tuple[str, int]]:
    """What the report has: workloads, and the seconds of each measurement."""
    pytester.makepyfile(f"{HEAD}\n{text}")
    run = Run(pytester)
    assert run.result.ret == 0
    return [(each["workload"], each["measurement"]["seconds"]) for each in run.measured]


def test_what_the_shared_instance_and_handles_that_lead_to_it_measure_is_reported(
    pytester: pytest.Pytester, several: Machines
) -> None:
    text = """
@pytest.fixture
def warm(vast_instance): vast_instance.measure(LOAD, 1)

@pytest.fixture(scope="session")
def handle(vast_session_instance): return vast_session_instance

def test_it(warm, vast_instance): vast_instance.measure(LOAD, 2)
def test_other(handle): handle.measure(LOAD, 3)
"""
    assert reported(pytester, text) == [("command 'serve'", seconds) for seconds in (1, 2, 3)]


def test_what_instances_of_a_tests_own_measure_is_reported(pytester: pytest.Pytester, several: Machines) -> None:
    text = """
def test_it(vast_instance_factory):
    for at, each in enumerate(vast_instance_factory(command("one"), command("other"))): each.measure(LOAD, 1 + at)
"""
    assert reported(pytester, text) == [("command 'one'", 1), ("command 'other'", 2)]


def test_what_vast_benchmark_measures_is_reported_once(pytester: pytest.Pytester, several: Machines) -> None:
    text = """
def test_it(vast_benchmark, vast_instance):
    vast_benchmark(LOAD, 1, name="named")
    vast_instance.measure(LOAD, 2)
"""
    assert reported(pytester, text) == [("command 'serve'", 1), ("command 'serve'", 2)]


def test_after_another_server_has_taken_the_place_that_one_is_named(
    pytester: pytest.Pytester, several: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(label: str, workload: Workload) -> Lease:
        return several.acquire(label, workload, exclusive=True)

    monkeypatch.setattr(several, "serve", serve, raising=False)
    text = """
def test_it(vast_instance_factory):
    instance = vast_instance_factory(command("one"))
    instance.serve(command("other"))
    instance.measure(LOAD, 1)
"""
    assert reported(pytester, text) == [("command 'other'", 1)]

"""The GPU check before something is measured: asked for by a test, and kept in the machine's record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.reputation.host_cache import HostCache
from tests.behaviour.conftest import AGGRESSIVE
from tests.behaviour.conftest import BAD
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import fleet
from tests.behaviour.conftest import record_of

slow = pytest.mark.slow
TEST = """
def test_it(vast_instance):
    found = vast_instance.check_gpus()
    print("found:", found.verdict.reason if found.verdict else "passed", found.hardware_problem)
    assert httpx.get(vast_instance.endpoint, timeout=60).text == "here I am"
"""


def evidence(home: Path) -> list[tuple[FailureClass, str]]:
    """What runs have recorded of machines, in the order of time."""
    books = [
        book
        for path in home.glob(".local/state/pytest-vastgpu/runs/*/hosts.yaml")
        for book in HostCache(path).contents().markets.values()
    ]
    found = [item for book in books for item in book.evidence.values()]
    return [(item.outcome, item.reason) for item in sorted(found, key=lambda item: item.time)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        ({"name": "throttled"}, "gpu_throttled", "GPU 0 is slowed down: its hardware is too hot"),
        pytest.param({"name": "narrow_pcie", "lanes": 4}, "pcie_narrow", "GPU 0 has 4 PCIe lanes of 16", marks=slow),
        pytest.param({"name": "busy_gpu"}, "gpu_shared", "GPU 0 is used for 60 %", marks=slow),
        pytest.param({"name": "slow_memory"}, "memory_slow", "the memory of GPU 0 moves", marks=slow),
    ],
)
def test_a_check_that_fails_is_told_and_kept_in_the_machines_record(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path, fault: dict[str, Any], reason: str, words: str
) -> None:
    rent_from(fleet(fault))
    pytester.makepyfile(WORKLOAD + TEST)
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"*hardware problem: {words}*", f"*found: {reason} {words}*"])
    assert evidence(host_cache) == [(FailureClass.READY, ""), (FailureClass.UNKNOWN, reason)]
    record = record_of(host_cache, BAD)
    assert record.successes == 1
    assert 0 < record.infra_failures < 0.5
    assert record.banned_until == 0


@slow
def test_a_check_that_passes_leaves_no_trace_in_the_record(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    rent_from(fleet())
    pytester.makepyfile(WORKLOAD + TEST)
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*found: passed *"])
    assert evidence(host_cache) == [(FailureClass.READY, "")]


@slow
def test_a_gpu_that_throttles_while_it_is_measured_is_kept_in_the_record(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    rent_from(fleet("throttled"))
    measuring = """
from pytest_vastgpu import http_load

def test_it(vast_instance):
    print("found:", vast_instance.measure(http_load("/", method="GET", warmup_s=0), seconds=10).hardware_problem)
"""
    pytester.makepyfile(WORKLOAD + measuring)
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*hardware problem: GPU 0 was slowed down *", "*found: GPU 0 was slowed down *"])
    assert evidence(host_cache) == [(FailureClass.READY, ""), (FailureClass.UNKNOWN, "gpu_throttled")]


COMPARISON = """
from pytest_vastgpu import command, http_load

SIDE = command("exec python3 server.py", files={"server.py": "server.py"}, gpus=1, cuda=12.4)

def test_it(vast_compare):
    load = http_load("/", method="GET", warmup_s=0)
    result = vast_compare(baseline=SIDE, candidate=SIDE, load=load, rounds=2, blocks=1, seconds=0.3)
    for each in result.judge(throughput=0.9):
        print("found:", each.finding.value, each.why)
    print("hosts:", [(each.machine_id, len(each.rounds), each.hardware_problem[:21]) for each in result.hosts])
"""


@slow
def test_where_the_check_fails_nothing_is_compared_and_another_host_is_rented(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    rent_from(fleet("throttled"))
    pytester.makepyfile(COMPARISON)
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*another host is needed: machine 101 has a hardware problem: GPU 0 is slowed down*",
            "*hosts: [[](101, 0, 'GPU 0 is slowed down:'), (102, 2, '')]*",
        ]
    )
    result.stdout.no_fnmatch_line("*found: hardware*")


@slow
def test_where_the_check_fails_on_each_host_the_finding_is_hardware(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    both = fleet("throttled")
    both["machines"][1]["faults"] = [{"name": "busy_gpu"}]
    rent_from(both)
    pytester.makepyfile(COMPARISON)
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*found: hardware machine 101: GPU 0 is slowed down*; machine 102: GPU 0 is used *"])

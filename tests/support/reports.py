"""Makes reports of runs, as many tests on as many instances as are asked for."""

from __future__ import annotations

from pytest_vastgpu.reporting.run.report import Considered
from pytest_vastgpu.reporting.run.report import GpuMemorySample
from pytest_vastgpu.reporting.run.report import InstanceReport
from pytest_vastgpu.reporting.run.report import MarketPause
from pytest_vastgpu.reporting.run.report import Note
from pytest_vastgpu.reporting.run.report import OfferReport
from pytest_vastgpu.reporting.run.report import Phase
from pytest_vastgpu.reporting.run.report import RunReport
from pytest_vastgpu.reporting.run.report import TestReport
from pytest_vastgpu.reporting.run.report import Used
from pytest_vastgpu.reporting.run.report import VerdictReport

BEGAN = 1_790_000_000.0
FOREIGN = "</script><script>document.title = 'taken'</script><img src=x onerror=alert(1)> & \"'\u202e\x1b[31m"
"""A text that would do something if it were not escaped."""
LOST = VerdictReport("runtime_lost", "instance_lost", "no SSH login", "run the lost test again")


def run_report(tests: int = 500, instances: int = 20, text: str = "") -> RunReport:
    """A run: every fifth instance was lost, and with it the last of its tests; every ninth test failed by itself.

    :param text: Is in all that others supply.
    """
    each = max(1, tests // instances)
    found = [_instance(number, each, text) for number in range(1, instances + 1)]
    return RunReport(
        "3f9c21ab",
        "https://console.vast.ai",
        started=BEGAN,
        ended=BEGAN + 60 + 10 * each,
        over=True,
        exit_status=1,
        command=f"pytest -n 4 {text}",
        instances=tuple(found),
        tests=tuple(_test(at, found[at // each], each, text) for at in range(each * instances)),
        notes=(Note(BEGAN, f"the market allows one search every 2 s {text}"),),
        pauses=(MarketPause(BEGAN + 1, BEGAN + 3, "search"),),
        total_usd=0.4 * instances,
        budget_usd=5.0,
    )


def _name(at: int, text: str) -> str:
    return f"tests/test_model.py::test_{at}[{text}]"


def _instance(number: int, tests: int, text: str) -> InstanceReport:
    ready, lost = BEGAN + 50, number % 5 == 0
    end = ready + 10 * tests
    steps = ("intended", "created", "booting", "reachable", "checked", "warming")
    phases = [Phase(name, BEGAN + 8 * at, BEGAN + 8 * (at + 1)) for at, name in enumerate(steps)]
    first = (number - 1) * tests
    offers = tuple(OfferReport(40 + at, f"RTX 4090 {text}", 0.3, text, 0.8, 90, 0.01, taken=not at) for at in range(3))
    return InstanceReport(
        f"vastgpu-3f9c21ab-{number}-6b0c5e85",
        number=number,
        id=4700 + number,
        machine=40,
        gpu=f"RTX 4090 {text}",
        workload=f"vllm 'org/model' {text}",
        attempt=1,
        usd_h=0.36,
        cost_usd=0.4,
        overhead_usd=0.1,
        outcome=str(LOST) if lost else "ready",
        verdict=LOST if lost else None,
        phases=(*phases, Phase("ready", ready, end), Phase("failed" if lost else "destroying", end, end + 1)),
        tests=tuple(
            Used(_name(first + at, text), ready + 10 * at, ready + 10 * at + 9, 50.0 * (not at)) for at in range(tests)
        ),
        notes=tuple(Note(BEGAN + at, f"booting {text}") for at in range(10)),
        considered=Considered(offers, (OfferReport(99, "RTX 3090", 0.2, why_not=("gpu_ram_gb",)),), 3, 1),
        gpu_memory=(GpuMemorySample(ready, (2000.0,), (24564.0,)),),
        gone=not lost,
        ends_at=BEGAN + 7200,
    )


def _test(at: int, instance: InstanceReport, each: int, text: str) -> TestReport:
    lost = instance.verdict is not None and at % each == each - 1
    failed = at % 9 == 8
    return TestReport(
        _name(at, text),
        outcome="error" if lost else "failed" if failed else "passed",
        when="setup" if lost else "call",
        started=BEGAN + 50,
        duration_s=9.0,
        message=f"assert 1 == 2\n{text}" if lost or failed else "",
        verdict=LOST if lost else None,
        instances=(instance.label,),
        cost_usd=0.01,
    )

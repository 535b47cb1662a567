"""How what tests have measured reaches the report of the run: no market, pytest as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any
from typing import cast
from xml.etree import ElementTree as ET

import pytest

import pytest_vastgpu.plugin.measurements
import pytest_vastgpu.reporting.measurement_page  # noqa: F401 - the same
from pytest_vastgpu.measuring.load import completions
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.measurements import measured_on
from tests.plugin.test_test_ends import RERUNS
from tests.support.factories import make_offer

CONFTEST = """
import pathlib
import pytest
from pytest_vastgpu.plugin.measurements import MeasurementReport, keep
from pytest_vastgpu.plugin.reports import ReportHooks
from tests.support.measured import COMPARED, measured

def pytest_configure(config):
    config.pluginmanager.register(ReportHooks("error"))
    if not hasattr(config, "workerinput"):
        report = MeasurementReport(in_each=config.getoption("dist", "no") == "each")
        config.pluginmanager.register(report, "report")

def pytest_terminal_summary(terminalreporter, config):
    if report := config.pluginmanager.get_plugin("report"):
        run = pathlib.Path("run")
        run.mkdir()
        report.write_files(run)
        report.write(terminalreporter)
"""

TESTS = """
from dataclasses import replace
from conftest import COMPARED, keep, measured
from pytest_vastgpu.core.text.redaction import KNOWN

def test_measures(request):
    keep(request.node, measured())

def test_compares(request):
    KNOWN.add("token", "s3cr3t-" + "t0k3n")
    keep(request.node, replace(COMPARED, notes=("the token is s3cr3t-" + "t0k3n",)))

def test_fails(request):
    keep(request.node, measured(throughput=5.0))
    assert False

def test_plain(): pass
"""


def written(pytester: pytest.Pytester) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pytester.path.joinpath("run/measurements.json").read_text())
    return found


@pytest.fixture(autouse=True)
def reporting(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_report_is_the_same_with_workers_and_without(pytester: pytest.Pytester, workers: int) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess(f"-n{workers}", "-p", "no:randomly", "--junitxml=run.xml")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines_random(
        [
            "*vastgpu: 2 measurements, 1 comparison*",
            "throughput *123 requests/s (120 to 127)",
            "*test_compares: vllm 'org/model' (other args) (candidate) against *",
            "vastgpu: numbers are in *run/measurements.json, pictures in *run/measurements.html",
        ]
    )
    found = written(pytester)
    tests = sorted(each["test"].partition("::")[2] for key in ("measurements", "comparisons") for each in found[key])
    assert tests == ["test_compares", "test_fails", "test_measures"]
    assert found["run"] == "run"
    page = pytester.path.joinpath("run/measurements.html").read_text(encoding="utf-8")
    assert all(test in page for test in tests)
    # The controller knows no secret of a worker.
    told = [result.stdout.str(), page, json.dumps(found)]
    assert all("the token is" in text and "s3cr3t" not in text for text in told)


def properties(pytester: pytest.Pytester) -> list[tuple[str, str]]:
    """What the JUnit file shows, of all tests."""
    tree = ET.parse(pytester.path / "run.xml")  # noqa: S314 - our own
    return [(each.attrib["name"], each.attrib["value"]) for each in tree.iter("property")]


def test_a_junit_file_shows_a_few_short_properties(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    pytester.runpytest_inprocess("-p", "no:randomly", "-k", "measures or compares", "--junitxml=run.xml")
    load = "completions, 4 at a time, SLO TTFT ≤ 200 ms"
    assert properties(pytester) == [
        *[("vast_load", load), ("vast_throughput", "123.4"), ("vast_output_throughput", "1974.4")],
        *[("vast_ttft_p50", "0.0123"), ("vast_e2e_p50", "1.234")],
        *[("vast_throughput_finding", "regression"), ("vast_throughput_slowdown", "0.08")],
        *[("vast_output_throughput_finding", "improvement"), ("vast_output_throughput_slowdown", "-0.06")],
        *[("vast_ttft_p50_finding", "noise"), ("vast_ttft_p50_slowdown", "0.004")],
        *[("vast_e2e_p99_finding", "inconclusive"), ("vast_e2e_p99_slowdown", "0.05")],
        ("vast_goodput_finding", "hardware"),
    ]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_properties_of_a_tests_own_are_left_alone_whatever_their_names(pytester: pytest.Pytester, workers: int) -> None:
    pytester.makepyfile(
        """
        from conftest import *
        def test_it(record_property, request):
            record_property("vast_measurement", "mine")
            record_property("vast_comparison", '{"baseline": 3}')
            keep(request.node, measured())
        """
    )
    pytester.runpytest_inprocess(f"-n{workers}", "--junitxml=run.xml", "-o", "junit_family=xunit1").assert_outcomes(
        passed=1
    )
    assert (len(written(pytester)["measurements"]), written(pytester)["comparisons"]) == (1, [])
    assert properties(pytester)[:2] == [("vast_measurement", "mine"), ("vast_comparison", '{"baseline": 3}')]


@pytest.mark.slow
def test_a_test_that_measures_hundreds_of_times_has_a_short_report(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from conftest import *
        def test_often(request):
            for number in range(100):
                keep(request.node, measured(throughput=1.0 + number))
        def test_once(request): keep(request.node, measured())
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly", "--junitxml=run.xml")
    result.stdout.fnmatch_lines("*- vastgpu: 101 measurements -*")
    told = "test_often: the first 10 of its 100 measurements are shown; measurements.json has all"
    result.stdout.fnmatch_lines(f"*{told}")
    about = [line for line in result.outlines if "::test_often" in line]
    assert len(about) == 10 + len(["a note, once", "how many are shown"])
    assert len(written(pytester)["measurements"]) == 101
    page = pytester.path.joinpath("run/measurements.html").read_text(encoding="utf-8")
    assert (page.count("<section>"), told in page) == (11 + ("Over load" in page), True)
    assert [name for name, _ in properties(pytester)].count("vast_load") == 11


@pytest.mark.slow
def test_a_test_that_every_worker_runs_is_reported_for_each(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("from conftest import *\ndef test_it(request): keep(request.node, measured())")
    pytester.runpytest_inprocess("--dist=each", "--tx=2*popen").assert_outcomes(passed=2)
    tests = sorted(each["test"].partition("::")[2] for each in written(pytester)["measurements"])
    assert tests == ["test_it [gw0]", "test_it [gw1]"]


def test_a_test_that_is_tried_again_counts_with_its_last_try(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(f"{RERUNS}\n{CONFTEST}")
    pytester.makepyfile(
        """
        from conftest import *
        def test_flaky(request):
            tries["it"] += 1
            keep(request.node, measured(throughput=float(tries["it"])))
            assert tries["it"] == 2

        def test_flaky_measures_once(request):
            tries["other"] += 1
            if tries["other"] == 1:
                keep(request.node, measured())
                assert False
        """
    )
    assert pytester.runpytest_inprocess("-p", "no:randomly").parseoutcomes() == {"passed": 2, "rerun": 2}
    (found,) = written(pytester)["measurements"]
    assert found["measurement"]["figures"]["throughput"]["value"] == 2.0


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_tests_are_in_the_order_of_the_run(pytester: pytest.Pytester, workers: int) -> None:
    pytester.makepyfile(
        """
        import pytest
        from conftest import *
        @pytest.mark.parametrize("n", [16, 2, 1])
        def test_it(request, n): keep(request.node, measured())
        def test_first_by_name(request): keep(request.node, measured())
        """
    )
    pytester.runpytest_inprocess("-p", "no:randomly", f"-n{workers}").assert_outcomes(passed=4)
    assert [each["test"].partition("::")[2] for each in written(pytester)["measurements"]] == [
        "test_it[16]",
        "test_it[2]",
        "test_it[1]",
        "test_first_by_name",
    ]


def test_a_run_that_keeps_nothing_says_nothing_and_writes_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess()
    assert "vastgpu:" not in result.stdout.str()
    assert not list(pytester.path.joinpath("run").iterdir())


def test_files_that_cannot_be_written_are_said_and_the_table_is_there(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST.replace("run.mkdir()", "run.write_text('a file')"))
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess("-k", "test_measures")
    result.stdout.fnmatch_lines(["*1 measurement*", "throughput *", "vastgpu: *cannot be written: *run*"])
    assert result.ret == 0


def test_what_collects_measurements_loads_nothing_of_measuring_before_there_are_any() -> None:
    code = "import sys, pytest_vastgpu.plugin.measurements; print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()
    assert "pytest_vastgpu.plugin.measurements" in loaded
    assert [name for name in loaded if name.startswith(("pytest_vastgpu.measuring", "pytest_vastgpu.reporting"))] == []


def test_a_load_that_asks_for_another_model_is_told_in_the_report() -> None:
    instance = cast("Any", SimpleNamespace(gpu="RTX 4090", offer=make_offer()))
    of = Measurement(completions(model="org/modle"), 1.0, {})
    kept = measured_on(instance, Workload("vllm", model="org/model"), of, notes=["another"])
    assert [note[:23] for note in kept.notes] == ["the load asks for model", "another"]
    assert not measured_on(instance, Workload("vllm", model="org/modle"), of).notes

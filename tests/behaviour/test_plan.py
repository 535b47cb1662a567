"""``--vast-plan``: what a run would rent is said, and nothing is rented."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from tests.behaviour.conftest import BAD
from tests.behaviour.conftest import GOOD
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import fleet

TESTS = """
import pytest
from pytest_vastgpu import command

@pytest.fixture(params=["one", "two"])
def vast_workload(request):
    return command(f"python3 {request.param}.py", gpus=1)

def test_it(vast_instance, vast_workload):
    raise AssertionError("it runs")

@pytest.mark.vast(command("python3 three.py", gpu_ram_gb=100))
def test_huge(vast_instance, vast_workload):
    raise AssertionError("it runs")

def test_late(request):
    request.getfixturevalue("vast_instance_factory")

@pytest.fixture
def name(): return "late"

class TestLate:
    @pytest.fixture
    def vast_workload(self, name): return command(name)

    def test_late(self, vast_instance): pass

def test_own(vast_instance_factory):
    raise AssertionError("it runs")
"""


def nothing_was_rented(market: LocalMarket) -> None:
    """What the market says of itself."""
    status = market.status()
    assert (status["alive"], status["ended"], status["rents_per_label"]) == ([], [], {})
    called = {call["endpoint"] for call in status["calls"]}
    assert called <= {"search", "account"}, called


def named(told: Any) -> list[str]:
    return [each["workload"] for each in told["workloads"]]


def test_a_plan_rents_and_runs_nothing(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(fleet())
    pytester.makepyfile(TESTS)
    pytester.makeconftest("def pytest_vastgpu_modify_offers(offers, workload): offers.reverse()")
    result = pytester.runpytest_inprocess(
        "--vast-plan", "--vast-plan-json=plan.json", "-n2", "-k", "not huge", "-p", "no:randomly", "--vast-budget=1"
    )
    nothing_was_rented(market)
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(deselected=2)
    result.stdout.fnmatch_lines(
        [
            "vastgpu plan (nothing is rented)",
            "command 'python3 one.py': 1 test, 1 instance when collection ends",
            f"  1  {GOOD}  *",
            f"  2  {BAD}  *",
            "*pytest_vastgpu_modify_offers has changed*",
            "command 'python3 two.py': 1 test, 1 instance when collection ends",
            "  rented only once another instance is given back: *",
            "not known *what 1 test will need: that is known only when they run",
            "not known *what 1 test will rent by vast_instance_factory or vast_compare while*",
        ]
    )
    told = json.loads(pytester.path.joinpath("plan.json").read_text())
    assert named(told) == ["command 'python3 one.py'", "command 'python3 two.py'"]
    assert told["market"] == market.url
    # A machine for each, as the run would take them.
    assert [start["machine_id"] for start in told["starts"]] == [GOOD, BAD]
    assert all(each["changed_by_hook"] for each in told["workloads"])


@pytest.mark.slow
def test_what_cannot_be_rented_is_an_exit_code(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(fleet())
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess("--vast-plan", "-q")
    nothing_was_rented(market)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes()
    result.stdout.fnmatch_lines(["  NOTHING TO RENT: none fits", "  what to change:", "    gpu_ram_gb=24.5 in the*"])
    result.stdout.fnmatch_lines(["problem: command 'python3 three.py': nothing can be rented for it"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("conftest", "test", "line"),
    [
        ("def pytest_vastgpu_modify_offers(offers): 1 / 0", "command('x')", "modify_offers raised ZeroDivisionError"),
        ("", "Workload('vlm')", "no adapter is called 'vlm'; there are: vllm, "),
        ("", "command('x'), gpu_ram=1", "marker vast: got an unexpected keyword argument 'gpu_ram'"),
    ],
)
def test_what_stops_a_run_stops_its_plan(
    pytester: pytest.Pytester, rent_from: RentFrom, conftest: str, test: str, line: str
) -> None:
    market = rent_from(fleet())
    pytester.makeconftest(conftest)
    head = "import pytest\nfrom pytest_vastgpu import command\nfrom pytest_vastgpu.model import Workload\n"
    pytester.makepyfile(f"{head}@pytest.mark.vast({test})\ndef test_it(vast_instance): pass")
    result = pytester.runpytest_inprocess("--vast-plan")
    nothing_was_rented(market)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (error,) = [each for each in result.errlines + result.outlines if each.startswith("ERROR")]
    assert line in error


@pytest.mark.slow
def test_an_adapter_of_a_conftest_file_is_known(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(fleet())
    pytester.makeconftest(
        "from pytest_vastgpu.servers.command import CommandAdapter\n"
        "class Ours(CommandAdapter): name = 'ours'\n"
        "def pytest_vastgpu_adapters(): return [Ours()]\n"
    )
    head = "import pytest\nfrom pytest_vastgpu.model import Workload\n"
    pytester.makepyfile(f"{head}@pytest.mark.vast(Workload('ours'))\ndef test_it(vast_instance): pass")
    assert pytester.runpytest_inprocess("--vast-plan").ret == pytest.ExitCode.OK
    nothing_was_rented(market)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "url", "line"),
    [
        ("k3y-0f-the-account", "http://127.0.0.1:9", "vastgpu: search: no answer from 127.0.0.1:9"),
        ("k3y-0f-the-account", "nonsense", "VAST_URL: 'nonsense' is not the URL of a market"),
    ],
)
def test_a_market_that_cannot_be_asked_is_one_line(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, key: str, url: str, line: str
) -> None:
    monkeypatch.setenv("VAST_API_KEY", key)
    monkeypatch.setenv("VAST_URL", url)
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess("--vast-plan", "-k", "test_it")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (error,) = [each for each in result.errlines + result.outlines if each.startswith("ERROR")]
    assert line in error


@pytest.mark.slow
def test_without_an_account_this_machine_is_planned_with(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS.replace("gpus=1", "gpus=0"))
    result = pytester.runpytest_inprocess("--vast-plan", "-k", "test_it")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["market *the local one, on this machine: play money"])


@pytest.mark.slow
def test_what_is_not_asked_for_goes_on_as_before(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass\ndef test_fails(): assert 0")
    only = pytester.runpytest_inprocess("--vast-plan")
    assert only.ret == pytest.ExitCode.OK
    only.stdout.fnmatch_lines(["vastgpu plan: no selected test needs an instance, so nothing would be rented"])
    only.assert_outcomes()
    pytester.makepyfile(test_broken="import nothing_of_that_name")
    broken = pytester.runpytest_inprocess("--vast-plan")
    assert broken.ret == pytest.ExitCode.INTERRUPTED
    assert "vastgpu plan" not in broken.stdout.str()


@pytest.mark.slow
def test_a_file_that_cannot_be_written_is_one_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess("--vast-plan-json=nowhere/plan.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "nowhere/plan.json' cannot be written (No such file or directory)" in result.stderr.str()


@pytest.mark.slow
def test_a_run_does_what_its_plan_says(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from(fleet())
    pytester.makepyfile(f"{WORKLOAD}def test_it(vast_instance): print('rented', vast_instance.offer.machine_id)")
    pytester.runpytest_inprocess("--vast-plan-json=plan.json", "-q")
    told = json.loads(pytester.path.joinpath("plan.json").read_text())
    result = pytester.runpytest_inprocess("-rP")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"rented {told['starts'][0]['machine_id']}"])


@pytest.mark.slow
def test_the_hosts_of_a_run_are_planned_without_importing_its_tests(
    pytester: pytest.Pytester, rent_from: RentFrom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # a home directory, as pytester's is, would not be brought
    market = rent_from(fleet())
    subprocess.run(["git", "init", "-q"], check=True)
    pytester.makepyfile(
        test_here="import pytest\n@pytest.mark.vast(gpu_ram_gb=20)\ndef test_it(): raise AssertionError"
    )
    result = pytester.runpytest_inprocess("--vast-hosts=2", "--vast-plan", "--vast-plan-json=plan.json")
    nothing_was_rented(market)
    assert result.ret == pytest.ExitCode.OK
    assert "test_here" not in sys.modules
    result.stdout.fnmatch_lines(
        ["vastgpu: tests run on 2 hosts (command line) with 1 GPU each, *; gpu_ram_gb 20 (marks)"]
    )
    result.stdout.fnmatch_lines(
        ["host 1 to host 2: the tests run there", "order *host 1 on machine *, host 2 on machine *"]
    )
    told = json.loads(pytester.path.joinpath("plan.json").read_text())
    assert named(told) == ["host 1", "host 2"]
    assert sorted(start["machine_id"] for start in told["starts"]) == [BAD, GOOD]
    assert pytester.runpytest_inprocess("--vast-hosts=2", "--vast-plan", "-k", "another").ret == 5

"""Other people's plugins that run a test several times, or tests in another order: see :mod:`.test_neighbours`."""

from __future__ import annotations

import re

import pytest

from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import rent_from as rent_from
from tests.behaviour.conftest import time_limits as time_limits
from tests.behaviour.neighbours.test_neighbours import PYTHON
from tests.behaviour.neighbours.test_neighbours import needs_them
from tests.behaviour.test_rents import FLEET
from tests.behaviour.test_rents import SUITE
from tests.behaviour.test_rents import rents
from tests.behaviour.test_reruns import BROKEN
from tests.behaviour.test_reruns import CRASHES
from tests.behaviour.test_reruns import LOST
from tests.behaviour.test_reruns import TRIED_AGAIN
from tests.behaviour.test_reruns import ids

pytestmark = needs_them

RERUN = {
    "rerunfailures": ["-p", "no:flaky", "-p", "no:pytest-retry", "--reruns=2"],
    "only-rerun": ["-p", "no:flaky", "-p", "no:pytest-retry", "--reruns=2", "--only-rerun=assert", "--only-rerun=Conn"],
    "flaky": ["-p", "no:rerunfailures", "-p", "no:pytest-retry", "--force-flaky", "--max-runs=3"],
    "retry": ["-p", "no:flaky", "-p", "no:rerunfailures", "--retries=2"],
}
ORDER = {
    "repeat": (["--count=3"], 9),
    "flakefinder": (["--flake-finder", "--flake-runs=3"], 9),
    "random order": (["-p", "randomly"], 3),
    "order": (["--order-dependencies"], 3),
    "stepwise": (["--sw"], 3),
    "exit first": (["-x", "--reruns=1"], 3),
}
WORKERS = pytest.mark.parametrize("workers", ["-n0", "-n2"])


def run(pytester: pytest.Pytester, *arguments: str) -> tuple[str, dict[str, int]]:
    """What a run says, and its outcomes."""
    result = pytester.run(PYTHON, "-m", "pytest", *arguments)
    return result.stdout.str(), result.parseoutcomes()


@WORKERS
@pytest.mark.parametrize("plugin", RERUN)
def test_tries_share_an_instance(pytester: pytest.Pytester, rent_from: RentFrom, plugin: str, workers: str) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(TRIED_AGAIN)
    output, outcomes = run(pytester, workers, "--junitxml=junit.xml", *RERUN[plugin])
    assert outcomes["passed"] == 3
    assert "lifetime_over" not in output
    assert rents(market) == {"one": 1}
    assert len({*ids(pytester, "0"), *ids(pytester, "1")}) == 1
    assert len(ids(pytester, "0")) == len(ids(pytester, "1")) == 3
    for case in re.findall(
        "<properties>(.*?)</properties>", pytester.path.joinpath("junit.xml").read_text(), re.DOTALL
    ):
        names = re.findall('name="([^"]*)"', case)
        assert len(names) == len(set(names))
        assert len({*names} - {"vast_artifacts"}) == 8  # flaky reports each try, a failed one too


@WORKERS
@pytest.mark.parametrize("plugin", ["rerunfailures", "flaky"])
def test_a_try_after_a_loss_has_another_one(
    pytester: pytest.Pytester, rent_from: RentFrom, plugin: str, workers: str
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(LOST)
    _, outcomes = run(pytester, workers, *RERUN[plugin])
    assert outcomes["passed"] == 2
    assert len(set(ids(pytester, "1"))) == 2
    assert rents(market) == {"one": 2}


@pytest.mark.parametrize("dist", ["load", "worksteal"])
def test_a_test_that_crashes_its_worker_is_tried_again_on_its_instance(
    pytester: pytest.Pytester, rent_from: RentFrom, dist: str
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(CRASHES)
    output, outcomes = run(pytester, "-n2", f"--dist={dist}", *RERUN["rerunfailures"])
    assert outcomes == {"passed": 1, "rerun": 1}, output
    assert len(set(ids(pytester, "1"))) == 1
    assert rents(market) == {"one": 1}


@WORKERS
@pytest.mark.parametrize("plugin", ["rerunfailures", "flaky"])
def test_the_report_that_is_shown_tells_the_whole_story(
    pytester: pytest.Pytester, rent_from: RentFrom, plugin: str, workers: str
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(BROKEN)
    output, outcomes = run(pytester, workers, *RERUN[plugin])
    assert outcomes["errors"] == 1
    assert "whose fault: the workload's" in output.partition("short test summary info")[0]
    assert "not rented again" not in output
    assert rents(market) == {"broken": 1}


@pytest.mark.parametrize("how", ORDER)
@WORKERS
def test_how_often_and_in_which_order_tests_run_makes_no_difference(
    pytester: pytest.Pytester, rent_from: RentFrom, how: str, workers: str
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(
        SUITE
        + """
import unittest

@pytest.mark.usefixtures("vast_instance")
class TestIt(unittest.TestCase):
    def test_it(self): pass

def test_1(vast_instance): ask(vast_instance)

def test_2(vast_instance): ask(vast_instance)
"""
    )
    options, passed = ORDER[how]
    output, outcomes = run(pytester, workers, *options)
    # pytest-repeat does not repeat tests of unittest, flakefinder neither.
    assert outcomes["passed"] in {passed, passed - 2 if passed > 3 else passed}, output
    assert rents(market) == {"one": 1}

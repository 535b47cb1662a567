"""What a run may cost, what it has cost, and who is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from tests.behaviour.conftest import AGGRESSIVE
from tests.behaviour.conftest import BAD
from tests.behaviour.conftest import GOOD
from tests.behaviour.conftest import LOSE
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import TimeLimits
from tests.behaviour.conftest import fleet
from tests.behaviour.conftest import record_of
from tests.support.local.api import Api

RentFrom = Callable[[dict[str, Any]], LocalMarket]
THREE_TESTS = """
import time

@pytest.mark.parametrize("n", range(3))
def test_it(vast_instance, n):
    time.sleep(0.2)

def test_without():
    pass
"""


def costs_of(home: Path) -> dict[str, Any]:
    """The newest ``cost.json``, with exact numbers."""
    (path,) = home.glob(".local/state/pytest-vastgpu/runs/*/cost.json")
    read: dict[str, Any] = json.loads(path.read_text(), parse_float=Decimal)
    return read


def dearer(times: float) -> dict[str, Any]:
    return fleet({"name": "price_higher", "times": times})


@pytest.mark.slow
def test_an_instance_that_is_dearer_than_allowed_is_left_at_once(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    market = rent_from(dearer(10))
    pytester.makepyfile(WORKLOAD + "def test_it(vast_instance): pass")
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    result.assert_outcomes(passed=1)
    # Nobody has waited for its SSH, let alone looked into it.
    result.stdout.re_match_lines(
        [rf"{BAD} .*2\.0\d\d  \d.* s  (- +)+0\.0.* unknown: price_above_limit", f"{GOOD} .* ready"]
    )
    assert [row["machine_id"] for row in market.status()["ended"]] == [BAD, GOOD]
    assert record_of(host_cache, BAD).infra_failures <= 0.1
    assert record_of(host_cache, BAD).banned_until == 0


@pytest.mark.slow
def test_an_instance_that_is_dearer_than_was_said_and_not_too_dear_stays(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path
) -> None:
    market = rent_from(dearer(3))
    pytester.makepyfile(WORKLOAD + "def test_it(vast_instance): print(vast_instance.offer.price_usd_h, end='/h\\n')")
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-s")
    result.assert_outcomes(passed=1)
    (instance,) = costs_of(home)["instances"]
    (ended,) = market.status()["ended"]
    assert float(instance["usd_h"]) == pytest.approx(ended["usd_h"])
    assert ended["usd_h"] > 0.6
    result.stdout.fnmatch_lines(
        [
            f"vastgpu instance *: costs {ended['usd_h']:.4f} USD/h, its offer said 0.20?? USD/h",
            f"*{ended['usd_h']:g}*/h",
            f"{BAD} * {ended['usd_h']:.3f} *ready",
        ]
    )


@pytest.mark.slow
def test_where_every_machine_is_dearer_both_prices_are_shown(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from({"machines": [{"machine_id": BAD, "price_usd_h": 0.2, "faults": [{"name": "price_higher", "times": 9}]}]})
    pytester.makepyfile(WORKLOAD + "def test_it(vast_instance): pass")
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    result.assert_outcomes(errors=1)
    result.stdout.re_match_lines(
        [
            r".*evidence: the market bills 1\.80\d\d USD/h for it, its offer said 0\.20\d\d USD/h; .*-max-price 1",
            r".*what to do: .*raise --vast-max-price",
        ]
    )


@pytest.mark.slow
def test_nothing_is_rented_that_could_pass_the_budget(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from({"machines": [{"machine_id": GOOD, "price_usd_h": 0.4}]})
    pytester.makepyfile(WORKLOAD + "def test_it(vast_instance): pass")
    result = pytester.runpytest_inprocess("--vast-budget=0.5", "--vast-max-lifetime=3600")
    result.assert_outcomes(passed=1)  # an hour and what destroying may take at most
    result = pytester.runpytest_inprocess("--vast-budget=0.4", "--vast-max-lifetime=3600")
    result.assert_outcomes(errors=1)
    result.stdout.re_match_lines(
        [r".*renting once more could cost 0\.43 USD \(0\.40\d\d USD/h for 1\.07 h .* more than --vast-budget 0\.4 USD"]
    )
    assert len(market.status()["ended"]) == 1


@pytest.mark.slow
def test_a_true_price_that_does_not_fit_into_the_budget_ends_the_instance(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from(dearer(4))
    pytester.makepyfile(WORKLOAD + "def test_it(vast_instance): pass")
    result = pytester.runpytest_inprocess(AGGRESSIVE, "--vast-budget=0.5", "--vast-max-lifetime=3600")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"{BAD} * unknown: price_above_budget", f"{GOOD} * ready"])
    assert len(market.status()["ended"]) == 2


RAISED = (
    LOSE
    + """
import time
from pathlib import Path

def raise_price(instance, times):
    strike(os.environ["VAST_URL"], os.environ["VAST_API_KEY"], instance.id, "price_raised", times=times)

def use_until_told(instance, text):
    ends = time.monotonic() + 60
    while not any(text in log.read_text() for log in Path.home().rglob("events.jsonl")):
        assert time.monotonic() < ends, f"it was never told: {text}"
        assert instance.run("true").ok
"""
)


@pytest.fixture
def _watched(time_limits: TimeLimits) -> None:
    """Prices are looked at without long pauses."""
    time_limits.change(price_look_s=0.1)


@pytest.mark.usefixtures("_watched")
@pytest.mark.slow
def test_an_instance_that_becomes_too_dear_is_used_to_the_end_and_given_to_no_new_test(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path
) -> None:
    market = rent_from(fleet())
    pytester.makepyfile(
        WORKLOAD
        + RAISED
        + """
def test_1_goes_on(vast_instance):
    raise_price(vast_instance, 6)
    use_until_told(vast_instance, "no new test gets it")
    assert httpx.get(vast_instance.endpoint, timeout=60).text == "here I am"
    assert vast_instance.offer.machine_id == 101

def test_2_gets_another(vast_instance):
    assert vast_instance.offer.machine_id == 102
"""
    )
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-p", "no:randomly", "--vast-budget=50", "--vast-keep=always")
    result.assert_outcomes(passed=2)
    result.stdout.re_match_lines(
        [
            r"vastgpu instance \d+: no new test gets it: the market bills 1\.20\d\d USD/h .* said 0\.20\d\d .* 1 USD/h",
            rf"{BAD} .* 1\.20\d .*ready",
        ]
    )
    assert BAD in [row["machine_id"] for row in market.status()["ended"]], "what is too dear is not kept either"
    dear, _ = costs_of(home)["instances"]
    # The time before the raise is not charged at the price after it.
    assert float(dear["cost_usd"]) < float(dear["usd_h"]) * sum(map(float, dear["seconds"].values())) / 3600
    with Api(market) as api:
        for kept in market.status()["alive"]:
            api.destroy(kept["id"])


@pytest.mark.usefixtures("_watched")
@pytest.mark.slow
def test_an_instance_that_becomes_too_dear_ends_before_the_budget_is_passed(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path
) -> None:
    market = rent_from(fleet())
    pytester.makepyfile(
        WORKLOAD
        + RAISED
        + """
def test_it(vast_instance):
    raise_price(vast_instance, 500)
    ends = time.monotonic() + 60
    while vast_instance.run("true").ok:
        assert time.monotonic() < ends
    httpx.get(vast_instance.endpoint)
"""
    )
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "the instance was lost while the test used it: own_fault: price_above_limit",
            "*it was given back while the test used it, before the budget was passed: the market bills 100.* USD/h*",
            "*raise --vast-budget and --vast-max-price",
        ]
    )
    assert costs_of(home)["total_usd"] < 5
    assert market.status()["spent_usd"] < 5


@pytest.mark.usefixtures("_watched")
@pytest.mark.slow
def test_a_price_that_is_raised_within_what_was_allowed_is_told_and_nothing_more(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from(fleet())
    pytester.makepyfile(
        WORKLOAD
        + RAISED
        + """
def test_1(vast_instance):
    raise_price(vast_instance, 2)
    use_until_told(vast_instance, "costs 0.40")

def test_2(vast_instance):
    assert vast_instance.offer.machine_id == 101
    assert vast_instance.offer.price_usd_h > 0.4
"""
    )
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-p", "no:randomly")
    result.assert_outcomes(passed=2)
    result.stdout.re_match_lines([r"vastgpu instance \d+: costs 0\.40\d\d USD/h, it was 0\.20\d\d USD/h"])
    assert [row["machine_id"] for row in market.status()["ended"]] == [BAD]


@pytest.mark.usefixtures("_watched")
@pytest.mark.slow
def test_a_price_that_cannot_be_true_any_more_is_not_reckoned_with(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path
) -> None:
    rent_from(fleet())
    pytester.makepyfile(
        WORKLOAD
        + RAISED
        + """
def test_1(vast_instance):
    market = os.environ["VAST_URL"], os.environ["VAST_API_KEY"]
    strike(*market, vast_instance.id, "instance_says", field="dph_total", says="-1000")
    use_until_told(vast_instance, "cannot be true")

def test_2(vast_instance):
    assert vast_instance.offer.machine_id == 102
"""
    )
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-p", "no:randomly")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*no new test gets it: *cannot be true: dph_total is -1000 USD/h, below 0"])
    assert all(instance["cost_usd"] > 0 for instance in costs_of(home)["instances"])


@pytest.mark.slow
@pytest.mark.parametrize("credit", ["NaN", "1e300", "null", '"much"'])
def test_a_credit_that_cannot_be_true_ends_the_run_before_it_rents(
    pytester: pytest.Pytester, rent_from: RentFrom, credit: str
) -> None:
    rent_from({"faults": [{"name": "account_says", "field": "credit", "says": credit}], **fleet()})
    pytester.makepyfile(WORKLOAD + "def test_it(vast_instance): pass")
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: vastgpu: account: the market's answer cannot be true: credit is *billing page"]
    )


@pytest.mark.slow
def test_each_test_pays_its_part(pytester: pytest.Pytester, rent_from: RentFrom, home: Path) -> None:
    """The file, JUnit and the summary say the same; the market bills no more."""
    market = rent_from({"this_machine": True})
    pytester.makepyfile(test_money=WORKLOAD.replace("gpus=1, cuda=12.4", "gpus=0") + THREE_TESTS)
    result = pytester.runpytest_inprocess("-v", "--junitxml=junit.xml", "--vast-budget=3")
    result.assert_outcomes(passed=4)
    costs = costs_of(home)
    (instance,) = costs["instances"]
    (ended,) = market.status()["ended"]
    assert (costs["version"], costs["market"], costs["budget_usd"]) == (1, market.url, 3)
    assert instance["gone"] is True
    assert instance["outcome"] == "ready"
    assert (
        costs["total_usd"]
        == instance["cost_usd"]
        == sum(row["cost_usd"] for row in instance["tests"]) + instance["overhead_usd"]
    )
    assert float(instance["cost_usd"]) >= ended["cost"]["total_usd"]
    ledger = next(home.glob(".local/state/pytest-vastgpu/runs/*/ledger.jsonl")).read_text().splitlines()
    steps = {row["step"]: row for row in map(json.loads, ledger)}
    assert 0 < steps["created"]["cost_usd"] < steps["ready"]["cost_usd"] < steps["gone"]["cost_usd"]
    assert steps["gone"]["cost_usd"] == pytest.approx(float(instance["cost_usd"]), abs=1e-6)
    paid = {row["test"]: row for row in instance["tests"]}
    assert sorted(paid) == [f"test_money.py::test_it[{n}]" for n in range(3)]
    for row in paid.values():
        assert row["seconds"] >= Decimal("0.2")
        assert float(row["cost_usd"]) == pytest.approx(float(instance["usd_h"] * row["seconds"] / 3600), rel=0.01)
    for case in ET.parse(pytester.path / "junit.xml").iter("testcase"):  # noqa: S314 - written by this test
        named = {
            row.get("name"): float(row.get("value") or 0)
            for row in case.iter("property")
            if "cost" in str(row.get("name"))
        }
        if case.get("name") == "test_without":
            assert named == {}
            continue
        whole = float(paid[f"test_money.py::{case.get('name')}"]["cost_usd"])
        assert 0 < named["vast_cost_usd"] <= whole
        assert named["vast_cost_usd"] < named["vast_instance_cost_usd"] <= float(instance["cost_usd"])
    result.stdout.fnmatch_lines(["0.0000?? USD  test_money.py::test_it?[0-2]?", "vastgpu: costs are in *cost.json"])


@pytest.mark.slow
def test_workers_share_what_they_use_together(pytester: pytest.Pytester, rent_from: RentFrom, home: Path) -> None:
    rent_from({"this_machine": True})
    pytester.makepyfile(test_money=WORKLOAD.replace("gpus=1, cuda=12.4", "gpus=0") + THREE_TESTS)
    pytester.runpytest_subprocess("-n2", "--dist=each", "--junitxml=junit.xml").assert_outcomes(passed=8)
    (instance,) = costs_of(home)["instances"]
    assert sorted(row["test"] for row in instance["tests"]) == [f"test_money.py::test_it[{n}]" for n in range(3)]
    assert instance["cost_usd"] == sum((row["cost_usd"] for row in instance["tests"]), instance["overhead_usd"])
    assert (pytester.path / "junit.xml").read_text().count('name="vast_cost_usd"') == 6


@pytest.mark.slow
def test_an_interrupted_run_leaves_its_costs(pytester: pytest.Pytester, rent_from: RentFrom, home: Path) -> None:
    rent_from({"this_machine": True})
    pytester.makepyfile(
        WORKLOAD.replace("gpus=1, cuda=12.4", "gpus=0") + "def test_it(vast_instance): raise KeyboardInterrupt"
    )
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    (instance,) = costs_of(home)["instances"]
    assert instance["gone"] is True
    assert [row["test"] for row in instance["tests"]] == ["test_an_interrupted_run_leaves_its_costs.py::test_it"]


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ((), 0),
        *(
            pytest.param(options, listed, marks=pytest.mark.slow)
            for options, listed in ((("-q",), 0), (("--no-header",), 0), (("-v",), 2), (("-s",), 0), (("-n2",), 0))
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_one_line_says_what_is_rented_before_it_is_and_verbose_lists_every_option(
    pytester: pytest.Pytester, rent_from: RentFrom, options: tuple[str, ...], listed: int
) -> None:
    market = rent_from({"this_machine": True})
    pytester.makepyfile(WORKLOAD.replace("gpus=1, cuda=12.4", "gpus=0") + "def test_it(vast_instance): pass")
    result = pytester.runpytest_inprocess(*options, "--vast-budget=3", "-p", "no:randomly")
    result.assert_outcomes(passed=1)
    said = [line for line in result.outlines if line.startswith("vastgpu")]
    assert said[0].startswith(f"vastgpu: renting from the market at {market.url} (VAST_URL, VAST_API_KEY), at most 3 ")
    assert [line for line in said if "renting from" in line] == said[:1]
    assert sum("(default)" in line or "budget 3 USD (command line)" in line for line in said[1:]) == listed

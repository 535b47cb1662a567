"""How much a comparison measures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.measuring.comparing.plan import ComparisonPlan
from pytest_vastgpu.measuring.comparing.plan import about
from pytest_vastgpu.measuring.comparing.plan import check_time
from pytest_vastgpu.measuring.comparing.plan import planned


def test_two_blocks_are_a_b_b_a_and_b_a_a_b() -> None:
    assert ComparisonPlan(blocks=2).windows == "ABBABAAB"
    assert ComparisonPlan(blocks=1).windows == "ABBA"
    assert ComparisonPlan(blocks=5).windows == "ABBABAAB" * 2 + "ABBA"


@pytest.mark.parametrize("blocks", range(1, 8))
def test_both_sides_have_as_many_windows_that_are_the_first_after_a_start(blocks: int) -> None:
    """Or what only such a window shows would be a difference of the sides."""
    starts = ComparisonPlan(blocks=blocks).starts
    a, b = ([len(windows) for side, windows in starts if side == each] for each in "AB")
    assert (len(a), sum(a)) == (len(b), sum(b)) == (len(a), 2 * blocks)
    windows = ComparisonPlan(blocks=blocks).windows
    at_a, at_b = (sum(at for at, each in enumerate(windows) if each == side) for side in "AB")
    assert at_a == at_b, "what changes steadily meets both sides alike"


@pytest.mark.parametrize("blocks", range(1, 8))
def test_together_the_windows_are_the_same_and_each_side_starts_once(blocks: int) -> None:
    plan = ComparisonPlan(blocks=blocks, together=True)
    assert plan.windows == ComparisonPlan(blocks=blocks).windows
    assert [sides for sides, _ in plan.starts] == ["AB"]
    assert plan.load_s(2) == ComparisonPlan(blocks=blocks).load_s(2)


def test_that_both_run_together_is_told_beforehand() -> None:
    assert " and 13 starts of a server on a host, both servers at a time, each with part of the memory, at most " in (
        ComparisonPlan(together=True).announcement(1.0, 1800, 0.5, 2.0)
    )
    with pytest.raises(ConfigurationError, match=r"^vast_compare\(together='yes'\): give True or False$"):
        ComparisonPlan(together="yes")  # type: ignore[arg-type] # as a user may


def test_a_third_host_is_not_to_be_had() -> None:
    with pytest.raises(ConfigurationError, match=r"vast_compare\(hosts=3\): give 2 at most"):
        ComparisonPlan(hosts=3)


def test_what_is_asked_for_is_planned_and_the_rest_is_as_always() -> None:
    asked: Any = {"rounds": 3, "hosts": 1, "blocks": 5, "seconds": 2.5, "minutes": 7, "together": True}
    assert asdict(planned(**asked)) == asked
    assert planned() == ComparisonPlan()


def test_a_name_that_there_is_not_is_a_usage_error() -> None:
    asked: Any = {"round": 3}
    known = "baseline, candidate and load, and rounds, hosts, blocks, seconds, minutes, together"
    with pytest.raises(ConfigurationError, match=rf"^vast_compare\(round=…\): it takes {known}$"):
        planned(**asked)


@pytest.mark.parametrize(("life_s", "limit"), [(180, "--vast-max-lifetime=180"), (9999, "minutes=3")])
def test_the_limit_that_is_too_low_is_named(life_s: float, limit: str) -> None:
    plan = ComparisonPlan(minutes=3)
    with pytest.raises(ConfigurationError, match=f"two rounds are 3 min 12 s of load alone, and {limit} is the limit"):
        check_time(plan, 2.0, life_s)
    check_time(ComparisonPlan(minutes=4), 2.0, life_s=252)  # a minute is left to give it back


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (41.4, "about 41 s and less than 0.01 USD"),
        (278, "about 4 min 40 s and 0.03 USD"),
        (842, "about 14 min and 0.08 USD"),
        (3 * 3600 + 130, "about 3 h and 1.09 USD"),
    ],
)
def test_what_is_to_come_has_no_more_digits_than_can_be_known(seconds: float, words: str) -> None:
    assert about(seconds, usd_h=0.36) == words

"""What a round has of its windows."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from collections.abc import Sequence

import pytest

from pytest_vastgpu.measuring.comparing.comparison import Finding
from pytest_vastgpu.measuring.comparing.comparison import HostRounds
from pytest_vastgpu.measuring.comparing.comparison import Round
from pytest_vastgpu.measuring.comparing.comparison import judge
from pytest_vastgpu.measuring.comparing.comparison import round_of
from pytest_vastgpu.measuring.comparing.ratios import same_share

WINDOWS = [{"ttft_p50": each} for each in (1.0, 1.1, 1.2, 9.0)]


def test_a_round_has_the_median_of_its_windows() -> None:
    found = round_of(WINDOWS, [{"ttft_p50": 2.0}])
    assert found.baseline == {"ttft_p50": pytest.approx((math.log(1.1) + math.log(1.2)) / 2)}
    assert found.candidate == {"ttft_p50": pytest.approx(math.log(2))}


@pytest.mark.parametrize("bad", [math.nan, -1.0])
def test_what_is_no_number_is_left_out(bad: float) -> None:
    assert round_of([{"ttft_p50": bad}, {"ttft_p50": 1.0}], [{"ttft_p50": bad}]) == Round({"ttft_p50": 0.0}, {})


def test_a_window_whose_percentile_has_no_end_is_the_worst_of_its_round() -> None:
    windows = [{"ttft_p99": value} for value in (math.inf, 1.0, math.inf, 3.0, 2.0)]
    assert round_of(windows, windows[:3]) == Round({"ttft_p99": math.log(3.0)}, {"ttft_p99": math.inf})


def rounds(windows: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> HostRounds:
    return HostRounds(1, [round_of([baseline], [candidate]) for baseline, candidate in windows])


def test_a_metric_that_one_side_lacks_has_no_number() -> None:
    """Such as a time to the first token where the candidate streams nothing."""
    (judged,) = judge([rounds([({"ttft_p50": 1.0}, {})] * 6)], {"ttft_p50": 0.05}, {})
    assert judged.finding is Finding.INCONCLUSIVE
    assert judged.why == "no value in 6 of 6 rounds"
    assert math.isnan(judged.slowdown)
    once = rounds([({"ttft_p50": 1.0}, {})] + [({"ttft_p50": 1.0}, {"ttft_p50": 1.001})] * 5)
    (some,) = judge([once], {"ttft_p50": 0.05}, {})
    assert some.finding is Finding.NOISE
    assert some.why == "no value in 1 of 6 rounds"


def test_a_time_without_end_is_the_worst_and_not_missing() -> None:
    """As a p99 is where more than one in a hundred requests fail. Without them, the candidate would be the quicker."""
    half = round_of([{"e2e_p99": 1.0}] * 4, [*[{"e2e_p99": 0.9}] * 2, *[{"e2e_p99": math.inf}] * 2])
    assert half.candidate == {"e2e_p99": math.inf}
    dice = random.Random(1)
    quick = [({"e2e_p99": 1.0}, {"e2e_p99": 0.9 + dice.random() / 100}) for _ in range(3)]
    seen = rounds([*quick, *[({"e2e_p99": 1.0}, {"e2e_p99": math.inf})] * 3])
    (judged,) = judge([seen], {"e2e_p99": 0.05}, {})
    assert judged.finding is Finding.INCONCLUSIVE
    assert judged.rounds == 6
    assert judged.slowdown > 0
    assert judged.why.endswith("without end in 3 of 6 rounds, taken as twice the most that was seen")
    both = rounds([({"e2e_p99": math.inf}, {"e2e_p99": math.inf}), *quick])
    assert judge([both], {"e2e_p99": 0.05}, {})[0].rounds == 4


@pytest.mark.parametrize(
    ("failed", "of", "same"),
    [
        ((0, 0), (400, 400), True),
        ((0, 4), (400, 400), True),  # 1 %
        ((7, 13), (240, 240), True),  # 2.5 %, which chance does in one of six cases
        ((0, 20), (400, 400), False),
        ((400, 0), (400, 400), False),
        ((30, 30), (30, 30), True),
    ],
)
def test_sides_do_the_same_work_where_they_fail_equally_often(
    failed: Sequence[float], of: Sequence[float], same: bool
) -> None:
    assert same_share(failed, of, looks=6) is same


def test_equal_sides_that_fail_now_and_then_are_rarely_taken_for_different() -> None:
    """With 3 % errors and 240 requests of each side in a round, looked at after each of six rounds."""
    dice, wrong = random.Random(1), 0
    for _ in range(200):
        failed, same = [0, 0], []
        for number in range(1, 7):
            failed = [count + sum(dice.random() < 0.03 for _ in range(240)) for count in failed]
            same.append(same_share(failed, [240 * number] * 2, looks=6))
        wrong += not all(same)
    assert wrong <= 2


@pytest.mark.parametrize(("metric", "better", "lacks"), [("e2e_p50", -1, True), ("goodput", 1, False)])
def test_zero_is_no_latency_and_is_the_worst_goodput(metric: str, better: int, lacks: bool) -> None:
    dice = random.Random(1)
    seen = rounds([({metric: 5 + dice.random()}, {metric: 0.0}) for _ in range(6)])
    hosts = [seen, HostRounds(2, seen.rounds)]
    (judged,) = judge(hosts, {metric: 0.05}, {metric: better})
    if lacks:
        assert judged.finding is Finding.INCONCLUSIVE
        assert judged.why == "no value in 12 of 12 rounds"
    else:
        assert judged.finding is Finding.REGRESSION
        assert 0.5 <= judged.slowdown < 0.7
        assert "0 in 12 of 12 rounds" in judged.why


def test_a_metric_that_is_zero_on_both_sides_has_no_number() -> None:
    (judged,) = judge([rounds([({"goodput": 0.0}, {"goodput": 0.0})] * 6)], {"goodput": 0.05}, {"goodput": 1})
    assert judged.finding is Finding.INCONCLUSIVE
    assert math.isnan(judged.slowdown)

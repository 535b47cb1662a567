"""Intervals of runs in which what follows each other is not independent."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from pytest_vastgpu.measuring import intervals
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.intervals import Blocks
from pytest_vastgpu.measuring.intervals import TooFew

RUNS = 100


def run_of_a_slow_drift(dice: random.Random, *, seconds: float = 10.0, at_a_time: int = 4) -> list[tuple[float, float]]:
    """Start and duration of requests of a closed loop: speed drifts by 10 % within a third of a second or so, and
    each request has 10 % of its own.
    """
    step_s, kept = 0.05, math.exp(-0.05 / 0.3)
    drift, drifts = dice.gauss(0, 0.1), []
    for _ in range(int((seconds + 3) / step_s)):
        drifts.append(drift)
        drift = kept * drift + math.sqrt(1 - kept**2) * dice.gauss(0, 0.1)
    asked = []
    for _ in range(at_a_time):
        now = -1.0
        while now < seconds:
            takes = 0.1 * math.exp(drifts[int((now + 1) / step_s)] + dice.gauss(0, 0.1))
            asked.append((now, takes))
            now += takes
    return asked


def test_nine_of_ten_intervals_hold_the_truth_where_the_usual_ones_hold_it_in_half() -> None:
    dice = random.Random(18)
    truth = {"rate": 4 / (0.1 * math.exp(0.02 / 2)), "p50": 0.1, "p90": 0.1 * math.exp(1.2816 * math.sqrt(0.02))}
    ours, usual = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0)
    for _ in range(RUNS):
        asked = run_of_a_slow_drift(dice)
        inside = sorted(takes for start, takes in asked if 0 <= start < 10)
        blocks = intervals.for_rates(10.0, 0.1)
        amounts = [0.0] * blocks.count
        for start, takes in asked:
            blocks.spread(start, start + takes, amounts)
        found: dict[str, Figure | TooFew] = {
            "rate": intervals.mean([each * blocks.count / 10 for each in amounts], "1/s"),
            **dict(
                zip(("p50", "p90"), intervals.quantiles(asked, [0.5, 0.9], intervals.for_quantiles(10.0)), strict=True)
            ),
        }
        rate = len(inside) / 10
        half = 1.96 * rate * statistics.stdev(inside) / statistics.fmean(inside) / math.sqrt(len(inside))
        independent = {"rate": (rate - half, rate + half)}
        for name, level in (("p50", 0.5), ("p90", 0.9)):
            half = 1.96 * math.sqrt(level * (1 - level) * len(inside))
            independent[name] = (
                inside[int(level * len(inside) - half)],
                inside[min(len(inside) - 1, int(level * len(inside) + half))],
            )
        for name, true in truth.items():
            each = found[name]
            ours[name] += isinstance(each, TooFew) or each.low <= true <= each.high
            usual[name] += independent[name][0] <= true <= independent[name][1]
    assert min(ours.values()) >= 0.86 * RUNS
    assert max(usual.values()) <= 0.65 * RUNS


def test_what_lasts_longer_than_a_tenth_of_the_run_makes_fewer_blocks() -> None:
    assert intervals.for_rates(10, 1.0).count == 5
    assert intervals.for_rates(10, 1.25).count == 4
    assert intervals.for_rates(10, 9.0).count == 3


def test_work_counts_in_each_block_for_the_time_that_lies_in_it() -> None:
    blocks = Blocks(0.0, 10.0, 5)
    amounts = [0.0] * 5
    blocks.spread(-1.0, 3.0, amounts)  # a quarter before
    blocks.spread(9.0, 11.0, amounts, 4.0)  # half of it after
    blocks.spread(5.0, 5.0, amounts)  # at one moment
    blocks.spread(12.0, 13.0, amounts)
    assert amounts == [0.5, 0.25, 1.0, 0.0, 2.0]


@pytest.mark.parametrize(("level", "least"), [(0.5, 6), (0.9, 36), (0.99, 381)])
def test_a_quantile_needs_so_many_values_that_the_largest_is_a_limit(level: float, least: int) -> None:
    blocks = Blocks(0, 1, 7)
    few = [(at / least, 1.0) for at in range(least - 1)]
    assert intervals.quantiles(few, [level], blocks) == [TooFew(least)]


def test_values_that_depend_on_each_other_count_for_fewer() -> None:
    """A tenth of the run is slow: a p99 would be that of one moment."""
    blocks = Blocks(0, 10, 7)
    dice = random.Random(1)
    spread = [(dice.random() * 10, dice.random()) for _ in range(1000)]
    [alone] = intervals.quantiles(spread, [0.99], blocks)
    assert isinstance(alone, Figure)
    slow = [(moment, value + 5 * (moment > 9)) for moment, value in spread]
    [bunched] = intervals.quantiles(slow, [0.99], blocks)
    assert isinstance(bunched, TooFew)
    assert bunched.needed > 1000


def test_a_quantile_among_what_never_came_is_none() -> None:
    blocks = Blocks(0, 1, 7)
    dice = random.Random(1)
    points = [(at / 1000, math.inf if at % 20 == 0 else dice.random()) for at in range(1000)]
    half, ninety, most = intervals.quantiles(points, [0.5, 0.9, 0.99], blocks)
    assert isinstance(half, Figure)
    assert isinstance(ninety, Figure)
    assert math.isfinite(ninety.high)
    assert most == TooFew(0)


def test_quantiles_lie_between_values_as_those_of_others_do() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    assert intervals.interpolated(values, 0.5) == statistics.median(values)
    assert intervals.interpolated(values, 0.9) == pytest.approx(6.8)  # numpy.quantile

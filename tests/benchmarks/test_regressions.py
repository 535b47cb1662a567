from __future__ import annotations

import pytest

from pytest_vastgpu.measuring.comparing.comparison import Finding
from tests.benchmarks import regressions
from tests.benchmarks.regressions import METRICS
from tests.benchmarks.regressions import RULES
from tests.benchmarks.regressions import Noise


def test_equal_sides_are_green_and_slower_ones_red() -> None:
    """A small form of the whole simulation, which gives the same numbers each time."""
    same = regressions.equal(120, Noise())
    slow = regressions.slower(120, Noise())
    assert sum(each.red for each in same) <= 1
    assert sum(each.confirmed for each in same) <= 15  # a second host costs money
    assert sum(each.red for each in slow) >= 114


@pytest.mark.parametrize("noise", [Noise(start=0.02), Noise(window=0.06)])
def test_noisier_hosts_make_no_more_of_equal_sides_red(noise: Noise) -> None:
    assert sum(each.red for each in regressions.equal(100, noise, seed=11)) <= 1  # 1 to 6 of 1,000, by the seed


QUIET = Noise(start=0.002, window=0.005, outliers=0, clocks=0, first=0.08)


@pytest.mark.parametrize("noise", [Noise(first=0.08), Noise(first=-0.08), QUIET])
def test_what_only_the_first_window_after_a_start_shows_meets_both_sides_alike(noise: Noise) -> None:
    same = [judged.finding for each in regressions.equal(60, noise) for judged in each.judged]
    assert same.count(Finding.REGRESSION) + same.count(Finding.IMPROVEMENT) <= 1
    assert sum(each.red for each in regressions.slower(60, noise)) >= 54


def test_rules_without_a_second_host_err() -> None:
    same, slow = regressions.equal(60, Noise()), regressions.slower(60, Noise())
    for name in list(RULES)[1:]:
        red, found = sum(map(RULES[name], same)), sum(map(RULES[name], slow))
        assert red > 3 or found < 57, name


def test_each_comparison_is_the_same_each_time() -> None:
    one, other = (list(regressions.comparisons(2, Noise(), {METRICS[0]: 0.05}, seed=7)) for _ in range(2))
    assert one == other
    assert one[0] != one[1]


def test_the_tables_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert regressions.main(["--number", "2", "--only", "rule"]) == 0
    printed = capsys.readouterr().out
    assert all(rule in printed for rule in RULES)


@pytest.mark.parametrize(
    ("red", "found", "code"), [((10, 10), 950, 0), ((11, 0), 950, 1), ((0, 11), 950, 1), ((0, 0), 949, 1)]
)
def test_a_goal_that_is_missed_fails(
    red: tuple[int, int], found: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many red comparisons, in quiet settings and in noisy ones, as are allowed for 1,000, or one too many."""
    quiet = ("hosts differ by 8 %", "hosts differ by 22 %")
    monkeypatch.setattr(regressions, "_red", int)
    monkeypatch.setattr(regressions, "SETTINGS", {name: name for name in regressions.GOALS})
    monkeypatch.setattr(regressions, "equal", lambda _, name: red[name not in quiet])
    monkeypatch.setattr(regressions, "slower", lambda _, name: found if name in quiet else 0)
    assert regressions.main(["--only", "goal"]) == code
    assert "| at least |" in capsys.readouterr().out

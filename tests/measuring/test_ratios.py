from __future__ import annotations

import math

import pytest

from pytest_vastgpu.measuring.comparing.ratios import Estimate
from pytest_vastgpu.measuring.comparing.ratios import Ratios
from pytest_vastgpu.measuring.comparing.ratios import holm

SPREAD = (-0.02, 0.01, 0.0, 0.03)


def shifted(by: float, spread: float = 1.0) -> list[float]:
    return [by + spread * each for each in SPREAD]


def test_two_hosts_alike_have_the_degrees_of_freedom_of_both() -> None:
    both = Estimate.of([shifted(0.1), shifted(0.3)])
    alone = Estimate.of([shifted(0.1)])
    assert alone.df == 3
    assert both.df == pytest.approx(6)
    assert both.mean == pytest.approx(alone.mean + 0.1)
    assert both.error == pytest.approx(alone.error / math.sqrt(2))


def test_a_noisy_host_beside_a_quiet_one_has_its_own_degrees_of_freedom() -> None:
    """Welch and Satterthwaite: (a + b)² / (a² / 3 + b² / 3), where b is a hundredth of a."""
    assert Estimate.of([shifted(0.0), shifted(0.0, 0.1)]).df == pytest.approx(3 * 1.01**2 / 1.0001)


def test_the_p_value_and_the_interval_agree() -> None:
    seen = Estimate.of([shifted(0.1)])
    low = seen.mean - seen.reach(0.975)
    assert seen.above(low) == pytest.approx(0.025)
    assert seen.above(seen.mean) == 0.5
    assert 1 - seen.above(seen.mean + seen.reach(0.975)) == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("values", "corrected"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # the usual example
        ([0.6, 0.5], [1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm(values: list[float], corrected: list[float]) -> None:
    assert holm(values) == pytest.approx(corrected)


@pytest.mark.parametrize(("more_is_better", "worst"), [(True, 0.2), (False, 0.25)])
def test_a_share_and_its_logarithm_are_the_same(more_is_better: bool, worst: float) -> None:
    """4 instead of 5 requests a second is 20 % less; 5 s instead of 4 s is 25 % more."""
    rounds = {1: [(math.log(5), math.log(4))] * 2} if more_is_better else {1: [(math.log(4), math.log(5))] * 2}
    ratios = Ratios.of(rounds, more_is_better)
    assert ratios.share(ratios.hosts[1][0]) == pytest.approx(worst)
    assert ratios.gate(worst) == pytest.approx(ratios.hosts[1][0])

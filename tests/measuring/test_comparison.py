from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pytest_vastgpu.measuring.comparing import student
from pytest_vastgpu.measuring.comparing.comparison import Finding
from pytest_vastgpu.measuring.comparing.comparison import HostRounds
from pytest_vastgpu.measuring.comparing.comparison import Judged
from pytest_vastgpu.measuring.comparing.comparison import Round
from pytest_vastgpu.measuring.comparing.comparison import judge
from pytest_vastgpu.measuring.comparing.comparison import needs_second_host
from pytest_vastgpu.measuring.comparing.comparison import resolves
from pytest_vastgpu.measuring.comparing.comparison import resolving_rounds
from pytest_vastgpu.measuring.comparing.comparison import would_settle

GATES = {"ttft_p50": 0.05}
SPREAD = (-1.3, 1.3, -0.4, 0.4, -0.9, 0.9)
"""Of six rounds, with a mean of 0 and a standard deviation of about 1."""


def host(
    slowdown: float, spread: float = 0.01, machine: int = 1, metric: str = "ttft_p50", rounds: int = 6
) -> HostRounds:
    """Rounds whose mean is this slowdown."""
    each = [Round({metric: 0.0}, {metric: math.log1p(slowdown) + spread * SPREAD[at % 6]}) for at in range(rounds)]
    return HostRounds(machine, each)


def one(*hosts: HostRounds, gate: float = 0.05) -> Judged:
    (judged,) = judge(hosts, {"ttft_p50": gate}, {})
    return judged


def two(first: float, second: float, spread: float = 0.01) -> Judged:
    return one(host(first, spread), host(second, spread, 2))


@pytest.mark.parametrize(
    ("judged", "finding"),
    [
        (two(0.06, 0.05), Finding.REGRESSION),
        (two(0.05, 0.05, 0.02), Finding.REGRESSION),
        (one(host(0.06)), Finding.INCONCLUSIVE),  # only a second host makes it red
        (two(0.06, 0.01), Finding.INCONCLUSIVE),  # it does not
        (two(0.06, -0.05, 0.05), Finding.NOISE),
        (two(0.05, 0.05, 0.08), Finding.INCONCLUSIVE),
        (two(0.03, 0.03, 0.001), Finding.NOISE),  # surely there, and surely less than the gate
        (one(host(0.0)), Finding.NOISE),
        (one(host(-0.06)), Finding.IMPROVEMENT),
        (one(host(-0.01, 0.001)), Finding.NOISE),
        (one(host(0.0, 0.08)), Finding.INCONCLUSIVE),
        (one(host(-0.04, 0.15)), Finding.INCONCLUSIVE),
    ],
)
def test_findings(judged: Judged, finding: Finding) -> None:
    assert judged.finding is finding


def test_noise_excludes_the_gate_and_inconclusive_holds_it_and_zero() -> None:
    quiet, loud = one(host(0.0)), one(host(0.01, 0.08))
    assert quiet.high < 0.05
    assert loud.low < 0 < 0.05 < loud.high


def test_the_interval_is_students() -> None:
    judged = one(host(0.02, 0.02))
    logs = [math.log(1.02) + 0.02 * each for each in SPREAD]
    mean = sum(logs) / 6
    error = math.sqrt(sum((each - mean) ** 2 for each in logs) / 5 / 6)
    assert judged.slowdown == pytest.approx(0.02)
    assert judged.low == pytest.approx(math.expm1(mean - 2.5706 * error), abs=1e-5)
    assert judged.high == pytest.approx(math.expm1(mean + 2.5706 * error), abs=1e-5)
    assert judged.rounds == 6


@pytest.mark.parametrize(
    ("slowdown", "spread", "confirm"),
    [
        (0.05, 0.02, True),
        (0.026, 0.025, True),
        (0.024, 0.025, False),  # less than half of the gate
        (0.03, 0.06, False),  # p = 0.13
        (0.03, 0.001, False),  # surely less than the gate
        (-0.05, 0.01, False),
    ],
)
def test_a_second_host_is_needed_where_a_slowdown_is_suspected(slowdown: float, spread: float, confirm: bool) -> None:
    judged = one(host(slowdown, spread))
    assert judged.confirm is confirm
    assert needs_second_host([judged]) is confirm
    if confirm:
        assert judged.finding is Finding.INCONCLUSIVE
        assert would_settle([judged]) == (6, 1)
        assert "a second host would tell" in judged.why
    assert not needs_second_host([two(slowdown, slowdown, spread)])


def test_noise_that_so_few_rounds_could_hardly_have_told_from_the_gate_says_so() -> None:
    few = one(host(-0.57, 0.055, rounds=2), gate=0.2)
    assert (few.finding, few.resolves > 0.2) == (Finding.NOISE, True)
    assert few.why.startswith("a slowdown above ")
    assert "so few rounds would miss one of the gate in more than 2 of 10 cases" in few.why
    many = one(host(0.0))
    assert (many.finding, many.resolves < 0.05, many.why) == (Finding.NOISE, True, "")


def test_where_a_slowdown_may_not_show_nothing_is_noise() -> None:
    hidden = one(replace(host(0.0), hides="the driver was busy"))
    assert (hidden.finding, hidden.why) == (Finding.INCONCLUSIVE, "machine 1: the driver was busy")
    assert would_settle([hidden]) == (0, 0), "more rounds do not"
    assert (
        one(host(0.0), replace(host(0.0, machine=2), hides="busy", hardware_problem="too hot")).finding is Finding.NOISE
    )
    both = one(replace(host(0.06), hides="busy"), host(0.05, machine=2))
    assert both.finding is Finding.REGRESSION


def test_a_second_instance_on_one_machine_is_called_no_machine() -> None:
    again = HostRounds(4711, host(0.06).rounds, name="machine 1 once more")
    judged = one(host(0.06), again)
    assert judged.why == "6.0 % worse on machine 1 and 6.0 % worse on machine 1 once more"
    assert judged.places == {1: "machine 1", 4711: "machine 1 once more"}
    hardware_problem = one(HostRounds(4711, (), "it is too hot", "machine 1 once more"))
    assert hardware_problem.why == "machine 1 once more: it is too hot"


def test_what_is_judged_is_printed_in_few_digits() -> None:
    assert repr(two(0.06, 0.05)) == (
        "<ttft_p50: regression, +5.5 % (+4.8 % to +6.2 %), gate +5.0 %, could be seen from +1.4 %; 6.0 % worse on "
        "machine 1 and 5.0 % worse on machine 2>"
    )
    assert repr(one(HostRounds(1, (), "too hot"))) == "<ttft_p50: hardware, gate +5.0 %; machine 1: too hot>"


def test_each_host_must_see_half_of_the_gate() -> None:
    assert two(0.06, 0.026, 0.02).finding is Finding.REGRESSION
    killed = two(0.06, 0.024, 0.02)
    assert killed.finding is Finding.INCONCLUSIVE
    assert (
        killed.why
        == "the hosts disagree, only a further one can tell: 6.0 % worse on machine 1 and 2.4 % worse on machine 2"
    )
    assert would_settle([killed]) == (6, 1), "the same once more is no way to settle it"
    assert killed.hosts == {1: pytest.approx(0.06), 2: pytest.approx(0.024)}


def test_more_is_better_for_throughput() -> None:
    slower = [host(0.06, machine=machine, metric="throughput") for machine in (1, 2)]
    assert judge(slower, {"throughput": 0.05}, {"throughput": 1})[0].finding is Finding.IMPROVEMENT
    less = [
        HostRounds(each.machine_id, [Round(found.candidate, found.baseline) for found in each.rounds])
        for each in slower
    ]
    (judged,) = judge(less, {"throughput": 0.05}, {"throughput": 1})
    assert judged.finding is Finding.REGRESSION
    assert judged.slowdown == pytest.approx(1 - 1 / 1.06)  # 5.7 % less throughput


def test_hosts_count_alike_however_quick_and_noisy_they_are() -> None:
    slow = [Round({"ttft_p50": 7.0}, {"ttft_p50": 7.04 + 0.02 * each}) for each in SPREAD]
    quick = [Round({"ttft_p50": -2.0}, {"ttft_p50": -1.94 + 0.002 * each}) for each in SPREAD[:4]]
    judged = one(HostRounds(1, slow), HostRounds(2, quick))
    assert judged.slowdown == pytest.approx(math.expm1(0.05))
    assert judged.rounds == 10


def several(ps: Sequence[float]) -> list[Judged]:
    """Two hosts and a metric for each slowdown."""
    hosts = []
    for machine in (1, 2):
        sides = [{f"m{at}": math.log1p(slow) + 0.04 * each for at, slow in enumerate(ps)} for each in SPREAD]
        hosts.append(HostRounds(machine, [Round(dict.fromkeys(side, 0.0), side) for side in sides]))
    return judge(hosts, {f"m{at}": 0.05 for at in range(len(ps))}, {})


def test_several_gated_metrics_are_corrected_by_holm() -> None:
    (alone,) = several([0.04])
    beside = several([0.04, 0.0, 0.08])
    assert alone.finding is Finding.REGRESSION
    assert [each.metric for each in beside] == ["m0", "m1", "m2"]
    assert beside[0].p == pytest.approx(2 * alone.p)  # m2's is smaller
    assert beside[2].p == pytest.approx(3 * several([0.08])[0].p)
    assert [each.finding for each in several([0.04] * 8)] == [Finding.INCONCLUSIVE] * 8


def test_improvements_are_corrected_by_holm_too() -> None:
    assert several([-0.04])[0].finding is Finding.IMPROVEMENT
    assert Finding.IMPROVEMENT not in {each.finding for each in several([-0.04] * 8)}


def test_a_host_with_a_hardware_problem_does_not_count() -> None:
    throttled = HostRounds(1, host(0.3).rounds, "throttled for its temperature")
    judged = one(throttled)
    assert judged.finding is Finding.HARDWARE
    assert judged.why == "machine 1: throttled for its temperature"
    assert judged.rounds == 0
    assert math.isnan(judged.slowdown)
    assert would_settle([judged]) == (6, 2)
    assert one(throttled, host(0.3, machine=2, rounds=1)).finding is Finding.INCONCLUSIVE
    assert one(throttled, host(0.0, machine=2)).finding is Finding.NOISE
    assert one(throttled, host(0.06, machine=2)).confirm
    assert one(throttled, host(0.06, machine=2), host(0.06, machine=3)).finding is Finding.REGRESSION


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_single_round_says_nothing(rounds: int) -> None:
    judged = one(host(0.3, rounds=rounds))
    assert judged.finding is Finding.INCONCLUSIVE
    assert "fewer than 2 rounds" in judged.why
    assert all(map(math.isnan, (judged.slowdown, judged.low, judged.high, judged.p, judged.resolves)))
    assert one().finding is Finding.INCONCLUSIVE  # of no host at all


def test_rounds_that_are_all_the_same_are_no_certainty() -> None:
    judged = one(host(0.0504, spread=0.0, rounds=2))
    assert judged.low < judged.slowdown < judged.high
    assert 0 < judged.p < 0.01


def test_more_rounds_see_less() -> None:
    seen = [one(host(0.0, 0.03, rounds=each)).resolves for each in (3, 6, 12, 24)]
    assert seen == sorted(seen, reverse=True)
    assert seen[1] == pytest.approx(0.044, abs=0.002)


def test_what_is_open_says_how_many_rounds_would_settle_it() -> None:
    judged = one(host(0.0, 0.08))
    assert judged.resolves > 0.05
    needed, hosts = would_settle([judged, one(host(0.0))])
    assert (needed, hosts) == (judged.settles_rounds, 2)
    settled = one(host(0.0, 0.08, rounds=needed))
    assert settled.finding is Finding.NOISE
    assert settled.resolves <= 0.05
    assert one(host(0.0, 0.08, rounds=needed - 1)).resolves > 0.045  # no fewer would


def test_what_could_be_seen_allows_for_both_steps_and_for_several_metrics() -> None:
    both = (3.707 + student.quantile(0.93, 6)) / math.sqrt(10)  # t of 0.005 with 6 degrees of freedom
    alone = (1.310 + student.quantile(0.93, 30)) / math.sqrt(31)  # t of 0.10 with 30
    assert resolves(1.0, 5, metrics=2) == pytest.approx(both, abs=1e-3)
    assert resolves(1.0, 31, metrics=1) == pytest.approx(alone, abs=1e-3)


def test_rounds_that_settle_it_also_say_noise() -> None:
    """23 rounds have an error of 0.08 / √23, t of 0.975 and 0.8 with 22 degrees are 2.074 and 0.858: 0.0489."""
    assert resolving_rounds(0.08, 6, 0.05, metrics=1) == 23
    assert resolves(0.08, 21, metrics=1) < 0.05


def test_what_is_open_though_it_is_worse_says_how_rarely_chance_does_that() -> None:
    judged = two(0.04, 0.04, 0.05)
    assert judged.low > 0
    assert judged.finding is Finding.INCONCLUSIVE
    assert judged.why == "where nothing differs, 1.2 % of all comparisons see as much"
    assert judged.p == pytest.approx(0.0125, abs=1e-4)


def test_rounds_do_not_settle_what_is_far_too_noisy() -> None:
    judged = one(host(0.0, 0.5))
    assert (judged.finding, judged.settles_rounds) == (Finding.INCONCLUSIVE, 0)
    assert would_settle([judged, one(host(0.0, 0.08))]) == (0, 2)
    assert would_settle([]) == (0, 0)
    assert would_settle([one(host(0.0))]) == (0, 0)

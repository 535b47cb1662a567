from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest

from pytest_vastgpu.core.text.durations import DAY_S
from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import MachineRecord
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reputation.outcomes import Ban
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.reputation.outcomes import Override
from pytest_vastgpu.reputation.outcomes import workload_key
from pytest_vastgpu.reputation.scoring import reputation
from pytest_vastgpu.selection.bans import ban_in_force

T0 = 1_800_000_000.0
BAD = FailureClass.INFRA_FATAL
GOOD = FailureClass.READY
LOST = FailureClass.RUNTIME_LOST
UNKNOWN = FailureClass.UNKNOWN
PAIR = FailureClass.INCOMPATIBLE


def items(
    *outcomes: tuple[float, FailureClass], machine: int = 1, host: int = 0, gpu: str = "RTX 4090"
) -> list[Outcome]:
    """Evidence at so many hours after ``T0``."""
    return [
        Outcome(f"{machine}-{n}", T0 + at * HOUR_S, machine, outcome, host, "RTX 4090", f"r{n}", "w")
        for n, (at, outcome) in enumerate(outcomes)
    ]


def machine(evidence: Sequence[Outcome], at: float, entry: Override | None = None) -> MachineRecord:
    return reputation(evidence, {1: entry} if entry else {}, {}, T0 + at * HOUR_S).machines[1]


def banned(known: Reputation, machine_id: int, host_id: int, now: float) -> str:
    """What is banned, and why; empty where nothing is."""
    ban = ban_in_force(known, machine_id, host_id, now)
    return f"{ban.of}: {ban.reason}" if ban else ""


@pytest.mark.parametrize(
    ("outcomes", "banned_until_h"),
    [
        pytest.param([(0, BAD)], 1, id="first failure: an hour"),
        pytest.param([(0, BAD), (2, BAD)], 8, id="second: six hours"),
        pytest.param([(0, BAD), (2, BAD), (9, BAD)], 33, id="third: a day"),
        pytest.param([(0, BAD), (2, BAD), (9, BAD), (40, BAD)], 208, id="fourth: a week"),
        pytest.param([(0, BAD), (2, BAD), (9, BAD), (40, BAD), (300, BAD)], 468, id="fifth: still a week"),
        pytest.param([(0, BAD), (0.5, BAD), (0.9, BAD)], 1, id="while banned: the same incident"),
        pytest.param([(0, BAD), (0.5, GOOD)], 0, id="a success ends it"),
        pytest.param([(0, BAD), (2, BAD), (9, BAD), (10, GOOD), (11, BAD)], 17, id="a success halves what is held"),
        pytest.param([(0, BAD), (31 * 24, BAD)], 31 * 24 + 1, id="forgotten after 30 days"),
        pytest.param([(0, LOST)], 0, id="lost once: no ban"),
        pytest.param([(0, LOST), (1, LOST), (2, LOST)], 0, id="lost three times: no ban"),
        pytest.param([(0, LOST), (1, LOST), (2, LOST), (3, LOST)], 4, id="lost four times: an hour"),
        pytest.param([(n, UNKNOWN) for n in range(50)], 0, id="running out of time: never"),
        pytest.param([(n, FailureClass.WARMUP) for n in range(50)], 0, id="warm-up: never"),
        pytest.param([(n, FailureClass.WORKLOAD_FATAL) for n in range(50)], 0, id="the workload's fault: never"),
        pytest.param([(n, PAIR) for n in range(50)], 0, id="incompatible: never"),
    ],
)
def test_ban(outcomes: list[tuple[float, FailureClass]], banned_until_h: float) -> None:
    evidence = items(*outcomes)
    last = max(at for at, _ in outcomes)
    expected = T0 + banned_until_h * HOUR_S if banned_until_h else 0.0
    for order in (evidence, evidence[::-1]):
        assert machine(order, last).banned_until == expected
    if banned_until_h:
        assert machine(evidence, banned_until_h).banned_until == 0.0, "a ban ends"


@pytest.mark.parametrize(
    ("outcome", "weight"),
    [
        (BAD, 1.0),
        (LOST, 0.25),
        (UNKNOWN, 0.1),
        (FailureClass.WARMUP, 0.1),
        (PAIR, 0.0),
        (FailureClass.WORKLOAD_FATAL, 0.0),
    ],
)
def test_weight_and_decay(outcome: FailureClass, weight: float) -> None:
    evidence = items((0, outcome))
    assert machine(evidence, 0).infra_failures == pytest.approx(weight)
    assert machine(evidence, 14 * 24).infra_failures == pytest.approx(weight / 2)
    assert machine(evidence, -100).infra_failures == pytest.approx(weight), "a clock that was ahead"


def test_record() -> None:
    seconds = {"intended": 9.0, "created": 1.0, "booting": 20.0, "warming": 30.0, "ready": 500.0}
    evidence = [
        Outcome("a", T0, 1, GOOD, 7, "A100", seconds=seconds),
        Outcome("b", T0 + 60, 1, BAD, 7, "A100", "nvml"),
        Outcome("c", T0 + 120, 1, UNKNOWN, 7, "A100", "out_of_time"),
    ]
    record = machine(evidence, 1)
    assert (record.host_id, record.successes, record.last_reason) == (7, 1.0, "nvml")
    assert (record.ban_reason, record.banned_until) == ("nvml", T0 + 60 + HOUR_S)
    assert record.ready_s == 51.0


@pytest.mark.parametrize(
    ("entry", "until"),
    [
        (Override(allowed=True), 0.0),
        (Override(allowed=True, ban=Ban()), 0.0),
        (Override(ban=Ban()), math.inf),
        (Override(ban=Ban(until=T0 + DAY_S)), T0 + DAY_S),
        (Override(ban=Ban(until=T0 - DAY_S)), T0 + HOUR_S),
    ],
)
def test_what_a_person_says_wins(entry: Override, until: float) -> None:
    record = machine(items((0, BAD)), 0, entry)
    assert record.banned_until == until
    assert record.allowed == entry.allowed


def known(bad: int, good: int, entry: Override | None = None) -> Reputation:
    evidence = [
        item
        for number in range(1, bad + good + 1)
        for item in items((0, BAD if number <= bad else GOOD), machine=number, host=7)
    ]
    return reputation(evidence, {}, {7: entry} if entry else {}, T0)


@pytest.mark.parametrize(
    ("bad", "good", "is_banned"),
    [(1, 0, False), (2, 0, False), (3, 0, True), (3, 3, True), (3, 4, False), (0, 5, False)],
)
def test_an_operator_is_banned_only_for_several_machines(bad: int, good: int, is_banned: bool) -> None:
    assert (known(bad, good).hosts[7].banned_until == T0 + HOUR_S) == is_banned
    assert bool(banned(known(bad, good), 999, 7, T0)) == is_banned


def test_ten_failures_of_one_machine_ban_no_operator() -> None:
    evidence = items(*((n * 200, BAD) for n in range(10)), host=7)
    assert reputation(evidence, {}, {}, T0 + 1800 * HOUR_S).hosts[7].banned_until == 0.0


def test_operator_by_hand() -> None:
    assert banned(known(0, 1, Override(ban=Ban(reason="slow disks"))), 1, 7, T0) == "host 7: slow disks"
    trusted = known(3, 0, Override(allowed=True))
    assert trusted.hosts[7].banned_until == 0.0
    assert banned(trusted, 1, 7, T0) == ""
    one_allowed = reputation([], {1: Override(allowed=True)}, {7: Override(ban=Ban())}, T0)
    assert banned(one_allowed, 1, 7, T0) == ""
    assert banned(one_allowed, 2, 7, T0)


def test_incompatible_pairs() -> None:
    one = items((0, PAIR), machine=1)
    two = items((1, PAIR), machine=2)
    now = T0 + 2 * HOUR_S
    assert reputation(one, {}, {}, now).machines[1].incompatible == {"w"}
    assert reputation(one, {}, {}, now).incompatible_kinds == frozenset()
    assert reputation(one + two, {}, {}, now).incompatible_kinds == {("RTX 4090", "w")}
    assert reputation(one + one, {}, {}, now).incompatible_kinds == frozenset(), "one machine is no kind"
    works = items((1, GOOD), machine=3)
    assert reputation(one + two + works, {}, {}, now).incompatible_kinds == frozenset()
    later = T0 + 31 * DAY_S
    assert reputation(one + two, {}, {}, later).machines[1].incompatible == frozenset()
    assert reputation(one + two, {}, {}, later).incompatible_kinds == frozenset()
    assert machine(items((0, PAIR), (1, GOOD)), 2).incompatible == frozenset(), "the newest word counts"


def test_workload_key_differs_where_it_matters_and_shows_no_secret() -> None:
    base = Workload("vllm", model="org/m", env=(("HF_TOKEN", "hunter2"),))
    same = Workload("vllm", model="org/m", env=(("HF_TOKEN", "other"),), port=9000, disk_gb=99.0)
    others = [
        Workload("vllm", model="org/n"),
        Workload("command", model="org/m"),
        Workload("vllm", model="org/m", gpus=2),
    ]
    assert workload_key(base) == workload_key(same)
    assert "hunter2" not in workload_key(base)
    for one, other in itertools.combinations([base, *others], 2):
        assert workload_key(one) != workload_key(other)


def test_boots_are_remembered_by_image_the_newest_one_and_for_a_week() -> None:
    def booted(at_h: float, image: str, boot_s: float, reached: bool = True) -> Outcome:
        seconds = {"created": 1.0, "booting": boot_s, **({"reachable": 0.5} if reached else {})}
        return Outcome(f"{at_h}", T0 + at_h * HOUR_S, 1, UNKNOWN, seconds=seconds, image=image)

    evidence = [booted(0, "a", 165), booted(1, "b", 70), booted(2, "a", 33), booted(3, "c", 400, reached=False)]
    assert machine(evidence, 4).boot_s == {"a": 34.0, "b": 71.0}
    assert machine(evidence, 7 * 24 + 1.5).boot_s == {"a": 34.0}
    assert machine([*items((0, GOOD))], 1).boot_s == {}, "older records do not name the image"

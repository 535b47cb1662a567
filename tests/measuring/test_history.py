"""What a measurement is compared with: the last save, and what the history has taught."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from pytest_vastgpu.measuring.baselines.files import Entry
from pytest_vastgpu.measuring.baselines.files import Stored
from pytest_vastgpu.measuring.baselines.history import BETWEEN_HOSTS
from pytest_vastgpu.measuring.baselines.history import against
from pytest_vastgpu.measuring.baselines.history import history
from pytest_vastgpu.measuring.baselines.history import spread
from pytest_vastgpu.measuring.baselines.words import compare
from pytest_vastgpu.measuring.figures import Figure
from tests.support.stored import entry
from tests.support.stored import figures
from tests.support.stored import stored
from tests.support.stored import suspected

DOCS = (Path(__file__).parents[2] / "docs/measuring.md").read_text()


def test_a_baseline_of_another_name_is_another_one() -> None:
    kept = [stored(entry(), name="release")]
    assert compare(entry(5.0), "main", kept)[0].startswith("not compared: nothing is kept as baseline 'main'")


def test_the_last_save_is_the_baseline_with_all_others_of_its_commit() -> None:
    old = stored(entry(0.5, "1"), day=1, commit="aaa")
    new = [stored(entry(slower, machine), day, "bbb") for slower, machine, day in ((0.9, "2", 2), (1.1, "3", 3))]
    (throughput, _) = against(entry(machine="4"), "main", [*new, old]).changes
    assert throughput.before == pytest.approx(10 / math.sqrt(0.9 * 1.1))
    changed = [replace(each, commit="") for each in new]  # of files that were changed, nobody knows how
    (throughput, _) = against(entry(machine="4"), "main", [*changed, old]).changes
    assert throughput.before == pytest.approx(10 / 1.1)


def test_several_hosts_of_one_commit_make_it_surer_and_so_does_the_same_machine() -> None:
    one = [stored(entry(machine="1"), commit="aaa")]
    usual = math.exp(BETWEEN_HOSTS * 0.6745 * math.sqrt(2))  # a step of the median size
    three = [stored(entry(usual ** (machine == "2"), machine), commit="aaa") for machine in "123"]
    again = [stored(entry(machine="1"), day, commit="aaa") for day in (1, 2, 3)]
    sees = [
        max(change.resolves for change in against(entry(machine=here, metrics=5), "main", _wide(kept)).changes)
        for here, kept in (("9", one), ("9", three), ("1", one), ("9", again))
    ]
    assert sees[0] > sees[1] > sees[2]
    # Three saves on one machine say no more of the others than one does, but for what was learned of its starts.
    assert sees[3] == pytest.approx(sees[0])
    told = [int(share) / 100 for share in re.findall(r"^\| on .*\| (\d+) % \|$", DOCS, re.MULTILINE)]
    assert told == [round(each, 2) for each in sees[:3]]


def _wide(kept: list[Stored]) -> list[Stored]:
    return [replace(each, entry=replace(each.entry, figures=_more(each.entry.figures))) for each in kept]


def _more(found: Mapping[str, Figure]) -> dict[str, Figure]:
    return {**found, **{f"time{number}_p50": found["time0_p50"] for number in range(4)}}


def test_how_far_hosts_differ_is_learned_from_the_history_and_one_jump_counts_little() -> None:
    draw = random.Random(1)
    numbers = count()

    def saves(sigma: float, jump: float = 1.0) -> list[Stored]:
        """Twenty, each on another machine; in the middle the code becomes slower."""
        return [
            stored(entry(math.exp(draw.gauss(0, sigma)) * (jump if day > 10 else 1.0), f"m{next(numbers)}"), day)
            for day in range(1, 21)
        ]

    def learned(kept: list[Stored]) -> float:
        return spread("throughput", kept, one_host=False).sigma

    published, even, uneven = learned([]), learned(saves(0.01)), learned(saves(0.22))
    assert published == BETWEEN_HOSTS
    assert even < 0.06 < 0.13 < uneven
    assert learned(saves(0.01, jump=3.0)) == pytest.approx(even, abs=0.01)
    assert spread("throughput", saves(0.22), one_host=True).learned == 0  # no two are of one machine


@pytest.mark.parametrize(
    ("sigma", "saves", "most"),
    [
        (BETWEEN_HOSTS, 1, 0.1),
        (BETWEEN_HOSTS, 6, 0.1),  # something is learned
        (2 * BETWEEN_HOSTS, 1, 0.25),
        *(pytest.param(sigma, 20, 0.1, marks=pytest.mark.slow) for sigma in (0.03, BETWEEN_HOSTS, 2 * BETWEEN_HOSTS)),
    ],
)
def test_of_measurements_where_nothing_is_slower_at_most_1_in_10_is_suspected(
    sigma: float, saves: int, most: float
) -> None:
    draw = random.Random(7)

    def host(number: int) -> Entry:
        slower = math.exp(draw.gauss(0, sigma))
        parts = figures(1.0, metrics=3)
        # Metrics of a host have much in common, and not all.
        noisy = {name: _times(each, slower * math.exp(draw.gauss(0, sigma / 4))) for name, each in parts.items()}
        return replace(entry(machine=f"m{number}"), figures=noisy)

    runs = 200
    wrong = sum(
        bool(suspected(host(99), [stored(host(number), day=number + 1) for number in range(saves)]))
        for _ in range(runs)
    )
    assert wrong <= most * runs


def _times(figure: Figure, slower: float) -> Figure:
    value = figure.value * slower**-figure.better
    return replace(figure, value=value, low=value, high=value)


def test_the_history_is_told_in_order_of_time_with_commit_and_machine() -> None:
    kept = [stored(entry(machine="7"), day=3, commit="bbb"), stored(entry(2.0, machine="8"), day=1, commit="aaa")]
    told = history(entry(), "main", [*kept, stored(replace(entry(), kind="H100"), day=2)])
    assert [(past.commit, past.when[:10], past.machine_id) for past in told] == [
        ("aaa", "2026-11-01", 8),
        ("bbb", "2026-11-03", 7),
    ]
    assert told[0].figures["throughput"].value == 5

"""What is said of what is alive: one set of words for all who show it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from pytest_vastgpu.client.calls import Kept
from pytest_vastgpu.client.calls import Summary
from pytest_vastgpu.client.calls import Warm
from pytest_vastgpu.reporting.alive import Alive
from pytest_vastgpu.reporting.alive import Why
from pytest_vastgpu.reporting.alive import ends
from pytest_vastgpu.reporting.alive import left

AT = 1_800_000_000.0
KEPT = Kept(4711, "ssh -p 22022 root@host", 0.36, AT, 1800.0)
WARM = Warm("a label", 7, "vllm 'org/model'", 0.1, AT, 3600.0, 60.0, 0.0)
RESISTS = Alive(Why.RESISTS, "instance 9", "vastgpu destroy 9", 0.2, AT, cause="the market said yes and still lists it")


@pytest.fixture(autouse=True)
def _in_berlin() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "CET-1")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("alive", "sentence"),
    [
        (
            KEPT.alive,
            "KEPT: instance 4711 until 08:00:00 UTC on 15 Jan, at 0.360 USD/h (0.1800 USD): run `vastgpu destroy 4711`",
        ),
        (
            WARM.alive,
            "WARM: instance 7 (vllm 'org/model') until 08:00:00 UTC on 15 Jan, at 0.100 USD/h (0.1000 USD): "
            "run `vastgpu down`",
        ),
        (
            RESISTS,
            "STILL RUNNING: instance 9 could not be destroyed (the market said yes and still lists it); it may go on "
            "costing money, at 0.200 USD/h, until 08:00:00 UTC on 15 Jan at the latest: run `vastgpu destroy 9`",
        ),
        (
            left("vastgpu-3f9c-1-0", "3f9c", AT, until=AT - 1),
            "LEFT: instance vastgpu-3f9c-1-0 was not seen to be gone, and nobody looks after it, since run 3f9c is over"
            "; it may go on costing money: run `vastgpu destroy vastgpu-3f9c-1-0`",
        ),
    ],
    ids=lambda given: str(getattr(given, "why", "")),
)
def test_one_line_says_what_for_how_much_until_when_and_what_ends_it(alive: Alive, sentence: str) -> None:
    assert alive.sentence(utc=True) == sentence
    assert alive.sentence() == sentence.replace("08:00:00 UTC", "09:00:00")
    assert alive.lines()[0].startswith(alive.fact())


def test_a_terminal_has_how_to_look_inside_too() -> None:
    assert KEPT.alive.lines()[1:] == ["  look inside: ssh -p 22022 root@host", "  end it now:  vastgpu destroy 4711"]
    assert WARM.alive.lines()[1:] == ["  the next run with --vast-reuse uses it; to end it now: vastgpu down"]
    assert RESISTS.lines() == [RESISTS.sentence()]


def test_the_worst_comes_first() -> None:
    summary = Summary([], [RESISTS], [KEPT], "", [WARM])
    assert [each.why for each in summary.alive] == [Why.RESISTS, Why.KEPT, Why.WARM]


@pytest.mark.parametrize(
    ("why", "until", "cell"),
    [
        (Why.KEPT, AT, "kept until 09:00"),
        (Why.WARM, AT, "warm until 09:00"),
        (None, AT, "in 10 min"),
        (Why.LEFT, AT, "in 10 min"),
        (Why.KEPT, AT - 1200, "OVERDUE by 10 min"),
    ],
)
def test_a_table_says_when_it_ends(why: Why | None, until: float, cell: str) -> None:
    assert ends(why, until, AT - 600) == cell

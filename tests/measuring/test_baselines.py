from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
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
from pytest_vastgpu.measuring.baselines.history import worth_keeping
from pytest_vastgpu.measuring.baselines.words import compare
from pytest_vastgpu.measuring.baselines.words import no_such
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.load import completions

slow = pytest.mark.slow
LOAD = completions(model="org/model", concurrency=4)
DOCS = (Path(__file__).parents[2] / "docs/measuring.md").read_text()


def figures(slower: float = 1.0, metrics: int = 2) -> dict[str, Figure]:
    """Of a server that takes that many times as long, without doubt."""
    times = [f"time{number}_p50" for number in range(metrics - 1)]
    found = {"throughput": Figure(10 / slower, "1/s", 10 / slower, 10 / slower, 1)}
    return found | {name: Figure(0.1 * slower, "s", 0.1 * slower, 0.1 * slower, -1) for name in times}


def entry(slower: float = 1.0, machine: str = "1", metrics: int = 2) -> Entry:
    workload = {"adapter": "vllm", "args": ["--seed", "1"]}
    return Entry("test_it.py::test_it", workload, LOAD, "RTX 4090", machine, figures(slower, metrics), seconds=10.0)


def stored(what: Entry, day: int = 1, commit: str = "", name: str = "main") -> Stored:
    return Stored(what, name, f"2026-11-{day:02}T10:00:00+00:00", commit)


def suspected(now: Entry, kept: list[Stored]) -> list[str]:
    return [change.metric for change in against(now, "main", kept).changes if change.p < 0.1]


def test_a_slowdown_is_suspected_only_beyond_what_hosts_of_a_kind_differ_by() -> None:
    kept = [stored(entry(machine="1"))]
    assert suspected(entry(1.2, machine="2"), kept) == []
    assert suspected(entry(1.6, machine="2"), kept) == ["throughput", "time0_p50"]
    assert suspected(entry(0.3, machine="2"), kept) == []  # it is quicker


def test_on_the_same_machine_less_is_suspected() -> None:
    kept = [stored(entry(machine="1"))]
    assert suspected(entry(1.2, machine="1"), kept) == ["throughput", "time0_p50"]
    assert suspected(entry(1.02, machine="1"), kept) == []


def test_what_a_measurement_is_not_sure_of_itself_is_not_suspected() -> None:
    kept = [stored(entry())]
    now = entry(1.6, machine="2")
    unsure = replace(now, figures={"throughput": Figure(6, "1/s", 2, 18, 1)})
    sure = replace(now, figures={"throughput": Figure(6, "1/s", 5.9, 6.1, 1)})
    assert (suspected(unsure, kept), suspected(sure, kept)) == ([], ["throughput"])
    before = [stored(replace(entry(), figures={"throughput": Figure(10, "1/s", 3, 30, 1)}))]
    assert suspected(sure, before) == [], "nor what the baseline was not sure of"


@pytest.mark.parametrize(
    ("metric", "figure"),
    [
        ("ttft_p99", Figure(0.1, "s", 0.1, 0.1, -1)),
        ("usd_per_million_tokens", Figure(0.1, "USD", 0.1, 0.1, -1)),
        ("power", Figure(300, "W", 300, 300, -1)),
        ("requests", Figure(100, "", 100, 100)),
    ],
)
def test_what_varies_by_itself_or_by_the_offer_is_not_compared(metric: str, figure: Figure) -> None:
    kept = [stored(replace(entry(), figures={**figures(), metric: figure}))]
    changed = replace(figure, value=figure.value * 100, low=figure.low * 100, high=figure.high * 100)
    now = replace(entry(), figures={**figures(), metric: changed})
    assert [change.metric for change in against(now, "main", kept).changes] == ["throughput", "time0_p50"]


def test_a_metric_that_is_down_to_nothing_is_suspected() -> None:
    before = replace(entry(), figures={"goodput": Figure(8, "1/s", 7, 9, 1)})
    now = replace(entry(), figures={"goodput": Figure(0, "1/s", 0, 0, 1)})
    (told, _) = compare(now, "main", [stored(before)])
    assert "goodput is 100 % lower (100 % to 100 %): 0 requests/s, was 8.00 requests/s" in told
    assert compare(before, "main", [stored(now)]) == ["not compared: it has no metric in common with baseline 'main'"]


def test_the_suspicion_names_what_is_compared_how_sure_it_is_and_what_settles_it() -> None:
    kept = [stored(entry(machine="1"), commit="9f3c2a1b7d" * 4)]
    suspicion, settles = compare(entry(2.0, machine="2"), "main", kept)
    assert suspicion == (
        "suspected, against baseline 'main' (2026-11-01, commit 9f3c2a1b7, machine 1, not this one): throughput is "
        "50 % lower (36 % to 61 %): 5.00 requests/s, was 10.0 requests/s; time0_p50 is 100 % higher (55 % to 157 %): "
        "200 ms, was 100 ms"
    )
    assert settles == (
        "in 8 of 10 cases it suspects throughput from 26 % on, time0_p50 from 36 % on (machines of a kind differ by "
        "8 %, published, nothing learned yet); to settle it, compare on one host: "
        "vast_compare(baseline=<the workload of commit 9f3c2a1b7>, candidate=<this one>, load=<this load>)"
        ".assert_no_regression(throughput=0.5, time0_p50=0.5)"
    )


def test_where_nothing_is_suspected_it_says_what_it_could_have_seen() -> None:
    (told,) = compare(entry(1.02, machine="1"), "main", [stored(entry(machine="1"))])
    assert told == (
        "nothing suspected, against baseline 'main' (2026-11-01, no commit, this machine): throughput 2 % lower, "
        "time0_p50 2 % higher; in 8 of 10 cases it suspects throughput from 11 % on, time0_p50 from 12 % on (starts on "
        "one machine differ by 3 %, published, nothing learned yet)"
    )


def test_what_is_better_beyond_all_measure_is_doubted() -> None:
    """Such as after a baseline of a server that stood still."""
    kept = [stored(entry(500.0))]
    *_, told = compare(entry(), "main", kept)
    assert told == "better by more than 4 times: throughput, time0_p50; was the baseline, or this, no usual run?"
    assert len(compare(entry(0.7, machine="1"), "main", [stored(entry())])) == 1


def test_what_was_learned_is_told_with_how_much_it_rests_on() -> None:
    kept = [stored(entry(machine=machine), day) for day, machine in enumerate("123456", 1)]
    (told,) = compare(entry(machine="7"), "main", kept)
    assert told.endswith("(machines of a kind differ by 7 %, learned from 5 pairs of saves)")


@pytest.mark.parametrize("saves", range(1, 9))
@pytest.mark.parametrize("one_host", [True, False])
def test_one_wild_save_does_not_move_what_is_taken_for_usual(saves: int, one_host: bool) -> None:
    """Such as of a server that stood still meanwhile, wherever in the history it is."""

    def learned(wild: int | None) -> float:
        kept = [
            stored(entry(500.0 if day == wild else 1.03 ** (day % 2), "1" if one_host else str(day)), day + 1)
            for day in range(saves)
        ]
        return spread("throughput", kept, one_host=one_host).sigma

    assert [learned(wild) for wild in range(saves)] == pytest.approx([learned(None)] * saves, rel=0.01)


def test_a_measurement_without_a_number_that_can_be_compared_is_not_worth_keeping() -> None:
    unsteady = {"e2e_p99": Figure(1, "s", 1, 1, -1), "requests": Figure(1, "", 1, 1), "gpu_power": Figure(1, "W", 1, 1)}
    assert not worth_keeping(replace(entry(), figures=unsteady))
    assert not worth_keeping(replace(entry(), figures={"goodput": Figure(0, "1/s", 0, 0, 1)}))
    assert worth_keeping(entry())


def test_requests_that_failed_are_told() -> None:
    kept = [stored(entry())]
    *_, told = compare(replace(entry(), errors={"HTTP 500": 3}), "main", kept)
    assert told == "3 of its requests failed, and none of the baseline's did"


def test_a_metric_that_is_too_unsure_is_told_as_such_and_gets_no_number() -> None:
    unsure = Figure(0.1, "s", 0.0001, 9.0, -1)
    kept = [stored(replace(entry(), figures={**figures(), "ttft_p50": unsure}))]
    (told,) = compare(replace(entry(), figures={**figures(), "ttft_p50": unsure}), "main", kept)
    assert told.endswith("; too unsure to compare: ttft_p50")
    assert told.count("ttft_p50") == 1
    only = {"ttft_p50": unsure}
    (told,) = compare(replace(entry(), figures=only), "main", [stored(replace(entry(), figures=only))])
    assert told == "not compared: too unsure is ttft_p50; measure for longer"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda kept: replace(kept, kind="RTX 3090"),
            "baseline 'main' is of RTX 3090, and this is RTX 4090: kinds are not compared",
        ),
        (
            lambda kept: replace(kept, load=replace(LOAD, concurrency=8)),
            "baseline 'main' is of another load (concurrency: 8, now 4)",
        ),
        (
            lambda kept: replace(kept, load=replace(LOAD, body={**LOAD.body, "max_tokens": 8, "top_k": 1})),
            "baseline 'main' is of another load (body.max_tokens: 8, now 64; body.top_k: 1, now none)",
        ),
        (
            lambda kept: replace(kept, workload={"adapter": "vllm", "image": "vllm:0.8"}),
            "baseline 'main' is of another workload (image: 'vllm:0.8', now none; args: none, now ['--seed', '1'])",
        ),
        (lambda kept: replace(kept, test="test_it.py::test_other"), "baseline 'main' has nothing of this test"),
        (lambda kept: replace(kept, name="second"), "baseline 'main' has nothing of this test"),
    ],
    ids=["kind", "load", "body", "workload", "test", "name"],
)
def test_what_is_not_the_same_is_not_compared_and_it_says_why(change: Callable[[Entry], Entry], why: str) -> None:
    kept = [stored(change(entry()))]
    now = entry(5.0)
    assert compare(now, "main", kept) == [f"not compared: {why}; --vast-baseline=save:main keeps what is measured now"]
    assert (history(now, "main", kept), against(now, "main", kept).changes) == ([], ())
    assert compare(now, "main", [*kept, stored(entry())])[0].startswith("suspected")  # and what is the same is found


def test_a_baseline_of_another_name_is_another_one() -> None:
    kept = [stored(entry(), name="release")]
    assert compare(entry(5.0), "main", kept)[0].startswith("not compared: nothing is kept as baseline 'main'")


def test_a_name_under_which_nothing_was_saved_is_told_with_those_that_there_are() -> None:
    kept = [stored(entry(), name="main"), stored(entry(), name="release")]
    assert no_such("main", kept, "/suite") == ""
    assert no_such("relaese", kept, "/suite") == (
        "no baseline 'relaese' is kept in /suite: there is main, release; did you mean release?; "
        "--vast-baseline=save:relaese keeps one"
    )
    assert no_such("main", [], "/suite") == (
        "no baseline 'main' is kept in /suite: nothing is kept there; --vast-baseline=save:main keeps one"
    )


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
        *(pytest.param(sigma, 20, 0.1, marks=slow) for sigma in (0.03, BETWEEN_HOSTS, 2 * BETWEEN_HOSTS)),
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

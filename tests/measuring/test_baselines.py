from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pytest_vastgpu.measuring.baselines.files import Entry
from pytest_vastgpu.measuring.baselines.history import against
from pytest_vastgpu.measuring.baselines.history import history
from pytest_vastgpu.measuring.baselines.history import spread
from pytest_vastgpu.measuring.baselines.history import worth_keeping
from pytest_vastgpu.measuring.baselines.words import compare
from pytest_vastgpu.measuring.baselines.words import no_such
from pytest_vastgpu.measuring.figures import Figure
from tests.support.stored import LOAD
from tests.support.stored import entry
from tests.support.stored import figures
from tests.support.stored import stored
from tests.support.stored import suspected


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

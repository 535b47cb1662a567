"""What ``vast_compare`` does, and what becomes of the test: hosts in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from pytest_vastgpu.client import measure
from pytest_vastgpu.client.calls import Fate
from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.errors import BudgetSpent
from pytest_vastgpu.errors import LoadNotRun
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import MeasurementFailed
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.errors import NoRoom
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import GpuCheck
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin import leases
from pytest_vastgpu.plugin.measurements import COMPARISON
from pytest_vastgpu.plugin.measurements import MEASUREMENT
from pytest_vastgpu.plugin.measuring import bench
from pytest_vastgpu.plugin.measuring import compare  # noqa: F401 - once for all runs in this process
from pytest_vastgpu.plugin.measuring.rounds import measure_host
from tests.support.compared import NARROW
from tests.support.compared import TEST
from tests.support.compared import HostsInMemory
from tests.support.compared import failed
from tests.support.compared import slower

COMPARES = f"""{TEST}
def test_it(vast_compare):
    result = vast_compare(baseline=A, candidate=B, load=LOAD)
    result.assert_no_regression(throughput=0.05, e2e_p50=0.05)
"""
TOLD = f"{COMPARES}    print(result)\n"
"""Prints what the report at the end of a run shows as well."""
GIVEN_BACK_FIRST = ["rent 1", "give back 1", "rent 2", "give back 2"]
GONE = Verdict(FailureClass.RUNTIME_LOST, "instance_gone", "the market no longer lists it", "try again")

OVER = Verdict(FailureClass.OWN_FAULT, "price_above_limit", "it became too dear", "raise --vast-max-price")


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> HostsInMemory:
    """What pytest runs in this process rent."""
    hosts = HostsInMemory()
    monkeypatch.setattr(leases, "_open", lambda *_, **__: hosts)
    monkeypatch.setattr(measure, "measure", hosts.measure)
    return hosts


@pytest.fixture
def run(pytester: pytest.Pytester, hosts: HostsInMemory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a test; the result."""
    monkeypatch.delenv("VAST_API_KEY", raising=False)

    def run(*options: str, test: str = COMPARES) -> Any:
        pytester.makepyfile(test)
        return pytester.runpytest_inprocess("-p", "no:randomly", *options)

    return run


def text_of(result: Any) -> str:
    return "\n".join(result.outlines)


def test_a_slowdown_that_a_second_host_confirms_is_red(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.seconds = slower(0.10)
    result = run()
    result.assert_outcomes(failed=1)
    assert hosts.rented == GIVEN_BACK_FIRST, "another machine, once the first is given back"
    result.stdout.fnmatch_lines(
        ["E *AssertionError: throughput: regression, e2e_p50: regression", "E *baseline*", "E *regression*"]
    )
    assert any("a slowdown is suspected (throughput " in line for line in hosts.told)


def test_a_slowdown_of_one_host_alone_is_not_red(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.seconds = slower(0.10, 1)
    result = run("-s", test=TOLD)
    result.assert_outcomes(passed=1, warnings=1)
    assert hosts.rented == GIVEN_BACK_FIRST
    result.stdout.fnmatch_lines(["*VastBenchmarkWarning: throughput: inconclusive*; the report at the end *"])
    assert sum("the hosts disagree" in line for line in result.outlines) == 2, (
        "once for each metric, and not in the warning"
    )


def test_two_that_are_the_same_are_green_after_one_host(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    run().assert_outcomes(passed=1, warnings=0)
    assert hosts.rented == ["rent 1", "give back 1"]


def test_what_is_quicker_is_green(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.seconds = slower(-0.10)
    result = run("-s", test=f"{COMPARES}    print(result.judge(throughput=0.05)[0].finding)\n")
    result.assert_outcomes(passed=1, warnings=0)
    assert "improvement" in text_of(result)
    assert hosts.rented == ["rent 1", "give back 1"]


@pytest.mark.parametrize(
    ("options", "ini"),
    [(["--vast-benchmark-strict"], ""), ([], "vast_benchmark_strict = yes")],
    ids=["option", "ini"],
)
def test_what_is_not_settled_is_red_only_if_that_is_wanted(
    run: Callable[..., Any], hosts: HostsInMemory, pytester: pytest.Pytester, options: list[str], ini: str
) -> None:
    pytester.makeini(f"[pytest]\n{ini}\n")
    hosts.seconds = slower(0.10, 1)
    result = run(*options)
    result.assert_outcomes(failed=1, warnings=0)
    result.stdout.fnmatch_lines(["E *AssertionError: throughput: inconclusive*"])


def test_what_would_settle_it_is_told(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.seconds = lambda _machine, side, window: (
        0.1 if side == "baseline" else 0.092 if (window - 1) % 16 < 8 else 0.108
    )
    result = run("-s", test=TOLD)
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        ["*rounds on each of up to 2 hosts would settle it: about * USD, vast_compare(rounds=*)"]
    )


def test_a_round_starts_both_afresh_one_at_a_time_and_measures_a_b_b_a(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    run(test=COMPARES.replace("load=LOAD", "load=LOAD, rounds=2, blocks=1"))
    a, b = ["baseline", "window"], ["candidate", "window"]
    one_round = [*a, *b, *b, *a]
    assert hosts.calls == ["rent 1", *one_round, *one_round, "give back 1", "done"]


def test_two_blocks_start_each_side_three_times_and_have_it_as_often_first(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    run(test=COMPARES.replace("load=LOAD", "load=LOAD, rounds=2"))
    a, b = ["baseline", "window"], ["candidate", "window"]
    one_round = [*a, *b, "window", *a, *b, *a, "window", *b]
    assert hosts.calls == ["rent 1", *one_round, *one_round, "give back 1", "done"]


def test_the_default_is_six_rounds_of_two_blocks(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    run()
    assert (hosts.calls.count("window"), hosts.calls.count("baseline")) == (6 * 8, 6 * 3)
    servers = sum(hosts.calls.count(each) for each in ("rent 1", "baseline", "candidate"))
    assert f" and {servers} starts of a server on a host" in hosts.told[0]


def test_time_and_money_are_told_before_anything_is_rented(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.tell = lambda text: hosts.calls.append(f"told {text}")  # type: ignore[method-assign]
    run("--vast-max-price=0.5", "--vast-max-lifetime=1860")
    assert hosts.calls[0] == (
        "told comparing command 'baseline' (A) with command 'candidate' (B): 6 rounds of 8 windows of 10 s "
        "(A B B A B A A B): 8 min 48 s of load and 37 starts of a server on a host, at most 30 min and 0.25 USD once "
        "it is ready; a second host only where a slowdown is suspected; all hosts together, with the time until they "
        "are ready, at most 0.78 USD; on the local market a second host is this same machine"
    )
    assert hosts.calls[1] == "rent 1"


@pytest.mark.parametrize(("budget", "said"), [("100", True), ("0.5", False)])
def test_what_is_transferred_costs_more_within_the_budget(
    run: Callable[..., Any], hosts: HostsInMemory, budget: str, said: bool
) -> None:
    sides = "\nfrom dataclasses import replace\nB = replace(B, model='b', model_gb=8)\ndef test_it"
    run(f"--vast-budget={budget}", test=COMPARES.replace("\ndef test_it", sides)).assert_outcomes(passed=1)
    assert (" USD, and what the transfer of image and models costs" in hosts.told[0]) is said


def test_how_far_it_is_and_what_is_to_go_is_told_after_each_round(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    run()
    assert [text.partition(":")[0] for text in hosts.told[1:]] == [f"round {n} of 6 on machine 1" for n in range(1, 7)]
    assert "and less than 0.01 USD to go" in hosts.told[1]


def test_sides_that_cannot_share_a_host_are_one_line_before_anything_is_rented(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    hosts.apart_ = "one needs the image a, the other b"
    result = run()
    result.assert_outcomes(failed=1)
    assert (hosts.rented, hosts.told) == ([], [])
    words = "baseline and candidate cannot be compared on one host: one needs the image a, the other b; have both use"
    assert words in text_of(result)


TOGETHER = COMPARES.replace("load=LOAD", "load=LOAD, together=True")


def test_together_both_start_once_in_a_round_and_take_turns_under_load(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    run("-s", test=TOGETHER.replace("True", "True, rounds=2") + "    print(result)\n").assert_outcomes(passed=1)
    one_round = ["baseline", "beside", "candidate", *["window"] * 8]
    other_round = ["candidate", "beside", "baseline", *["window"] * 8]
    assert hosts.calls == ["rent 1", *one_round, *other_round, "give back 1", "done"]
    assert "".join(each[0] for each in hosts.measured) == "bccbcbbc" * 2


def test_that_both_ran_together_is_told_and_noted(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    result = run("-s", test=f"{TOGETHER}    print('notes:', result.notes)\n    print(result)\n")
    result.assert_outcomes(passed=1)
    words = "both servers ran at a time, each with part of the memory"
    assert f" and 13 starts of a server on a host, {words.replace(' ran', '')}, at most " in hosts.told[0]
    assert f"notes: ['{words}']" in text_of(result)
    assert sum(words in line for line in result.outlines) > 1, "the report says so, too"


def test_together_the_gpu_has_memory_for_both(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    both = "A, B = (replace(each, gpu_ram_gb=10, gpus=1) for each in (A, B))"
    sides = f"\nfrom dataclasses import replace\n{both}\ndef test_it"
    for test, needed_gb in ((COMPARES, 10), (TOGETHER, 20)):
        run(test=test.replace("\ndef test_it", sides)).assert_outcomes(passed=1)
        assert hosts.asked[-1].gpu_ram_gb == needed_gb


def test_sides_that_clash_are_one_line_before_anything_is_rented(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.clash_ = "both listen on port 8000; give one of them another port="
    result = run(test=TOGETHER)
    result.assert_outcomes(failed=1)
    assert (hosts.rented, hosts.told) == ([], [])
    assert f"baseline and candidate cannot run at a time (together=True): {hosts.clash_}" in text_of(result)
    run().assert_outcomes(passed=1)


@pytest.mark.parametrize(("side", "where"), [("baseline", ""), ("candidate", ", where the baseline did")])
def test_together_a_side_that_does_not_start_is_told_as_that_side(
    run: Callable[..., Any], hosts: HostsInMemory, side: str, where: str
) -> None:
    def start(_machine: int, started: str, _start: int) -> None:
        if started == side:
            raise failed("bad_argument", FailureClass.WORKLOAD_FATAL)

    hosts.start = start
    result = run(test=TOGETHER)
    result.assert_outcomes(failed=1)
    assert f"the {side} did not start in round 1 on machine 1{where}: not ready: bad_argument" in text_of(result)


WRONG_CALLS = {
    "baseline='org/model', candidate=B, load=LOAD": "baseline of vast_compare is 'org/model', of type str",
    "baseline=A, candidate=None, load=LOAD": "candidate of vast_compare is of type NoneType and no workload",
    "baseline=A, candidate=B, load={}": "load of vast_compare is of type dict; completions(model=…)",
    "baseline=A, candidate=B, load=LOAD, rounds=1": "vast_compare(rounds=1): give a whole number of at least 2",
    "baseline=A, candidate=B, load=LOAD, rounds=2.5": "vast_compare(rounds=2.5): give a whole number",
    "baseline=A, candidate=B, load=LOAD, hosts=0": "vast_compare(hosts=0): give a whole number of at least 1",
    "baseline=A, candidate=B, load=LOAD, hosts=3": "vast_compare(hosts=3): give 2 at most",
    "baseline=A, candidate=B, load=LOAD, seconds=0": "vast_compare(seconds=0): give a number above 0",
    "baseline=A, candidate=B, load=LOAD, seconds=float('nan')": "vast_compare(seconds=nan): give a number",
    "baseline=A, candidate=B, load=LOAD, seconds=3601": "vast_compare(seconds=3601): give 3600 at most",
    "baseline=A, candidate=B, load=LOAD, seconds=600, minutes=1e9": "--vast-max-lifetime=3600 is the limit",
    "baseline=A, candidate=B, load=completions(model='m', driver='guidellm')": "driver='guidellm': its start",
    "baseline=A, candidate=B, load=LOAD, minutes=2": "two rounds are 2 min 56 s of load alone, and minutes=2",
}
WRONG_GATES = {
    "": "nothing is gated: name a metric and the slowdown that counts; there are e2e_p50, throughput",
    "through=0.05": "through=0.05: there is no metric of that name; there are e2e_p50, throughput",
    "e2e_p99=0.05": "e2e_p99=0.05: it has no value here: it takes 381 requests, and there were 100; there are e2e_p50",
    "requests=0.05": "requests=0.05: neither more nor less of it is better, so it cannot be gated; there are e2e_p50",
    "ttft_p50=0.05": "ttft_p50=0.05: it has no value here: this load does not have it; there are e2e_p50",
    "gpu_memory_peak=0.05": "gpu_memory_peak=0.05: it has no value here: no GPU was seen; there are e2e_p50",
    "throughput=5": "throughput=5: give the slowdown that counts, such as 0.05 for 5 %",
    "throughput=True": "throughput=True: give the slowdown",
}


def test_what_is_wrong_with_a_call_is_one_line_before_anything_is_rented(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    tests = "".join(f"def test_{n}(vast_compare):\n    vast_compare({call})\n" for n, call in enumerate(WRONG_CALLS))
    result = run("-rf", "--vast-max-lifetime=3600", test=f"{TEST}from pytest_vastgpu import completions\n{tests}")
    result.assert_outcomes(failed=len(WRONG_CALLS))
    for words in WRONG_CALLS.values():
        assert sum(words in line for line in result.outlines) == 1
    assert hosts.rented == hosts.told == []


def test_a_gate_that_says_nothing_is_one_line(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    test = COMPARES.replace("throughput=0.05, e2e_p50=0.05", "throughput=0.05").partition("    result.")[0]
    for gates in WRONG_GATES:
        test += f"    with pytest.raises(pytest.fail.Exception) as caught:\n        result.judge({gates})\n"
        test += "    print('one line:', caught.value)\n"
    result = run("-s", test=test)
    result.assert_outcomes(passed=1)
    said = [line.partition(": ")[2] for line in result.outlines if "one line: " in line]
    assert [words in line for words, line in zip(WRONG_GATES.values(), said, strict=True)] == [True] * len(said)


def test_a_candidate_that_does_not_start_is_the_test_s_failure(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    def start(_machine: int, side: str, _start: int) -> None:
        if side == "candidate":
            raise failed("bad_argument", FailureClass.WORKLOAD_FATAL)

    hosts.start = start
    result = run()
    result.assert_outcomes(failed=1)
    words = "the candidate did not start in round 1 on machine 1, where the baseline did: not ready: bad_argument"
    assert words in text_of(result)
    assert hosts.rented == ["rent 1"], "it is given back with the test, or kept for a look inside"


@pytest.mark.parametrize(
    ("reason", "failure_class"),
    [
        ("price_above_limit", FailureClass.OWN_FAULT),
        ("server_not_stopped", FailureClass.UNKNOWN),
        ("gpu_memory_held", FailureClass.UNKNOWN),
    ],
)
def test_a_start_that_fails_for_what_the_side_is_not_is_no_failure_of_it(
    run: Callable[..., Any], hosts: HostsInMemory, reason: str, failure_class: FailureClass
) -> None:
    def start(machine: int, side: str, _start: int) -> None:
        if (machine, side) == (1, "candidate"):
            raise failed(reason, failure_class)

    hosts.start = start
    run().assert_outcomes(passed=1, warnings=0)
    assert hosts.rented == GIVEN_BACK_FIRST


@pytest.mark.parametrize("failure_class", [FailureClass.UNKNOWN, FailureClass.WARMUP, FailureClass.INCOMPATIBLE])
def test_a_side_that_never_becomes_ready_is_the_test_s_failure(
    run: Callable[..., Any], hosts: HostsInMemory, failure_class: FailureClass
) -> None:
    def start(_machine: int, side: str, _start: int) -> None:
        if side == "candidate":
            raise failed("not_ready_in_time", failure_class)

    hosts.start = start
    run().assert_outcomes(failed=1)
    assert hosts.rented == ["rent 1"]


def test_a_server_that_fails_under_load_is_told_with_its_side(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    def seconds(_machine: int, _side: str, window: int) -> float:
        if window == 10:
            raise MeasurementFailed("12 of 40 requests failed (HTTP 500)")
        return 0.1

    hosts.seconds = seconds
    exited = Verdict(FailureClass.UNKNOWN, "server_exited", "exit code 3")
    hosts.fates["1"] = Fate("the server ended with exit code 3", exited, False, "")
    result = run()
    result.assert_outcomes(failed=1)
    words = (
        "the candidate failed in round 2 on machine 1: 12 of 40 requests failed (HTTP 500); the server ended with exit "
        "code 3: unknown: server_exited"
    )
    assert words in text_of(result)


def test_sides_of_which_one_refuses_work_are_not_compared(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.errors = lambda side: 5 * (side == "candidate")
    result = run()
    result.assert_outcomes(failed=1)
    words = "not as many requests fail on both sides (baseline 0 of 400 (0.0%), candidate 20 of 400 (5.0%))"
    assert words in text_of(result)


def test_a_few_requests_more_that_fail_are_chance(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    """Of six looks, the first has p = 0.008: in one of 20 comparisons of equal sides there is such a one."""
    wrong = [7]
    hosts.errors = lambda side: wrong.pop() if side == "candidate" and wrong else 0
    run().assert_outcomes(passed=1, warnings=0)


def breaks_down(*machines: int) -> Callable[[int, str, int], None]:
    def start(machine: int, _side: str, start: int) -> None:
        if machine in machines and start == 7:
            raise failed("ssh_lost", FailureClass.INFRA_FATAL)

    return start


def test_a_host_that_breaks_down_is_replaced_and_what_it_measured_does_not_count(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    hosts.start = breaks_down(1)
    hosts.fates["1"] = Fate("the server that the test wanted did not start", GONE, True, "")
    hosts.seconds = slower(0.10)
    result = run()
    result.assert_outcomes(failed=1)
    assert hosts.rented == ["rent 1", "give back 1", "rent 2", "give back 2", "rent 3", "give back 3"]
    assert "AssertionError: throughput: regression" in text_of(result), "the lost host excuses nothing"
    assert any(line.startswith("another host is needed: not ready: ssh_lost") for line in hosts.told)


def test_a_host_that_is_lost_under_load_is_replaced(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    def seconds(machine: int, _side: str, window: int) -> float:
        if machine == 1 and window == 10:
            raise MeasurementFailed("the SSH connection broke")
        return 0.1

    hosts.seconds = seconds
    hosts.fates["1"] = Fate("the instance was lost while the test used it", GONE, True, "")
    run().assert_outcomes(passed=1)
    assert hosts.rented == ["rent 1", "give back 1", "rent 2", "give back 2"]


@pytest.mark.parametrize(("options", "outcome"), [([], "errors"), (["--vast-on-infra-failure=skip"], "skipped")])
def test_hosts_that_break_down_are_no_failure_of_the_test(
    run: Callable[..., Any], hosts: HostsInMemory, options: list[str], outcome: str
) -> None:
    hosts.start = breaks_down(1, 2)
    hosts.fates |= {each: Fate("the server that the test wanted did not start", GONE, True, "") for each in "12"}
    result = run(*options)
    result.assert_outcomes(**{outcome: 1})
    assert hosts.rented == ["rent 1", "give back 1", "rent 2"]


def breaks_off(windows: Mapping[int, Sequence[int]]) -> Callable[[int, str, int], float]:
    """A connection that breaks in these windows, by machine."""

    def seconds(machine: int, _side: str, window: int) -> float:
        if window in windows.get(machine, ()):
            raise LoadNotRun("the load did not run on the instance: the connection broke")
        return 0.1

    return seconds


def test_a_connection_that_breaks_once_costs_a_window_and_nothing_else(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    hosts.seconds = breaks_off({1: (10, 20, 30)})
    run().assert_outcomes(passed=1, warnings=0)
    assert hosts.rented == ["rent 1", "give back 1"]
    assert hosts.calls.count("window") == 48 + 3


def test_a_host_whose_connection_breaks_twice_in_a_row_is_replaced(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    hosts.seconds = breaks_off({1: (10, 11)})
    run().assert_outcomes(passed=1, warnings=0)
    assert hosts.rented == GIVEN_BACK_FIRST
    words = "another host is needed: machine 1: the load did not run on the instance: the connection broke, twice"
    assert any(line.startswith(words) for line in hosts.told)


@pytest.mark.parametrize(("options", "outcome"), [([], "errors"), (["--vast-on-infra-failure=skip"], "skipped")])
def test_hosts_whose_connections_break_are_no_failure_of_the_test(
    run: Callable[..., Any], hosts: HostsInMemory, options: list[str], outcome: str
) -> None:
    hosts.seconds = breaks_off({1: (10, 11), 2: (10, 11)})
    run(*options).assert_outcomes(**{outcome: 1})


@pytest.mark.parametrize("options", [[], ["--vast-on-infra-failure=skip"]])
@pytest.mark.parametrize("how", ["start", "window"])
def test_a_side_that_is_never_measured_where_the_other_is_is_at_fault_not_the_hosts(
    run: Callable[..., Any], hosts: HostsInMemory, options: list[str], how: str
) -> None:
    if how == "start":
        hosts.fates |= {each: Fate("the server that the test wanted did not start", GONE, True, "") for each in "12"}

    def start(_machine: int, side: str, _start: int) -> None:
        if side == "candidate":
            raise failed("gpu_gone", FailureClass.INFRA_FATAL)

    def seconds(_machine: int, side: str, _window: int) -> float:
        if side == "candidate":
            raise LoadNotRun("the load did not run on the instance: Socket is closed")
        return 0.1

    if how == "start":
        hosts.start = start
    else:
        hosts.seconds = seconds
    result = run(*options)
    result.assert_outcomes(failed=1)
    words = "the candidate could not be measured on machine 1 and machine 2, where the baseline worked: "
    assert words in text_of(result)


@pytest.mark.parametrize("how", ["connection", "instance"])
def test_a_baseline_that_breaks_each_host_in_its_first_window_is_at_fault(
    run: Callable[..., Any], hosts: HostsInMemory, how: str
) -> None:
    hosts.seconds = breaks_off({1: (1, 2), 2: (1, 2)})
    if how == "instance":
        hosts.fates |= {each: Fate("the instance was lost while the test used it", GONE, True, "") for each in "12"}
    result = run("--vast-on-infra-failure=skip")
    result.assert_outcomes(failed=1)
    words = "the baseline could not be measured on machine 1 and machine 2, and each failed in the same way: machine 2"
    assert words in text_of(result)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (LoadNotRun("the connection broke"), GONE),  # each in another way
        (GONE, LoadNotRun("the connection broke")),
        (OVER, OVER),  # it is our own price that ends them
    ],
)
def test_hosts_that_fail_in_other_ways_at_once_are_no_failure_of_the_baseline(
    run: Callable[..., Any], hosts: HostsInMemory, first: object, second: object
) -> None:
    hosts.seconds = breaks_off({1: (1, 2), 2: (1, 2)})
    for machine, what in (("1", first), ("2", second)):
        if isinstance(what, Verdict):
            hosts.fates[machine] = Fate("the instance was lost while the test used it", what, True, "")
    run().assert_outcomes(errors=1)


@pytest.mark.parametrize(
    "error", [MarketUnreachable("no answer from the market"), failed("price_above_limit", FailureClass.OWN_FAULT)]
)
def test_a_candidate_is_not_to_blame_for_what_no_side_can_cause(
    run: Callable[..., Any], hosts: HostsInMemory, error: VastGpuError
) -> None:
    def start(_machine: int, side: str, _start: int) -> None:
        if side == "candidate":
            raise error

    hosts.start = start
    run().assert_outcomes(errors=1)


def test_a_side_that_breaks_all_hosts_that_could_confirm_is_at_fault(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    def start(machine: int, side: str, _start: int) -> None:
        if machine > 1 and side == "candidate":
            raise failed("gpu_gone", FailureClass.INFRA_FATAL)

    hosts.start, hosts.seconds = start, slower(0.10)
    result = run("--vast-on-infra-failure=skip")
    result.assert_outcomes(failed=1)
    assert "the candidate could not be measured on machine 2 and machine 3, where" in text_of(result)


def test_one_lost_host_says_nothing_of_a_side_and_is_noted(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.seconds = breaks_off({1: (2, 3)})
    result = run("-s", test=f"{COMPARES}    print(*result.notes)\n")
    result.assert_outcomes(passed=1, warnings=0)
    assert "what machine 1 measured does not count: machine 1: the load did not run" in text_of(result)


def test_a_host_whose_start_meets_a_silent_market_is_replaced(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    def start(machine: int, _side: str, start: int) -> None:
        if (machine, start) == (1, 7):
            raise MarketUnreachable("no answer from the market")

    hosts.start = start
    result = run("-s", test=f"{COMPARES}    print(*result.notes)\n")
    result.assert_outcomes(passed=1, warnings=0)
    assert hosts.rented == GIVEN_BACK_FIRST
    words = "the baseline could not be started in round 2 on machine 1: no answer from the market"
    assert f"what machine 1 measured does not count: {words}" in text_of(result)


def test_a_candidate_that_does_not_start_on_the_second_host_is_the_test_s_failure(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    def start(machine: int, side: str, _start: int) -> None:
        if (machine, side) == (2, "candidate"):
            raise failed("bad_argument", FailureClass.WORKLOAD_FATAL)

    hosts.start, hosts.seconds = start, slower(0.10)
    result = run()
    result.assert_outcomes(failed=1)
    assert "the candidate did not start in round 1 on machine 2, where the baseline did" in text_of(result)
    assert hosts.rented == ["rent 1", "give back 1", "rent 2"]


def test_a_second_host_is_tried_once_and_goes_back_at_once_where_it_is_lost(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    hosts.seconds, hosts.start = slower(0.10), breaks_down(2, 3)
    test = f"{TOLD}    result.assert_no_regression(e2e_p50=0.05)\n    result.judge(throughput=0.02)\n"
    result = run("-s", test=test)
    result.assert_outcomes(passed=1, warnings=2)
    assert "no second host has confirmed it: not ready: ssh_lost" in text_of(result)
    assert hosts.rented == [f"{what} {at}" for at in (1, 2, 3) for what in ("rent", "give back")]
    assert hosts.calls[-2:] == ["give back 3", "done"]


def test_the_gates_of_several_calls_are_judged_together(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.seconds = slower(0.02)
    test = COMPARES.partition("    result.")[0]
    for gates in ("throughput=0.5", "e2e_p50=0.5", "throughput=0.5, e2e_p50=0.5"):
        test += f"    print('p =', *(each.p for each in result.judge({gates})))\n"
    said = [line.partition("p = ")[2].split() for line in run("-s", test=test).outlines if "p = " in line]
    assert [len(each) for each in said] == [1, 1, 2]
    assert said[1][0] == said[2][1]
    assert float(said[0][0]) < float(said[2][0]), "alone it was not corrected"


def test_what_could_not_be_looked_at_on_a_host_is_said(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.looks[1] = GpuCheck(notes=("the GPU's speed was not measured: there is no PyTorch",))
    test = f"{COMPARES}    print(result.notes)\n"
    assert "machine 1: the GPU's speed was not measured: there is no PyTorch" in text_of(run("-s", test=test))


def test_workers_that_share_the_cpu_of_the_local_market_are_said(
    run: Callable[..., Any], hosts: HostsInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    shared = "2 workers share this machine's CPU, and what they do meanwhile is in the numbers"
    assert shared in text_of(run("-s", test=f"{COMPARES}    print(result.notes)\n"))
    assert f"{shared}: compare with -n 0" in hosts.told[0]


def test_where_no_machine_works_it_is_no_failure_of_the_test(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    def acquire_another(*_: object) -> None:
        raise failed("gpu_gone", FailureClass.INFRA_FATAL)

    hosts.acquire_another = acquire_another  # type: ignore[method-assign,assignment]
    run().assert_outcomes(errors=1)
    catches = (
        "    with pytest.raises(pytest.fail.Exception):\n        vast_compare(baseline=A, candidate=B, load=LOAD)\n"
    )
    test = f"{TEST}def test_it(vast_compare):\n{catches}    assert False\n"
    run(test=test).assert_outcomes(failed=1)


def test_without_a_second_host_a_suspicion_stays_one(
    run: Callable[..., Any], hosts: HostsInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_API_KEY", "a key")
    hosts.seconds, hosts.machines = slower(0.10), (1,)
    result = run("--vast-backend=vast", "-s", test=f"{TOLD}    result.judge(throughput=0.05)\n")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*no second host has confirmed it: no offers: all were excluded"])
    assert sum("a second host must confirm it" in line for line in hosts.told) == 1, "it is asked for once"
    assert hosts.rented == ["rent 1", "give back 1"]


def test_the_only_machine_of_the_local_market_confirms_itself_and_says_so(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    hosts.seconds, hosts.machines = slower(0.10), (1,)
    result = run()
    result.assert_outcomes(failed=1)
    assert hosts.rented == ["rent 1", "give back 1"] * 2
    assert "is the same machine 1 once more" in text_of(result)
    assert "% worse on machine 1 and " in text_of(result)
    assert "6 rounds on machine 1, 6 rounds on machine 1 once more" in text_of(result)
    assert not re.search(r"machine 1\d", text_of(result)), "the number of an instance is none of a machine"


def test_a_machine_that_takes_its_own_place_is_no_second_host(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.throttles, hosts.machines = lambda _machine, _window: True, (1,)
    text = text_of(run("-s", test=TOLD))
    assert re.search(r"the host in place of the first, instance \d+, is the same machine 1 once more", text)
    assert "second host" not in text


def test_a_result_is_printed_in_words(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.seconds = slower(0.02)
    gates = "    print(result)\n    print(result.judge(throughput=0.5))\n    print(result)\n"
    result = run("-s", test=COMPARES.partition("    result.")[0] + gates)
    result.stdout.fnmatch_lines(
        [
            "*: command 'candidate' (candidate) against command 'baseline' (baseline)",
            "HTTP /, 1 at a time; no GPU; 6 rounds on machine 1*",
            "nothing is gated so far; assert_no_regression takes one or more of e2e_p50, throughput",
            "[[]<throughput: noise, +* %), gate +50.0 %, could be seen from +* %>]",
            "throughput *+50.0 %*noise*",
        ]
    )


def test_one_host_is_enough_where_no_more_are_wanted(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.seconds = slower(0.10)
    run(test=COMPARES.replace("load=LOAD", "load=LOAD, hosts=1")).assert_outcomes(passed=1, warnings=1)
    assert hosts.rented == ["rent 1", "give back 1"]


def test_what_was_found_is_kept_for_the_report_also_of_a_test_that_fails(
    run: Callable[..., Any], hosts: HostsInMemory, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        "from pytest_vastgpu.plugin.carried import carried\n"
        "def pytest_runtest_logreport(report):\n"
        f"    print(*carried(report, {COMPARISON!r}))\n"
        f"    print(len(carried(report, {MEASUREMENT!r})), 'windows')\n"
    )
    hosts.seconds = slower(0.10)
    result = run("-s")
    (kept,) = [json.loads(line) for line in result.outlines if line.startswith('{"baseline"')]
    assert {line for line in result.outlines if line.endswith(" windows")} == {"0 windows"}
    assert [each["finding"] for each in kept["judged"]] == ["regression", "regression"]
    assert [(each["machine_id"], len(each["rounds"])) for each in kept["hosts"]] == [(1, 6), (2, 6)]
    assert (kept["baseline"], kept["candidate"], kept["usd"]) == ("command 'baseline'", "command 'candidate'", 0.5)


def test_a_host_that_fails_the_gpu_check_measures_nothing_and_another_is_rented(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    hosts.looks[1] = NARROW
    run().assert_outcomes(passed=1, warnings=0)
    assert hosts.calls[:4] == ["rent 1", "give back 1", "rent 2", "baseline"]
    assert "another host is needed: machine 1 has a hardware problem: GPU 0 has 4 of 16 PCIe lanes" in hosts.told


def test_where_no_host_passes_the_gpu_check_the_finding_is_hardware(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    hosts.looks |= {1: NARROW, 2: NARROW}
    result = run("-s", test=TOLD)
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*VastBenchmarkWarning: throughput: hardware, e2e_p50: hardware; the report *"])
    assert "machine 2 does not count: GPU 0 has 4 of 16 PCIe lanes" in text_of(result)
    assert hosts.calls.count("window") == 0


def only_one(hosts: HostsInMemory, monkeypatch: pytest.MonkeyPatch, error: VastGpuError) -> None:
    """Have this error raised for any other machine than the first."""
    rent = hosts.acquire_another

    def another(test: str, workload: Workload, other_than: list[int]) -> Lease:
        if other_than:
            raise error
        return rent(test, workload, other_than)

    monkeypatch.setenv("VAST_API_KEY", "a key")
    monkeypatch.setattr(hosts, "acquire_another", another)


def test_a_second_host_that_is_too_slow_for_two_rounds_leaves_a_suspicion(
    run: Callable[..., Any], hosts: HostsInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(bench, "measure_host", partial(measure_host, now=lambda: now[0]))

    def start(machine: int, _side: str, _start: int) -> None:
        now[0] += 300.0 if machine == 2 else 0.0

    hosts.start, hosts.seconds = start, slower(0.10)
    result = run("-s", test=TOLD)
    result.assert_outcomes(passed=1, warnings=1)
    words = "no second host has confirmed it: the comparison stopped after 1 of 6 rounds: round 2 would have taken"
    assert words in text_of(result)
    assert hosts.rented == GIVEN_BACK_FIRST


NOT_HAD = [
    NoOffers("none"),
    NoRoom("none"),
    BudgetSpent("none"),
    MarketUnreachable("none"),
    ProvisioningFailed("none"),
    failed("gone", FailureClass.INFRA_FATAL),
]
"""What is raised where a further host is not to be had."""


@pytest.mark.parametrize("error", NOT_HAD)
def test_a_second_host_that_cannot_be_had_leaves_a_suspicion(
    run: Callable[..., Any], hosts: HostsInMemory, monkeypatch: pytest.MonkeyPatch, error: VastGpuError
) -> None:
    only_one(hosts, monkeypatch, error)
    hosts.seconds = slower(0.10)
    result = run("--vast-backend=vast", "-s", test=TOLD)
    result.assert_outcomes(passed=1, warnings=1)
    assert f"no second host has confirmed it: {error}" in text_of(result)


@pytest.mark.parametrize("error", NOT_HAD)
def test_a_host_with_a_hardware_problem_that_none_can_replace_is_hardware(
    run: Callable[..., Any], hosts: HostsInMemory, monkeypatch: pytest.MonkeyPatch, error: VastGpuError
) -> None:
    hosts.looks[1] = NARROW
    only_one(hosts, monkeypatch, error)
    result = run("--vast-backend=vast", "-s", test=TOLD)
    result.assert_outcomes(passed=1, warnings=1)
    assert "throughput: hardware" in text_of(result)
    assert f"no other host could be rented: {error}" in text_of(result)


@pytest.mark.parametrize("error", NOT_HAD)
def test_a_lost_host_that_none_can_replace_is_no_failure_of_the_test(
    run: Callable[..., Any], hosts: HostsInMemory, monkeypatch: pytest.MonkeyPatch, error: VastGpuError
) -> None:
    hosts.start = breaks_down(1)
    only_one(hosts, monkeypatch, error)
    result = run("--vast-backend=vast")
    result.assert_outcomes(errors=1)
    assert f"ssh_lost; no other host could be rented: {error}" in text_of(result)


def test_what_fails_on_the_host_in_its_place_for_its_own_fault_is_the_test_s_failure(
    run: Callable[..., Any], hosts: HostsInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.looks[1] = NARROW
    only_one(hosts, monkeypatch, failed("bad_argument", FailureClass.WORKLOAD_FATAL))
    run("--vast-backend=vast").assert_outcomes(failed=1)


def test_a_round_in_which_the_host_throttles_does_not_count_and_the_others_do(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    hosts.throttles = lambda _machine, window: window == 10
    hosts.seconds = lambda _machine, _side, window: 0.3 if window == 10 else 0.1
    result = run("-s", test=f"{COMPARES}    print(result.notes, len(result.hosts[0].rounds))\n")
    result.assert_outcomes(passed=1, warnings=0)
    assert hosts.rented == ["rent 1", "give back 1"]
    hot = "machine 1: round 2 does not count: GPU 0 was slowed down in 12% of the samples: its hardware is too hot"
    assert f"{hot}, and only while the candidate was under load" in text_of(result)
    assert hosts.blamed == []
    assert any(line.endswith("] 5") for line in result.outlines)


def test_a_host_that_throttles_in_a_third_of_its_rounds_does_not_count_and_measures_no_further_round(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    hosts.throttles = lambda machine, window: machine == 1 and window > 8
    hosts.seconds = slower(0.10, 1)
    result = run("-s", test=f"{COMPARES}    print(result.notes)\n")
    result.assert_outcomes(passed=1, warnings=0)
    assert hosts.rented == GIVEN_BACK_FIRST
    assert hosts.calls.index("give back 1") - hosts.calls.index("rent 1") - 1 == 3 * (8 + 6), "three rounds"
    assert "machine 1 does not count: in 2 of 3 rounds it throttled: GPU 0" in text_of(result)
    assert [why[:40] for why in hosts.blamed] == ["in 2 of 3 rounds it throttled: GPU 0 was"]


def test_a_machine_that_only_one_side_heats_is_not_blamed(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.throttles = lambda _machine, window: (window - 1) % 8 in (1, 2, 4, 7)
    result = run("-s", test=f"{COMPARES}    print(result.notes)\n")
    result.assert_outcomes(passed=1, warnings=1)
    assert "throughput: hardware" in text_of(result)
    assert "its hardware is too hot, and only while the candidate was under load" in text_of(result)
    assert hosts.blamed == []


@pytest.mark.parametrize(
    ("filters", "outcome"),
    [
        ("error", {"passed": 1, "warnings": 1}),
        ("error::pytest_vastgpu.VastBenchmarkWarning", {"failed": 1}),
        ("ignore::pytest_vastgpu.VastBenchmarkWarning", {"passed": 1}),
    ],
)
def test_what_only_warns_is_not_red_where_all_warnings_are_errors(
    run: Callable[..., Any], hosts: HostsInMemory, filters: str, outcome: dict[str, int]
) -> None:
    hosts.seconds = slower(0.10, 1)
    run("-W", filters).assert_outcomes(**outcome)


def test_the_host_has_what_either_side_needs_and_the_second_one_the_same_gpu(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    hosts.seconds, hosts.gpu = slower(0.10), "RTX 4090"
    sides = """
A = command("baseline", gpu_ram_gb=8, disk_gb=50, cuda=12.4)
B = command("candidate", gpu_ram_gb=20, compute_cap=8.0, disk_gb=20, expected_use_s=7000)
def test_it"""
    run(test=COMPARES.replace("\ndef test_it", sides)).assert_outcomes(failed=1)
    first, second = hosts.asked
    assert (first.gpu_ram_gb, first.disk_gb, first.cuda, first.compute_cap) == (20, 50, 12.4, 8.0)
    assert (first.expected_use_s, first.gpu_name) == (7000, "")
    assert second == replace(first, gpu_name="RTX 4090")


@pytest.mark.parametrize(
    ("a", "b", "disk_gb"),
    [
        ("model='a', model_gb=10", "model='b', model_gb=8", 58),  # 50 GB for the first and its own, beside the other's
        ("model='a', model_gb=10", "model='b', model_gb=40", 90),
        ("model='a', model_gb=10", "model='a', model_gb=10", 50),
        ("files=(('one', 'big'),)", "files=(('two', 'big'),)", 53),
        ("files=(('one', 'big'),)", "files=(('one', 'big'),)", 50),
    ],
)
def test_the_disk_has_room_for_what_both_sides_bring(
    run: Callable[..., Any], hosts: HostsInMemory, pytester: pytest.Pytester, a: str, b: str, disk_gb: float
) -> None:
    with (pytester.path / "big").open("wb") as big:
        big.truncate(3_000_000_000)  # a hole, which takes no room here
    sides = f"""
from dataclasses import replace
A, B = replace(A, disk_gb=50, {a}), replace(B, disk_gb=20, {b})
def test_it"""
    run(test=COMPARES.replace("\ndef test_it", sides)).assert_outcomes(passed=1)
    assert hosts.asked[0].disk_gb == disk_gb


def test_a_metric_that_some_windows_lack_says_why(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.missing = lambda window: {"e2e_p50": "it takes 8 requests, and there were 3"} if window > 8 else {}
    result = run("-s", test=TOLD)
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*VastBenchmarkWarning: throughput: noise, e2e_p50: inconclusive; the report *"])
    assert "e2e_p50, where it has no value: it takes 8 requests, and there were 3" in text_of(result)


def test_where_the_driver_is_busy_in_most_windows_of_a_side_nothing_is_noise(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    hosts.busy = lambda side, window: 0.9 + window / 1000 if side == "baseline" else 0.0
    result = run("-s", test=TOLD)
    result.assert_outcomes(passed=1, warnings=1)
    assert "throughput: inconclusive, e2e_p50: inconclusive" in text_of(result)
    assert "the load's driver was busy in most windows of the baseline, so it may be what was" in text_of(result)
    assert sum("in a window of the baseline, the load's driver used 90% of" in line for line in result.outlines) == 1
    assert "used 91% of" not in text_of(result), "the same again"


def test_a_slowdown_that_shows_though_the_driver_is_busy_is_one(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.busy, hosts.seconds = lambda _side, _window: 0.9, slower(0.10)
    run().assert_outcomes(failed=1)


def test_a_driver_that_is_busy_in_few_windows_is_noted(run: Callable[..., Any], hosts: HostsInMemory) -> None:
    hosts.busy = lambda _side, window: 0.9 if window in (1, 10) else 0.0
    result = run("-s", test=f"{COMPARES}    print(*result.notes)\n")
    result.assert_outcomes(passed=1, warnings=0)
    for name in ("baseline", "candidate"):
        assert f"machine 1: in a window of the {name}, the load's driver used 90% of a CPU core" in text_of(result)


def test_one_window_of_a_server_that_lives_is_measured_again_and_no_more(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    stands_still = {10}

    def seconds(_machine: int, _side: str, window: int) -> float:
        if window in stands_still:
            raise MeasurementFailed("no request began in 10 s")
        return 0.1

    hosts.seconds = seconds
    result = run("-s", test=f"{COMPARES}    print(*result.notes)\n")
    result.assert_outcomes(passed=1)
    words = "a window of the candidate was measured again in round 2 on machine 1: no request began in 10 s"
    assert words in text_of(result)
    assert hosts.calls.count("window") == 6 * 8 + 1
    stands_still |= {30}
    hosts.machines = (4,)
    result = run()
    result.assert_outcomes(failed=1)
    assert "failed in round 4 on machine 4: no request began in 10 s" in text_of(result)


def test_a_side_that_fails_on_the_second_host_is_no_suspicion_any_more(
    run: Callable[..., Any], hosts: HostsInMemory
) -> None:
    def start(machine: int, side: str, _start: int) -> None:
        if machine == 2 and side == "candidate":
            raise failed("out_of_memory", FailureClass.WORKLOAD_FATAL)

    hosts.seconds, hosts.start = slower(0.10), start
    result = run()
    result.assert_outcomes(failed=1)
    assert "the candidate did not start in round 1 on machine 2, where the baseline did" in text_of(result)

"""The fixture ``vast_benchmark`` and ``--vast-baseline``, on instances that do not exist."""

from __future__ import annotations

import re

import pytest

from pytest_vastgpu.measuring.baselines.files import document
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import GpuCheck
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.plugin.measuring import benchmark
from tests.measuring.test_baseline_files import COMMIT
from tests.measuring.test_baseline_files import ENTRY
from tests.measuring.test_baseline_files import WHEN
from tests.support.benchmarked import HEAD
from tests.support.benchmarked import KEPT
from tests.support.benchmarked import ONE
from tests.support.benchmarked import Machines
from tests.support.benchmarked import Run


def speed(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    monkeypatch.setenv("SPEED", str(value))


def test_what_is_saved_is_compared_with_and_a_slowdown_is_suspected_and_never_red(
    pytester: pytest.Pytester, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(ONE)
    saved = Run(pytester, "--vast-baseline=save:main")
    assert saved.notes == []
    (path,) = KEPT.glob("*.json")
    assert f"vastgpu: baseline 'main' is saved, 1 measurement: commit {path}" in saved.result.outlines
    assert re.fullmatch(r"0001_main_42\.json", path.name)

    machines.machine = 43
    speed(monkeypatch, 39)
    same = Run(pytester, "--vast-baseline=compare:main")
    assert same.notes[0].startswith("nothing suspected, against baseline 'main'")
    assert [past["machine_id"] for past in same.measured[0]["history"]] == [42]
    assert len(list(KEPT.glob("*"))) == 1, "it only compares"

    speed(monkeypatch, 10)
    slower = Run(pytester, "--vast-baseline=compare:main", "-W", "error")
    assert slower.notes[0].startswith("suspected, against baseline 'main'")
    assert "machine 42, not this one): throughput is 75 % lower" in slower.notes[0]
    assert slower.result.ret == 0


def test_saving_goes_on_with_the_history_and_one_run_may_do_both(
    pytester: pytest.Pytester, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(ONE)
    first = Run(pytester, "--vast-baseline=compare,save")
    assert first.notes == [
        "not compared: nothing is kept as baseline 'baseline'; --vast-baseline=save:baseline keeps what is measured now"
    ]
    machines.machine = 43
    second = Run(pytester, "--vast-baseline=compare,save")
    assert second.notes[0].startswith("nothing suspected, against baseline 'baseline'")
    assert sorted(path.name for path in KEPT.iterdir()) == ["0001_baseline_42.json", "0002_baseline_43.json"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("'x'", "load of vast_benchmark is of type str; completions(model=…) and others make one"),
        ("LOAD, name=5", "name of vast_benchmark is of type int, and must be text"),
        ("LOAD, name='a\\nb'", "name of vast_benchmark is 'a\\nb', and must be a line of up to 80 characters, *"),
        ("LOAD, name=' a'", "name of vast_benchmark is ' a', and must be a line of up to 80 characters, *"),
        ("LOAD, name='a' * 81", "name of vast_benchmark is 'aaa*', and must be a line of up to 80 characters, *"),
    ],
)
def test_what_can_be_no_load_and_no_name_is_one_line_before_anything_is_measured(
    pytester: pytest.Pytester, machines: Machines, call: str, error: str
) -> None:
    pytester.makepyfile(f"{HEAD}\ndef test_it(vast_benchmark): vast_benchmark({call})\n")
    run = Run(pytester, "--vast-baseline=save:main")
    run.result.assert_outcomes(failed=1)
    run.result.stdout.fnmatch_lines(f"E * pytest_vastgpu.errors.ConfigurationError: {error}")
    assert run.measured == []


HOT = "GPU 0 was slowed down in 40 % of the samples: too hot"


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_where_the_gpu_check_fails_nothing_is_compared_and_nothing_kept(
    pytester: pytest.Pytester, machines: Machines, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    pytester.makepyfile(ONE)
    Run(pytester, "--vast-baseline=save:main")
    speed(monkeypatch, 1)
    if when == "before":
        machines.found = GpuCheck(Verdict(FailureClass.INFRA_FATAL, "too_hot", HOT))
    else:
        monkeypatch.setattr(Measurement, "hardware_problem", HOT)
    run = Run(pytester, "--vast-baseline=compare:main,save:main")
    assert run.notes == [f"hardware: {HOT}; so it is not compared and not kept as a baseline"]
    assert len(list(KEPT.iterdir())) == 1
    assert run.result.ret == 0


@pytest.mark.slow
def test_a_test_that_measures_has_its_instance_alone(
    pytester: pytest.Pytester, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        f"{ONE}\n@pytest.fixture\ndef through_a_fixture(vast_benchmark): return vast_benchmark\n"
        "def test_through(through_a_fixture): pass\ndef test_other(vast_instance): pass\n"
    )
    Run(pytester)
    assert [call for call in machines.calls if call.startswith("alone")] == ["alone test_it", "alone test_through"]
    pytester.makepyfile(f"{HEAD}\ndef test_it(request): request.getfixturevalue('vast_benchmark')(LOAD)\n")
    Run(pytester).result.assert_outcomes(passed=1)  # nothing else runs in this process
    monkeypatch.setattr(benchmark, "_in_worker", lambda _: True)
    result = Run(pytester).result
    result.assert_outcomes(errors=0, failed=1)
    result.stdout.fnmatch_lines("*ConfigurationError: in a worker of xdist, name vast_benchmark among the arguments *")


def test_a_test_measures_several_loads_and_one_twice_only_under_names(
    pytester: pytest.Pytester, machines: Machines
) -> None:
    pytester.makepyfile(
        f"""{HEAD}
def test_it(vast_benchmark):
    for concurrency in (1, 2):
        vast_benchmark(completions(model="m", concurrency=concurrency))
    vast_benchmark(LOAD)
    vast_benchmark(LOAD, name="later")
    vast_benchmark(LOAD, 5.0)
"""
    )
    result = Run(pytester).result
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("*ConfigurationError: this test has measured that load before: give this measurement *")
    pytester.makepyfile(
        f"{HEAD}\ndef test_it(vast_benchmark):\n"
        "    for c in (1, 2): vast_benchmark(completions(model='m', concurrency=c))\n"
        "    for name in ('a', 'b'): vast_benchmark(LOAD, name=name)\n"
    )
    assert Run(pytester, "--vast-baseline=save").result.ret == 0
    machines.machine = 43
    again = Run(pytester, "--vast-baseline=compare")
    assert [(each["name"], each["notes"][0][:17]) for each in again.measured] == [
        *[("", "nothing suspected")] * 2,
        *[(name, "nothing suspected") for name in "ab"],
    ]


REFUSED = [
    (
        "--vast-baseline=compare:mian",
        "--vast-baseline=compare:mian: no baseline 'mian' is kept in {here}/.vastgpu/baselines: there is main; "
        "did you mean main?; --vast-baseline=save:mian keeps one",
        None,
    ),
    (
        "--vast-baseline=compare:main",
        "--vast-baseline=compare:main: .vastgpu/baselines/RTX_4090/0002_x.json cannot be read: it is damaged "
        "(Expecting value: line 1 column 1 (char 0)); restore it with git checkout, or delete it",
        "",
    ),
    (
        "--vast-baseline=compare:main,save:main",
        "--vast-baseline=compare:main: .vastgpu/baselines/RTX_4090/0002_x.json cannot be read: a newer "
        "pytest-vastgpu wrote it, so this one cannot compare with it; install that; restore it with "
        "git checkout, or delete it",
        '{"vastgpu": {"format": 2}}',
    ),
]


@pytest.mark.parametrize(("option", "error", "beside"), REFUSED, ids=["no such name", "damaged", "newer"])
def test_what_cannot_be_compared_with_is_an_error_before_anything_is_rented(
    pytester: pytest.Pytester, option: str, error: str, beside: str | None
) -> None:
    KEPT.mkdir(parents=True)
    (KEPT / "0001_main.json").write_text(document([ENTRY], "main", WHEN, COMMIT))
    pytester.makepyfile(ONE)
    if beside is not None:
        (KEPT / "0002_x.json").write_text(beside)
    # What opens a run is the real one: with a supervisor there would be more lines.
    result = Run(pytester, option).result
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {error.format(here=pytester.path) if '{here}' in error else error}" in result.errlines


def test_a_place_where_nothing_can_be_kept_is_an_error_before_anything_is_rented(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(ONE)
    pytester.path.joinpath(".vastgpu").write_text("a file")
    result = Run(pytester, "--vast-baseline=save:main").result
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    place = pytester.path / ".vastgpu/baselines"
    assert f"ERROR: --vast-baseline=save:main: nothing can be kept in {place}: Not a directory" in result.errlines


def test_a_test_that_asks_late_learns_what_is_wrong(pytester: pytest.Pytester, machines: Machines) -> None:
    KEPT.mkdir(parents=True)
    (KEPT / "0001_x.json").write_text("{")
    pytester.makepyfile(f"{HEAD}\ndef test_it(request): request.getfixturevalue('vast_benchmark')(LOAD)\n")
    result = Run(pytester, "--vast-baseline=compare").result
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("*ConfigurationError: .vastgpu/baselines/RTX_4090/0001_x.json cannot be read: it is *")


def test_a_run_that_measures_nothing_keeps_nothing_and_says_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass\n")
    result = Run(pytester, "--vast-baseline=compare:never-saved,save:main").result
    assert result.ret == 0
    assert "vastgpu: " not in result.stdout.str()
    assert not pytester.path.joinpath(".vastgpu").exists()

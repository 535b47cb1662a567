"""The fixture ``vast_benchmark`` and ``--vast-baseline``, on instances that do not exist."""

from __future__ import annotations

import errno
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.measuring.baselines.files import document
from pytest_vastgpu.measuring.baselines.files import file_name
from pytest_vastgpu.measuring.baselines.files import read
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Fairness
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin import baselines
from pytest_vastgpu.plugin import leases
from pytest_vastgpu.plugin.carried import carried
from pytest_vastgpu.plugin.measurements import MEASUREMENT
from pytest_vastgpu.plugin.measuring import benchmark
from tests.measuring.test_baseline_files import COMMIT
from tests.measuring.test_baseline_files import ENTRY
from tests.measuring.test_baseline_files import WHEN
from tests.plugin.test_test_ends import RERUNS
from tests.plugin.test_test_ends import Notes
from tests.support.factories import make_offer
from tests.support.projects import commit
from tests.support.projects import needs_git
from tests.support.projects import own_git  # noqa: F401 - a fixture

HEAD = """
import os, pytest
from pytest_vastgpu import command, completions
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.measurement import Measurement

LOAD = completions(model="m", concurrency=4)

@pytest.fixture
def vast_workload():
    return command("serve --api-key sesame-open", env={"HF_TOKEN": "hf_not_to_be_kept"})

@pytest.fixture
def vast_instance(vast_instance):
    def measure(load, seconds):
        value = float(os.environ["SPEED"]) / load.concurrency
        return Measurement(load, seconds, {"throughput": Figure(value, "1/s", value, value, 1)})
    vast_instance.measure = measure
    return vast_instance
"""
ONE = f"{HEAD}\ndef test_it(vast_benchmark): assert vast_benchmark(LOAD)['throughput'].unit == '1/s'\n"
KEPT = Path(".vastgpu/baselines/RTX_4090")


class Machines(Notes):
    """Gives instances on the machine that a test names."""

    machine = 42
    found = Fairness()

    def acquire(self, test: str, workload: Workload, exclusive: bool) -> Lease:
        lease = super().acquire(test, workload, exclusive)
        return Lease(lease.label, lease.instance_id, make_offer(machine_id=self.machine), lease.endpoint, {})

    def acquire_alone(self, test: str, workload: Workload) -> Lease:
        self._note("alone", test)
        return self.acquire(test, workload, exclusive=False)

    def fairness(self, label: str) -> Fairness:
        return self.found


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    notes = Machines()
    monkeypatch.setattr(leases, "_open", lambda *_, **__: notes)
    # Two runs of one test rent from what is no local market: there, machines have numbers.
    monkeypatch.setenv("VAST_API_KEY", "key-of-no-market")
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SPEED", "40")
    return notes


class Run:
    """A run of pytest in this process, and what its tests have noted."""

    def __init__(self, pytester: pytest.Pytester, *options: str) -> None:
        self.measured: list[Any] = []
        self.result = pytester.runpytest_inprocess("-p", "no:randomly", *options, plugins=[self])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.measured += [json.loads(text) for text in carried(report, MEASUREMENT)]

    @property
    def notes(self) -> list[str]:
        return [note for each in self.measured for note in each["notes"]]


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


def test_two_runs_that_save_at_once_both_keep_what_they_have_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)
    chosen: set[int] = set()

    def at_once(*given: Any, **named: Any) -> str:
        if threading.get_ident() not in chosen:  # it has chosen its number
            chosen.add(threading.get_ident())
            both.wait(60)
        return file_name(*given, **named)

    monkeypatch.setattr(baselines, "file_name", at_once)
    with ThreadPoolExecutor(2) as runs:
        saved = [runs.submit(baselines.save, tmp_path, "main", [ENTRY]) for _ in range(2)]
    paths = [path for each in saved for path in each.result()]
    assert sorted(path.name[:5] for path in paths) == ["0001_", "0002_"]
    assert sorted(paths) == sorted(paths[0].parent.iterdir())
    assert all(len(read(path.read_text())) == 1 for path in paths)


def test_a_save_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "document", lambda *_: "no text that a file can have: \ud800")
    with pytest.raises(UnicodeEncodeError):
        baselines.save(tmp_path, "main", [ENTRY])
    (kind,) = tmp_path.joinpath(".vastgpu/baselines").iterdir()
    assert list(kind.iterdir()) == []


def test_a_file_system_without_hard_links_keeps_baselines_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(new: Path, _: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(new))

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    paths = [path for _ in range(2) for path in baselines.save(tmp_path, "main", [ENTRY])]
    assert [path.name[:5] for path in paths] == ["0001_", "0002_"]
    assert sorted(paths[0].parent.iterdir()) == paths


def test_a_test_with_subtests_is_kept_once_and_its_own_properties_are_no_baselines(
    pytester: pytest.Pytester, machines: Machines
) -> None:
    pytester.makepyfile(
        f"{HEAD}\ndef test_it(vast_benchmark, subtests, record_property):\n"
        "    vast_benchmark(LOAD)\n    record_property('vast_baseline', 'mine')\n    with subtests.test(): pass\n"
    )
    assert Run(pytester, "--vast-baseline=save").result.ret == 0
    (path,) = KEPT.iterdir()
    assert len(json.loads(path.read_text())["benchmarks"]) == 1


def test_nothing_secret_is_kept(pytester: pytest.Pytester, machines: Machines) -> None:
    pytester.makepyfile(
        f"{HEAD}\ndef test_it(vast_benchmark): vast_benchmark(completions('hf_not_to_be_kept', model='m'))"
    )
    Run(pytester, "--vast-baseline=save").result.assert_outcomes(passed=1)
    (path,) = KEPT.iterdir()
    (kept,) = json.loads(path.read_text())["benchmarks"]
    assert kept["extra_info"]["vastgpu"]["load"]["body"]["prompt"] == "<HF_TOKEN>"
    assert kept["extra_info"]["vastgpu"]["workload"]["env"] == ["HF_TOKEN"]
    assert "hf_not" not in path.read_text()
    assert "sesame" not in path.read_text()


def test_what_has_no_end_is_kept_as_far_as_it_is_a_number(pytester: pytest.Pytester, machines: Machines) -> None:
    unending = 'quantiles={"e2e": (0.1, float("inf"))}'
    more = '"e2e_p99": Figure(float("inf"), "s", 1, float("inf"), -1)'
    pytester.makepyfile(ONE.replace("value, 1)})", f"value, 1), {more}}}, {unending})"))
    assert Run(pytester, "--vast-baseline=save").result.ret == 0
    (path,) = KEPT.iterdir()
    (kept,) = json.loads(path.read_text())["benchmarks"]
    assert list(kept["extra_info"]["vastgpu"]["figures"]) == ["throughput"]
    assert kept["stats"]["max"] == 0.1  # of ten a second


def test_only_what_passed_is_kept_and_of_several_tries_the_last(pytester: pytest.Pytester, machines: Machines) -> None:
    pytester.makeconftest(RERUNS)
    pytester.makepyfile(
        f"{HEAD}\nfrom conftest import tries\n"
        "def test_fails(vast_benchmark):\n    vast_benchmark(LOAD)\n    assert False\n"
        "def test_flaky(vast_benchmark):\n    vast_benchmark(LOAD)\n    tries['it'] += 1\n    assert tries['it'] == 3\n"
    )
    result = Run(pytester, "--vast-baseline=save:main").result
    (path,) = KEPT.iterdir()
    line = f"vastgpu: baseline 'main' is saved, 1 measurement (3 of tests that did not pass are not): commit {path}"
    assert line in result.outlines
    assert [each["name"] for each in json.loads(path.read_text())["benchmarks"]] == [
        "test_flaky (completions, concurrency 4)"
    ]


@pytest.mark.parametrize(
    "test",
    [
        "@pytest.fixture\ndef broken():\n    yield\n    assert False\n"
        "def test_it(vast_benchmark, broken): vast_benchmark(LOAD)\n",
        "def test_it(vast_benchmark, subtests):\n    vast_benchmark(LOAD)\n    with subtests.test(): assert False\n",
        "def test_it(vast_benchmark):\n    vast_benchmark(LOAD)\n    pytest.skip('no use')\n",
    ],
    ids=["its teardown fails", "a subtest fails", "skipped"],
)
def test_what_has_not_passed_as_a_whole_is_not_kept(pytester: pytest.Pytester, machines: Machines, test: str) -> None:
    pytester.makepyfile(f"{HEAD}\n{test}")
    result = Run(pytester, "--vast-baseline=save:main").result
    result.stdout.fnmatch_lines(
        "vastgpu: nothing is saved as baseline 'main': * (1 of tests that did not pass are not)"
    )
    assert not list(Path(".vastgpu").rglob("*.json"))


@pytest.mark.parametrize("fails", [True, False], ids=["failed", "measured without vast_benchmark"])
def test_where_nothing_is_saved_the_run_says_so(pytester: pytest.Pytester, machines: Machines, fails: bool) -> None:
    failing = "def test_it(vast_benchmark):\n    vast_benchmark(LOAD)\n    assert False\n"
    other = (
        "def test_it(request, vast_instance):\n    from pytest_vastgpu.plugin.measurements import keep\n"
        "    from tests.support.measured import measured\n    keep(request.node, measured())\n"
    )
    pytester.makepyfile(f"{HEAD}\n{failing if fails else other}")
    result = Run(pytester, "--vast-baseline=save:main").result
    why = "no test that passed has a measurement by vast_benchmark that can be compared with"
    lost = " (1 of tests that did not pass are not)" if fails else ""
    assert f"vastgpu: nothing is saved as baseline 'main': {why}{lost}" in result.outlines
    assert not list(Path(".vastgpu").rglob("*.json"))


def test_a_measurement_without_a_number_to_compare_is_not_kept_and_says_why(
    pytester: pytest.Pytester, machines: Machines
) -> None:
    """Such as of a server that stood still."""
    bare = 'seconds, {"requests": Figure(1, "", 1, 1)}, missing={"throughput": "too few"})'
    pytester.makepyfile(
        ONE.replace('seconds, {"throughput": Figure(value, "1/s", value, value, 1)})', bare).replace(
            "['throughput'].unit == '1/s'", "['requests']"
        )
    )
    run = Run(pytester, "--vast-baseline=compare:main,save:main")
    run.result.assert_outcomes(passed=1)
    assert run.notes[1:] == ["not kept as a baseline: too few"]
    assert "nothing is saved as baseline 'main'" in run.result.stdout.str()


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
def test_on_a_host_that_is_no_fair_place_nothing_is_compared_and_nothing_kept(
    pytester: pytest.Pytester, machines: Machines, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    pytester.makepyfile(ONE)
    Run(pytester, "--vast-baseline=save:main")
    speed(monkeypatch, 1)
    if when == "before":
        machines.found = Fairness(Verdict(FailureClass.INFRA_FATAL, "too_hot", HOT))
    else:
        monkeypatch.setattr(Measurement, "unfair", HOT)
    run = Run(pytester, "--vast-baseline=compare:main,save:main")
    assert run.notes == [f"hardware: {HOT}; so it is not compared and not kept as a baseline"]
    assert len(list(KEPT.iterdir())) == 1
    assert run.result.ret == 0


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


def test_a_baseline_that_cannot_be_written_fails_the_run(pytester: pytest.Pytester, machines: Machines) -> None:
    pytester.makepyfile(ONE)
    KEPT.parent.mkdir(parents=True)
    KEPT.write_text("a file")
    result = Run(pytester, "--vast-baseline=save:main").result
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines("vastgpu: baseline 'main' is not saved: *File exists*")


def test_a_run_that_measures_nothing_keeps_nothing_and_says_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass\n")
    result = Run(pytester, "--vast-baseline=compare:never-saved,save:main").result
    assert result.ret == 0
    assert "vastgpu: " not in result.stdout.str()
    assert not pytester.path.joinpath(".vastgpu").exists()


@needs_git
@pytest.mark.usefixtures("own_git")
def test_the_commit_is_kept_and_whether_it_was_changed(pytester: pytest.Pytester, machines: Machines) -> None:
    pytester.makepyfile(ONE)
    commit(pytester.path)
    Run(pytester, "--vast-baseline=save:main")
    (path,) = KEPT.glob("*.json")
    info = json.loads(path.read_text())["commit_info"]
    assert (len(info["id"]), info["dirty"], info["project"]) == (40, False, pytester.path.name)
    assert info["time"] > "20"
    assert path.name == f"0001_main_{info['id'][:9]}_42.json"
    pytester.makepyfile(f"{ONE}# changed\n")
    (note,) = Run(pytester, "--vast-baseline=compare:main,save:main").notes
    assert f"commit {info['id'][:9]}, this machine" in note
    assert (KEPT / f"0002_main_{info['id'][:9]}-changed_42.json").exists()

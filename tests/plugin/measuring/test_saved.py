"""What --vast-baseline=save keeps, on instances that do not exist."""

from __future__ import annotations

import errno
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.measuring.baselines.files import file_name
from pytest_vastgpu.measuring.baselines.files import read
from pytest_vastgpu.plugin import baselines
from tests.measuring.test_baseline_files import ENTRY
from tests.plugin.test_reports import needs_subtests
from tests.plugin.test_test_ends import RERUNS
from tests.support.benchmarked import HEAD
from tests.support.benchmarked import KEPT
from tests.support.benchmarked import ONE
from tests.support.benchmarked import Machines
from tests.support.benchmarked import Run
from tests.support.projects import commit
from tests.support.projects import needs_git
from tests.support.projects import own_git  # noqa: F401 - a fixture


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


@needs_subtests
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
        pytest.param(
            "def test_it(vast_benchmark, subtests):\n    vast_benchmark(LOAD)\n"
            "    with subtests.test(): assert False\n",
            marks=needs_subtests,
        ),
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


def test_a_baseline_that_cannot_be_written_fails_the_run(pytester: pytest.Pytester, machines: Machines) -> None:
    pytester.makepyfile(ONE)
    KEPT.parent.mkdir(parents=True)
    KEPT.write_text("a file")
    result = Run(pytester, "--vast-baseline=save:main").result
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines("vastgpu: baseline 'main' is not saved: *File exists*")


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

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pytest_vastgpu.measuring.baselines.files import Entry
from pytest_vastgpu.measuring.baselines.files import Unreadable
from pytest_vastgpu.measuring.baselines.files import document
from pytest_vastgpu.measuring.baselines.files import file_name
from pytest_vastgpu.measuring.baselines.files import read
from pytest_vastgpu.measuring.baselines.files import slug
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.load import completions

COMMIT = {"id": "9f3c2a1b7d" * 4, "dirty": False, "branch": "main"}
WHEN = "2026-11-29T08:00:00+00:00"
ENTRY = Entry(
    test="tests/test_it.py::test_it[a]",
    workload={"adapter": "vllm", "args": ["--seed", "1"]},
    load=completions(model="org/model", concurrency=4, slo={"ttft": 0.5}, stop=["\n"]),
    kind="2x RTX 4090",
    machine="4711",
    figures={"throughput": Figure(12.5, "1/s", 12, 13, 1), "requests": Figure(125, "", 125, 125)},
    seconds=10.0,
    errors={"HTTP 500": 2},
    facts={"driver_version": "570.86.15"},
    quantiles=tuple(0.2 + percent / 1000 for percent in range(101)),
)


def made(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(document([ENTRY, replace(ENTRY, name="again")], "main", WHEN, COMMIT))
    return {**found, **changes}


def test_what_is_written_is_read() -> None:
    one, two = read(json.dumps(made()))
    assert one.entry == replace(ENTRY, facts={}, quantiles=())  # those are for people and for other tools
    assert (two.entry.name, one.baseline, one.when, one.commit) == ("again", "main", WHEN, COMMIT["id"])


def test_a_commit_that_was_changed_is_none() -> None:
    text = document([ENTRY], "main", WHEN, {**COMMIT, "dirty": True})
    assert read(text)[0].commit == ""
    assert json.loads(text)["commit_info"]["id"] == COMMIT["id"]  # but people learn on what it was based
    assert read(document([ENTRY], "main", WHEN, {"id": "", "dirty": False}))[0].commit == ""


def test_the_form_is_that_of_pytest_benchmark() -> None:
    found = made()
    assert found["machine_info"]["node"] == "4711"
    assert found["machine_info"]["driver_version"] == "570.86.15"
    assert (found["commit_info"]["branch"], found["datetime"]) == ("main", WHEN)
    one, two = found["benchmarks"]
    assert one["fullname"] == "tests/test_it.py::test_it[a] (completions, concurrency 4)"
    assert two["name"] == "test_it[a] (again, completions, concurrency 4)"
    stats = one["stats"]
    assert {key: round(stats[key], 4) for key in ("min", "q1", "median", "q3", "max", "mean", "iqr")} == {
        "min": 0.2,
        "q1": 0.225,
        "median": 0.25,
        "q3": 0.275,
        "max": 0.3,
        "mean": 0.25,
        "iqr": 0.05,
    }
    assert (stats["ops"], stats["rounds"], stats["iterations"]) == (12.5, 125, 1)
    assert 0.028 < stats["stddev"] < 0.03


def test_without_the_distribution_the_stats_are_of_what_there_is() -> None:
    plain = replace(ENTRY, quantiles=())
    (only,) = json.loads(document([plain], "main", WHEN, COMMIT))["benchmarks"]
    assert only["stats"]["median"] == 0.08  # one after the other
    with_middle = replace(plain, figures={**plain.figures, "e2e_p50": Figure(0.3, "s", 0.2, 0.4, -1)})
    (only,) = json.loads(document([with_middle], "main", WHEN, COMMIT))["benchmarks"]
    assert only["stats"]["median"] == 0.3


def changed(*path: Any, to: Any) -> str:
    """A file in which one value is another; None: it is missing."""
    found = made()
    at: Any = found
    for key in path[:-1]:
        at = at[key]
    if to is None:
        del at[path[-1]]
    else:
        at[path[-1]] = to
    return json.dumps(found)


OURS = ("benchmarks", 0, "extra_info", "vastgpu")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("[]", "Baseline is []"),
        ("[" * 100_000, "nested too deeply"),
        (json.dumps(made())[:-40], "Unterminated string"),
        ("<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n", "a merge was not finished"),
        (changed("vastgpu", to=None), "vastgpu"),
        (changed("datetime", to=3), "datetime is 3"),
        (changed("benchmarks", to={}), "benchmarks is {}"),
        (changed(*OURS, to=None), "vastgpu"),
        (changed(*OURS, "kind", to=None), "kind"),
        (changed(*OURS, "load", "concurrency", to="four"), "concurrency is 'four'"),
        (changed(*OURS, "load", "timeout_s", to=-1), "timeout_s"),
        (changed(*OURS, "seconds", to=10**400), "too large"),
        (changed(*OURS, "figures", "throughput", "value", to=float("nan")), "NaN is no number"),
        (
            changed(*OURS, "figures", "throughput", "value", to="1").replace('"value": "1"', '"value": 1e999'),
            "infinite",
        ),
    ],
)
def test_a_file_that_is_damaged_is_told_and_gives_no_number(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match="it is damaged") as caught:
        read(text)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "change", [lambda found: found, lambda _: {"in": "another form"}], ids=["the same form", "another form"]
)
def test_a_file_of_a_newer_version_is_told(change: Callable[[Any], Any]) -> None:
    text = json.dumps({**change(made()), "vastgpu": {"format": 2, "baseline": "main"}})
    with pytest.raises(Unreadable, match="a newer pytest-vastgpu wrote it"):
        read(text)


def test_keys_that_a_later_version_adds_are_passed_over() -> None:
    assert read(changed(*OURS, "color", to="red"))[0].entry.machine == "4711"


def test_a_files_name_has_what_people_look_for() -> None:
    assert file_name(3, "main", COMMIT, "4711") == "0003_main_9f3c2a1b7_4711.json"
    assert file_name(12, "main", {**COMMIT, "dirty": True}, "a/../b c") == "0012_main_9f3c2a1b7-changed_a_.._b_c.json"
    assert file_name(1, "main", {"id": ""}, "") == "0001_main_unknown.json"
    assert slug("../no GPU, 2x AMD/EPYC") == "no_GPU_2x_AMD_EPYC"

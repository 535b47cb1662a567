from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pytest_vastgpu.core import events
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.core.events import EventLog
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.reporting import cost_file
from pytest_vastgpu.reporting import tests_file
from pytest_vastgpu.reporting.event_facts import considered_facts
from pytest_vastgpu.reporting.event_facts import offer_facts
from pytest_vastgpu.reporting.event_facts import verdict_facts
from pytest_vastgpu.reporting.schemas import NAMES
from pytest_vastgpu.reporting.schemas import schema
from pytest_vastgpu.selection.admission import Dropped
from pytest_vastgpu.selection.conditions import CONDITIONS
from pytest_vastgpu.selection.ranking import Ranked
from tests.reporting.test_cost_file import BOOKS
from tests.support.factories import make_offer
from tests.support.schemas import problems
from tests.support.schemas import problems_of_run
from tests.support.schemas import strict

VERSIONS = {"cost": cost_file.VERSION, "events": events.VERSION, "tests": tests_file.VERSION}
HEAD = {"run": "ab12", "market": "https://market", "budget_usd": 5.0, "written": 1.8e9}
COSTS = cost_file.document(HEAD, BOOKS)
VERDICT = verdict_facts(Verdict(FailureClass.INFRA_FATAL, "ssh_never_up", "nothing answers", "take another"))
ABOUT = {"workload": "vllm 'a'", "attempt": 1}
USE = {**ABOUT, "test": "t.py::test", "run": "ab12"}
OFFER = make_offer()
EXPECTED = Ranked(OFFER, math.inf, 0.9, math.inf, None)
"""As of an offer on which no start can succeed."""
CONSIDERED = considered_facts("vllm 'a'", [EXPECTED], [Dropped(OFFER, CONDITIONS[:2])], [OFFER]) | {"run": "ab12"}
EVENTS = {
    "run": Event("", None, "warning: whatever"),
    "considered": Event("", None, "offers considered", CONSIDERED),
    "market": Event("", None, "waits", {"wait": "search", "wait_s": 1.5}),
    "renting": Event("one", State.INTENDED, "renting", {**ABOUT, "offer": offer_facts(make_offer())}),
    "created": Event("one", State.CREATED, "created", {**ABOUT, "instance_id": 17}),
    "checked": Event("one", State.CHECKED, "checked", {**ABOUT, "sold": {"a": 1}, "found": {}, "switch": {}}),
    "memory": Event("one", State.READY, "memory", {**ABOUT, "used_mib": [1.0], "total_mib": [2.0]}),
    "use": Event("one", State.READY, "uses", {**USE, "use": "begins", "waited_s": 1.0}),
    "used": Event("one", State.READY, "used", {**USE, "use": "ends", "seconds": 1.0}),
    "failed": Event(
        "one", State.FAILED, "failed", {**ABOUT, "verdict": VERDICT, "failed_in": State.BOOTING, "artifacts": "/x"}
    ),
    "lost": Event("one", State.READY, "lost", {**ABOUT, "cut_short": VERDICT}),
    "kept": Event("one", State.KEPT, "kept", {**ABOUT, "until": 1.8e9, "ssh": "ssh root@x"}),
}
TESTS = {
    "version": 1,
    "run": "ab12",
    "command": "pytest",
    "started": 1.8e9,
    "written": 1.8e9,
    "ended": 0.0,
    "over": False,
    "exit_status": None,
    "tests": [
        {
            "test": "t.py::test",
            "outcome": "error",
            "when": "setup",
            "started": 1.8e9,
            "duration_s": 3.0,
            "tries": 1,
            "worker": "",
            "host": "",
            "instances": [17],
            "message": "no instance became ready",
            "verdict": VERDICT,
            "attempts": 3,
            "artifacts": "",
        }
    ],
}


def line_of(event: Event, directory: Path) -> Any:
    log = EventLog(directory)
    log.write(event)
    return strict(log.path.read_text())


def renamed(document: Any) -> Iterator[tuple[str, Any]]:
    """The document once for each of its keys, with this key renamed; but for keys that are data."""

    def walk(part: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        if isinstance(part, dict) and path[-1:] != ("seconds",) and path[-1:] not in (("sold",), ("found",)):
            for key, value in part.items():
                yield (*path, key)
                yield from walk(value, (*path, key))
        elif isinstance(part, list):
            for at, value in enumerate(part):
                yield from walk(value, (*path, at))

    for path in walk(document, ()):
        changed = copy.deepcopy(document)
        parent = changed
        for step in path[:-1]:
            parent = parent[step]
        parent[f"{path[-1]}_"] = parent.pop(path[-1])
        yield ".".join(map(str, path)), changed


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one_and_has_the_version_that_is_written(name: str) -> None:
    found = json.loads(schema(name))
    Draft202012Validator.check_schema(found)
    assert found["$id"] == f"urn:pytest-vastgpu:{name}:{VERSIONS[name]}"
    assert found["properties"]["version"] == {"const": VERSIONS[name]}
    assert "version" in found["required"]


@pytest.mark.parametrize("kind", EVENTS)
def test_every_kind_of_event_meets_the_schema_and_no_key_can_change_its_name(kind: str, tmp_path: Path) -> None:
    line = line_of(EVENTS[kind], tmp_path)
    assert problems("events", line) == []
    assert [path for path, changed in renamed(line) if not problems("events", changed)] == []


@pytest.mark.parametrize(("name", "document"), [("cost", COSTS), ("tests", TESTS)], ids=["cost", "tests"])
def test_the_files_meet_their_schemas_and_no_key_can_change_its_name(name: str, document: Any) -> None:
    assert problems(name, document) == []
    assert [path for path, changed in renamed(document) if not problems(name, changed)] == []


def test_readers_may_get_further_keys_and_no_other_version() -> None:
    later = {**COSTS, "further": 1}
    allows = Draft202012Validator(json.loads(schema("cost")))
    assert allows.is_valid(later)
    assert not allows.is_valid({**COSTS, "version": 2})
    assert problems("cost", later), "what this version writes is checked against the keys that are described"


def test_the_check_of_a_runs_files_finds_what_is_wrong(tmp_path: Path) -> None:
    line_of(EVENTS["use"], tmp_path)
    (tmp_path / "cost.json").write_text(json.dumps(COSTS))
    (tmp_path / "tests.json").write_text(json.dumps(TESTS))
    assert list(problems_of_run(tmp_path)) == []
    (tmp_path / "cost.json").write_text(json.dumps({**COSTS, "total_usd": "1"}))
    (tmp_path / "tests.json").write_text(json.dumps({**TESTS, "over": 1}))
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"time": 1.0}\n{"cut sh')
    assert {problem.partition(":")[0] for problem in problems_of_run(tmp_path)} == {
        "cost.json",
        "tests.json",
        "events.jsonl",
    }
    (tmp_path / "cost.json").write_text('{"total_usd": NaN}')
    with pytest.raises(AssertionError, match="NaN is no JSON"):
        list(problems_of_run(tmp_path))

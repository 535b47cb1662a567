"""An adapter only judges values, so it is tested without renting anything."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from vastgpu_adapter_search import search
from vastgpu_adapter_search.adapter import SearchAdapter

from pytest_vastgpu import Answer
from pytest_vastgpu import Failed
from pytest_vastgpu import FailureClass
from pytest_vastgpu import Observation
from pytest_vastgpu import Progress
from pytest_vastgpu import Readiness
from pytest_vastgpu import Ready
from pytest_vastgpu import Warming
from pytest_vastgpu import Workload

ADAPTER = SearchAdapter()


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    documents = tmp_path / "documents.txt"
    documents.write_text("one document\n", encoding="utf-8")
    return search(documents, shortest=4)


def answer(status: int = 200, **body: object) -> Answer:
    return Answer(status, json.dumps(body))


@pytest.mark.parametrize(
    ("answers", "readiness"),
    [
        ({}, None),
        ({"status": Answer(0, "Connection refused")}, None),
        ({"status": answer(complete=False, indexed=3, documents=8)}, Warming(Progress("indexing", 3, 8))),
        ({"status": answer(complete=True), "found": answer(401)}, None),
        ({"status": answer(complete=True), "found": answer(found="a")}, Ready()),
    ],
)
def test_ready_means_that_something_is_found(
    answers: dict[str, Answer], readiness: Readiness | None, workload: Workload
) -> None:
    assert ADAPTER.served(workload, answers) == readiness


def test_a_start_without_answers_goes_on(workload: Workload) -> None:
    assert ADAPTER.assess(workload, Observation({}, "", None, 1.0)) == Warming(Progress("starting"))


@pytest.mark.parametrize(
    ("log", "exit_code", "reason"),
    [
        ("cannot index document 1 of 1: 'no' is too short\n", 3, "bad_document"),
        ("OSError: [Errno 98] Address already in use\n", 1, "address_in_use"),
    ],
)
def test_whose_fault_an_end_is(log: str, exit_code: int, reason: str, workload: Workload) -> None:
    judged = ADAPTER.assess(workload, Observation({}, log, exit_code, 1.0))
    assert isinstance(judged, Failed)
    assert (judged.verdict.failure_class, judged.verdict.reason) == (FailureClass.WORKLOAD_FATAL, reason)


def test_the_builder_is_documented_and_checks_what_it_is_given(tmp_path: Path) -> None:
    assert "gpu_ram_gb" in inspect.signature(search).parameters
    assert ":param disk_gb:" in (search.__doc__ or "")
    assert "Default: 8.0." in (search.__doc__ or "")
    with pytest.raises(TypeError, match=r"search\(\) got an unexpected keyword argument 'dsk_gb'; it has disk_gb"):
        search(tmp_path, dsk_gb=9)  # type: ignore[call-arg] # the mistake that is tested
    with pytest.raises(Exception, match=r"missing\.txt"):
        search(tmp_path / "missing.txt")

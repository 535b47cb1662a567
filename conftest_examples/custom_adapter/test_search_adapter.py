"""An adapter only judges values, so it is tested without renting anything."""

from __future__ import annotations

import pytest
from search_adapter import HERE
from search_adapter import SearchAdapter
from search_adapter import search

from pytest_vastgpu import Answer
from pytest_vastgpu import Failed
from pytest_vastgpu import FailureClass
from pytest_vastgpu import Observation
from pytest_vastgpu import Progress
from pytest_vastgpu import Readiness
from pytest_vastgpu import Ready
from pytest_vastgpu import Warming

WORKLOAD = search(HERE / "documents.txt")


@pytest.mark.parametrize(
    ("answers", "readiness"),
    [
        ({}, None),
        ({"status": Answer(200, '{"indexed": 2, "documents": 8}')}, Warming(Progress("indexing", 2, 8))),
        ({"status": Answer(200, '{"indexed": 8, "documents": 8}')}, Ready()),
    ],
)
def test_ready_means_that_every_document_is_indexed(answers: dict[str, Answer], readiness: Readiness | None):
    assert SearchAdapter().served(WORKLOAD, answers) == readiness


@pytest.mark.parametrize(("exit_code", "failure_class"), [(3, FailureClass.WORKLOAD_FATAL), (1, FailureClass.UNKNOWN)])
def test_whose_fault_an_end_is(exit_code: int, failure_class: FailureClass):
    log = "cannot index document 2 of 2\n"
    judged = SearchAdapter().assess(WORKLOAD, Observation({}, log, exit_code, 1.0))
    assert isinstance(judged, Failed)
    assert judged.verdict.failure_class is failure_class
    assert (log.strip() if exit_code == 3 else "exit code 1") in judged.verdict.evidence

"""An adapter only judges values, so it is tested without renting anything."""

from __future__ import annotations

import pytest
from search_adapter import HERE
from search_adapter import SearchAdapter
from search_adapter import search

from pytest_vastgpu import Failed
from pytest_vastgpu import FailureClass
from pytest_vastgpu import Observation
from pytest_vastgpu import ProbeFailure
from pytest_vastgpu import ProbeResult
from pytest_vastgpu import Progress
from pytest_vastgpu import Readiness
from pytest_vastgpu import Ready
from pytest_vastgpu import Warming

WORKLOAD = search(HERE / "documents.txt")


def seen(log: str = "", exit_code: int | None = None, status: str | None = None) -> Observation:
    failure = ProbeFailure.COMMAND if status is None else ProbeFailure.NONE
    probe = ProbeResult("status", failure, 0 if status else 1, status or "", "", 0.01)
    return Observation({"status": probe}, log, exit_code, 1.0)


@pytest.mark.parametrize(
    ("observation", "readiness"),
    [
        (seen(), Warming(Progress("starting"))),
        (
            seen("indexed 1/8\nindexed 2/8\n", status='{"indexed": 0, "documents": 8}'),
            Warming(Progress("indexing", 2, 8)),
        ),
        (seen("indexed 8/8\n", status='{"indexed": 8, "documents": 8}'), Ready()),
    ],
)
def test_ready_means_that_every_document_is_indexed(observation: Observation, readiness: Readiness):
    assert SearchAdapter().assess(WORKLOAD, observation) == readiness


@pytest.mark.parametrize(("exit_code", "failure_class"), [(3, FailureClass.WORKLOAD_FATAL), (1, FailureClass.UNKNOWN)])
def test_whose_fault_an_end_is(exit_code: int, failure_class: FailureClass):
    judged = SearchAdapter().assess(WORKLOAD, seen("cannot index document 2 of 2\n", exit_code))
    assert isinstance(judged, Failed)
    assert judged.verdict.failure_class is failure_class
    assert "cannot index document 2 of 2" in judged.verdict.evidence

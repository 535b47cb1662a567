"""Lines about hosts for tests say which one they mean, and nothing of a server."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import WorkloadNames
from pytest_vastgpu.reporting.sentences import failure
from pytest_vastgpu.reporting.words import whose
from pytest_vastgpu.reporting.words import words
from pytest_vastgpu.servers.host import numbered
from tests.reporting.test_sentences import BROKEN

ONE = numbered(Workload("host"), 1)
SERVER = Workload("vllm", model="org/model")


@pytest.mark.parametrize(
    ("workload", "instance_id", "begins"),
    [
        (ONE, 0, "host 1 (attempt 2)"),
        (ONE, 17, "host 1 (instance 17)"),
        (SERVER, 0, "attempt 2"),
        (SERVER, 17, "instance 17"),
    ],
)
def test_what_a_line_begins_with(workload: Workload, instance_id: int, begins: str) -> None:
    assert whose(workload, WorkloadNames()[workload], instance_id, 2) == begins


def test_a_host_with_another_environment_is_called_the_same() -> None:
    names = WorkloadNames()
    assert [names[ONE], names[replace(ONE, env=(("A", "b"),))], names[numbered(ONE, 2)]] == [
        *("host 1", "host 1"),
        "host 2",
    ]


def test_nothing_is_said_of_a_server_where_there_is_none() -> None:
    assert "server" not in str(dataclasses.asdict(words(ONE)))
    assert "server" in words(SERVER).launched


def test_a_set_up_that_has_failed_is_told_of_the_host() -> None:
    verdict = Verdict(FailureClass.WORKLOAD_FATAL, "setup_failed", "the setup command ended with exit code 2: it")
    attempt = replace(BROKEN, verdict=verdict, failed_in=State.CHECKED, log_tail="one\ntwo")
    lines = failure("host 1", [attempt], said=words(ONE)).splitlines()
    assert lines[:2] == [
        "host 1 did not become ready (1 attempt)",
        "  1. machine 11 (RTX 4090, 0.30 USD/h): failed while set up: workload_fatal: setup_failed",
    ]
    assert lines[-3:] == ["  the last lines of its set-up:", "    | one", "    | two"]

"""The end of a server in words, and whose fault it is."""

from __future__ import annotations

import pytest

from pytest_vastgpu.client.calls import Mark
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.errors import HookFailed
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.command import CommandAdapter
from pytest_vastgpu.servers.command import command
from pytest_vastgpu.supervisor.rental.server.end import ServerEnd
from pytest_vastgpu.supervisor.rental.server.end import ended
from pytest_vastgpu.supervisor.rental.server.end import judge

WORKLOAD = command("serve")
NO_GPU = (
    "Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.  Reboot the system to recover this GPU"
)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (1, "ended with exit code 1"),
        (126, "ended with exit code 126 (it could not be executed)"),
        (127, "ended with exit code 127 (its program was not found)"),
        (137, "ended with exit code 137 (signal 9, SIGKILL)"),
        (139, "ended with exit code 139 (signal 11, SIGSEGV)"),
        (255, "ended with exit code 255"),
        (None, "no longer listened on its port, though its process lived,"),
    ],
)
def test_an_end_in_words(code: int | None, words: str) -> None:
    assert ended(code) == words


def end(at: float, failure_class: FailureClass = FailureClass.UNKNOWN) -> ServerEnd:
    return ServerEnd(at, 1, Verdict(failure_class, "why"), "so far\nsince\n", 13)


def test_a_test_learns_when_its_server_ended_and_what_that_said_since_the_test_began() -> None:
    found = end(102.5).fate(Mark(0, 7, 0, 100.0), "then")
    assert found.what.startswith("the server ended with exit code 1 at ")
    assert found.what.endswith(", 2.5 s after the test had got it")
    assert (found.log, found.excuses, found.then) == ("since\n", False, "then")
    assert end(102.5).fate(Mark(0, 13, 0, 100.0), "").log == ""
    assert end(102.5, FailureClass.INFRA_FATAL).fate(Mark(0, 7, 0, 100.0), "").excuses


def test_a_server_that_had_ended_before_is_not_held_against_the_test() -> None:
    found = end(99.9).fate(Mark(0, 13, 0, 100.0), "then")
    assert found.what.endswith(", before the test got it")
    assert found.excuses


def seen(log: str, code: int | None, smi: str = "") -> Observation:
    failure = ProbeFailure.COMMAND if smi else ProbeFailure.NONE
    return Observation({"gpu": ProbeResult("gpu", failure, 15 if smi else 0, smi, "", 0.1)}, log, code, 60.0)


@pytest.mark.parametrize(
    ("observation", "workload", "reason"),
    [
        (seen("OSError: [Errno 5] Input/output error\n", 1), WORKLOAD, "disk_io_error"),
        (seen("serving\n", 137), WORKLOAD, "server_exited"),
        (seen("serving\n", 137, NO_GPU), WORKLOAD, "gpu_fallen_off_bus"),
        (seen("serving\n", 137, NO_GPU), command("serve", gpus=0), "server_exited"),
        (seen("Traceback (most recent call last):\nKeyError: 'x'\n", 1), WORKLOAD, "program_error"),
        (seen("Traceback (most recent call last):\nKeyError: 'x'\n", 1, NO_GPU), WORKLOAD, "gpu_fallen_off_bus"),
        (seen("serving\n", None), WORKLOAD, "server_not_listening"),
    ],
)
def test_whose_fault_it_is(observation: Observation, workload: Workload, reason: str) -> None:
    verdict = judge(CommandAdapter(), workload, observation)
    assert verdict.reason == reason
    assert verdict.failure_class.blames_machine is (reason in {"disk_io_error", "gpu_fallen_off_bus"})


@pytest.mark.parametrize("error", [HookFailed("Traceback …"), Cancelled()])
def test_an_adapter_that_cannot_say_leaves_it_open(error: Exception) -> None:
    class Broken(CommandAdapter):
        def assess(self, workload: Workload, seen: Observation) -> Readiness:
            raise error

    assert judge(Broken(), WORKLOAD, seen("", 1)).failure_class is FailureClass.UNKNOWN

"""A test has a second server started beside that of its own instance: the pool in memory, on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.triton import triton
from pytest_vastgpu.supervisor.pool.access import InstanceAccess
from pytest_vastgpu.supervisor.rental.bringup.beside import judged
from pytest_vastgpu.supervisor.rental.clash import clash
from pytest_vastgpu.supervisor.rental.server import job
from tests.supervisor.pool.test_pool import Scene
from tests.supervisor.test_servers_that_end import DIED
from tests.support.looks import until
from tests.support.memory import STOP
from tests.support.memory import End
from tests.support.memory import Instance
from tests.support.memory import Script

FIRST, SECOND = job.start(), job.start(job.BESIDE)
NEVER = 1e6


def other(scene: Scene, **changes: Any) -> Workload:
    return replace(scene.workload, **{"command": "serve another", "port": 9000, **changes})


def instance_of(scene: Scene) -> Instance:
    (instance,) = scene.life.provider.instances.values()
    return instance


def commands(scene: Scene) -> list[str]:
    """The servers that were ended and started, on the only instance."""
    names = {STOP: "stop", FIRST: "start", SECOND: "start beside"}
    return [names[each] for each in instance_of(scene).commands if each in names]


def test_the_first_goes_on_and_the_next_serve_ends_both(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script())
    rental, access = scene.rent("one", own=True), InstanceAccess(scene.pool.registry)
    first = access.lease(rental.label)
    scene.pool.serve(rental.label, other(scene), beside=True)
    second = access.lease(rental.label)
    assert commands(scene) == ["start", "start beside"]
    assert (first.port, second.port, second.mark.start) == (8000, 9000, first.mark.start + 1)
    assert [(each.port, each.closed) for each in scene.life.connector.forwards] == [(8000, False), (9000, False)]
    assert [rental.servers[each.mark.start].end for each in (first, second)] == [None, None]
    assert scene.pool.losses.fate(rental.label, first.mark) is None
    files = instance_of(scene).files
    assert files[f"{job.HOME}/start.sh"] != files[f"{job.BESIDE}/start.sh"] == b"serve another\n"
    scene.pool.serve(rental.label, scene.workload)
    assert commands(scene) == ["start", "start beside", "stop", "start"]
    assert all(rental.servers[each.mark.start].end for each in (first, second))
    assert [scene.pool.losses.fate(rental.label, each.mark) for each in (first, second)] == [None, None], "by the test"
    scene.pool.serve(rental.label, other(scene), beside=True)
    assert commands(scene)[-1] == "start beside"
    assert len(scene.life.connector.forwards) == 2, "the endpoints stay the same"


def test_memory_of_the_first_is_not_held_by_what_was_stopped(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script(gpus=("gpu 30000, 32000\nend 0\n",)))
    rental = scene.rent("one", own=True)
    scene.pool.serve(rental.label, other(scene), beside=True)
    assert rental.state is State.READY


def test_each_has_an_end_of_its_own(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script(ends=(End(NEVER), End(60, 3, DIED))))
    rental = scene.rent("one", own=True)
    first = rental.mark()
    scene.pool.serve(rental.label, other(scene), beside=True)
    second = rental.mark()
    scene.life.clock.sleep(61)
    fate = scene.pool.losses.fate(rental.label, second)
    assert fate is not None
    assert (fate.what.partition(" at ")[0], fate.excuses) == ("the server ended with exit code 3", False)
    assert fate.log == DIED
    assert scene.pool.losses.fate(rental.label, first) is None
    assert rental.log_since(replace(first, log=0)) == "loading\nready\n"


def test_one_that_does_not_start_is_the_test_s_failure(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script(ready_starts=1))
    rental = scene.rent("one", own=True)
    first = rental.mark()
    with pytest.raises(ProvisioningFailed, match="no instance became ready for command 'serve another'") as caught:
        scene.pool.serve(rental.label, other(scene), beside=True)
    assert not caught.value.machines_failed
    assert caught.value.attempts[0].workload == "command 'serve another'"
    until(lambda: rental.state, lambda state: state is State.GONE)
    fate = scene.pool.losses.fate(rental.label, first)
    assert fate is not None
    assert (fate.what, fate.excuses) == ("the server that the test wanted did not start", False)


def test_a_machine_that_is_lost_meanwhile_is_to_blame(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script(vanishes_after_s=100.0, boot_s=1.0, start_s=60.0), Script())
    rental = scene.rent("one", own=True)
    first = rental.mark()
    with pytest.raises(ProvisioningFailed) as caught:
        scene.pool.serve(rental.label, other(scene), beside=True)
    assert caught.value.machines_failed
    until(lambda: rental.state, lambda state: state is State.GONE)
    fate = scene.pool.losses.fate(rental.label, first)
    assert fate is not None
    assert (fate.excuses, fate.verdict.failure_class) == (True, FailureClass.INFRA_FATAL)


def test_a_connection_that_breaks_ends_nothing(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script(breaks_at=SECOND))
    rental = scene.rent("one", own=True)
    scene.pool.serve(rental.label, other(scene), beside=True)
    assert commands(scene) == ["start", "start beside"]
    assert rental.state is State.READY


def test_one_whose_start_was_not_answered_is_not_started_again(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script(loses_answer_to=SECOND))
    rental = scene.rent("one", own=True)
    scene.pool.serve(rental.label, other(scene), beside=True)
    assert commands(scene) == ["start", "start beside"]
    assert rental.state is State.READY
    scene.pool.serve(rental.label, scene.workload)
    scene.pool.serve(rental.label, other(scene), beside=True)
    assert commands(scene)[-3:] == ["stop", "start", "start beside"]


def test_no_port_of_the_first_is_taken_for_one_of_the_second(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script(listens="0100007F:1F40\n0100007F:2382\n"))
    rental = scene.rent("one", own=True)
    assert rental.others == frozenset()
    scene.pool.serve(rental.label, other(scene), beside=True)
    assert rental.others == {8000, 9090}, "also what nobody has declared"
    scene.pool.serve(rental.label, scene.workload)
    assert rental.others == frozenset()


def test_a_gpu_that_serves_one_process_only_is_no_fault_of_the_machine() -> None:
    line = "RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable"
    busy = classify(line, channel=Channel.SERVER_LOG)
    assert busy.failure_class is FailureClass.INFRA_FATAL
    assert judged(busy).failure_class is FailureClass.INCOMPATIBLE
    assert "both servers cannot use it at a time" in judged(busy).remedy
    gone = replace(busy, reason="gpu_gone")
    assert judged(gone) == gone


def test_what_others_use_and_what_has_two_is_refused(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script(), Script())
    shared = scene.rent("one")
    with pytest.raises(ConfigurationError, match="rent one with vast_instance_factory"):
        scene.pool.serve(shared.label, other(scene), beside=True)
    rental = scene.rent("two", own=True)
    with pytest.raises(ConfigurationError, match=r"cannot be served beside .*: both listen on port 8000; give one"):
        scene.pool.serve(rental.label, other(scene, port=8000), beside=True)
    scene.pool.serve(rental.label, other(scene), beside=True)
    with pytest.raises(ConfigurationError, match=r"one was started there already; serve\(\) ends both"):
        scene.pool.serve(rental.label, other(scene, port=9001), beside=True)
    assert rental.state is State.READY


@pytest.mark.parametrize(
    ("one", "changes", "words"),
    [
        ({}, {"port": 8000}, "both listen on port 8000; give one of them another port="),
        ({}, {"port": 0}, "one has no server; give both a command that listens on a port"),
        ({}, {"files": (("a", "/a"),)}, "they bring other files, and share a directory; have both bring all of them"),
        ({}, {"listing": "/list"}, "they bring other files"),
        ({}, {"setup": "make"}, "they have another setup, and share what it makes; have one setup= that is for both"),
        ({"setup": "make"}, {"env": (("A", "1"),)}, "the setup, which runs once, would have another env="),
        ({}, {"env": (("A", "1"),)}, ""),
    ],
)
def test_why_two_cannot_run_at_a_time(
    scene_of: Callable[..., Scene], one: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    scene = scene_of(Script())
    first = replace(scene.workload, **one)
    second = replace(first, port=9000, command="serve another")
    second = replace(second, **changes)
    why = clash(first, second, exposed=False)
    assert why.startswith(words)
    assert bool(why) == bool(words)
    assert "leave --vast-expose out" in clash(first, replace(second, port=9000), exposed=True)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "both listen on 8001 and 8002; give one of them others, by port= or by its arguments"),
        (("--grpc-port=9001",), "both listen on 8002; "),
        (("--grpc-port", "9001", "--metrics-port=9002"), ""),
        (("--allow-grpc=false", "--allow-metrics", "false"), ""),
    ],
)
def test_two_tritons_need_other_ports_for_grpc_and_metrics(args: tuple[str, ...], words: str) -> None:
    one = triton("/models", gpus=0)
    why = clash(one, triton("/models", *args, gpus=0, port=8010), exposed=False)
    assert why.startswith(words)
    assert bool(why) == bool(words)
    assert "both listen on 8001" in clash(one, Workload("command", port=8001), exposed=False)

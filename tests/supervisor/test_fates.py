"""What became of an instance while a test used it, and what the next test gets: a real run, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from pytest_vastgpu.client.calls import Fate
from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.supervisor.run import Run
from tests.behaviour.conftest import BAD
from tests.behaviour.conftest import GOOD
from tests.behaviour.conftest import fleet
from tests.behaviour.test_server_ends import SERVER
from tests.behaviour.test_server_ends import XID
from tests.supervisor.test_run import Scene


@pytest.fixture
def scene(tmp_path: Path, home: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path, home)
    tmp_path.joinpath("server.py").write_text(SERVER)
    scene.start(fleet())
    yield scene
    scene.close()


def rent(run: Run, scene: Scene, test: str, *, exclusive: bool = False) -> Lease:
    label = run.pool.acquire(run.id, test, scene.workload, exclusive, f"process of {test}", lambda: False)
    return run.access.lease(label)


def ends(lease: Lease, says: str = "", path: str = "/exit") -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{lease.endpoint}{path}?{says}", timeout=60 if path == "/exit" else 1)  # a deaf one never answers


def fate(run: Run, lease: Lease) -> Fate:
    found = run.pool.losses.fate(lease.label, lease.mark)
    assert found is not None
    return found


def steps(scene: Scene, text: str) -> int:
    return sum(text in event.text for event in scene.events)


def test_tests_that_share_a_server_learn_of_its_end_and_later_ones_share_one_restart(scene: Scene) -> None:
    run = scene.open()
    one, two = rent(run, scene, "one"), rent(run, scene, "two")
    assert one.label == two.label
    assert run.pool.losses.fate(one.label, one.mark) is None
    httpx.get(f"{one.endpoint}/?first+words")
    assert run.access.logs_since(one.label, one.mark) == "first+words\n"
    ends(one, "last+words")
    told = [fate(run, one), fate(run, two)]
    assert {each.what.partition(" at ")[0] for each in told} == {"the server ended with exit code 3"}
    assert {each.log for each in told} == {"first+words\nlast+words\n"}
    assert {each.excuses for each in told} == {False}
    assert {each.then for each in told} == {
        "the next test that needs it gets the server started again, on the same instance"
    }
    with ThreadPoolExecutor() as threads:
        later = list(threads.map(lambda test: rent(run, scene, test), ["three", "four", "five"]))
    assert {lease.label for lease in later} == {one.label}
    assert {lease.endpoint for lease in later} == {one.endpoint}
    assert all("exit code 3" in lease.restarted for lease in later)
    assert httpx.get(later[0].endpoint).status_code == 200
    assert steps(scene, "server launched") == 2
    assert fate(run, two).log == "first+words\nlast+words\n", "also after the restart"
    assert run.access.logs_since(two.label, two.mark) == "first+words\nlast+words\n"
    assert run.pool.losses.fate(later[0].label, later[0].mark) is None
    ends(later[0])
    assert fate(run, later[1]).then == "the next test that needs it gets another instance"
    assert rent(run, scene, "six").offer.machine_id == GOOD
    assert [
        (attempt.offer.machine_id, attempt.verdict and attempt.verdict.reason)
        for attempt in run.pool.registry.attempts()
    ] == [
        (BAD, "server_exited"),
        (GOOD, None),
    ]


@pytest.mark.slow
def test_the_machines_fault_excuses_all_and_the_next_test_gets_another_machine(scene: Scene) -> None:
    run = scene.open()
    one, two = rent(run, scene, "one"), rent(run, scene, "two")
    ends(one, quote(XID))
    for lease in (one, two):
        found = fate(run, lease)
        assert (found.excuses, found.verdict.reason) == (True, "gpu_fallen_off_bus")
        assert found.then == "the next test that needs it gets another instance"
    assert rent(run, scene, "three").offer.machine_id == GOOD
    assert steps(scene, "starting the server again") == 0


@pytest.mark.slow
def test_a_server_of_one_test_alone_is_not_started_again(scene: Scene) -> None:
    run = scene.open()
    own = rent(run, scene, "one", exclusive=True)
    ends(own)
    found = fate(run, own)
    assert (found.excuses, found.then) == (
        False,
        "the instance is this test's own, and its server is not started again",
    )
    assert run.pool.registry[own.label].state is State.READY
    assert steps(scene, "starting the server again") == 0


@pytest.mark.slow
def test_a_server_that_stops_listening_is_replaced(scene: Scene) -> None:
    run = scene.open()
    lease = rent(run, scene, "one")
    ends(lease, path="/deaf")
    found = fate(run, lease)
    assert found.verdict.reason == "server_not_listening"
    assert httpx.get(rent(run, scene, "two").endpoint).status_code == 200


@pytest.mark.slow
def test_only_the_end_of_its_life_is_called_that(scene: Scene) -> None:
    run = scene.open()
    lease = rent(run, scene, "one", exclusive=True)
    run.pool.release(lease.label)
    assert run.pool.losses.fate(lease.label, lease.mark) is None, "the test itself has closed it"
    lease = rent(run, scene, "two")
    run.pool.losses.lifetime_over(run.pool.registry[lease.label])
    found = fate(run, lease)
    assert (found.excuses, found.verdict.failure_class) == (True, FailureClass.OWN_FAULT)
    assert found.verdict.reason == "lifetime_over"
    lease = rent(run, scene, "three")
    run.pool.close()
    assert run.pool.losses.fate(lease.label, lease.mark) is None, "the run is ending"

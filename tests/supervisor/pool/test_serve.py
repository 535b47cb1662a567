"""A test has the server of its own instance replaced, again and again: the pool in memory, on a virtual clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.errors import BudgetSpent
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.supervisor.rental.rental import Rental
from pytest_vastgpu.supervisor.rental.server import job
from tests.supervisor.pool.test_pool import Scene
from tests.support.looks import until
from tests.support.memory import STOP
from tests.support.memory import Script

OTHER = {"command": "serve another", "port": 9000}


def other(scene: Scene, **changes: Any) -> Workload:
    return replace(scene.workload, **{**OTHER, **changes})


def commands(scene: Scene) -> list[str]:
    """The servers that were ended and started, on the only instance."""
    (instance,) = scene.life.provider.instances.values()
    return [{STOP: "stop", job.start(): "start"}[each] for each in instance.commands if each in (STOP, job.start())]


def test_the_server_is_replaced_by_another_and_back(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script())
    rental = scene.rent("one", own=True)
    mark = rental.mark()
    scene.pool.serve(rental.label, other(scene))
    assert (rental.state, rental.workload.command) == (State.READY, "serve another")
    assert [forward.port for forward in scene.life.connector.forwards] == [8000, 9000]
    scene.pool.serve(rental.label, scene.workload)
    scene.pool.serve(rental.label, scene.workload)
    assert commands(scene) == ["start", *["stop", "start"] * 3], "also where it serves the same: it starts afresh"
    assert rental.mark().start == 3
    assert rental.restarted == "", "the test itself wanted that"
    assert scene.pool.losses.fate(rental.label, mark) is None, "the same for an older handle"
    assert scene.pool.losses.fate(rental.label, rental.mark()) is None


def test_what_happens_meanwhile_is_told_in_detail_only(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script())
    rental = scene.rent("one", own=True)
    before = len(scene.life.events.events)
    scene.pool.serve(rental.label, other(scene))
    told = scene.life.events.events[before:]
    assert told
    assert all(event.detail for event in told)
    assert not any(event.detail for event in scene.life.events.events[:before])
    scene.pool.release(rental.label)
    until(lambda: rental.state, lambda state: state is State.GONE)
    assert not scene.life.events.events[-1].detail


def test_what_others_use_is_refused_and_goes_on(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script())
    rental = scene.rent("one")
    with pytest.raises(ConfigurationError, match="rent one with vast_instance_factory"):
        scene.pool.serve(rental.label, other(scene))
    assert commands(scene) == ["start"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": "another/image"}, "its image is .*, and another/image is needed"),
        ({"disk_gb": 17.0}, "its disk has 16 GB, and 17 GB are needed"),
    ],
)
def test_what_cannot_run_there_is_refused_and_the_server_goes_on(
    scene_of: Callable[..., Scene], changes: dict[str, object], words: str
) -> None:
    scene = scene_of(Script())
    rental = scene.rent("one", own=True)
    with pytest.raises(ConfigurationError, match=f"^this instance cannot run command 'serve another': {words}"):
        scene.pool.serve(rental.label, other(scene, **changes))
    assert (commands(scene), rental.state) == (["start"], State.READY)


def test_another_model_is_paid_for_within_the_budget(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script())
    rental, budget = scene.rent("one", own=True), scene.life.budget
    before = budget.committed_usd
    usd = 1000 * rental.offer.inet_down_usd_gb
    budget.limit_usd = before + 0.9 * usd
    large = other(scene, model="large", model_gb=1000.0)
    with pytest.raises(BudgetSpent, match=r"another model on an instance that is there already could"):
        scene.pool.serve(rental.label, large)
    assert (commands(scene), rental.state) == (["start"], State.READY)
    assert budget.committed_usd == pytest.approx(before)
    budget.limit_usd = before + 1.1 * usd
    for workload in (large, scene.workload, large):  # it stays on the disk
        scene.pool.serve(rental.label, workload)
    assert budget.committed_usd == pytest.approx(before + usd)
    (payment,) = scene.life.budgets.payments(rental.label)
    assert payment.transfer_usd == pytest.approx(usd)


def test_what_is_given_back_serves_nothing_any_more(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script())
    rental = scene.rent("one", own=True)
    scene.pool.release(rental.label)
    with pytest.raises(VastGpuError, match="has been given back"):
        scene.pool.serve(rental.label, other(scene))


def test_a_server_that_does_not_start_is_the_test_s_failure(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script(ready_starts=1))
    rental = scene.rent("one", own=True)
    mark = rental.mark()
    with pytest.raises(ProvisioningFailed, match="no instance became ready for command 'serve another'") as caught:
        scene.pool.serve(rental.label, other(scene))
    assert not caught.value.machines_failed
    until(lambda: rental.state, lambda state: state is State.GONE)
    fate = scene.pool.losses.fate(rental.label, mark)
    assert fate is not None
    assert (fate.what, fate.excuses) == ("the server that the test wanted did not start", False)


def test_a_machine_that_is_lost_meanwhile_is_to_blame(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script(vanishes_after_s=100.0, boot_s=1.0, start_s=60.0), Script())
    rental = scene.rent("one", own=True)
    mark = rental.mark()
    with pytest.raises(ProvisioningFailed) as caught:
        scene.pool.serve(rental.label, other(scene))
    assert caught.value.machines_failed
    until(lambda: rental.state, lambda state: state is State.GONE)
    fate = scene.pool.losses.fate(rental.label, mark)
    assert fate is not None
    assert (fate.excuses, fate.verdict.failure_class) == (True, FailureClass.INFRA_FATAL)
    assert scene.rent("two", own=True).offer.machine_id != rental.offer.machine_id


def test_whatever_happens_the_instance_is_given_back(
    scene_of: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of(Script())
    rental = scene.rent("one", own=True)

    def breaks(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(scene.provisioner, "serve", breaks)
    with pytest.raises(OSError, match="the disk is full"):
        scene.pool.serve(rental.label, other(scene))
    until(lambda: rental.state, lambda state: state is State.GONE)


def test_where_no_thread_can_be_had_the_instance_is_not_busy_for_good(
    scene_of: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of(Script())
    rental = scene.rent("one", own=True)

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            scene.pool.serve(rental.label, other(scene))
    scene.pool.serve(rental.label, other(scene))
    assert rental.workload.command == "serve another"


@pytest.mark.parametrize("ends", ["hung_up", "release", "leave"])
def test_a_test_that_is_over_meanwhile_ends_it(
    scene_of: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    scene = scene_of(Script())
    rental = scene.rent("one", own=True)
    begun = threading.Event()

    def waits(_rental: Rental, _workload: Workload, _adapter: Adapter, cancel: CancelToken, *, beside: bool) -> None:
        begun.set()
        cancel.wait(1e9)

    def serve() -> None:
        with pytest.raises(Cancelled):
            scene.pool.serve(rental.label, other(scene))

    monkeypatch.setattr(scene.provisioner, "serve", waits)
    asks = threading.Thread(target=serve)
    asks.start()
    assert begun.wait(30)
    with pytest.raises(VastGpuError, match="another thread of the test"):
        scene.pool.serve(rental.label, other(scene))
    match ends:
        case "hung_up":
            scene.pool.hung_up("one")
        case "release":
            scene.pool.release(rental.label)
        case _:
            scene.pool.close()
    asks.join(30)
    assert not asks.is_alive()
    until(lambda: rental.state, lambda state: state is State.GONE)


def ends_its_life(scene: Scene, rental: Rental) -> None:
    scene.pool.losses.lifetime_over(rental)


def becomes_too_dear(scene: Scene, rental: Rental) -> None:
    scene.pool.losses.end(rental)


@pytest.mark.parametrize(
    ("ends", "reason"), [(ends_its_life, "lifetime_over"), (becomes_too_dear, "price_above_limit")]
)
def test_an_instance_that_is_taken_away_meanwhile_says_why(
    scene_of: Callable[..., Scene],
    monkeypatch: pytest.MonkeyPatch,
    ends: Callable[[Scene, Rental], None],
    reason: str,
) -> None:
    scene = scene_of(Script())
    rental = scene.rent("one", own=True)

    def waits(_rental: Rental, _workload: Workload, _adapter: Adapter, cancel: CancelToken, *, beside: bool) -> None:
        ends(scene, rental)
        cancel.wait(1e9)

    monkeypatch.setattr(scene.provisioner, "serve", waits)
    with pytest.raises(ProvisioningFailed) as caught:
        scene.pool.serve(rental.label, other(scene))
    (attempt,) = caught.value.attempts
    assert attempt.verdict is not None
    assert (attempt.verdict.failure_class, attempt.verdict.reason) == (FailureClass.OWN_FAULT, reason)
    until(lambda: rental.state, lambda state: state is State.GONE)


@pytest.mark.parametrize(
    ("ends", "reason"), [(ends_its_life, "lifetime_over"), (becomes_too_dear, "price_above_limit")]
)
def test_an_instance_that_was_taken_away_says_why(
    scene_of: Callable[..., Scene], ends: Callable[[Scene, Rental], None], reason: str
) -> None:
    scene = scene_of(Script())
    rental = scene.rent("one", own=True)
    ends(scene, rental)
    until(lambda: rental.state, lambda state: state is State.GONE)
    with pytest.raises(ProvisioningFailed, match=reason):
        scene.pool.serve(rental.label, other(scene))


def test_another_machine_than_those_is_rented(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script(), Script(), Script())
    first = scene.rent("one", own=True)
    scene.pool.release(first.label)
    until(lambda: first.state, lambda state: state is State.GONE)
    second = scene.rent("one", own=True, other_than=frozenset({first.offer.machine_id}))
    assert second.offer.machine_id != first.offer.machine_id
    machines = frozenset(offer.machine_id for offer in scene.life.provider.offers.values())
    before = len(scene.life.provider.instances)
    with pytest.raises(VastGpuError):
        scene.rent("one", own=True, other_than=machines)
    assert len(scene.life.provider.instances) == before


def test_a_machine_that_must_be_another_one_is_not_waited_for(
    scene_of: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of(Script())
    first = scene.rent("one", own=True)

    def none(*_: object) -> None:
        raise NoOffers("no offers: all were excluded")

    monkeypatch.setattr(scene.provisioner, "provision", none)
    with pytest.raises(NoOffers):
        scene.rent("two", own=True, other_than=frozenset({first.offer.machine_id}))
    assert first.state is State.READY


def test_what_keeps_two_workloads_apart_is_told_before_anything_is_rented(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script())
    one = scene.workload
    assert scene.pool.apart(one, other(scene)) == ""
    assert scene.pool.apart(one, other(scene, image=scene.life.adapter.default_image)) == "", "named or not"
    for changes, words in (
        ({"image": "another/image"}, "the other another/image"),
        ({"gpus": 2}, "one needs 1 GPU, the other 2 GPUs"),
        ({"image_login": "-u me -p secret ghcr.io"}, "each pulls the image with another login"),
    ):
        assert words in scene.pool.apart(one, other(scene, **changes))
        assert "secret" not in scene.pool.apart(one, other(scene, **changes))
    kinds = replace(one, gpu_name="RTX 4090"), other(scene, gpu_name="H100 SXM")
    assert scene.pool.apart(*kinds) == "one needs RTX 4090, the other H100 SXM"
    assert scene.life.provider.instances == {}
    with pytest.raises(ConfigurationError, match=r"the candidate.*nothing"):
        scene.pool.apart(one, Workload("nothing"))

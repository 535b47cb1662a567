"""The pool itself, with instances in memory: whatever a thread of it meets, no test waits for ever."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import HookFailed
from pytest_vastgpu.errors import HostCacheError
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.costs import Use
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.servers.command import command
from pytest_vastgpu.servers.host import numbered
from pytest_vastgpu.supervisor.pool.pool import InstancePool
from pytest_vastgpu.supervisor.pool.provisioner import Provisioner
from pytest_vastgpu.supervisor.rental.rental import Rental
from tests.supervisor.test_lives import KEY
from tests.supervisor.test_servers_that_end import DIED
from tests.supervisor.test_servers_that_end import GPU_GONE
from tests.supervisor.test_servers_that_end import ReadyByLog
from tests.support.lives import RUN
from tests.support.lives import Life
from tests.support.memory import End
from tests.support.memory import Script


class Scene:
    """A pool whose instances live in memory, on a virtual clock."""

    def __init__(self, directory: Path, *scripts: Script) -> None:
        self.workload = command("serve", gpus=1)
        self.life = life = Life(directory, scripts, KEY, adapter=ReadyByLog(), workload=self.workload)
        self.told: list[str] = []
        self.problem: Exception | None = None
        """What recording a loss raises."""
        self.adapters: dict[str, Adapter] = {self.workload.adapter: life.adapter}
        self.pool = InstancePool(
            self.adapters,
            life.services.settings,
            life.budgets,
            self._record_lost,
            lambda _workload, _offer: True,
            self.told.append,
            replace(DEFAULTS, leave_s=0.1),
            life.clock,
        )
        self.provisioner = _OnTheClock(
            life.services,
            lambda _run, workload, failed, gone: life.find(workload, failed, gone),
            lambda _attempt, _workload: None,
            self.pool.registry.started,
            self.pool.registry.ended,
        )
        self.provisioner.cancel = life.cancel
        self.pool.open(self.provisioner)
        self.pool.join(RUN)

    def rent(self, test: str, *, own: bool = False, other_than: frozenset[int] = frozenset()) -> Rental:
        """Rent for a test; one that waits for ever fails here."""
        with ThreadPoolExecutor() as threads:
            gave_up: list[bool] = []
            asked = (RUN, test, self.workload, own, test, lambda: bool(gave_up), other_than)
            waits = threads.submit(self.pool.acquire, *asked)
            try:
                return self.pool.registry[waits.result(timeout=30)]
            finally:
                gave_up.append(True)

    def events(self) -> str:
        return "\n".join(event.text for event in self.life.events.events)

    def _record_lost(self, attempt: Attempt, workload: Workload) -> None:
        if self.problem is not None:
            raise self.problem


class _OnTheClock(Provisioner):
    """Its bring-ups wait on the virtual clock. They are never cancelled."""

    cancel: CancelToken
    problem: BaseException | None = None
    """What looking at a server raises."""

    def provision(
        self,
        workload: Workload,
        adapter: Adapter,
        cancel: CancelToken,
        run: str,
        before: Sequence[Attempt] = (),
        other_than: frozenset[int] = frozenset(),
    ) -> Rental:
        return super().provision(workload, adapter, self.cancel, run, before, other_than)

    def serve(
        self, rental: Rental, workload: Workload, adapter: Adapter, cancel: CancelToken, *, beside: bool = False
    ) -> ProvisioningFailed | None:
        return super().serve(rental, workload, adapter, self.cancel, beside=beside)

    def use_again(
        self, rental: Rental, workload: Workload, adapter: Adapter, cancel: CancelToken
    ) -> list[Attempt] | None:
        return super().use_again(rental, workload, adapter, self.cancel)

    def revive(self, rental: Rental, adapter: Adapter, cancel: CancelToken) -> Verdict | None:
        if self.problem is not None:
            raise self.problem
        return super().revive(rental, adapter, self.cancel)


PROBLEMS = (HookFailed("a hook of yours: KeyError: 'x'"), HostCacheError("it is locked"), ConfigurationError("no key"))


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_a_loss_that_cannot_be_recorded_is_told_and_the_tests_that_wait_go_on(
    scene_of: Callable[..., Scene], problem: Exception
) -> None:
    scene = scene_of(Script(ends=(End(60, 1, GPU_GONE),)), Script())
    first = scene.rent("one")
    scene.pool.done("one", "one")
    scene.life.clock.sleep(61)
    scene.problem = problem
    assert scene.rent("two") is not first
    assert first.cut_short is not None
    assert f"its loss is not recorded: {type(problem).__name__}: {problem}" in scene.events()


def test_a_test_learns_of_a_loss_that_cannot_be_recorded(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script(ends=(End(60, 1, GPU_GONE),)), Script())
    rental = scene.rent("one")
    mark = rental.mark()
    scene.life.clock.sleep(61)
    scene.problem = HookFailed("a hook of yours: KeyError: 'x'")
    fate = scene.pool.losses.fate(rental.label, mark)
    assert fate is not None
    assert fate.excuses


@pytest.mark.parametrize("problem", [*PROBLEMS, KeyError("a defect"), SystemExit(3)], ids=repr)
def test_an_instance_that_cannot_be_looked_at_is_replaced(
    scene_of: Callable[..., Scene], problem: BaseException
) -> None:
    scene = scene_of(Script(ends=(End(60, 1, DIED),)), Script())
    first = scene.rent("one")
    scene.pool.done("one", "one")
    scene.life.clock.sleep(61)
    scene.provisioner.problem = problem
    assert scene.rent("two") is not first
    assert first.cut_short is not None
    assert first.cut_short.reason == "restart_failed"
    assert f"{type(problem).__name__}: {problem}" in scene.events()


def test_a_host_that_dies_after_the_run_was_called_off_is_looked_at_all_the_same(
    scene_of: Callable[..., Scene],
) -> None:
    """As with ``--maxfail`` under xdist: other workers finish the tests that they run."""
    scene = scene_of(Script(vanishes_after_s=120))
    rental = scene.rent("one")
    mark = rental.mark()
    scene.pool.call_off(RUN)
    scene.life.clock.sleep(121)
    fate = scene.pool.losses.fate(rental.label, mark)
    assert fate is not None
    assert (fate.excuses, fate.verdict.reason) == (True, "instance_lost")
    scene.pool.close()
    assert rental.state is State.GONE


def test_an_instance_lives_no_longer_than_it_may_after_the_run_was_called_off(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script())
    rental = scene.rent("one")
    mark = rental.mark()
    scene.pool.call_off(RUN)
    scene.life.clock.sleep(scene.life.services.settings.max_lifetime)
    fate = scene.pool.losses.fate(rental.label, mark)
    assert fate is not None
    assert fate.verdict.reason == "lifetime_over"


def test_what_the_end_of_the_run_gives_back_is_not_called_lost(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script())
    rental = scene.rent("one")
    mark = rental.mark()
    scene.pool.close()
    assert scene.pool.losses.fate(rental.label, mark) is None


def test_a_thread_that_goes_on_once_everything_is_gone_keeps_no_end_waiting(
    scene_of: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of(Script())
    goes_on = threading.Event()
    monkeypatch.setattr(scene.rent("one").cost, "settle", goes_on.wait)  # the last step, after it is seen to be gone
    closing = threading.Thread(target=scene.pool.close, daemon=True)
    closing.start()
    try:
        closing.join(30)
        assert not closing.is_alive()
    finally:
        goes_on.set()


def test_requests_without_an_answer_keep_no_other_test_waiting(
    scene_of: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of(Script())
    first = scene.rent("one")
    monkeypatch.setattr(Rental, "doubtful", True)  # as while test one goes on to make such requests
    assert scene.rent("two") is first


def test_a_process_that_hangs_up_before_its_request_is_answered_holds_nothing(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script())
    scene.rent("one")
    scene.pool.hung_up("one")
    scene.pool.hung_up("two")  # its request has a connection of its own, whose end is seen a moment later
    with pytest.raises(Cancelled):
        scene.rent("two")
    assert [(use.test, math.isinf(use.end)) for use in scene.pool.uses] == [("one", False)]


def test_what_the_end_waits_for_has_the_number_that_other_lines_have(scene_of: Callable[..., Scene]) -> None:
    scene = scene_of(Script())
    (offer,) = scene.life.find(scene.workload, frozenset(), frozenset())
    rental = Rental(scene.life.services, scene.workload, offer, number=7, nth=2, name="command 'serve'")
    scene.pool.registry.started(rental)
    rental.begin()
    assert scene.pool.waits_for() == ["attempt 2 of command 'serve'"]


def test_files_that_do_not_fit_are_told_before_anything_is_rented(
    scene_of: Callable[..., Scene], tmp_path: Path
) -> None:
    scene = scene_of(Script())
    with (tmp_path / "model.gguf").open("wb") as file:
        file.truncate(17 * 10**9)
    workload = command("true", gpus=0, files={"m": tmp_path / "model.gguf"})
    with pytest.raises(ConfigurationError, match=r"17\.0 GB, and disk_gb=16 is less: give the workload disk_gb=18"):
        scene.pool.expect(RUN, {"test": Expected(workload, certain=False)})
    assert scene.life.rentals == []
    scene.pool.expect(RUN, {"test": Expected(replace(workload, disk_gb=18.0), certain=False)})


def test_hosts_that_are_alike_are_counted_until_they_are_given_back(scene_of: Callable[..., Scene]) -> None:
    pool = scene_of().pool
    one = Workload("host", port=0)
    hosts = {f"host {number}": numbered(one, number) for number in (1, 2)}
    other = replace(one, gpus=4)
    demand = pool._planner.runs[RUN]
    demand.expect({name: Expected(workload) for name, workload in hosts.items()})
    demand.expect({"test_it": Expected(Workload("vllm")), "host 9": Expected(other)})
    assert [pool.hosts_wanted(each) for each in (*hosts.values(), other)] == [2, 2, 1]
    demand.finished("host 2")
    assert pool.hosts_wanted(hosts["host 1"]) == 1


def test_what_is_rented_while_the_books_are_read_is_in_the_next_ones(
    scene_of: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of(Script(), Script())
    scene.rent("one")
    uses = scene.pool.books._uses

    def meanwhile() -> Sequence[Use]:
        monkeypatch.undo()
        found = uses()
        scene.rent("two", own=True)
        return found

    monkeypatch.setattr(scene.pool.books, "_uses", meanwhile)
    assert [len(scene.pool.books.of(RUN)) for _ in range(2)] == [1, 2]

"""Runs at the same time that want hosts: each has its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import WorkloadNames
from pytest_vastgpu.servers.host import HostAdapter
from pytest_vastgpu.servers.host import alike
from pytest_vastgpu.servers.host import numbered
from pytest_vastgpu.servers.workloads import checked
from pytest_vastgpu.supervisor.money.budget import Budget
from pytest_vastgpu.supervisor.pool.own_hosts import OwnHosts
from pytest_vastgpu.supervisor.rental.rental import Rental
from tests.supervisor.pool.test_pool import Scene
from tests.support.memory import Script

ONE, TWO = (checked(numbered(Workload("host", port=0, gpus=0), number)) for number in (1, 2))
LARGE = checked(numbered(Workload("host", port=0, gpus=8), 1))
SERVER = Workload("command", command="serve")


def test_no_two_runs_have_the_same_host() -> None:
    own = OwnHosts()
    assert [own.of("a", each) for each in (ONE, TWO, ONE)] == [ONE, TWO, ONE], "the first run has it as it is"
    others = [own.of(run, each) for run in "bc" for each in (ONE, TWO)]
    assert len({ONE, TWO, *others}) == 6
    assert [own.of(run, each) for run in "bc" for each in (ONE, TWO)] == others, "each time the same"


def test_what_a_run_has_left_is_the_next_ones() -> None:
    own = OwnHosts()
    assert own.of("a", ONE) == ONE
    second = own.of("b", ONE)
    own.over("a")
    assert (own.of("b", ONE), own.of("c", ONE)) == (second, ONE)


def test_the_hosts_of_a_run_are_alike_whatever_others_have() -> None:
    own = OwnHosts()
    own.of("a", ONE)
    assert alike(own.of("b", TWO)) == alike(own.of("b", ONE)) != alike(ONE), "so they are of one GPU kind"


@pytest.mark.parametrize("workload", [SERVER, LARGE], ids=["a server is shared", "another host is in nobody's way"])
def test_nothing_else_changes(workload: Workload) -> None:
    own = OwnHosts()
    own.of("a", ONE)
    own.of("a", SERVER)
    assert own.of("b", workload) == workload


def test_hosts_of_two_runs_have_the_same_names() -> None:
    own, names = OwnHosts(), WorkloadNames()
    assert [names[own.of(run, ONE)] for run in "ab"] == ["host 1", "host 1"]


class Desk(Scene):
    """A pool that keeps its hosts warm."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, Script(), Script())
        self.adapters["host"] = HostAdapter()
        self.pool.leave("run")

    def join(self, run: str) -> None:
        settings, clock = self.life.services.settings, self.life.clock
        self.life.budgets.join(run, Budget(5.0, settings.longest_life, clock.monotonic))
        self.pool.join(run, warm_s=600.0)
        self.pool.expect(run, {"host 1": Expected(ONE)})

    def begin(self, run: str) -> Rental:
        """A run begins, and has its host. One after another: all bring-ups share one virtual clock."""
        self.join(run)
        gave_up: list[bool] = []
        with ThreadPoolExecutor() as threads:
            try:
                waits = threads.submit(self.pool.acquire, run, "host 1", ONE, False, run, lambda: bool(gave_up))
                return self.pool.registry[waits.result(timeout=30)]
            finally:
                gave_up.append(True)

    def over(self, run: str) -> None:
        self.pool.done("host 1", run)
        self.pool.leave(run)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.pool.close()
    assert desk.life.provider.instances == {}


def test_runs_at_once_rent_a_host_each_and_pay_for_it(desk: Desk) -> None:
    mine, other = desk.begin("a"), desk.begin("b")
    assert mine is not other
    assert [desk.life.budgets.payer(each.label) for each in (mine, other)] == ["a", "b"]


def test_a_run_leaves_alone_the_warm_host_that_another_one_has_taken(desk: Desk) -> None:
    warm = desk.begin("a")
    desk.over("a")
    assert desk.begin("b") is warm
    assert desk.begin("c") is not warm


def test_a_run_takes_any_host_that_two_others_have_left(desk: Desk) -> None:
    left = {desk.begin(run).label for run in "ab"}
    for run in "ab":
        desk.over(run)
    assert {desk.begin(run).label for run in "cd"} == left

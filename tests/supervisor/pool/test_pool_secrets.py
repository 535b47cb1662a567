"""What the pool does before it rents: it knows the secrets of workloads before a line names one."""

from __future__ import annotations

import pytest

from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.options import resolve
from pytest_vastgpu.supervisor.money.run_budgets import RunBudgets
from pytest_vastgpu.supervisor.pool.pool import InstancePool
from tests.support.lives import ScriptedAdapter
from tests.support.virtual import VirtualClock

SECRET = "correct-horse"
WORKLOAD = Workload("scripted", command=f"serve --password {SECRET}", image_login=f"-u bob -p {SECRET}2 ghcr.io")


class Pool:
    """A pool that rents nothing, and what it has told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.clock = VirtualClock()
        self.pool = InstancePool(
            {"scripted": ScriptedAdapter()},
            resolve(lambda _: None, lambda _: None, {}),
            RunBudgets(),
            lambda _attempt, _workload: None,
            lambda _workload, _offer: False,
            lambda text: self.told.append(sanitize.line(text)),
            Timeouts(),
            self.clock,
        )
        self.pool.join("run")

    def gone(self) -> bool:
        """The test gives up as soon as it was told that it waits."""
        self.clock.sleep(1)
        return bool(self.told)


def test_the_line_that_says_that_a_test_waits_shows_no_secret() -> None:
    made = Pool()
    with pytest.raises(Cancelled):
        made.pool.acquire("run", "test_a", WORKLOAD, False, "gw0", made.gone)
    assert made.told == ["test_a waits for scripted 'serve --password <--password>'"]


def test_the_secrets_of_workloads_that_tests_will_need_are_known_at_once() -> None:
    Pool().pool.expect("run", {"test_a": Expected(WORKLOAD)})
    assert SECRET not in sanitize.line(f"login with {SECRET}2, or {SECRET}")

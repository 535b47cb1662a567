"""Servers that end while tests use them, on a virtual clock: seen, explained, started again once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.command import CommandAdapter
from pytest_vastgpu.servers.command import command
from pytest_vastgpu.supervisor.rental.server.end import DEAF
from pytest_vastgpu.supervisor.rental.server.end import ServerEnd
from tests.supervisor.test_lives import KEY
from tests.support.lives import Life
from tests.support.lives import assert_nothing_is_left
from tests.support.lives import reasons
from tests.support.memory import End
from tests.support.memory import Script

DIED = "KeyError: 'x'\n"
GPU_GONE = "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.\n"


def life_of(tmp_path: Path, script: Script) -> Life:
    return Life(tmp_path, [script], KEY, adapter=ReadyByLog(), workload=command("serve", gpus=1))


class ReadyByLog(CommandAdapter):
    """Ready when the log says so: the machines of these lives answer no HTTP."""

    def probes(self, workload: Workload) -> tuple[Probe, ...]:
        return ()

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        if seen.exit_code is None and "ready" in seen.log.split():
            return Ready()
        return super().assess(workload, seen)


@pytest.mark.parametrize("code", [0, 1, 127, 137, 139])
def test_a_server_that_has_ended_is_started_again_once_on_the_same_instance(tmp_path: Path, code: int) -> None:
    life = life_of(
        tmp_path,
        Script(
            ends=(
                End(60, code, DIED),
                End(60, code),
            )
        ),
    )
    rental = life.bring_up()
    life.clock.sleep(59)
    assert not rental.doubtful
    mark = rental.mark()
    life.clock.sleep(2)
    assert rental.doubtful, "that was pushed: nothing has asked the instance"
    end = rental.look(mark)
    assert isinstance(end, ServerEnd)
    assert (end.exit_code, end.verdict.reason) == (code, "program_error")
    assert end.log_since(mark) == DIED
    assert life.revive(rental) is None
    assert rental.state is State.READY
    assert not rental.doubtful
    assert f"ended with exit code {code}" in rental.restarted
    assert rental.look(mark) is end, "a test that used the first one learns of its end all the same"
    life.clock.sleep(61)
    useless = life.revive(rental)
    assert useless is not None
    assert useless.failure_class is FailureClass.UNKNOWN
    rental.give_back()
    assert life.ledger.steps[rental.label][-5:] == ["ready", "warming", "ready", "destroying", "gone"]
    assert reasons(life) == ["ready"]
    assert_nothing_is_left(life)


def test_a_server_that_ends_by_the_machines_fault_is_not_started_again(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(ends=(End(60, 1, GPU_GONE),)))
    rental = life.bring_up()
    life.clock.sleep(61)
    useless = life.revive(rental)
    assert useless is not None
    assert (useless.failure_class, useless.reason) == (FailureClass.INFRA_FATAL, "gpu_fallen_off_bus")
    assert rental.restarted == ""


def test_a_restart_that_fails_says_why(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(ends=(End(60, 1),), ready_starts=1))
    rental = life.bring_up()
    life.clock.sleep(61)
    useless = life.revive(rental)
    assert useless is not None
    assert useless.reason == "server_exited"
    assert rental.state is State.WARMING
    assert rental.finish(useless).failed_in is State.WARMING
    rental.give_back()
    assert_nothing_is_left(life)


def test_a_server_that_no_longer_listens_though_its_process_lives_has_ended(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(ends=(End(60, None),)))
    rental = life.bring_up()
    mark = rental.mark()
    assert rental.look(mark) is None
    life.clock.sleep(61)
    assert not rental.doubtful, "nothing tells that by itself"
    end = rental.look(mark)
    assert isinstance(end, ServerEnd)
    assert (end.exit_code, end.verdict.reason) == (None, DEAF)
    assert life.revive(rental) is None
    assert "no longer listened" in rental.restarted


def test_where_no_sockets_are_listed_no_server_is_said_not_to_listen(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(ends=(End(60, None),), lists_sockets=False))
    rental = life.bring_up()
    life.clock.sleep(61)
    assert rental.look(rental.mark()) is None


def test_an_instance_that_is_lost_is_not_taken_for_a_server_that_has_ended(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(vanishes_after_s=300))
    rental = life.bring_up()
    life.clock.sleep(300)
    lost = life.revive(rental)
    assert lost is not None
    assert lost.failure_class is FailureClass.RUNTIME_LOST


def test_an_end_is_noticed_after_the_connection_broke(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(ends=(End(60, 1),)))
    rental = life.bring_up()
    life.connector.connections[0].close()
    life.clock.sleep(61)
    assert rental.doubtful
    rental.give_back()
    assert_nothing_is_left(life)


def test_a_revival_that_is_called_off_leaves_nothing(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(ends=(End(60, 1),)))
    rental = life.bring_up()
    life.clock.sleep(61)
    life.clock.at(5, life.cancel.cancel)
    with pytest.raises(Cancelled):
        life.revive(rental)
    rental.give_back()
    assert_nothing_is_left(life)

"""A ready instance whose server is replaced, on a virtual clock: by another start, or by another workload's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.supervisor.rental.bringup import relaunch
from pytest_vastgpu.supervisor.rental.bringup import restart
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.services import AttemptFailed
from tests.supervisor.test_lives import KEY
from tests.support.lives import WORKLOAD
from tests.support.lives import Life
from tests.support.lives import ScriptedAdapter
from tests.support.lives import assert_nothing_is_left
from tests.support.memory import STOP
from tests.support.memory import Instance
from tests.support.memory import Script

OTHER = replace(WORKLOAD, model="other", port=9000)
NAME = "scripted 'other'"
GROWN = "its GPU memory has grown from 9.8 GiB to 14.6 GiB"


class Keyed(ScriptedAdapter):
    """The adapter of a later run, with another header."""

    def launch(self, workload: Workload, api_key: str) -> Launch:
        return Launch(f"exec serve {workload.model}\n")

    def headers(self, workload: Workload, api_key: str) -> Mapping[str, str]:
        return {"Model": workload.model}


def life_of(tmp_path: Path, script: Script, **workload: Any) -> Life:
    life = Life(tmp_path, [script], KEY, workload=replace(WORKLOAD, **workload))
    life.bring_up()
    life.clock.sleep(60)
    return life


def context(life: Life) -> BringUpContext:
    return BringUpContext(life.services, life.rentals[0], Keyed(), life.cancel)


def there(life: Life) -> Instance:
    (instance,) = life.provider.instances.values()
    return instance


def told(life: Life) -> list[str]:
    return [event.text.partition(": ")[2] for event in life.events.events]


def test_another_workload_takes_the_place_of_the_first(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script())
    (rental,) = life.rentals
    before = rental.mark()
    relaunch(context(life), OTHER, name=NAME)
    assert (rental.state, rental.workload, rental.purpose) == (State.READY, OTHER, NAME)
    assert rental.headers == {"Model": "other"}
    assert there(life).files[f"{job.HOME}/start.sh"] == b"exec serve other\n"
    assert (there(life).stops, there(life).starts) == (1, 2)
    assert rental.log == "loading\nready\n", "that of the new server alone"
    assert rental.restarted == "", "it has had no server before"
    assert rental.mark().start == before.start + 1
    assert [forward.port for forward in life.connector.forwards] == [8000, 9000]
    assert [forward.closed for forward in life.connector.forwards] == [False, False], "until it is given back"
    assert [text for text in told(life)[-5:] if not text.startswith("warming")] == [
        "starting scripted 'other' in place of scripted",
        "server launched",
        "ready after 30.0 s (scripted 'other')",
    ]
    assert life.events.events[-1].facts["workload"] == NAME
    assert rental.attempt().workload == NAME
    assert life.ledger.steps[rental.label][-3:] == ["ready", "warming", "ready"]
    assert len(life.provider.instances) == 1
    rental.give_back()
    assert_nothing_is_left(life)
    assert all(forward.closed for forward in life.connector.forwards)


def test_the_same_port_keeps_the_endpoint(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script())
    endpoint = life.rentals[0].endpoint
    relaunch(context(life), replace(OTHER, port=8000), name=NAME)
    assert life.rentals[0].endpoint == endpoint
    assert [forward.closed for forward in life.connector.forwards] == [False]


def test_a_restart_of_a_server_that_runs_stops_it_first_and_tells_who_had_it(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script())
    (rental,) = life.rentals
    before = rental.mark()
    restart(context(life), GROWN)
    steps = [command for command in there(life).commands if command in (STOP, job.start())]
    assert steps == [job.start(), STOP, job.start()]
    assert f"starting the server again because {GROWN}; what it had in memory is lost" in told(life)
    lost = f"server started again, since the one before was stopped because {GROWN}; what that had in memory is lost"
    assert rental.restarted == lost
    assert told(life)[-1] == lost
    end = rental.servers[before.start].end
    assert end is not None
    fate = end.fate(before, "")
    assert fate.what.startswith(f"the server was stopped because {GROWN} at ")
    assert fate.excuses, "no test has done that"
    assert rental.servers[rental.mark().start].end is None
    rental.give_back()
    assert_nothing_is_left(life)


def test_what_a_server_says_is_made_safe(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script())
    restart(context(life), "it does not answer as one that is ready (\x1b[31mloading\n)")
    assert "\x1b" not in life.rentals[0].restarted
    assert "\n" not in life.rentals[0].restarted
    assert "loading" in life.rentals[0].restarted


def test_a_later_run_does_not_learn_of_it(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script())
    (rental,) = life.rentals
    restart(context(life), GROWN)
    rental.fails()
    rental.forget_tests()
    assert (rental.restarted, rental.went_wrong, rental.mark().start) == ("", False, 0)
    assert rental.look(rental.mark()) is None


def test_files_that_do_not_come_again_are_removed(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("2")
    life = life_of(tmp_path, Script(), files=(("a.py", str(one)), ("b.py", str(two))))
    relaunch(context(life), replace(OTHER, files=(("b.py", str(one)),)), name=NAME)
    assert there(life).inputs[job.REMOVE] == b"a.py\0"
    assert there(life).commands.count(job.UNPACK) == 2
    assert life.rentals[0].files.keys() == {"b.py"}
    relaunch(context(life), OTHER, name=NAME)
    assert there(life).inputs[job.REMOVE] == b"b.py\0"
    assert there(life).commands.count(job.UNPACK) == 2, "there is nothing to bring"


def test_a_server_that_does_not_end(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(stays="17 18"))
    with pytest.raises(AttemptFailed) as failed:
        relaunch(context(life), OTHER, name=NAME)
    verdict = failed.value.verdict
    assert (verdict.failure_class, verdict.reason) == (FailureClass.UNKNOWN, "server_not_stopped")
    assert verdict.evidence == "processes 17 18 of the server live on after SIGKILL"
    assert there(life).starts == 1
    attempt = life.rentals[0].finish(verdict)
    assert (attempt.failed_in, attempt.workload) == (State.WARMING, NAME)
    life.rentals[0].give_back()
    assert_nothing_is_left(life)


def used(mib: int, *processes: str) -> str:
    return "".join(f"process {each}\n" for each in processes) + f"gpu {mib}, 24564\nend 0\n"


def test_memory_that_is_given_back_late_is_waited_for(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(gpus=(used(9000), used(9000), used(4000), used(10))), gpus=1)
    relaunch(context(life), replace(OTHER, gpus=1), name=NAME)
    assert life.rentals[0].state is State.READY
    life.clock.sleep(1)
    memory = life.rentals[0].servers[-1].gpu_memory
    assert memory is not None
    assert memory.used_mib == (10.0,), "noted anew for the new server"


@pytest.mark.parametrize(
    ("process", "who"),
    [
        ("inside 4711 2867 python", "process 4711 (python) holds 2.8 GiB"),
        ("", "no process that the instance can see holds it"),
    ],
)
def test_memory_that_stays_names_who_holds_it_and_blames_no_machine(tmp_path: Path, process: str, who: str) -> None:
    life = life_of(tmp_path, Script(gpus=(used(9000, *[process] if process else []),)), gpus=1)
    with pytest.raises(AttemptFailed) as failed:
        restart(context(life), GROWN)
    verdict = failed.value.verdict
    assert (verdict.failure_class, verdict.reason) == (FailureClass.UNKNOWN, "gpu_memory_held")
    after = f"{DEFAULTS.gpu_memory_s:g} s after the server was stopped"
    assert verdict.evidence == f"{after}, 8.8 GiB of 24.0 GiB of GPU 0 are in use: {who}"


def test_a_new_server_that_dies_has_the_verdict_of_its_workload(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(ready_starts=1, log=("loading", "2/4", "3/4", "4/4", "ready")))
    with pytest.raises(AttemptFailed) as failed:
        relaunch(context(life), OTHER, name=NAME)
    assert failed.value.verdict.reason == "server_ended"
    attempt = life.rentals[0].finish(failed.value.verdict)
    assert (attempt.workload, attempt.failed_in, attempt.log_tail) == (NAME, State.WARMING, "loading")
    life.rentals[0].give_back()
    assert_nothing_is_left(life)


@pytest.mark.parametrize("at", [STOP, job.MAKE_FOLDERS, job.start()])
def test_a_connection_that_breaks_on_the_way_is_made_again(tmp_path: Path, at: str) -> None:
    life = life_of(tmp_path, Script())
    there(life).script = replace(there(life).script, breaks_at=at)
    relaunch(context(life), OTHER, name=NAME)
    assert (life.rentals[0].state, there(life).broke) == (State.READY, 1)
    life.rentals[0].give_back()
    assert_nothing_is_left(life)


@pytest.mark.parametrize("after_s", [0.1, 1.0, 20.0])
def test_one_that_is_called_off_leaves_nothing(tmp_path: Path, after_s: float) -> None:
    life = life_of(tmp_path, Script(gpus=(used(9000), used(9000), used(9000), used(10))), gpus=1)
    life.clock.at(after_s, life.cancel.cancel)
    with pytest.raises(Cancelled):
        relaunch(context(life), replace(OTHER, gpus=1), name=NAME)
    life.rentals[0].give_back()
    assert_nothing_is_left(life)


def test_another_model_costs_its_transfer(tmp_path: Path) -> None:
    life = Life(tmp_path, [Script()], KEY, workload=replace(WORKLOAD, model="a", model_gb=4.0, image_gb=10.0))
    (offer,) = life.provider.offers.values()
    dear = replace(offer, inet_down_usd_gb=0.01)
    life.provider.offers[offer.id] = dear
    rental = life.bring_up()
    assert rental.cost.bill.transfer_usd == pytest.approx(0.14)
    relaunch(context(life), replace(rental.workload, model="b", model_gb=6.0), name="b")
    assert rental.cost.bill.transfer_usd == pytest.approx(0.20), "the image is there"
    relaunch(context(life), replace(rental.workload, args=("--fast",)), name="b")
    assert rental.cost.bill.transfer_usd == pytest.approx(0.20)
    relaunch(context(life), replace(rental.workload, model="a", model_gb=4.0), name="a")
    assert rental.cost.bill.transfer_usd == pytest.approx(0.20), "that model was there before"


def test_an_instance_that_is_lost_on_the_way_is_told_so(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script())
    there(life).script = replace(there(life).script, vanishes_after_s=life.rentals[0].age_s + 10)
    with pytest.raises(AttemptFailed) as failed:
        relaunch(context(life), OTHER, name=NAME)
    assert failed.value.verdict.reason == "ssh_lost"
    life.rentals[0].give_back()
    assert_nothing_is_left(life)


def test_the_end_of_its_life_ends_the_relaunch(tmp_path: Path) -> None:
    life = Life(tmp_path, [Script(start_s=20)], KEY, {"vast_max_lifetime": "120"})
    rental = life.bring_up()
    life.clock.sleep(110 - rental.age_s)
    with pytest.raises(AttemptFailed) as failed:
        relaunch(context(life), OTHER, name=NAME)
    assert (failed.value.verdict.failure_class, failed.value.verdict.reason) == (
        FailureClass.OWN_FAULT,
        "lifetime_over",
    )
    rental.give_back()
    assert_nothing_is_left(life)

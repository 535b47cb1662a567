"""Whether an instance is handed out again: the decision over what was seen, and looks on a virtual clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.rental import Rental
from pytest_vastgpu.supervisor.rental.reuse import LEAST_DISK_GB
from pytest_vastgpu.supervisor.rental.reuse import LEAST_LIFE_S
from pytest_vastgpu.supervisor.rental.reuse import Condition
from pytest_vastgpu.supervisor.rental.reuse import Fit
from pytest_vastgpu.supervisor.rental.reuse import Restart
from pytest_vastgpu.supervisor.rental.reuse import Useless
from pytest_vastgpu.supervisor.rental.reuse import decide
from pytest_vastgpu.supervisor.rental.reuse import look_again
from pytest_vastgpu.supervisor.rental.reuse import takes
from pytest_vastgpu.supervisor.rental.reuse import warm
from pytest_vastgpu.supervisor.rental.server.end import ServerEnd
from pytest_vastgpu.supervisor.rental.server.gpu_memory import GpuMemory
from tests.supervisor.test_lives import KEY
from tests.support.lives import WORKLOAD
from tests.support.lives import Life
from tests.support.lives import ScriptedAdapter
from tests.support.memory import End
from tests.support.memory import Script

GPU_GONE = Verdict(FailureClass.INFRA_FATAL, "gpu_fallen_off_bus")
WRONG = Verdict(FailureClass.WORKLOAD_FATAL, "model_not_listed")
SMALL, LARGE = (GpuMemory((used,), (24564.0,)) for used in (10000.0, 15000.0))


def ended(verdict: Verdict) -> ServerEnd:
    return ServerEnd(0.0, 3, verdict, "", 0)


@pytest.mark.parametrize(
    ("seen", "becomes"),
    [
        ({}, Fit()),
        ({"gpus": LARGE}, Fit()),
        ({"gpus_at_ready": LARGE}, Fit()),
        ({"gpus_at_ready": LARGE, "gpus": SMALL}, Fit()),
        ({"gpus_at_ready": SMALL, "gpus": LARGE}, "its GPU memory has grown from 9.8 GiB to 14.6 GiB"),
        ({"readiness": Warming(Progress("serving"))}, "it does not answer as one that is ready (serving)"),
        ({"readiness": Failed(WRONG)}, "it is no longer ready (workload_fatal: model_not_listed)"),
        ({"readiness": Failed(GPU_GONE)}, GPU_GONE),
        ({"end": ended(WRONG)}, "it ended with exit code 3"),
        ({"end": ended(WRONG), "changed": "server.py has changed here"}, "it ended with exit code 3"),
        ({"end": ended(GPU_GONE)}, GPU_GONE),
        ({"changed": "server.py has changed here"}, "server.py has changed here"),
        ({"gpus_at_ready": replace(SMALL, used_mib=(1.0, 1.0)), "gpus": SMALL}, "fewer_gpus_than_sold"),
        (
            {"gpus": GpuMemory(exit_code=9, said="Unable to determine the device handle: GPU is lost")},
            "gpu_fallen_off_bus",
        ),
        ({"gpus": GpuMemory(exit_code=124)}, Fit()),
        ({"disk_free_gb": LEAST_DISK_GB}, Fit()),
        ({"disk_free_gb": LEAST_DISK_GB - 0.1, "end": ended(WRONG)}, "disk_full"),
        ({"life_s": LEAST_LIFE_S}, Fit()),
        ({"life_s": LEAST_LIFE_S - 1, "disk_free_gb": 0.0}, "lifetime_over"),
        ({"life_s": 60.0, "whole_life_s": 600.0}, Fit()),
        ({"life_s": 59.0, "whole_life_s": 600.0}, "lifetime_over"),
    ],
)
def test_what_becomes_of_an_instance(seen: Mapping[str, Any], becomes: Fit | Verdict | str) -> None:
    found = decide(Condition(**seen))
    if isinstance(becomes, Verdict):
        assert found == Useless(becomes)
    elif isinstance(found, Useless):
        assert found.verdict.reason == becomes
    else:
        assert found == (becomes if isinstance(becomes, Fit) else Restart(becomes))


def test_how_long_it_has_been_warm() -> None:
    assert warm(42, 0.0).startswith("warm for 42 s (ready since ")
    assert warm(12 * 60 + 59, 0.0).startswith("warm for 12 min (ready since ")


@dataclass
class Adapter(ScriptedAdapter):
    """One whose answers a test decides."""

    default_image: str = "any/image"
    script: str = "exec serve\n"
    answers: tuple[Readiness, ...] = (Ready(),)
    asked: int = 0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        return Launch(self.script)

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


def life_of(tmp_path: Path, script: Script, **workload: Any) -> Life:
    return Life(tmp_path, [script], KEY, workload=replace(WORKLOAD, **workload))


def context(life: Life, adapter: ScriptedAdapter | None = None) -> BringUpContext:
    return BringUpContext(life.services, life.rentals[0], adapter or ScriptedAdapter(), life.cancel)


def used(memory: str) -> str:
    return f"gpu {memory}, 24564\nend 0\n"


def commands(life: Life) -> int:
    (instance,) = life.provider.instances.values()
    return len(instance.commands)


def test_a_healthy_one_takes_one_command_and_is_told(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(gpus=(used("10000"),)), gpus=1)
    life.bring_up()
    life.clock.sleep(720)
    before, now = commands(life), life.clock.now
    assert look_again(context(life)) == Fit()
    (instance,) = life.provider.instances.values()
    outer = [command for command in instance.commands[before:] if "mktemp" in command]
    assert len(outer) == 1
    assert life.clock.now == now, "nothing was waited for"
    assert life.events.events[-1].text.startswith("instance 1: used again, warm for 12 min (ready since ")


def test_memory_is_compared_with_that_when_it_was_ready(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(gpus=(used("10000"), used("11000"), used("15000"))), gpus=1)
    rental = life.bring_up()
    assert rental.servers[-1].gpu_memory is None, "no test waits for that"
    life.clock.sleep(60)
    assert rental.servers[-1].gpu_memory == GpuMemory((10000.0,), (24564.0,))
    (seen,) = [event.facts for event in life.events.events if "used_mib" in event.facts]
    assert (seen["used_mib"], seen["total_mib"]) == ((10000.0,), (24564.0,))
    assert look_again(context(life)) == Fit()
    assert look_again(context(life)) == Restart("its GPU memory has grown from 9.8 GiB to 14.6 GiB")


def test_without_gpus_none_is_asked(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(gpus=(used("10000"),)))
    life.bring_up()
    life.clock.sleep(60)
    assert look_again(context(life)) == Fit()
    (instance,) = life.provider.instances.values()
    assert instance.gpu_looks == 0


def test_the_new_runs_adapter_judges(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(ends=(End(60, 3),)))
    life.bring_up()
    lost = Adapter(answers=(Failed(GPU_GONE),))
    life.clock.sleep(61)
    assert look_again(context(life, lost)) == Useless(GPU_GONE)
    assert lost.asked == 1, "it has explained the end, too"


def test_one_that_is_not_ready_for_a_moment_is_ready(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script())
    life.bring_up()
    assert look_again(context(life, Adapter(answers=(Warming(Progress("busy")), Ready())))) == Fit()
    found = look_again(context(life, Adapter(answers=(Warming(Progress("busy")),))))
    assert found == Restart("it does not answer as one that is ready (busy)")


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(disk_free_kib=1000))
    life.bring_up()
    found = look_again(context(life))
    assert isinstance(found, Useless)
    assert (found.verdict.reason, found.verdict.evidence) == ("disk_full", "0.0 GB of its disk are free")


def test_one_at_the_end_of_its_life(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script())
    rental = life.bring_up()
    life.clock.sleep(life.services.settings.max_lifetime - rental.age_s - LEAST_LIFE_S + 1)
    found = look_again(context(life))
    assert isinstance(found, Useless)
    assert (found.verdict.failure_class, found.verdict.reason) == (FailureClass.OWN_FAULT, "lifetime_over")


def test_one_that_the_user_has_destroyed_is_nobodys_fault(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(vanishes_after_s=600))
    rental = life.bring_up()
    life.clock.sleep(600)
    life.ledger.destroyed.add(rental.label)
    found = look_again(context(life))
    assert isinstance(found, Useless)
    assert (found.verdict.failure_class, found.verdict.reason) == (FailureClass.OWN_FAULT, "destroyed_by_user")
    assert "you have destroyed it with `vastgpu destroy`" in found.verdict.evidence


def test_for_another_workload_only_what_stays_is_looked_at(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(gpus=(used("10000"), used("20000")), ends=(End(60, 3),)), gpus=1)
    rental = life.bring_up()
    life.clock.sleep(100)
    adapter = Adapter(answers=(Failed(GPU_GONE),))
    other = replace(rental.workload, model="other")
    assert look_again(context(life, adapter), other) == Restart("scripted 'other' is needed")
    assert adapter.asked == 0, "it knows nothing of the server that runs"
    (instance,) = life.provider.instances.values()
    instance.script = replace(instance.script, disk_free_kib=1000)
    found = look_again(context(life, adapter), other)
    assert isinstance(found, Useless)
    assert found.verdict.reason == "disk_full"


@pytest.mark.parametrize(("answers", "found"), [((False, True), Fit()), ((False,), "not_seen")])
def test_a_look_that_cannot_be_made_once_is_a_gap(tmp_path: Path, answers: tuple[bool, ...], found: Fit | str) -> None:
    life = life_of(tmp_path, Script(answers=answers))
    life.bring_up()
    seen = look_again(context(life))
    if isinstance(seen, Useless):
        assert (seen.verdict.failure_class, seen.verdict.reason) == (FailureClass.UNKNOWN, found)
    else:
        assert seen == found


NOBODY = MarketUnreachable("no answer")


@pytest.mark.parametrize(
    ("answers", "market", "found", "least_s"),
    [
        ((False,) * 6 + (True,), NOBODY, Fit(), 4 * DEFAULTS.look_most_s),
        ((False,), NOBODY, "not_seen", DEFAULTS.market_silence_s),
        ((False,) * 6 + (True,), BadApiKey("the key is wrong"), "not_seen", 0.0),
    ],
    ids=["a gap of our network", "no end of it", "the market answers"],
)
def test_a_gap_of_our_own_network_costs_no_healthy_instance(
    tmp_path: Path, answers: tuple[bool, ...], market: MarketError, found: Fit | str, least_s: float
) -> None:
    life = life_of(tmp_path, Script(answers=answers))
    life.bring_up()
    life.provider.unanswered = market
    began = life.clock.monotonic()
    seen = look_again(context(life))
    assert (seen.verdict.reason if isinstance(seen, Useless) else seen) == found
    assert least_s <= life.clock.monotonic() - began <= least_s + 60
    told = [event.text for event in life.events.events if "our own network may be down" in event.text]
    assert len(told) == (market is NOBODY), "once"


def test_one_that_is_lost_is_told_so(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script(vanishes_after_s=300))
    life.bring_up()
    life.clock.sleep(300)
    found = look_again(context(life))
    assert isinstance(found, Useless)
    assert found.verdict.failure_class is FailureClass.RUNTIME_LOST


def test_a_look_that_is_called_off(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script())
    life.bring_up()
    life.cancel.cancel()
    with pytest.raises((Cancelled, ConnectFailed)):
        look_again(context(life))


def test_what_has_changed_here_since_the_start(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("1")
    two.write_text("2")
    life = life_of(tmp_path, Script(), files=(("one.py", str(one)), ("two.py", str(two))))
    life.bring_up()
    assert look_again(context(life)) == Fit()
    one.write_text("changed")
    assert look_again(context(life)) == Restart("one.py has changed here")
    two.write_text("changed")
    assert look_again(context(life)) == Restart("one.py and 1 more file have changed here")


def test_an_adapter_that_would_start_it_in_another_way(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script())
    life.bring_up()
    assert look_again(context(life, Adapter())) == Fit()
    why = "its adapter 'scripted' starts it in another way now"
    assert look_again(context(life, Adapter(script="exec serve --fast\n"))) == Restart(why)


def test_one_that_was_seen_to_serve_is_not_doubtful(tmp_path: Path) -> None:
    life = life_of(tmp_path, Script())
    rental = life.bring_up()
    rental.touched()
    assert rental.doubtful
    assert look_again(context(life)) == Fit()
    assert not rental.doubtful


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, ""),
        ({"model": "another", "port": 9000, "command": "other", "env": (("A", "b"),), "setup": "true"}, ""),
        ({"image": "any/image"}, ""),
        ({"image": "other/image"}, "its image is any/image, and other/image is needed"),
        ({"image_login": "-u me -p s3cret"}, "its image was pulled with another login"),
        ({"disk_gb": 8.0}, ""),
        ({"disk_gb": 17.0}, "its disk has 16 GB, and 17 GB are needed"),
        ({"gpus": 1}, ""),
        ({"gpus": 2}, "its host does not fit: 10 MB of shared memory; 2 GPUs need 256"),
    ],
)
def test_which_workloads_it_takes(tmp_path: Path, fields: Mapping[str, Any], why: str) -> None:
    life = life_of(tmp_path, Script())
    rental = life.bring_up()
    rental.found(replace(rental.host_facts, shm_mb=10.0))
    told = takes(rental, replace(WORKLOAD, **fields), life.adapter)
    assert told == why
    assert "s3cret" not in told


def test_a_new_default_image_counts(tmp_path: Path) -> None:
    rental = life_of(tmp_path, Script()).bring_up()
    assert takes(rental, WORKLOAD, Adapter(default_image="new/image")) == (
        "its image is any/image, and new/image is needed"
    )


def test_a_published_port_is_fixed(tmp_path: Path) -> None:
    life = Life(tmp_path, [Script()], KEY, {"vast_expose": "yes"})
    rental = life.bring_up()
    assert takes(rental, replace(WORKLOAD, model="x"), life.adapter) == ""
    why = "it publishes port 8000, and port 9000 is needed (--vast-expose)"
    assert takes(rental, replace(WORKLOAD, port=9000), life.adapter) == why


def test_one_that_is_not_ready_takes_nothing(tmp_path: Path) -> None:
    rental: Rental = life_of(tmp_path, Script()).bring_up()
    rental.give_back()
    assert rental.state is State.GONE
    assert takes(rental, WORKLOAD, ScriptedAdapter()) == "it is gone"

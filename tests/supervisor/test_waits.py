"""What tests wait for, as the supervisor reports it: whole lives on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Workload
from pytest_vastgpu.providers.base import MarketWait
from pytest_vastgpu.reporting.waiting import Waiting
from pytest_vastgpu.reporting.waiting import sentence
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.host import HostAdapter
from pytest_vastgpu.supervisor.rental.rental import Rental
from pytest_vastgpu.supervisor.waits import MarketWaits
from pytest_vastgpu.supervisor.waits import WaitReports
from pytest_vastgpu.supervisor.waits import Wanted
from tests.support.lives import WORKLOAD
from tests.support.lives import Life
from tests.support.lives import any_key
from tests.support.memory import Script

KEY = any_key()
SETUP = replace(WORKLOAD, setup="pip install x", setup_s=300.0)


class Watched:
    """A life, and what is reported meanwhile."""

    def __init__(self, life: Life, *, lacks_room: bool = False) -> None:
        self.life = life
        self.reports: list[Sequence[Waiting]] = []
        self.told: list[tuple[str, dict[str, object]]] = []
        self.market = MarketWaits(lambda text, **facts: self.told.append((text, facts)), life.clock)
        self.wanted = [Wanted(life.workload, "the workload", 0.0, lacks_room)]
        reports = WaitReports(
            lambda: self.wanted, lambda: life.rentals, self.market, 900.0, self.reports.append, life.clock
        )
        life.clock.repeat("vastgpu-waits", reports.step)

    def live(self) -> list[str]:
        """The sentence of each report."""
        rental = self.life.bring_up()
        self.wanted = []
        self.life.clock.sleep(10)
        rental.give_back()
        return [sentence(each) for report in self.reports for each in report]


Watch = Callable[..., Watched]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return lambda *scripts, **fields: Watched(Life(tmp_path, scripts, KEY, **fields))


def test_a_wait_tells_workload_instance_what_goes_on_limit_and_cost(watch: Watch) -> None:
    script = Script(boot_s=100, messages=("pulling image", "5f70bf18a086: Pull complete"), start_s=60)
    told = watch(script).live()
    assert any(": pulling image; boot budget 15 min, 14 min" in line for line in told)
    assert sum(line.startswith("waiting 20 s for the workload on instance") for line in told) == 1
    assert any(": 5f70bf18a086: Pull complete; boot budget 15 min, 13 min" in line for line in told)
    assert any(": loading; warm-up window 2 min, 1 min 4" in line for line in told)
    assert all(line.endswith("USD so far") for line in told[1:])
    assert "0.0000 USD" not in told[-1]


def test_one_report_a_second_and_a_last_one_that_nothing_is_waited_for(watch: Watch) -> None:
    watched = watch(Script(boot_s=100, start_s=60))
    watched.live()
    waits = [report[0].seconds for report in watched.reports if report]
    assert waits == pytest.approx([float(second) for second in range(len(waits))])
    assert len(waits) > 100
    assert [len(report) for report in watched.reports[-2:]] == [1, 0]


def test_the_setup_command_is_shown_with_its_own_limit(watch: Watch) -> None:
    told = watch(Script(setup_log=("Collecting torch", "Installing")), workload=SETUP).live()
    assert any(": setup: Collecting torch; setup window 5 min, 4 min" in line for line in told)


class Late(HostAdapter):
    """A host that is ready when it has been looked at for the tenth time."""

    looks = 0

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        self.looks += 1
        return Ready() if self.looks > 9 else Warming(Progress("starting"))


def test_a_host_for_tests_has_no_server_that_starts(watch: Watch) -> None:
    told = watch(Script(boot_s=5), adapter=Late(), workload=Workload("host", port=0, gpus=0)).live()
    assert any(": making the environment" in line for line in told)
    assert not any("server" in line for line in told)


def test_a_second_attempt_is_told_as_one(watch: Watch) -> None:
    told = watch(Script(never_runs=True), Script()).live()
    assert any("(no GPU): " in line for line in told)
    assert any("(no GPU, attempt 2): " in line for line in told)


def test_secrets_and_control_characters_of_others_are_not_shown(watch: Watch) -> None:
    KNOWN.add("test secret", "hunter2hunter2")
    told = watch(Script(boot_s=60, messages=("pull \x1b[2J hunter2hunter2 " + "x" * 500,))).live()
    (line,) = {line.split(": ", 1)[1].split(";")[0] for line in told if "pull" in line}
    assert "\\u001b[2J" in line
    assert "hunter2" not in line
    assert len(line) < 120


def test_an_instance_that_fails_meanwhile_ends_no_report(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch(Script())
    rental = watched.life.bring_up()
    states = iter([State.BOOTING])
    monkeypatch.setattr(Rental, "state", property(lambda _: next(states, State.FAILED), lambda *_: None), raising=False)
    reports = WaitReports(
        lambda: watched.wanted, lambda: [rental], watched.market, 900.0, watched.reports.append, watched.life.clock
    )
    reports.step()
    (waiting,) = watched.reports[-1]
    assert (waiting.doing, waiting.window) == ("booting", "boot budget")
    reports.step()
    (waiting,) = watched.reports[-1]
    assert (waiting.doing, waiting.instance_id) == ("looking for an offer", 0)


def test_what_comes_before_there_is_an_instance(watch: Watch) -> None:
    watched = watch(Script())
    reports = WaitReports(
        lambda: watched.wanted, list, watched.market, 900.0, watched.reports.append, watched.life.clock
    )
    reports.step()
    watched.market.begins(MarketWait("search", 12.4, 2.0))
    reports.step()
    watched.life.clock.now += 5
    reports.step()
    watched.life.clock.now += 8
    watched.wanted = [replace(watched.wanted[0], lacks_room=True)]
    reports.step()
    assert [sentence(report[0]).partition(": ")[2] for report in watched.reports] == [
        "looking for an offer",
        "the market allows one search every 2 s: waiting 12 s",
        "the market allows one search every 2 s: waiting 7 s",
        "waiting for another instance to be given back",
    ]
    facts = {"wait": "search", "wait_s": 12.4}
    assert watched.told == [("the market allows one search every 2 s: waiting 12 s", facts)]

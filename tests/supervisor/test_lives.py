"""Whole lives on a virtual clock: no network, no process, and no thread that sleeps."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.diagnosis.hangs import STILL_S
from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import RequestRejected
from pytest_vastgpu.hostcheck import judge
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.providers.base import Phase
from pytest_vastgpu.servers.command import CommandAdapter
from pytest_vastgpu.servers.command import command
from pytest_vastgpu.supervisor.rental.deadman import HeartbeatReply
from pytest_vastgpu.supervisor.rental.polling import EARLY_KNOCK_S
from pytest_vastgpu.supervisor.rental.server import job
from tests.support.lives import Life
from tests.support.lives import any_key
from tests.support.memory import Script

KEY = any_key()
SLOW = (
    "img: Pulling fs layer",
    "5f70bf18a086: Pull complete",
    "Get:12 http://archive.example openssh-server",
    "loaded",
)
LivesOn = Callable[..., Life]


@pytest.fixture
def lives_on(tmp_path: Path) -> LivesOn:
    """A life on machines that behave like this, the cheapest first."""
    return lambda *scripts, **options: Life(tmp_path, scripts, KEY, options)


def reasons(life: Life) -> list[str]:
    return [attempt.verdict.reason if attempt.verdict else "ready" for attempt in life.records]


def assert_nothing_is_left(life: Life) -> None:
    assert life.provider.instances == {}
    assert all(connection.closed for connection in life.connector.connections)
    assert {steps[-1] for steps in life.ledger.steps.values()} <= {"gone"}
    assert life.budget.committed_usd == pytest.approx(sum(rental.cost_usd for rental in life.rentals))


@pytest.mark.parametrize(
    ("scripts", "expected", "minutes"),
    [
        ([Script()], ["ready"], 1),
        ([Script(listed_after_s=12)], ["ready"], 1),
        ([Script(boot_s=840, messages=SLOW)], ["ready"], 16),
        ([Script(boot_s=50, offline_s=(10, 45))], ["ready"], 2),
        ([Script(boot_s=400, ssh_from_s=30)], ["ready"], 2),
        ([Script(refuses_s=200)], ["ready"], 5),
        ([Script(refuses_key_s=200)], ["ready"], 5),
        ([Script(no_switch=True)], ["ready"], 2),
        ([Script(listed_after_s=300)], ["ready"], 2),
        ([Script(ports_late_s=40)], ["ready"], 3),
        ([Script(onstart_ignored=True)], ["ready"], 2),
        ([Script(attach_ignored=True)], ["ready"], 2),
        ([Script(hijacked_s=20)], ["ready"], 2),
        ([Script(hijacked_s=9000), Script()], ["boot_timeout", "ready"], 18),
        ([Script(ports_late_s=9000), Script()], ["ssh_never_up", "ready"], 8),
        ([Script(boot_s=900, offline_s=(10, 900)), Script()], ["host_offline", "ready"], 3),
        ([Script(never_runs=True, messages=("created",)), Script()], ["boot_stalled", "ready"], 12),
        ([Script(refuses_s=9000), Script()], ["ssh_never_up", "ready"], 8),
        ([Script(refuses_key_s=9000), Script()], ["ssh_key_refused", "ready"], 8),
        ([Script(vanishes_after_s=15), Script()], ["instance_vanished", "ready"], 3),
        ([Script(vanishes_after_s=60, refuses_s=250), Script()], ["instance_vanished", "ready"], 3),
        ([Script(exit_code=1, log=("loading",)), Script()], ["server_ended"], 2),
        ([Script(start_s=9000), Script()], ["warmup_timeout", "ready"], 10),
    ],
    ids=lambda value: "" if isinstance(value, (list, int)) else None,
)
def test_a_life(lives_on: LivesOn, scripts: Sequence[Script], expected: list[str], minutes: int) -> None:
    life = lives_on(*scripts)
    problem = life.live(use_s=0)
    assert reasons(life) == expected
    assert (problem is None) == (expected[-1] == "ready")
    assert life.clock.now < minutes * 60
    assert_nothing_is_left(life)


def ended(status: InstanceStatus) -> InstanceStatus:
    return replace(status, phase=Phase.ENDED)


GAPS: Mapping[str, Callable[[InstanceStatus], InstanceStatus | None]] = {
    "not there": lambda _: None,
    "exited": ended,
    "stopped": lambda status: replace(status, phase=Phase.NOT_STARTED),
    "offline": lambda status: replace(status, phase=Phase.OFFLINE),
    "an error": lambda status: replace(status, phase=Phase.STARTING, message="GPU error, unable to start instance."),
    "another machine": lambda status: replace(status, machine_id=77, ssh=()),
    "another instance": lambda status: replace(status, id=77, phase=Phase.ENDED),
    "no price": lambda status: replace(status, price_usd_h=0.0),
    "no price in this world": lambda status: replace(status, price_usd_h=0.0, incredible="dph_total is -1"),
    "no address": lambda status: replace(status, ssh=()),
}
"""What a look may show instead of the truth."""


@pytest.mark.parametrize("gap", GAPS)
def test_a_gap_in_any_one_report_costs_nothing(lives_on: LivesOn, gap: str) -> None:
    def reports(look: int, status: InstanceStatus) -> InstanceStatus | None:
        return GAPS[gap](status) if look % 3 == 0 else status

    life = lives_on(Script(boot_s=60, refuses_s=30, reports=reports))
    assert life.live(use_s=0) is None
    assert reasons(life) == ["ready"]
    assert_nothing_is_left(life)


@pytest.mark.parametrize(
    ("seen", "since_s", "reason"),
    [
        ("not there", 0, "instance_vanished"),
        ("exited", 0, "container_ended"),
        ("stopped", 0, "never_started"),
        ("an error", 0, "gpu_error_reported_by_market"),
        ("another machine", 0, "other_machine"),
        ("no price in this world", 0, "price_incredible"),
        ("not there", 70, "instance_vanished"),
        ("exited", 70, "container_ended"),
        ("stopped", 70, "never_started"),
    ],
)
def test_what_the_market_says_twice_is_believed_while_it_boots_and_while_ssh_is_tried(
    lives_on: LivesOn, seen: str, since_s: float, reason: str
) -> None:
    began = []

    def reports(_: int, status: InstanceStatus) -> InstanceStatus | None:
        began.append(life.clock.now)
        return GAPS[seen](status) if life.clock.now >= began[0] + since_s else status

    life = lives_on(Script(boot_s=60, refuses_s=250, reports=reports), Script())
    assert life.live(use_s=0) is None
    assert reasons(life) == [reason, "ready"]
    assert life.clock.now < since_s + 120, "it is not waited for any longer"


def test_an_instance_that_no_list_shows_is_asked_for_by_its_id(lives_on: LivesOn) -> None:
    life = lives_on(Script(listed_after_s=9000))
    assert life.live(use_s=0) is None
    assert reasons(life) == ["ready"]
    assert "show" in life.provider.calls


@pytest.mark.parametrize("late_s", [0.0, 50.0, 9000.0])
def test_a_published_port_is_waited_for(lives_on: LivesOn, late_s: float) -> None:
    life = lives_on(Script(start_s=2, published_late_s=late_s), Script(), vast_expose="yes")
    assert life.live(use_s=0) is None
    assert reasons(life) == (["port_not_published", "ready"] if late_s > 100 else ["ready"])
    assert life.rentals[-1].endpoint == f"http://memory.invalid:{life.workload.port}"
    assert life.clock.now < 300


@pytest.mark.parametrize(
    "refusal",
    [
        RequestRejected("no_such_instance", status=404, code="no_such_instance"),
        RequestRejected("not for teams", status=400, code="team_ssh_keys_not_supported"),
        RequestRejected("already associated", status=400),
        RequestRejected("a rule of tomorrow", status=422, code="key_odd"),
        NotAuthorized("not for teams", status=403, code="team_ssh_keys_not_supported"),
        MarketAnswerInvalid("Not Found", status=404),
        MarketUnreachable("timed out"),
    ],
    ids=str,
)
def test_a_key_that_is_not_attached_is_told_in_one_line_and_let_in_all_the_same(
    lives_on: LivesOn, refusal: MarketError
) -> None:
    life = lives_on(Script(attach_refusal=refusal))
    assert life.live(use_s=0) is None
    assert reasons(life) == ["ready"]
    (told,) = (event.text for event in life.events.events if "SSH key is not attached" in event.text)
    assert str(refusal) in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "refusal",
    [BadApiKey("expired", status=401, code="auth_error"), NotAuthorized("no scope", status=403, code="not_authorized")],
    ids=str,
)
def test_an_api_key_that_is_not_good_enough_to_attach_a_key_ends_it(lives_on: LivesOn, refusal: MarketError) -> None:
    life = lives_on(Script(attach_refusal=refusal), Script())
    assert life.live() is refusal
    assert len(life.rentals) == 1
    assert_nothing_is_left(life)


def test_a_session_that_runs_something_else_is_told_and_later_steps_wait_as_well(lives_on: LivesOn) -> None:
    life = lives_on(Script(hijacked_s=9000), Script())
    assert life.live(use_s=0) is None
    first = life.records[0].verdict
    assert first is not None
    assert first.failure_class is FailureClass.UNKNOWN
    assert "SSH lets us in, and runs no command: [the command was not run: no sessions]" in first.evidence
    assert any("waiting for SSH (SSH lets us in, and runs no command" in event.text for event in life.events.events)


def test_an_ssh_server_that_is_away_for_a_moment_costs_no_attempt(lives_on: LivesOn) -> None:
    life = lives_on(Script(ssh_gap_s=(45, 49)), Script())
    assert life.live(use_s=0) is None
    assert reasons(life) == ["ready"]
    assert any("SSH let us in no more, and does again: " in event.text for event in life.events.events)
    assert_nothing_is_left(life)


@pytest.mark.parametrize("command", [judge.SCRIPT, job.make_folders([]), job.START], ids=["check", "files", "start"])
def test_a_connection_that_breaks_while_the_instance_is_prepared_costs_no_attempt(
    lives_on: LivesOn, command: str
) -> None:
    life = lives_on(Script(breaks_at=command), Script())
    assert life.live(use_s=0) is None
    assert reasons(life) == ["ready"]
    assert len(life.connector.connections) == 2
    assert_nothing_is_left(life)


def test_an_ssh_server_that_stays_away_while_the_instance_is_prepared_is_held_against_the_machine(
    lives_on: LivesOn,
) -> None:
    life = lives_on(Script(ssh_gap_s=(45, 9000)), Script())
    assert life.live(use_s=0) is None
    assert reasons(life) == ["ssh_lost", "ready"]
    assert_nothing_is_left(life)


def test_a_direct_port_that_appears_later_is_used_instead_of_the_proxy(lives_on: LivesOn) -> None:
    life = lives_on(Script(ports_late_s=20, proxy_works=True))
    rental = life.bring_up()
    proxy, direct = life.connector.connections
    assert (proxy.address.kind, direct.address.kind) == ("proxy", "direct")
    assert rental.connected.connection() is direct
    rental.give_back()
    assert_nothing_is_left(life)


def test_random_lives_leave_nothing(tmp_path: Path) -> None:
    dice = random.Random(7)
    threads = threading.active_count()
    for _ in range(50):
        life = Life(tmp_path, [_any_script(dice) for _ in range(dice.randrange(1, 6))], KEY)
        problem = life.live(use_s=dice.uniform(0, 3600))
        assert_nothing_is_left(life)
        ready = [rental for rental in life.rentals if "ready" in life.ledger.steps[rental.label]]
        assert (problem is None) == (len(ready) == 1)
        assert isinstance(problem, ProvisioningFailed | None)
    assert threading.active_count() == threads


def _any_script(dice: random.Random) -> Script:
    return Script(
        listed_after_s=dice.choice((0, 0, 3)),
        boot_s=dice.uniform(5, 400),
        offline_s=dice.choice((None, None, (10, 40), (10, 400))),
        ports_late_s=dice.choice((0, 0, 0, 20, 9000)),
        hijacked_s=dice.choice((0, 0, 0, 20, 9000)),
        onstart_ignored=dice.random() < 0.2,
        attach_ignored=dice.random() < 0.2,
        never_runs=dice.random() < 0.1,
        ssh_from_s=dice.choice((None, None, dice.uniform(1, 100))),
        refuses_s=dice.choice((0, 5, 90, 400)),
        refuses_key_s=dice.choice((0, 0, 60, 300)),
        no_switch=dice.random() < 0.2,
        start_s=dice.uniform(1, 300),
        exit_code=dice.choice((None, None, None, None, 1)),
        log=("loading", "compiling", "ready"),
        vanishes_after_s=dice.choice((1e9, 1e9, 1e9, dice.uniform(1, 500))),
    )


def test_the_same_life_twice_is_the_same(tmp_path: Path) -> None:
    told = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        life = Life(tmp_path / name, [Script(refuses_key_s=9000), Script()], KEY)
        life.live()
        told.append((life.clock.now, [rental.bill.cost_usd for rental in life.rentals], life.ledger.steps.keys()))
    assert [each[:2] for each in told[:1]] == [each[:2] for each in told[1:]]


@pytest.mark.parametrize("after_s", [0.0, 3.0, 19.0, 26.0, 40.0])
def test_a_life_that_is_called_off_gives_back_what_it_has(lives_on: LivesOn, after_s: float) -> None:
    life = lives_on(Script())
    life.clock.at(after_s, life.cancel.cancel)
    with pytest.raises(Cancelled):
        life.bring_up()
    assert_nothing_is_left(life)


def test_what_cannot_be_asked_for_is_no_rent_that_may_have_happened(
    lives_on: LivesOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = lives_on(Script())
    monkeypatch.delattr(type(life.provider), "self_destruct")
    with pytest.raises(AttributeError):
        life.bring_up()
    (rental,) = life.rentals
    assert (rental.unsettled, rental.cost_usd, life.ledger.steps) == (False, 0.0, {})


def test_a_connection_that_is_made_while_the_life_is_called_off_is_closed(lives_on: LivesOn) -> None:
    life = lives_on(Script(boot_s=400, ssh_from_s=30))
    life.connector.on_connect = life.cancel.cancel
    with pytest.raises(Cancelled):
        life.bring_up()
    assert len(life.connector.connections) == 1
    assert_nothing_is_left(life)


def test_tries_before_it_runs_are_a_pause_apart_however_long_one_takes(lives_on: LivesOn) -> None:
    life = lives_on(Script(boot_s=100, ssh_from_s=1))
    tries = []

    def silent(_: object) -> bool:
        began = life.clock.monotonic()
        life.clock.sleep(9)
        tries.append((began, life.clock.monotonic()))
        return False

    life.connector.speaks_ssh = silent  # type: ignore[assignment, method-assign]
    life.bring_up().give_back()
    pauses = [later[0] - earlier[1] for earlier, later in pairwise(tries)]
    assert len(pauses) > 3
    assert min(pauses) >= EARLY_KNOCK_S


def test_an_instance_in_use_hears_of_us_until_it_is_given_back(lives_on: LivesOn) -> None:
    life = lives_on(Script())
    rental = life.bring_up()
    life.clock.sleep(3000)
    assert rental.state is State.READY
    (instance,) = life.provider.instances.values()
    assert instance.lease_ends > life.clock.now
    reply = rental.beating.last_words(600)
    assert isinstance(reply, HeartbeatReply)
    life.clock.sleep(601)
    assert life.provider.list_instances() == [], "nobody looked after it any more"
    rental.give_back()
    assert_nothing_is_left(life)


def test_silence_that_our_own_network_explains_is_held_against_no_machine(lives_on: LivesOn) -> None:
    life = lives_on(Script(dark=True), Script(dark=True), Script(dark=True))
    life.connector.proxy_answers = False  # as behind a firewall that drops it all
    problem = life.live()
    assert "lets connections to any TCP port out" in str(problem)
    assert reasons(life) == ["ssh_dark_from_here"] * 2, "once may be the proxy's trouble, twice is ours"
    assert {attempt.verdict and attempt.verdict.failure_class for attempt in life.records} == {FailureClass.OWN_FAULT}
    assert_nothing_is_left(life)


def test_a_host_that_is_dark_is_blamed_where_the_proxy_answers(lives_on: LivesOn) -> None:
    life = lives_on(Script(dark=True), Script())
    assert life.live() is None
    assert reasons(life) == ["ssh_black_hole", "ready"]


def test_a_server_that_stands_still_after_what_it_printed_has_failed(tmp_path: Path) -> None:
    script = Script(start_s=1, log=("OSError: [Errno 98] Address already in use",))
    life = Life(tmp_path, [script], KEY, adapter=CommandAdapter(), workload=command("serve", gpus=0, warmup_s=900))
    life.live()
    assert reasons(life) == ["address_in_use"]
    assert STILL_S < life.clock.now < STILL_S + 60
    assert_nothing_is_left(life)

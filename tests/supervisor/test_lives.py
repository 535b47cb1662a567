"""Whole lives on a virtual clock: no network, no process, and no thread that sleeps."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.diagnosis.hangs import STILL_S
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import RequestRejected
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.servers.command import CommandAdapter
from pytest_vastgpu.servers.command import command
from pytest_vastgpu.supervisor.pool.provisioner import STALE_OFFERS
from pytest_vastgpu.supervisor.rental.deadman import HeartbeatReply
from pytest_vastgpu.supervisor.rental.polling import EARLY_KNOCK_S
from pytest_vastgpu.supervisor.rental.retry import SAME_REFUSALS
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
    assert {steps[-1] for steps in life.ledger.steps.values()} <= {"gone", "not_created"}
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
        ([Script(boot_s=900, offline_s=(10, 900)), Script()], ["host_offline", "ready"], 3),
        ([Script(never_runs=True, messages=("created",)), Script()], ["boot_stalled", "ready"], 12),
        ([Script(refuses_s=9000), Script()], ["ssh_never_up", "ready"], 8),
        ([Script(refuses_key_s=9000), Script()], ["ssh_key_refused", "ready"], 8),
        ([Script(vanishes_after_s=15), Script()], ["ready"], 3),
        ([Script(refused="the host has blacklisted you (7)")] * 5 + [Script()], ["ready"], 2),
        ([Script(refused="invalid disk 1"), Script(refused="invalid disk 2"), Script()], ["ready"], 2),
        ([Script(exit_code=None, boot_s=900, offline_s=(10, 900))] + [Script(refused="no")] * 4, ["host_offline"], 3),
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


@pytest.mark.parametrize(
    "script",
    [
        Script(vanishes_after_s=15),
        Script(boot_s=60, messages=("Bind for 0.0.0.0:40123 failed: port is already allocated",)),
    ],
    ids=["vanishes", "ports"],
)
def test_an_offer_that_two_have_rented_is_no_attempt_and_no_mark_against_its_machine(
    lives_on: LivesOn, script: Script
) -> None:
    life = lives_on(script, Script(), vast_attempts="1")
    assert life.live() is None
    assert reasons(life) == ["ready"]
    assert [rental.offer.machine_id for rental in life.rentals] == [1, 2]
    assert "failed: unknown: offer_sold_twice" in " ".join(event.text for event in life.events.events)
    assert_nothing_is_left(life)


def test_a_request_that_every_host_refuses_ends_with_the_market_s_words(lives_on: LivesOn) -> None:
    life = lives_on(*[Script(refused=f"'disk' must be below {number} GB") for number in range(9)])
    problem = life.live()
    assert type(problem) is RequestRejected
    assert "refused 3 offers in a row" in str(problem)
    assert "'disk' must be below 2 GB" in str(problem)
    assert len(life.rentals) == SAME_REFUSALS
    assert {steps[-1] for steps in life.ledger.steps.values()} == {"not_created"}


def test_a_market_whose_few_offers_are_all_refused_is_told_with_its_words(lives_on: LivesOn) -> None:
    problem = lives_on(Script(refused="blacklisted by this host"), Script(refused="image too long")).live()
    assert isinstance(problem, ProvisioningFailed)
    assert "were refused by the market or their hosts; the last refusal: image too long" in str(problem)


def test_hosts_that_all_have_blacklisted_the_account_are_not_tried_without_end(lives_on: LivesOn) -> None:
    life = lives_on(*[Script(refused="this host has blacklisted you")] * (STALE_OFFERS + 5))
    assert "blacklisted you" in str(life.live())
    assert len(life.rentals) == STALE_OFFERS

"""Whole lives on a virtual clock: no network, no process, and no thread that sleeps."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.ledger_record import make_label
from pytest_vastgpu.diagnosis.hangs import STILL_S
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.errors import OfferGone
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import RequestRejected
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Workload
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.reporting.sentences import count
from pytest_vastgpu.servers.command import CommandAdapter
from pytest_vastgpu.servers.command import command
from pytest_vastgpu.supervisor.pool.provisioner import STALE_OFFERS
from pytest_vastgpu.supervisor.rental.deadman import HeartbeatReply
from pytest_vastgpu.supervisor.rental.polling import EARLY_KNOCK_S
from pytest_vastgpu.supervisor.rental.retry import SAME_REFUSALS
from tests.support.lives import Life
from tests.support.lives import any_key
from tests.support.lives import assert_nothing_is_left
from tests.support.lives import reasons
from tests.support.looks import until
from tests.support.memory import Script

KEY = any_key()
SLOW = (
    "img: Pulling fs layer",
    "5f70bf18a086: Pull complete",
    "Get:12 http://archive.example openssh-server",
    "loaded",
)
PORT_TAKEN = "Bind for 0.0.0.0:40123 failed: port is already allocated"
LivesOn = Callable[..., Life]


@pytest.fixture
def lives_on(tmp_path: Path) -> LivesOn:
    """A life on machines that behave like this, the cheapest first."""
    return lambda *scripts, **options: Life(tmp_path, scripts, KEY, options)


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
        ([Script(vanishes_after_s=15), Script()], ["ready"], 3),
        ([Script(vanishes_after_s=60, refuses_s=250), Script()], ["instance_vanished", "ready"], 3),
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
    before = set(threading.enumerate())
    for _ in range(25):
        life = Life(tmp_path, [_any_script(dice) for _ in range(dice.randrange(1, 6))], KEY)
        problem = life.live(use_s=dice.uniform(0, 3600))
        assert_nothing_is_left(life)
        ready = [rental for rental in life.rentals if "ready" in life.ledger.steps[rental.label]]
        assert (problem is None) == (len(ready) == 1)
        assert isinstance(problem, ProvisioningFailed | None)
    until(lambda: set(threading.enumerate()) - before, lambda left: not left)


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
        told.append((life.clock.now, [rental.cost.bill.cost_usd for rental in life.rentals], life.ledger.steps.keys()))
    assert [each[:2] for each in told[:1]] == [each[:2] for each in told[1:]]


@pytest.mark.parametrize("after_s", [0.0, 3.0, 19.0, 26.0, 40.0])
def test_a_life_that_is_called_off_gives_back_what_it_has(lives_on: LivesOn, after_s: float) -> None:
    life = lives_on(Script())
    life.clock.at(after_s, life.cancel.cancel)
    with pytest.raises(Cancelled):
        life.bring_up()
    assert_nothing_is_left(life)


@pytest.mark.parametrize("step", ["stop", "close", "keep"])
def test_an_error_in_a_step_of_the_end_keeps_nothing_from_being_destroyed(
    lives_on: LivesOn, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    life = lives_on(Script())
    rental = life.bring_up()

    def fails(*_: object) -> None:
        raise RuntimeError("a defect")

    assert rental.heartbeat is not None
    assert rental.connection is not None
    where = {"stop": rental.heartbeat, "close": rental.connection, "keep": rental}[step]
    monkeypatch.setattr(where, {"keep": "_keep_for_inspection"}.get(step, step), fails)
    rental.give_back()
    assert life.provider.instances == {}
    assert any("RuntimeError: a defect" in event.text for event in life.events.events)


def test_a_failure_while_the_run_is_called_off_is_held_against_no_machine(lives_on: LivesOn) -> None:
    life = lives_on(Script(dark=True))

    def called_off() -> None:
        life.cancel.cancel()

    life.connector.on_connect = called_off
    life.clock.at(19.0, called_off)
    with pytest.raises(Cancelled):
        life.bring_up()
    assert life.records == []
    assert_nothing_is_left(life)


def test_what_cannot_be_asked_for_is_no_rent_that_may_have_happened(
    lives_on: LivesOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = lives_on(Script())
    monkeypatch.delattr(type(life.provider), "self_destruct")
    with pytest.raises(AttributeError):
        life.bring_up()
    (rental,) = life.rentals
    assert (rental.unsettled, rental.cost.usd, life.ledger.steps) == (False, 0.0, {})


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


def test_what_the_user_destroys_while_it_boots_is_held_against_no_machine(lives_on: LivesOn) -> None:
    life = lives_on(Script(vanishes_after_s=15), Script())
    life.ledger.destroyed.add(make_label("abcd1234", 1, life.clock.time() + life.services.settings.longest_life))
    problem = life.live()
    assert "you have destroyed it with `vastgpu destroy`" in str(problem)
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


def told(number: int, text: str) -> str:
    """What the watcher tells of a probe of the adapter ``command``: 1 its answers, 2 where it listens."""
    return f"probe {number} 0 5 {text.encode().hex()} "


@pytest.mark.parametrize(
    ("updates", "elsewhere", "names", "seconds"),
    [
        (
            (told(1, "\n@> http://127.0.0.1:8000/up \n@@ ready 404\n"), told(2, "0100007F:1F40\n")),
            "",
            ("ready_path='/up'", "404"),
            30,
        ),
        (
            (told(1, "\n@> http://127.0.0.1:8000/up \n@@ ready 000\n"), told(2, "00000000:2328\n")),
            "\n@> http://127.0.0.1:9000/up \n@@ at0 200\n",
            ("port=8000", "port=9000"),
            30,
        ),
        (
            (told(1, "\n@> http://127.0.0.1:8000/up \n@@ ready 401\n"), told(2, "0100007F:1F40\n")),
            "",
            ("ready_path='/up'", "401", "VASTGPU_API_KEY"),
            120,
        ),
    ],
)
def test_a_server_asked_wrongly_costs_one_machine_and_the_remedy_names_both_values(
    tmp_path: Path, updates: Sequence[str], elsewhere: str, names: Sequence[str], seconds: int
) -> None:
    script = Script(start_s=1, log=("serving",), updates=tuple((3.0, line) for line in updates), elsewhere=elsewhere)
    workload = command("serve", gpus=0, ready_path="/up")
    life = Life(tmp_path, [script] * 5, KEY, adapter=CommandAdapter(), workload=workload)
    life.live()
    (attempt,) = life.records
    assert attempt.verdict is not None
    assert attempt.verdict.failure_class is FailureClass.WORKLOAD_FATAL
    assert [name for name in names if name not in attempt.verdict.remedy] == []
    assert seconds <= attempt.seconds["warming"] < seconds + 10
    assert_nothing_is_left(life)


def test_attempts_are_numbered_by_workload_and_every_event_names_it(lives_on: LivesOn) -> None:
    life = lives_on(Script(refuses_s=9000), Script(), Script(boot_s=900, offline_s=(10, 900)), Script())
    one, two = (replace(life.workload, model=model) for model in ("one", "two"))
    for workload in (one, two):
        life.bring_up(workload)
    named = [(attempt.workload, attempt.number) for attempt in life.records]
    assert named == [("scripted 'one'", 1), ("scripted 'one'", 2), ("scripted 'two'", 1), ("scripted 'two'", 2)]
    labels = [attempt.label for attempt in life.records]
    assert len(set(labels)) == 4
    whose = dict(zip(labels, named, strict=True))
    steps = [event for event in life.events.events if event.label]
    assert steps
    assert [(e.facts["workload"], e.facts["attempt"]) for e in steps] == [whose[e.label] for e in steps]
    for words in ("renting", "created instance", "ready after"):
        lines = [event.text for event in steps if words in event.text]
        assert all("scripted 'one'" in line or "scripted 'two'" in line for line in lines)
        assert len(lines) in (2, 4)
    assert [e.text.partition(": renting")[0] for e in steps if ": renting" in e.text] == ["attempt 1", "attempt 2"] * 2


def test_all_attempts_are_summed_up_in_the_error_and_in_the_events(lives_on: LivesOn) -> None:
    life = lives_on(Script(refuses_s=9000), Script(refuses_key_s=9000), Script(refuses_s=9000))
    find = life.find

    def find_or_explain(workload: Workload, failed: frozenset[int], gone: frozenset[int]) -> Sequence[Offer]:
        found = find(workload, failed, gone)
        if not found:
            raise NoOffers("no offers: --vast-max-price=2.00 would admit machine 9\nthe only offer:\n  1 by price")
        return found

    life.find = find_or_explain  # type: ignore[method-assign] # as a market whose offers are used up
    text = str(life.live())
    told = "3 attempts: 2 infra_fatal: ssh_never_up (machines 1, 3), 1 infra_fatal: ssh_key_refused (machine 2)"
    assert f"\n  together: {told}\n" in text
    assert "\n  no other offer is tried: there is none: --vast-max-price=2.00 would admit machine 9\n" in text
    assert text.count("what to do:") == 1
    assert text.count("is tried") == 1, "nothing says that another one is"
    assert [event.text for event in life.events.events if not event.label] == [f"giving up scripted: {told}"]


def test_the_last_attempt_that_is_allowed_says_so(lives_on: LivesOn) -> None:
    life = lives_on(*[Script(refuses_s=9000)] * 3, vast_attempts="2")
    assert "\n  no other offer is tried: --vast-attempts 2 allows no more" in str(life.live())


def test_attempts_are_told_also_where_others_took_the_last_offer(lives_on: LivesOn) -> None:
    life = lives_on(Script(refuses_s=9000), Script())
    create = life.provider.create

    def create_first_only(offer_id: int, request: CreateRequest) -> int:
        if offer_id != min(life.provider.offers):
            raise OfferGone(f"offer {offer_id} is gone")
        return create(offer_id, request)

    life.provider.create = create_first_only  # type: ignore[method-assign] # as a market on which others rent, too
    text = str(life.live())
    assert "infra_fatal: ssh_never_up" in text
    assert "\n  no other offer is tried: 1 offer taken by others, and no other is left; try again" in text


@pytest.mark.parametrize(
    "script",
    [
        Script(vanishes_after_s=15),
        Script(boot_s=60, messages=(PORT_TAKEN,)),
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


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (Script(boot_s=900, messages=SLOW, vanishes_after_s=600), "instance_vanished"),
        (Script(boot_s=400, messages=SLOW, vanishes_after_s=150), "instance_vanished"),
        (Script(boot_s=900, messages=(*SLOW, PORT_TAKEN)), "host_port_taken"),
        (Script(boot_s=900, messages=("created",), vanishes_after_s=250), "instance_vanished"),
    ],
)
def test_a_boot_that_has_got_on_had_its_machine(lives_on: LivesOn, script: Script, reason: str) -> None:
    life = lives_on(script, Script())
    assert life.live() is None
    assert reasons(life) == [reason, "ready"]
    assert_nothing_is_left(life)


@pytest.mark.parametrize("most", [1, 3])
def test_offers_that_two_have_rented_again_and_again_are_attempts(lives_on: LivesOn, most: int) -> None:
    gone = Script(vanishes_after_s=15)
    life = lives_on(*[gone] * 8, vast_attempts=str(most))
    text = str(life.live())
    assert len(life.rentals) == 1 + most, "the first is bad luck"
    assert f"({count(most, 'attempt')})" in text
    assert f"no other offer is tried: --vast-attempts {most} allows no more" in text
    assert text.count("is tried") == 1, "nothing says that another one is"
    assert life.records == [], "it is held against no machine"
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

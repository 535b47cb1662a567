"""Lives on a market that lags and leaves gaps, and on images that let a key in late or one way only."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.errors import RequestRejected
from pytest_vastgpu.hostcheck import judge
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.providers.base import Phase
from pytest_vastgpu.ssh.base import AddressFailure
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.base import Connection
from pytest_vastgpu.supervisor.rental.server import job
from tests.support.lives import Life
from tests.support.lives import any_key
from tests.support.lives import assert_nothing_is_left
from tests.support.lives import reasons
from tests.support.memory import MemoryForward
from tests.support.memory import Script

KEY = any_key()
LivesOn = Callable[..., Life]


@pytest.fixture
def lives_on(tmp_path: Path) -> LivesOn:
    """A life on machines that behave like this, the cheapest first."""
    return lambda *scripts, **options: Life(tmp_path, scripts, KEY, options)


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


@pytest.mark.parametrize("looks", [1, 1000])
def test_a_start_that_is_quicker_than_a_second_report_waits_for_it(lives_on: LivesOn, looks: int) -> None:
    asked = []

    def reports(_: int, status: InstanceStatus) -> InstanceStatus | None:
        asked.append(status.id)
        return GAPS["no price in this world"](status) if len(asked) <= looks else status

    life = lives_on(Script(ssh_from_s=0, refuses_s=0, start_s=0, reports=reports), Script())
    assert life.live(use_s=0) is None
    assert reasons(life) == (["ready"] if looks == 1 else ["price_incredible", "ready"])
    launched = [event.label for event in life.events.events if event.text.endswith("server launched")]
    assert launched == [rental.label for rental in life.rentals][-1:], "not on one whose price is in doubt"


def test_one_that_is_not_there_while_it_boots_is_gone_to_another_client(lives_on: LivesOn) -> None:
    life = lives_on(Script(boot_s=60, reports=lambda _, __: None), Script())
    assert life.live(use_s=0) is None
    assert reasons(life) == ["ready"]
    assert [rental.offer.machine_id for rental in life.rentals] == [1, 2]


def test_an_instance_that_no_list_shows_is_asked_for_by_its_id(lives_on: LivesOn) -> None:
    life = lives_on(Script(listed_after_s=9000))
    assert life.live(use_s=0) is None
    assert reasons(life) == ["ready"]
    assert "show" in life.provider.calls


def test_a_row_with_our_label_and_another_id_is_not_ours(lives_on: LivesOn) -> None:
    life = lives_on(Script())
    life.services.poller._ask = lambda label: [
        replace(ended(status), id=77) for status in life.provider.list_instances(label)
    ]
    assert life.live(use_s=0) is None
    assert reasons(life) == ["ready"]


def test_a_better_address_gets_its_own_time_to_let_us_in(lives_on: LivesOn) -> None:
    """The proxy refuses for nearly as long as a host may, then a direct port is published that is not up yet."""
    life = lives_on(Script(ports_late_s=295, refuses_s=310), Script())
    assert life.live(use_s=0) is None
    assert reasons(life) == ["ready"]


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


@pytest.mark.parametrize("command", [judge.SCRIPT, job.MAKE_FOLDERS, job.UNPACK, job.start()])
def test_a_connection_that_breaks_while_the_instance_is_prepared_costs_no_attempt(
    lives_on: LivesOn, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("text")
    life = lives_on(Script(breaks_at=command), Script())
    life.workload = replace(life.workload, files=(("file", str(tmp_path / "file")),))
    assert life.live(use_s=0) is None
    assert reasons(life) == ["ready"]
    assert len(life.connector.connections) == 2
    assert life.rentals[0].host_facts.complete
    assert_nothing_is_left(life)


@pytest.mark.parametrize("command", [judge.SCRIPT, job.MAKE_FOLDERS])
def test_a_connection_that_breaks_at_the_same_step_again_and_again_is_held_against_the_machine(
    lives_on: LivesOn, command: str
) -> None:
    life = lives_on(Script(breaks_at=command, breaks=1000), Script())
    assert life.live(use_s=0) is None
    assert reasons(life) == ["ssh_lost", "ready"]
    first = life.records[0].verdict
    assert first is not None
    assert first.failure_class is FailureClass.INFRA_FATAL
    assert "failed 3 times in a row" in first.evidence
    assert life.clock.now < 300, "it is not tried until the end of its life"
    assert_nothing_is_left(life)


def test_a_network_of_ours_that_is_down_for_a_while_costs_no_attempt(
    lives_on: LivesOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = lives_on(Script(ssh_gap_s=(45, 200)), Script())
    show = life.provider.show

    def silent(instance_id: int) -> InstanceStatus | None:
        if 45 <= life.clock.now < 200:
            raise MarketUnreachable("no route")
        return show(instance_id)

    monkeypatch.setattr(life.provider, "show", silent)
    assert life.live(use_s=0) is None
    assert reasons(life) == ["ready"]
    assert life.clock.now >= 200


def test_a_network_of_ours_that_stays_down_ends_a_bring_up(lives_on: LivesOn, monkeypatch: pytest.MonkeyPatch) -> None:
    life = lives_on(Script(ssh_gap_s=(45, 9000)), Script())
    show = life.provider.show

    def silent(instance_id: int) -> InstanceStatus | None:
        if life.clock.now >= 45:
            raise MarketUnreachable("no route")
        return show(instance_id)

    monkeypatch.setattr(life.provider, "show", silent)
    problem = life.live(use_s=0)
    assert isinstance(problem, MarketUnreachable)
    assert "nor the market has answered for 3" in str(problem)
    assert 45 + DEFAULTS.market_silence_s <= life.clock.now < 60 + 2 * DEFAULTS.market_silence_s
    assert life.records == [], "no machine is blamed"
    told = [event.text for event in life.events.events if "SSH" in event.text and "answer" in event.text]
    assert [text.partition(": ")[2] for text in told[1:]] == [
        "neither SSH nor the market answers: our own network may be down"
    ]


def test_a_connection_that_breaks_twice_costs_no_attempt(lives_on: LivesOn) -> None:
    life = lives_on(Script(breaks_at=job.MAKE_FOLDERS, breaks=2), Script())
    assert life.live(use_s=0) is None
    assert reasons(life) == ["ready"]


def test_a_port_that_is_forwarded_when_the_connection_breaks_is_used_once_it_is_back(
    lives_on: LivesOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = lives_on(Script(), Script())
    forward = life.connector.forward

    def refuses() -> None:
        life.connector.on_connect = lambda: None
        last = life.connector.connections[-1]
        last.close()
        raise ConnectFailed([AddressFailure(last.address, ProbeFailure.REFUSED, "refused")])

    def breaks(connection: Callable[[], Connection | None], port: int) -> MemoryForward:
        if not life.connector.forwards:
            life.connector.connections[-1].close()
            life.connector.on_connect = refuses
        return forward(connection, port)

    monkeypatch.setattr(life.connector, "forward", breaks)
    life.bring_up()
    (forwarded,) = life.connector.forwards
    assert not forwarded.closed
    life.rentals[0].give_back()
    assert forwarded.closed
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

"""What destroys survives every exception, and goes on for its full time."""

from __future__ import annotations

import itertools
import json
import resource
import time
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import make_label
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from pytest_vastgpu.supervisor.cleanup.destroy import destroy
from pytest_vastgpu.supervisor.cleanup.guard_process import PERSEVERE_S
from pytest_vastgpu.supervisor.cleanup.guard_process import persevere
from pytest_vastgpu.supervisor.cleanup.recover import recover
from pytest_vastgpu.supervisor.cleanup.sweep import sweep
from pytest_vastgpu.supervisor.ledger.ledger import Ledger
from tests.support.factories import make_offer
from tests.support.looks import forked
from tests.support.memory import MemoryProvider
from tests.support.virtual import VirtualClock

RUN = "abcd1234"
ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: ValueError("a defect"),
    lambda: RecursionError("nested too deep"),
    lambda: KeyError("instances"),
    lambda: AttributeError("'NoneType' object has no attribute 'get'"),
    lambda: OSError(24, "Too many open files"),
    lambda: UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    lambda: MemoryError(),
    lambda: RuntimeError("can't start new thread"),
    lambda: MarketAnswerInvalid("the market's answer is not JSON"),
    lambda: BadApiKey("the key is refused", status=401),
    lambda: NotAuthorized("the key lacks a scope", status=403),
)


class OddMarket(MemoryProvider):
    """Every call raises an error, another one each time, until a moment."""

    def __init__(self, clock: VirtualClock, until_s: float, errors: Sequence[Callable[[], Exception]] = ERRORS) -> None:
        super().__init__(clock, [make_offer(id=1, machine_id=1), make_offer(id=2, machine_id=2)])
        self._until_s = until_s
        self._errors = itertools.cycle(errors)

    def _is_odd(self) -> None:
        if self.clock.monotonic() < self._until_s:
            raise next(self._errors)()

    def show(self, instance_id: int) -> InstanceStatus | None:
        self._is_odd()
        return super().show(instance_id)

    def list_instances(self, label: str | None = None) -> Sequence[InstanceStatus]:
        self._is_odd()
        return super().list_instances(label)

    def destroy(self, instance_id: int) -> None:
        self._is_odd()
        super().destroy(instance_id)


def rented(market: MemoryProvider, offer: int = 1, *, lifetime_s: float = 3600) -> tuple[int, str]:
    label = make_label(RUN, offer, market.clock.time() + lifetime_s)
    return market.create(offer, CreateRequest("image", 10, label)), label


def test_a_destroy_survives_every_exception() -> None:
    clock = VirtualClock()
    market = OddMarket(clock, DEFAULTS.destroy_within_s - 20)
    instance, _ = rented(market)
    causes: list[str] = []
    destroy(market, instance, clock.sleep, DEFAULTS, clock, causes.append)
    assert market.instances == {}
    assert len(causes) > len(ERRORS), "each kind was met"


@pytest.mark.parametrize("error", ERRORS, ids=[type(error()).__name__ for error in ERRORS])
def test_a_destroy_that_does_not_succeed_goes_on_for_its_full_time_and_says_why(
    error: Callable[[], Exception],
) -> None:
    clock = VirtualClock()
    market = OddMarket(clock, 1e9, [error])
    instance, _ = rented(market)
    with pytest.raises(NotDestroyed, match="vastgpu destroy") as told:
        destroy(market, instance, clock.sleep, DEFAULTS, clock)
    assert clock.now >= DEFAULTS.destroy_within_s
    assert str(error()) in str(told.value)


def test_a_destroy_that_is_called_off_ends() -> None:
    clock = VirtualClock()

    def wait(_: float) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        destroy(OddMarket(clock, 1e9), 1, wait, DEFAULTS, clock)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / RUN


def test_a_recovery_survives_every_exception(directory: Path) -> None:
    clock = VirtualClock(time.time())
    market = OddMarket(clock, PERSEVERE_S - 60)
    ledger = Ledger(directory)
    for offer in (1, 2):
        instance, label = rented(market, offer)
        ledger.write(label, "created", instance_id=instance)
    ledger.close()
    done = recover(directory, market, by="guard", wait=clock.sleep, within_s=PERSEVERE_S, clock=clock)
    assert (sorted(done.destroyed), done.problems) == ([1, 2], [])
    assert market.instances == {}


def hide(directory: Path, clock: VirtualClock, from_s: float, until_s: float | None) -> None:
    """Have the ledger of a run away for a while; None: for good."""
    file, aside = directory / FILE, directory / "aside"

    def move(what: Path, where: Path) -> None:
        what.rename(where)

    clock.at(from_s, lambda: move(file, aside))
    if until_s is not None:
        clock.at(until_s, lambda: move(aside, file))


def test_a_ledger_that_cannot_be_read_for_a_while_ends_no_recovery(directory: Path) -> None:
    clock = VirtualClock(time.time())
    market = OddMarket(clock, 30.0)
    instance, label = rented(market)
    ledger = Ledger(directory)
    ledger.write(label, "created", instance_id=instance)
    ledger.close()
    hide(directory, clock, 5, 60)
    assert recover(directory, market, by="guard", wait=clock.sleep, clock=clock).destroyed == [instance]
    assert clock.now >= 60


@pytest.mark.parametrize("back_after_s", [60.0, None], ids=["for a while", "at all"])
def test_what_is_kept_is_left_alone_while_a_ledger_that_cannot_be_read_may_be_read_again(
    directory: Path, back_after_s: float | None
) -> None:
    clock = VirtualClock(time.time())
    market = OddMarket(clock, 30.0)
    ledger = Ledger(directory)
    kept, label = rented(market, 1)
    ledger.write(label, "created", instance_id=kept)
    ledger.write(label, "kept", until=clock.time() + 3600)
    left, label = rented(market, 2)
    ledger.write(label, "created", instance_id=left)
    ledger.close()
    hide(directory, clock, 5, back_after_s)
    done = recover(directory, market, by="guard", wait=clock.sleep, within_s=120, clock=clock)
    if back_after_s is not None:
        assert (done.destroyed, list(market.instances), done.problems) == ([left], [kept], [])
    else:
        assert sorted(done.destroyed) == [kept, left], "in the end, money counts for more"
        assert clock.now >= 120
        assert f"vastgpu destroy --run {RUN}" in done.problems[0]


def test_a_recovery_that_does_not_succeed_goes_on_for_its_full_time(directory: Path) -> None:
    clock = VirtualClock(time.time())
    market = OddMarket(clock, 1e9)
    instance, label = rented(market)
    ledger = Ledger(directory)
    ledger.write(label, "created", instance_id=instance)
    ledger.close()
    problems = recover(directory, market, by="guard", wait=clock.sleep, within_s=PERSEVERE_S, clock=clock).problems
    assert clock.now >= PERSEVERE_S
    assert f"run `vastgpu destroy {instance}`" in problems[-1]


def test_a_sweep_has_its_turn_with_every_run_whatever_is_wrong_with_one(tmp_path: Path) -> None:
    clock = VirtualClock(time.time())
    market = MemoryProvider(clock, [make_offer(id=1, machine_id=1), make_offer(id=2, machine_id=2)])
    late, _ = rented(market, 1, lifetime_s=-600)
    runs = tmp_path / "runs"
    instance, label = rented(market, 2)
    for name in ("0000aaaa", RUN, "ffffffff"):
        (runs / name).mkdir(parents=True, mode=0o700)
        (runs / name / FILE).write_text(
            json.dumps({"step": "created", "label": label, "instance_id": instance}) + "\n" if name == RUN else ""
        )
    (runs / "0000aaaa" / FILE).write_text(json.dumps({"step": "run", "pid": "1e999", "market": [], "url": {}}) + "\n")
    (runs / "ffffffff" / FILE).unlink()
    (runs / "ffffffff" / FILE).mkdir()
    swept = sweep(market, runs, "", by="sweep", wait=clock.sleep)
    assert (sorted(swept.destroyed), swept.problems) == ([late, instance], [])


def test_a_ledger_that_cannot_be_written_keeps_nothing_from_being_destroyed(tmp_path: Path) -> None:
    clock = VirtualClock(time.time())
    market = OddMarket(clock, 0.0)
    instance, _ = rented(market)
    (tmp_path / "a file").touch()
    done = recover(tmp_path / "a file" / RUN, market, by="guard", wait=clock.sleep, within_s=60, clock=clock)
    assert done.destroyed == [instance], "the market knows what the run has left"
    (problem,) = done.problems
    assert f"vastgpu destroy --run {RUN}" in problem


def test_a_recovery_that_cannot_note_what_is_gone_comes_to_its_end(directory: Path) -> None:
    clock = VirtualClock(time.time())
    market = OddMarket(clock, 0.0)
    ledger = Ledger(directory)
    instance, label = rented(market)
    ledger.write(label, "created", instance_id=instance)
    ledger.close()

    def recovered() -> bool:
        resource.setrlimit(resource.RLIMIT_FSIZE, ((directory / FILE).stat().st_size,) * 2)  # as a full disk
        done = recover(directory, market, by="guard", wait=clock.sleep, within_s=60, clock=clock)
        return done.destroyed == [instance] and done.problems == []

    forked(recovered)


# --- the guard --------------------------------------------------------------------------------------------------------


def test_a_guard_survives_every_exception() -> None:
    errors = iter(ERRORS)
    pauses: list[float] = []

    def take_over() -> int:
        for error in errors:
            raise error()
        return 0

    assert persevere(take_over, lambda: True, PERSEVERE_S, pauses.append) == 0
    assert len(pauses) == len(ERRORS)


def test_a_guard_gives_up_when_its_time_is_over_or_its_run_was_removed() -> None:
    def take_over() -> int:
        raise ValueError("a defect")

    assert persevere(take_over, lambda: True, 0.0, lambda _: pytest.fail("it tries again")) == 1
    assert persevere(take_over, lambda: False, PERSEVERE_S, lambda _: pytest.fail("it tries again")) == 1

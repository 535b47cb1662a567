"""The record of our SSH key in the account: only what our runs have added is taken out, and by the last of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_vastgpu.core.ledger_record import make_label
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.core.ownership import ownership
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.selection.offer_query import OfferQuery
from pytest_vastgpu.ssh.keys import KeyPair
from pytest_vastgpu.ssh.keys import load_key
from pytest_vastgpu.supervisor.cleanup.account_key import note_key
from pytest_vastgpu.supervisor.cleanup.account_key import take_out_key
from pytest_vastgpu.supervisor.cleanup.recover import recover
from pytest_vastgpu.supervisor.cleanup.sweep import orphans
from pytest_vastgpu.supervisor.ledger.ledger import Ledger
from tests.support.factories import make_offer
from tests.support.memory import MemoryProvider
from tests.support.memory import fleet
from tests.support.virtual import VirtualClock

MARKET = "a market and an account"
USERS = "ssh-rsa AAAAB3NzaC1yc2E= of the user"
MADE = load_key({}, Path("/nonexistent"))


class Account:
    """The account, and runs that rent with it."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.provider = MemoryProvider(VirtualClock(), fleet(make_offer(), 9))
        self.provider.keys[9001] = USERS
        self.living = ExitStack()
        self._owners: dict[str, ExitStack] = {}

    @property
    def keys(self) -> list[str]:
        return list(self.provider.keys.values())

    def any_offer(self) -> int:
        return self.provider.search(OfferQuery((), 10, 9))[0].id

    def run(self, name: str, key: KeyPair, *, rents: bool = True) -> Ledger:
        """Begin a run, which owns its directory."""
        ledger = Ledger(self.runs / name)
        ledger.begin(name, MARKET, "http://memory.invalid", embedded=False)
        self._owners[name] = self.living.enter_context(ExitStack())
        self._owners[name].enter_context(ownership(self.runs / name))
        assert note_key(self.runs / name, self.provider, ledger, MARKET, key) == ""
        if rents:
            label = make_label(name, 1, 2e9)
            ledger.write(label, "intended")
            instance_id = self.provider.create(self.any_offer(), CreateRequest("image", 10, label))
            ledger.write(label, "created", instance_id=instance_id)
            self.provider.attach_key(instance_id, key.public_line)
        return ledger

    def give_back(self, name: str, ledger: Ledger) -> None:
        """Destroy its instance."""
        label = make_label(name, 1, 2e9)
        self.provider.destroy(read_ledger(ledger.path).entries[label].instance_id)
        ledger.write(label, "gone")

    def end(self, name: str, ledger: Ledger) -> str:
        """End a run as it should; what it has to say of the key."""
        if read_ledger(ledger.path).entries:
            self.give_back(name, ledger)
        told = take_out_key(self.runs / name, self.provider, ledger)
        self.die(name, ledger)
        return told

    def die(self, name: str, ledger: Ledger) -> None:
        """Strike a run down."""
        ledger.close()
        self._owners[name].close()


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    account = Account(tmp_path)
    yield account
    account.living.close()


@pytest.fixture(params=["made for the run", "of a file"])
def key(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return MADE if request.param == "made for the run" else key_of_a_file(tmp_path_factory.mktemp("key"))


def key_of_a_file(directory: Path) -> KeyPair:
    MADE.save(directory / "key")
    return load_key({"VAST_SSH_KEY_PATH": str(directory / "key")}, directory)


def test_a_run_takes_out_what_it_has_added_and_only_that(account: Account, key: KeyPair) -> None:
    ledger = account.run("one", key)
    assert account.keys == [USERS, key.public_line]
    assert account.end("one", ledger) == ""
    assert account.keys == [USERS]
    assert read_ledger(ledger.path).key == ""


def test_a_key_that_the_user_had_before_stays(account: Account, tmp_path: Path) -> None:
    key = key_of_a_file(tmp_path)
    theirs = key.public_line.replace("pytest-vastgpu", "laptop")
    account.provider.keys[9002] = theirs
    account.end("one", account.run("one", key))
    assert theirs in account.keys


def test_the_last_of_two_runs_with_one_key_takes_it_out(account: Account, tmp_path: Path) -> None:
    key = key_of_a_file(tmp_path)
    one, two = account.run("one", key), account.run("two", key)
    account.end("one", one)
    assert key.public_line in account.keys
    account.end("two", two)
    assert account.keys == [USERS]


def test_after_a_kill_guard_or_sweep_take_it_out(account: Account, key: KeyPair) -> None:
    ledger = account.run("one", key)
    account.give_back("one", ledger)
    account.die("one", ledger)
    (orphan,) = orphans(account.runs, MARKET, [])
    found = recover(orphan.directory, account.provider, by="sweep", wait=account.provider.clock.sleep)
    assert found.problems == []
    assert account.keys == [USERS]
    assert orphans(account.runs, MARKET, []) == []


def test_a_run_that_looks_for_its_creates_leaves_the_key_to_its_end(account: Account, key: KeyPair) -> None:
    ledger = account.run("one", key)
    account.give_back("one", ledger)
    wait = account.provider.clock.sleep
    assert recover(account.runs / "one", account.provider, by="owner", wait=wait, with_key=False).problems == []
    assert key.public_line in account.keys
    account.end("one", ledger)
    assert account.keys == [USERS]


def test_what_a_dead_run_has_added_is_not_taken_for_the_user_s(account: Account, tmp_path: Path) -> None:
    key = key_of_a_file(tmp_path)
    dead = account.run("one", key)
    account.give_back("one", dead)
    account.die("one", dead)
    two = account.run("two", key)
    recover(account.runs / "one", account.provider, by="sweep", wait=account.provider.clock.sleep)
    assert key.public_line in account.keys, "the living run uses it"
    account.end("two", two)
    assert account.keys == [USERS]


def test_a_run_of_another_machine_that_may_use_it_is_seen_by_its_instances(account: Account, tmp_path: Path) -> None:
    key = key_of_a_file(tmp_path)
    ledger = account.run("one", key)
    label = make_label("elsewhere", 1, 2e9)
    other = account.provider.create(account.any_offer(), CreateRequest("image", 10, label))
    account.end("one", ledger)
    assert key.public_line in account.keys
    account.provider.destroy(other)
    (orphan,) = orphans(account.runs, MARKET, [])
    recover(orphan.directory, account.provider, by="sweep", wait=account.provider.clock.sleep)
    assert account.keys == [USERS]


def test_it_stays_while_an_instance_is_left_or_kept(account: Account) -> None:
    ledger = account.run("one", MADE)
    ledger.write(make_label("one", 1, 2e9), "kept", until=4e9)
    assert take_out_key(account.runs / "one", account.provider, ledger) == ""
    assert MADE.public_line in account.keys
    account.end("one", ledger)
    assert account.keys == [USERS]


def test_a_run_that_has_rented_nothing_asks_for_nothing(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = account.run("one", MADE, rents=False)
    monkeypatch.delattr(type(account.provider), "account_keys")
    assert account.end("one", ledger) == ""
    assert orphans(account.runs, MARKET, []) == []


@pytest.mark.parametrize(
    ("error", "later"),
    [(NotAuthorized("lacks the scope user_write", status=403), False), (MarketUnreachable("no answer"), True)],
)
def test_a_record_that_cannot_be_taken_out_is_told_in_a_line(
    account: Account, monkeypatch: pytest.MonkeyPatch, error: MarketError, later: bool
) -> None:
    def refuse(_: object, key_id: int) -> None:
        raise error

    monkeypatch.setattr(type(account.provider), "delete_account_key", refuse)
    told = account.end("one", account.run("one", MADE))
    assert told == f"the SSH key that run one has added stays in the account: {error}"
    assert bool(orphans(account.runs, MARKET, [])) is later


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyError("id")])
def test_whatever_goes_wrong_is_told_and_raises_nothing(
    account: Account, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: Path) -> None:
        raise error

    ledger = account.run("one", MADE)
    account.give_back("one", ledger)
    with monkeypatch.context() as broken:
        broken.setattr("pytest_vastgpu.supervisor.cleanup.account_key.read_ledger", fail)
        told = take_out_key(account.runs / "one", account.provider, ledger)
    assert told.startswith("whether run one has left an SSH key in the account is not known: ")
    assert str(error) in told
    assert account.end("one", ledger) == ""
    assert account.keys == [USERS]


def test_a_key_that_may_not_look_leaves_the_record_and_says_so(
    account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(_: object) -> None:
        raise NotAuthorized("lacks the scope user_read", status=403)

    ledger = Ledger(account.runs / "one")
    monkeypatch.setattr(type(account.provider), "account_keys", refuse)
    told = note_key(account.runs / "one", account.provider, ledger, MARKET, key_of_a_file(tmp_path))
    assert "lacks the scope user_read" in told
    assert read_ledger(ledger.path).key == ""
    ledger.close()

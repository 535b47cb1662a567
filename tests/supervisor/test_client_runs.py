"""Which runs a supervisor serves, and when it is of no more use."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_vastgpu.client.calls import AdapterOffer
from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.plugin.options import resolve
from pytest_vastgpu.supervisor.client_run import ClientRun
from pytest_vastgpu.supervisor.client_runs import ClientRuns
from pytest_vastgpu.supervisor.client_runs import Refused
from pytest_vastgpu.supervisor.run import Run
from tests.support.lives import ScriptedAdapter
from tests.support.looks import until


class Owner:
    """A supervisor that is never asked."""

    log = ""

    def opened(self) -> Run:
        raise NotImplementedError

    def leaves(self, client: ClientRun) -> None:
        raise NotImplementedError


class Runs(ClientRuns):
    """Runs with adapters of these names."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.has([(ScriptedAdapter(), "this package")])
        self.directory = directory
        self.sockets: list[socket.socket] = []

    def one(self, *names: str, login: int = 0) -> ClientRun:
        settings = resolve({"vast_reuse": "20m"}.get, lambda _: None, {})
        offers = tuple(AdapterOffer(name, "an/image", 60.0, "a conftest file") for name in names)
        number = f"{len(self.sockets):08x}"
        opening = Opening("secret", number, settings, DEFAULTS, "/", 1, False, offers, (), "/", login)
        self.sockets.append(socket.socket(socket.AF_UNIX))
        return ClientRun(Owner(), opening, self.sockets[-1], self.directory)

    def joined(self, *names: str, login: int = 0) -> ClientRun:
        client = self.one(*names, login=login)
        self.add(client)
        return client


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(tmp_path)
    yield runs
    for sock in runs.sockets:
        sock.close()


def test_adapters_go_with_their_run(runs: Runs) -> None:
    first, second = runs.joined("mine", "old"), runs.joined("mine")
    known = runs.adapters
    assert known.keys() == {"scripted", "mine", "old"}
    assert known["mine"] is second.adapters[0][0], "the newest counts"
    runs.leaves(second)
    assert known["mine"] is first.adapters[0][0]
    runs.leaves(first)
    assert known.keys() == {"scripted"}
    assert known is runs.adapters, "the pool looks there"


def test_a_run_whose_adapter_has_a_name_that_is_taken_does_not_join(runs: Runs) -> None:
    with pytest.raises(ConfigurationError, match="two readiness adapters are called 'scripted'"):
        runs.joined("scripted")
    assert runs.serving == []
    assert runs.adapters.keys() == {"scripted"}


def test_what_is_wrong_with_the_first_run_is_told_once_all_adapters_are_known(tmp_path: Path) -> None:
    runs = ClientRuns()
    helper = Runs(tmp_path)
    runs.add(helper.one("mine", "mine"))
    with pytest.raises(ConfigurationError, match="two readiness adapters are called 'mine'"):
        runs.has([])
    helper.sockets[0].close()


def test_a_run_that_cannot_enter_has_not_joined(runs: Runs) -> None:
    def fails() -> None:
        raise ConfigurationError("its directory cannot be made")

    with pytest.raises(ConfigurationError, match="its directory"):
        runs.add(runs.one("mine"), fails)
    assert runs.serving == []
    assert runs.adapters.keys() == {"scripted"}
    assert runs.end_if(lambda: True)


def test_a_run_either_joins_or_is_told_of_the_end(runs: Runs) -> None:
    first = runs.joined()
    assert not runs.end_if(lambda: True), "there is a run"
    assert runs.leaves(first)
    assert not runs.leaves(first), "once"
    assert not runs.end_if(lambda: False), "something waits for a run"
    assert runs.end_if(lambda: True)
    with pytest.raises(Refused, match=r"^it is about to end$"):
        runs.joined()
    assert runs.end() == [first], "what it has left is being given back"
    runs.left(first)
    assert runs.end() == []


def test_an_end_that_is_forced_concerns_all_runs(runs: Runs) -> None:
    first, second = runs.joined(), runs.joined()
    runs.leaves(first)
    assert runs.end() == [second, first]
    with pytest.raises(Refused, match=r"^it is about to end$"):
        runs.joined()


def test_the_login_session_of_the_newest_run_counts(runs: Runs) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as shell:
        first = runs.joined(login=shell.pid)
        assert not runs.login_over
        shell.communicate()
    until(lambda: runs.login_over, bool)
    assert not runs.end_if(lambda: runs.login_over), "a run goes on, as it does without a terminal"
    second = runs.joined()
    assert not runs.login_over
    runs.leaves(first)
    runs.leaves(second)
    assert not runs.end_if(lambda: runs.login_over)

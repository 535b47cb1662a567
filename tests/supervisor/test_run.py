"""A run in this process, for what no pytest process can bring about since the supervisor is another one."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import HostCacheError
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.options import resolve
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.providers.base import Phase
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.providers.vast.client import MarketClient
from pytest_vastgpu.reputation.host_cache import HostCache
from pytest_vastgpu.reputation.scoring import reputation
from pytest_vastgpu.servers.base import by_name
from pytest_vastgpu.servers.command import command
from pytest_vastgpu.servers.registry import adapters
from pytest_vastgpu.supervisor.cleanup.account_key import take_out_key
from pytest_vastgpu.supervisor.composition import open_run
from pytest_vastgpu.supervisor.ledger.ledger import Ledger
from pytest_vastgpu.supervisor.ledger.ledger import make_directory
from pytest_vastgpu.supervisor.run import Run
from tests.behaviour.conftest import BAD
from tests.behaviour.conftest import SERVER
from tests.behaviour.conftest import Fleet
from tests.behaviour.conftest import fleet
from tests.support.looks import alive
from tests.support.looks import until

SHORT = Timeouts(
    rate_limits=False,
    look_least_s=0.1,
    look_most_s=0.1,
    destroy_pause_s=0.1,
    market_pause_s=0.05,
)
HEALTHY = {"machines": [{"machine_id": BAD}]}


class Nothing:
    """Nothing is plugged in."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        """The runs for which something would be asked."""

    def offers(self, run: str, offers: list[Offer], workload: Workload) -> list[Offer]:
        self.asked.append(f"offers {run}")
        return offers

    def outcome(self, run: str, attempt: Attempt, workload: Workload) -> None:
        self.asked.append(f"outcome {run}")


class Scene:
    """A market, and runs that rent from it."""

    def __init__(self, directory: Path, home: Path) -> None:
        self.directory = directory
        """Where pytest was started."""
        self.market = LocalMarket()
        self.plugins = Nothing()
        self.events: list[Event] = []
        self.runs: list[Run] = []
        self._home = home
        directory.joinpath("server.py").write_text(SERVER)
        self.workload = command("exec python3 server.py", files={"server.py": directory / "server.py"}, gpus=1)

    def start(self, fleet: Fleet) -> None:
        self.market = LocalMarket(fleet={"market": {"rate_limits": False}, **fleet})
        self.market.start()

    def open(
        self, given: dict[str, str] | None = None, account_key_s: float = Timeouts.account_key_s, **environ: str
    ) -> Run:
        environ = {"VAST_URL": self.market.url, "VAST_API_KEY": self.market.api_key, **environ}
        settings = resolve({"vast_strictness": "aggressive", **(given or {})}.get, lambda _: None, environ)
        timeouts = replace(SHORT, account_key_s=account_key_s)
        run_id = f"{len(self.runs):08x}"
        opening = Opening("", run_id, settings, timeouts, str(self.directory), 1, False, (), ())
        directory = self._home / "runs" / run_id
        make_directory(directory)
        self.runs.append(open_run(opening, environ, directory, by_name(adapters()), self.plugins, self.events.append))
        self.runs[-1].join(opening, directory, self.events.append)
        self.opening = opening
        return self.runs[-1]

    def join(self, run: Run, number: str) -> None:
        """Have another pytest run join."""
        make_directory(self._home / "runs" / number)
        run.join(replace(self.opening, run=number), self._home / "runs" / number, self.events.append)

    def rent(self, run: Run, number: str = "") -> Lease:
        return run.access.lease(
            run.pool.acquire(
                number or run.id, "test_it.py::test_it", self.workload, False, f"process {number}", lambda: False
            )
        )

    def cost(self, number: str) -> dict[str, Any]:
        """What the file of a run says of its only instance."""
        text = (self._home / "runs" / number / "cost.json").read_text()
        (found,) = json.loads(text)["instances"]
        return dict(found)

    def close(self) -> None:
        for run in self.runs:
            run.close()
        self.market.stop()

    def rented(self) -> list[int]:
        """The machines, in order; all of it is over."""
        status = self.market.status()
        assert status["alive"] == []
        return [rent["machine_id"] for rent in status["ended"]]


def known(cache: Path) -> set[int]:
    """The machines in a host cache, of any market."""
    books = HostCache(cache).contents().markets.values()
    found = [reputation(book.evidence.values(), book.machines, book.hosts, time.time()).machines for book in books]
    return {number for each in found for number in each}


@pytest.fixture
def scene(tmp_path: Path, home: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path, home)
    yield scene
    scene.close()


def test_without_a_guard_nothing_is_rented(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.start(HEALTHY)
    monkeypatch.setattr("sys.executable", "/bin/false")
    run = scene.open()
    with pytest.raises(ConfigurationError, match=r"^the guard process did not start, .*: see .*guard\.log$"):
        scene.rent(run)
    run.close()
    assert scene.rented() == []


def test_a_key_that_may_not_look_at_the_account_rents_all_the_same(scene: Scene) -> None:
    scene.start({"faults": [{"name": "not_authorized", "endpoint": "account"}], **HEALTHY})
    run = scene.open()
    assert scene.rent(run).offer.machine_id == BAD
    run.close()
    with open_provider(scene.market.url, scene.market.api_key) as client:
        assert list(client.account_keys()) == [], "the run has taken its key out of the account again"
    (told,) = [event.text for event in scene.events if "credit is not known" in event.text]
    assert "lacks the scope user_read" in told
    assert scene.rented() == [BAD]


@pytest.mark.slow
def test_a_status_that_lags_keeps_nobody_from_getting_in(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The market lists the address, but goes on saying that the instance loads."""
    listed = MarketClient.list_instances

    def lagging(client: MarketClient, label: str | None = None) -> list[InstanceStatus]:
        return [replace(status, phase=Phase.STARTING) for status in listed(client, label)]

    monkeypatch.setattr(MarketClient, "list_instances", lagging)
    scene.start(fleet({"name": "ssh_reset", "times": 3}, stages={"loading_s": 0.3}))
    run = scene.open({"vast_boot_timeout": "30"})
    lease = scene.rent(run)
    assert httpx.get(lease.endpoint).text == "here I am"
    assert Phase.RUNNING not in {status.phase for status in run.cleaner.list_instances()}
    run.close()
    assert scene.rented() == [BAD]


@pytest.mark.slow
def test_a_relative_path_to_a_key_begins_where_pytest_was_started(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The supervisor's own directory is another one."""
    key = scene.directory / "keys" / "mine"
    key.parent.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    scene.start(HEALTHY)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    run = scene.open({"vast_keep": "failed"}, VAST_SSH_KEY_PATH="keys/mine")
    lease = scene.rent(run)
    run.access.failed(lease.label)
    run.close()
    (kept,) = run.summary(run.id).kept
    assert str(key) in kept.ssh
    assert known(run.directory / "hosts.yaml") == {BAD}
    assert list(elsewhere.iterdir()) == []
    with open_provider(scene.market.url, scene.market.api_key, timeouts=SHORT) as client:
        client.destroy(kept.instance_id)


def test_a_relative_path_to_a_host_cache_that_cannot_be_used_is_told_whole(scene: Scene) -> None:
    place = scene.directory / "cache" / "hosts.yaml"
    place.mkdir(parents=True)
    with pytest.raises(HostCacheError, match=str(place)):
        scene.open({"vast_host_cache": "cache/hosts.yaml"}, VAST_API_KEY="k", VAST_URL="http://127.0.0.1:9")


def test_a_relative_path_to_no_key_is_told_whole(scene: Scene) -> None:
    with pytest.raises(ConfigurationError, match=str(scene.directory / "keys" / "none")):
        scene.open(VAST_API_KEY="k", VAST_URL="http://127.0.0.1:9", VAST_SSH_KEY_PATH="keys/none")


@pytest.mark.slow
def test_a_market_that_says_nothing_of_the_account_s_keys_holds_the_end_up_for_a_while_only(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.start({"faults": [{"name": "never_answers", "endpoint": "keys", "times": 1}], **HEALTHY})
    run = scene.open(account_key_s=0.5)
    scene.rent(run)
    waits: list[list[str]] = []

    def noted(directory: Path, client: Provider, ledger: Ledger) -> str:
        waits.append(run.waits_for())
        return take_out_key(directory, client, ledger)

    monkeypatch.setattr("pytest_vastgpu.supervisor.run.take_out_key", noted)
    run.close()
    assert waits == [["the account's record of the SSH key"]]
    (told,) = [event.text for event in scene.events if "SSH key" in event.text and "warning" in event.text]
    assert f"the SSH key that run {run.id} has added may still be in the account" in told
    assert run.waits_for() == ["its processes"]
    assert scene.rented() == [BAD]
    with open_provider(scene.market.url, scene.market.api_key) as client:
        until(client.account_keys, lambda keys: list(keys) == [])  # by the guard


@pytest.mark.slow
def test_a_run_is_closed_once_however_often_and_from_wherever(scene: Scene) -> None:
    scene.start(HEALTHY)
    run = scene.open()
    lease = scene.rent(run)
    barrier = threading.Barrier(3)

    def close() -> set[int]:
        barrier.wait(30)
        run.close()
        return alive(scene.market)

    with ThreadPoolExecutor(3) as pool:
        left = [future.result(60) for future in [pool.submit(close) for _ in range(3)]]
    assert left == [set()] * 3, "whoever comes second waits for the first"
    run.close()
    assert scene.rented() == [BAD]
    states = [event.state for event in scene.events if event.label == lease.label]
    assert states.count(State.GONE) == 1
    assert [account.attempt.instance_id for account in run.summary(run.id).books] == [lease.instance_id]
    assert run.summary(run.id).problems == []


@pytest.mark.slow
def test_the_file_of_a_run_follows_what_it_has_left(scene: Scene) -> None:
    scene.start(HEALTHY)
    run = scene.open({"vast_reuse": "1h"})
    first = scene.rent(run)
    assert run.leave(run.id, lambda _: True)
    left = scene.cost(run.id)["cost_usd"]
    assert scene.plugins.asked == [f"offers {run.id}", f"outcome {run.id}"]
    scene.join(run, "0000000b")
    assert scene.rent(run, "0000000b").instance_id == first.instance_id
    idle = scene.cost(run.id)
    assert idle["cost_usd"] > left
    assert idle["idle_usd"] > 0
    assert run.leave("0000000b", lambda _: True)
    scene.join(run, "0000000c")
    shutil.rmtree(scene.runs[0].directory.parent / "0000000b")
    run.close()
    assert "cannot be written" not in "\n".join(event.text for event in scene.events), "old runs are forgotten"
    assert scene.cost(run.id)["cost_usd"] == idle["cost_usd"]
    assert [rent["machine_id"] for rent in scene.market.status()["ended"]] == [BAD]


@pytest.mark.slow
def test_a_market_that_asks_to_wait_is_told(scene: Scene) -> None:
    fault = {"name": "rate_limited", "endpoint": "search", "retry_after_s": 2, "times": 1}
    scene.start({"faults": [fault], **HEALTHY})
    run = scene.open()
    scene.rent(run)
    run.close()
    told = [event.text for event in scene.events if "(429)" in event.text]
    assert told in [[f"the market asks to wait {seconds} s with the next search (429)"] for seconds in (2, 3)]

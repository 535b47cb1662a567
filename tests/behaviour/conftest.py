"""A market for each test, and pytest runs that rent from it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpcore  # noqa: F401 - loaded once, since httpx knows its exceptions by the classes of the first time
import httpx  # noqa: F401 - loaded once: pytester forgets what a run in this process has loaded
import pytest

import pytest_vastgpu.servers.vllm  # noqa: F401 - once for all runs in this process: rules and reader belong together
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.model import MachineRecord
from pytest_vastgpu.plugin.options import TIMEOUTS
from pytest_vastgpu.reputation.contents import MarketRecords
from pytest_vastgpu.reputation.contents import union
from pytest_vastgpu.reputation.host_cache import HostCache
from pytest_vastgpu.reputation.scoring import reputation
from tests.support.runs import PytestRun
from tests.support.runs import end_guards
from tests.support.schemas import problems_of_run

SERVER = (
    "import http.server, sys\n"
    "class Handler(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.send_response(200); self.end_headers(); self.wfile.write(b'here I am')\n"
    "    def log_message(self, *_): pass\n"
    "print('serving', flush=True)\n"
    "http.server.HTTPServer(('127.0.0.1', 8000), Handler).serve_forever()\n"
)
"""The smallest server there is."""


def serving_once(path: Path) -> str:
    """The text of that server, which starts to serve once a file exists."""
    return f"import os, time\nwhile not os.path.exists({str(path)!r}):\n    time.sleep(0.05)\n{SERVER}"


WORKLOAD = """
import httpx, pytest
from pytest_vastgpu import command

@pytest.fixture
def vast_workload():
    return command("exec python3 server.py", files={"server.py": "server.py"}, gpus=1, cuda=12.4)
"""

LOSE = """
import os
from pytest_vastgpu.local.client import strike

def lose(instance, fault):
    strike(os.environ["VAST_URL"], os.environ["VAST_API_KEY"], instance.id, fault)
    while instance.run("true", timeout_s=5).ok:
        pass
    httpx.get(instance.endpoint)
"""
"""For tests that something befalls in the middle."""


def loses_one(fault: str) -> str:
    """A test whose instance a fault takes away, and one that needs another then."""
    return f"""{WORKLOAD}{LOSE}
def test_1_loses_it(vast_instance):
    assert vast_instance.offer.machine_id == 101
    lose(vast_instance, {fault!r})

def test_2_gets_another(vast_instance):
    assert vast_instance.offer.machine_id == 102
"""


BAD, GOOD = 101, 102
AGGRESSIVE = "--vast-strictness=aggressive"
"""The cheapest first, so that the bad machine is met."""

Fleet = Mapping[str, Any]
RentFrom = Callable[[Fleet], LocalMarket]
Start = Callable[..., PytestRun]


def fleet(*faults: Any, **bad: Any) -> dict[str, Any]:
    """The cheapest machine has faults, the dearer one has none."""
    return {
        "machines": [
            {"machine_id": BAD, "host_id": 1, "price_usd_h": 0.2, "faults": list(faults), **bad},
            {"machine_id": GOOD, "host_id": 2, "price_usd_h": 0.4},
        ]
    }


USERS_CACHE = ".cache/pytest-vastgpu/hosts.yaml"
"""In the home: what is remembered of real machines."""


def known(home: Path) -> Mapping[int, MachineRecord]:
    """What runs have learnt: of real machines together, of simulated ones each run for itself."""
    paths = [home / USERS_CACHE, *home.glob(".local/state/pytest-vastgpu/runs/*/hosts.yaml")]
    books = [book for path in paths for book in HostCache(path).contents().markets.values()]
    book = functools.reduce(union, books, MarketRecords())
    return reputation(book.evidence.values(), book.machines, book.hosts, time.time()).machines


def record_of(home: Path, machine: int) -> MachineRecord:
    return known(home).get(machine, MachineRecord(machine))


class TimeLimits:
    """Those of every run of this test that is in this process; the supervisor is handed them."""

    def __init__(self) -> None:
        # How long a second look at an instance that seems to be lost, or is still there, waits is nothing that shows.
        self._value = Timeouts(rate_limits=False, look_most_s=0.2, destroy_pause_s=0.1, market_pause_s=0.1)

    def change(self, **seconds: float) -> None:
        """Have other ones."""
        self._value = replace(self._value, **seconds)  # type: ignore[arg-type] # all that is changed is seconds

    def pytest_configure(self, config: pytest.Config) -> None:
        """Hand them to a run of which this is a plugin."""
        config.stash[TIMEOUTS] = self._value


@pytest.fixture
def time_limits(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> TimeLimits:
    """The time limits of this test's runs; calls are not spaced."""
    limits, inline_run = TimeLimits(), pytester.inline_run

    def run_with_limits(*arguments: Any, plugins: Sequence[object] = (), **options: Any) -> pytest.HookRecorder:
        return inline_run(*arguments, plugins=[*plugins, limits], **options)

    monkeypatch.setattr(pytester, "inline_run", run_with_limits)
    return limits


@pytest.fixture(autouse=True)
def _files_for_programs_meet_their_schemas(request: pytest.FixtureRequest) -> Iterator[None]:
    """What every run of every test here leaves for programs, however it ended."""
    homes = [Path.home()]
    if "pytester" in request.fixturenames:
        homes.append(request.getfixturevalue("pytester").path)
    yield
    runs = [run for home in homes for run in home.glob(".local/state/pytest-vastgpu/runs/*")]
    assert [problem for run in runs for problem in problems_of_run(run)] == []


@pytest.fixture
def rent_from(
    monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester, time_limits: TimeLimits
) -> Iterator[RentFrom]:
    """Starts a market with a fleet and points every run of this test to it."""
    markets: list[LocalMarket] = []

    def start(fleet: Fleet) -> LocalMarket:
        market = LocalMarket(fleet={"market": {"rate_limits": False}, **fleet})
        market.__enter__()
        markets.append(market)
        monkeypatch.setenv("VAST_URL", market.url)
        monkeypatch.setenv("VAST_API_KEY", market.api_key)
        return market

    pytester.path.joinpath("server.py").write_text(SERVER)
    yield start
    left = [status["alive"] for status in (market.status() for market in markets)]
    for market in markets:
        market.stop()
    end_guards()
    assert left == [[]] * len(markets), "something was left running"


@pytest.fixture
def host_cache(home: Path) -> Path:
    """The home, where runs of this test keep what they learn of hosts; see :func:`known`."""
    return home


@pytest.fixture
def start(pytester: pytest.Pytester) -> Iterator[Start]:
    """Starts pytest in processes of their own, that can be struck down."""
    runs: list[PytestRun] = []

    def begin(*arguments: str, **how: bool) -> PytestRun:
        runs.append(PytestRun(pytester.path, *arguments, **how))
        return runs[-1]

    yield begin
    for run in runs:
        run.end()

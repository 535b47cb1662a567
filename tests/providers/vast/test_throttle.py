from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from pytest_vastgpu.core.account import account_identity
from pytest_vastgpu.providers.vast.throttle import INTERVALS_S
from pytest_vastgpu.providers.vast.throttle import LOCK_TIMEOUT_S
from pytest_vastgpu.providers.vast.throttle import MARGIN_S
from pytest_vastgpu.providers.vast.throttle import Throttle
from pytest_vastgpu.providers.vast.throttle import reserve

LIST_S = INTERVALS_S["list"] + MARGIN_S

WORKER = """
import json, sys
from pathlib import Path
from pytest_vastgpu.providers.vast.throttle import LOCK_TIMEOUT_S
from pytest_vastgpu.providers.vast.throttle import Throttle

delays = []
throttle = Throttle(Path(sys.argv[1]), "user", wait=delays.append, clock=lambda: 1000.0, lock_s=60.0)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(25):
    before = len(delays)
    throttle.turn("list")
    if len(delays) == before:
        delays.append(0.0)
print(json.dumps(delays))
"""


class Clock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []
        self.told: list[str] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def throttle(
        self, directory: Path, user: str = "user", lock_s: float = LOCK_TIMEOUT_S, *, spaced: bool = True
    ) -> Throttle:
        return Throttle(
            directory,
            user,
            wait=self.wait,
            clock=self,
            lock_s=lock_s,
            spaced=spaced,
            learns=not spaced,
            tell=lambda wait: self.told.append(str(wait)),
        )


def test_the_first_call_is_free_and_the_next_waits_for_the_rest_of_the_interval(tmp_path: Path) -> None:
    clock = Clock()
    throttle = clock.throttle(tmp_path / "made" / "when needed")
    throttle.turn("create")
    assert clock.waits == []
    clock.now += 3
    throttle.turn("create")
    assert clock.waits == [pytest.approx(4.5 + MARGIN_S - 3)]


def test_endpoints_and_accounts_do_not_wait_for_each_other(tmp_path: Path) -> None:
    clock = Clock()
    throttle = clock.throttle(tmp_path)
    for endpoint in INTERVALS_S:
        throttle.turn(endpoint)
    clock.throttle(tmp_path, "somebody else").turn("create")
    assert clock.waits == []


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("create", ["the market allows one create every 4.5 s: waiting 5 s"]),
        ("search", ["the market allows one search every 2 s: waiting 2 s"]),
        ("keys", ["the market allows one list of SSH keys every 1 s: waiting 1 s"]),
        ("show", []),  # a look after a look: something else is waited for
    ],
)
def test_a_wait_of_more_than_a_second_is_told_once(tmp_path: Path, endpoint: str, told: list[str]) -> None:
    clock = Clock()
    throttle = clock.throttle(tmp_path)
    throttle.turn(endpoint)
    throttle.turn(endpoint)
    assert clock.told == told
    clock.now += 60
    throttle.turn(endpoint)
    assert clock.told == told


def test_a_short_wait_is_not_told(tmp_path: Path) -> None:
    clock = Clock()
    throttle = clock.throttle(tmp_path)
    throttle.turn("create")
    clock.now += 4
    throttle.turn("create")
    assert (len(clock.waits), clock.told) == (1, [])


def test_looks_that_queue_up_are_told(tmp_path: Path) -> None:
    clock = Clock()
    delays: list[float] = []
    throttle = Throttle(
        tmp_path, "user", wait=delays.append, clock=clock, tell=lambda wait: clock.told.append(str(wait))
    )
    for _ in range(3):
        throttle.turn("show")
    assert clock.told == ["the market allows one look at an instance every 2 s: waiting 4 s"]


def test_what_a_market_asks_for_is_told(tmp_path: Path) -> None:
    clock = Clock()
    throttle = clock.throttle(tmp_path, spaced=False)
    throttle.refused("search", 0.5)
    throttle.refused("search", 30.0)
    assert clock.told == ["the market asks to wait 30 s with the next search (429)"]


def test_limits_that_a_market_does_not_set_are_not_waited_for(tmp_path: Path) -> None:
    clock = Clock()
    throttle = clock.throttle(tmp_path, spaced=False)
    for endpoint in INTERVALS_S:
        throttle.turn(endpoint)
        throttle.turn(endpoint)
    assert clock.waits == []
    throttle.refused("search", 2.0)
    throttle.turn("search")
    throttle.turn("search")
    throttle.turn("create")
    throttle.turn("create")
    assert clock.waits == [pytest.approx(2.0 + MARGIN_S)]


@pytest.mark.slow
def test_processes_share_the_slots(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    delays: list[float] = []
    for worker in workers:  # all at once
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        out, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0
        delays += json.loads(out)
    assert sorted(delays) == pytest.approx([LIST_S * turn for turn in range(100)])


def test_a_directory_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    clock = Clock()
    throttle = clock.throttle(tmp_path)
    throttle.turn("create")
    throttle.turn("create")
    assert clock.waits
    assert list(tmp_path.iterdir()) == []


def test_threads_share_the_slots(tmp_path: Path) -> None:
    delays: list[float] = []
    throttle = Throttle(tmp_path, "user", wait=delays.append, clock=lambda: 1000.0, lock_s=60.0)
    threads = [threading.Thread(target=throttle.turn, args=("list",)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(delays) == pytest.approx([LIST_S * turn for turn in range(1, 10)])


def test_waiting_holds_nothing_and_can_be_called_off(tmp_path: Path) -> None:
    class CalledOff(Exception):
        pass

    def call_off(_seconds: float) -> None:
        clock.throttle(tmp_path).turn("list")  # another call's turn, while we wait
        raise CalledOff

    clock = Clock()
    throttle = Throttle(tmp_path, "user", wait=call_off, clock=clock)
    throttle.turn("list")
    with pytest.raises(CalledOff):
        throttle.turn("list")
    assert clock.waits == [pytest.approx(2 * LIST_S)]


@pytest.mark.parametrize(
    "text", ["", "{", "null", '{"a": 1}', '["x", null, true]', "[NaN, Infinity]", "\x00\xff", "[" * 100_000]
)
def test_a_damaged_file_costs_nothing(tmp_path: Path, text: str) -> None:
    clock = Clock()
    throttle = clock.throttle(tmp_path)
    throttle.turn("list")
    (state,) = tmp_path.glob("*.json")
    state.write_text(text, encoding="latin-1")
    throttle.turn("list")
    throttle.turn("list")
    assert clock.waits == [pytest.approx(LIST_S)]


def test_a_clock_that_is_set_back_makes_nobody_wait_for_it(tmp_path: Path) -> None:
    clock = Clock()
    throttle = clock.throttle(tmp_path)
    throttle.turn("list")
    clock.now -= 100_000
    throttle.turn("list")
    throttle.turn("list")
    assert clock.waits == pytest.approx([2 * LIST_S, LIST_S])


def test_a_directory_that_cannot_be_used_is_no_reason_to_hurry(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    clock = Clock()
    throttle = clock.throttle(tmp_path / "file")
    throttle.turn("list")
    throttle.turn("list")
    assert clock.waits == [pytest.approx(LIST_S)]


def test_a_suspended_process_that_holds_the_lock_is_no_reason_to_stop(tmp_path: Path) -> None:
    clock = Clock()
    throttle = clock.throttle(tmp_path, lock_s=0.02)
    with FileLock(tmp_path / "user.list.lock"):
        throttle.turn("list")
        throttle.turn("list")
    assert clock.waits == [pytest.approx(LIST_S)]


def test_the_key_is_not_in_the_identity(tmp_path: Path) -> None:
    name = account_identity("https://console.vast.ai", "very-secret-key")
    assert "very-secret-key" not in name
    assert name != account_identity("https://console.vast.ai", "another")
    assert name != account_identity("http://127.0.0.1:1", "very-secret-key")
    assert name == account_identity("https://console.vast.ai", "very-secret-key")
    Clock().throttle(tmp_path, name).turn("list")
    assert {path.name for path in tmp_path.iterdir()} <= {f"{name}.list.json", f"{name}.list.lock"}


@given(st.lists(st.floats(0, 5), min_size=1, max_size=30), st.floats(0.1, 10))
def test_slots_are_apart_and_never_in_the_past(pauses: list[float], interval_s: float) -> None:
    slots: list[float] = []
    given_out: list[float] = []
    now = 1000.0
    for pause in pauses:
        now += pause
        slot, slots = reserve(slots, now, interval_s)
        assert slot >= now
        given_out.append(slot)
    assert all(later - earlier >= interval_s - 1e-9 for earlier, later in itertools.pairwise(given_out))


@given(st.lists(st.floats(-1e12, 1e12), max_size=50), st.floats(0, 1e10), st.floats(0.1, 10))
def test_nobody_waits_longer_than_one_interval_for_each_slot_ahead(
    slots: list[float], now: float, interval_s: float
) -> None:
    slot, kept = reserve(slots, now, interval_s)
    assert now <= slot <= now + interval_s * (len(slots) + 1)
    assert len(kept) <= len(slots) + 1
    assert kept[-1] == slot == max(kept)

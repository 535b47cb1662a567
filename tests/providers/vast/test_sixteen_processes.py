"""The documented spacing, kept by many processes of one user, as the market itself counts it."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.local.market import rate_limits
from pytest_vastgpu.providers.vast import throttle

PROCESSES, TURNS = 16, 3
CALLER = """
import sys, time
from pathlib import Path
from pytest_vastgpu.providers.vast.client import MarketClient
from pytest_vastgpu.core.account import account_identity
from pytest_vastgpu.providers.vast.throttle import Throttle

url, key, directory, turns, room_s = sys.argv[1:]
due, late = 0.0, 0

def wait(seconds):
    global due
    due = time.time() + seconds
    time.sleep(seconds)

def answered():
    global late
    late += time.time() - due > float(room_s)

class Watched(Throttle):
    def refused(self, endpoint, pause_s):
        answered()
        super().refused(endpoint, pause_s)

with MarketClient(url, key, Watched(Path(directory), account_identity(url, key), wait=wait)) as client:
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(turns)):
        due = time.time()
        client.list_instances()
        print(time.time(), flush=True)
        answered()
    client.account()
    print(late, flush=True)
"""
ROOM_S = throttle.MARGIN_S + rate_limits.TOLERANCE_S
"""One of two calls that keep the spacing must be so late, at least, for the market to find them too close."""


def calls(market: LocalMarket) -> dict[str, Any]:
    return {each["endpoint"]: each for each in market.status()["calls"]}


@pytest.mark.slow
def test_sixteen_processes_keep_the_spacing_and_none_starves(tmp_path: Path) -> None:
    with LocalMarket(rate_limits=True) as market, ExitStack() as running:
        command = [sys.executable, "-c", CALLER, market.url, market.api_key, str(tmp_path), str(TURNS), str(ROOM_S)]
        callers = [
            running.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(PROCESSES)
        ]
        for caller in callers:
            assert caller.stdout is not None
            assert caller.stdout.readline() == "ready\n"
        for caller in callers:  # all at once
            assert caller.stdin is not None
            caller.stdin.write("go\n")
            caller.stdin.flush()
        made: list[tuple[float, int]] = []
        late = 0
        for number, caller in enumerate(callers):
            out, _ = caller.communicate(timeout=300)
            assert caller.returncode == 0
            *times, late_ones = out.split()
            made += [(float(at), number) for at in times]
            late += int(late_ones)
        counted = calls(market)
    # A call that a busy machine delays on its way may come too close to another one: one of both is then made again.
    too_early = counted["list"]["rate_limited"]
    assert counted["list"]["count"] - too_early == PROCESSES * TURNS
    assert too_early <= late
    assert (counted["account"]["count"], counted["account"]["rate_limited"]) == (PROCESSES, 0)
    order = [number for _, number in sorted(made)]
    for number in range(PROCESSES):
        turns = [place for place, who in enumerate(order) if who == number]
        for one, next_one in itertools.pairwise(turns):
            between = Counter(order[one + 1 : next_one])
            most = 2 + too_early  # one that is made again waits for another turn of each
            assert max(between.values(), default=0) <= most, f"{number} waited while another had {between} turns"

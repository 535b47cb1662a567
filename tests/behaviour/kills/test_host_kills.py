"""Whatever of a run on hosts is killed, whenever: nothing is left running, and a loss fails no test.

How much of it: as in :mod:`.test_kills`, but a third of the number, since each run takes three times as long.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
from pathlib import Path

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from tests.behaviour.kills import host_scene
from tests.behaviour.kills import scene
from tests.behaviour.kills.conftest import SEED
from tests.support.looks import alive
from tests.support.looks import until

HOW_MANY = os.environ.get("VASTGPU_KILLS", "")
LAST_LINE = re.compile(r"^=+ .* in [\d.]+s.* =+$", re.MULTILINE)
"""That of pytest: ``==== 12 passed in 16.26s ====``."""


def kills() -> list[host_scene.HostKill]:
    cells = host_scene.every()
    if HOW_MANY == "all":
        return cells
    return random.Random(SEED).sample(cells, min(-(-int(HOW_MANY) // 3), len(cells))) if HOW_MANY else []


@pytest.mark.slow
@pytest.mark.parametrize("kill", kills(), ids=str)
def test_nothing_is_left_of_a_run_on_hosts(kill: host_scene.HostKill, tmp_path: Path) -> None:
    with LocalMarket(host_scene.FLEET) as market:
        foreign = scene.rent_foreign(market, tmp_path)
        run = host_scene.HostRun(tmp_path, market, kill)
        try:
            run.strike()
            code = run.end()
            until(lambda: alive(market), lambda left: left == foreign)
            assert set(market.status()["rents_per_label"].values()) <= {1}, "a label was rented twice"
            assert "FAILED" not in run.output
            if kill.victim in ("pipe", "proxy"):
                assert code == 0
                assert len(set(re.findall(r"PASSED (\S+)", run.output))) == 12
            elif kill.victim == "controller" and kill.blow != "sigkill":
                said, over = run.output, LAST_LINE.search(run.output)
                own = {-signal.SIGINT, -signal.SIGTERM} if over else set()  # a blow that late meets pytest's own end
                assert code in {pytest.ExitCode.INTERRUPTED, pytest.ExitCode.OK, *own}  # it may be over already
                assert "Traceback" not in said[: over.end() if over else None]
        finally:
            run.destroy()
            sys.stdout.write(f"seed {SEED}\n{run.output}")  # shown where it failed


def test_every_victim_is_struck() -> None:
    cells = host_scene.every()
    assert {kill.victim for kill in cells} == set(host_scene.VICTIMS)
    assert {kill.when for kill in cells} == set(host_scene.MOMENTS)
    assert {kill.blow for kill in cells} == set(host_scene.BLOWS)

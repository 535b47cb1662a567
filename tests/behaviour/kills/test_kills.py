"""Whatever is killed, whenever it is killed: nothing is left running, nothing is rented twice, nobody else is touched.

``VASTGPU_KILLS`` says how much of it: a number is so many blows at random moments beside a sample of the matrix in
which every two values meet; ``all`` is the whole matrix and 200 random blows. ``VASTGPU_KILL_SEED`` repeats a sample.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from tests.behaviour.kills import matrix
from tests.behaviour.kills import scene
from tests.behaviour.kills.conftest import SEED

HOW_MANY = os.environ.get("VASTGPU_KILLS", "")


def kills() -> list[matrix.Kill]:
    if HOW_MANY == "all":
        return [*matrix.every(), *matrix.at_random(SEED, 200)]
    return [*matrix.covering(SEED), *matrix.at_random(SEED, int(HOW_MANY))] if HOW_MANY else []


@pytest.mark.slow
@pytest.mark.parametrize("kill", kills(), ids=str)
def test_nothing_is_left_running(kill: matrix.Kill, tmp_path: Path) -> None:
    with LocalMarket(scene.FLEET) as market:
        foreign = scene.rent_foreign(market, tmp_path)
        run = scene.Run(tmp_path, market, kill)
        try:
            run.strike()
            run.end()
            scene.judge(market, foreign)
        finally:
            run.destroy()
            sys.stdout.write(f"seed {SEED}\n{run.output}")  # shown where it failed


def test_a_sample_lets_every_two_values_meet() -> None:
    whole = {pair for kill in matrix.every() for pair in matrix.pairs(kill)}
    for seed in range(3):
        sample = matrix.covering(seed)
        assert {pair for kill in sample for pair in matrix.pairs(kill)} == whole
        assert len(sample) < len(matrix.every()) / 4
    assert matrix.covering(1) != matrix.covering(2)


def test_random_blows_are_repeatable() -> None:
    assert matrix.at_random(7, 5) == matrix.at_random(7, 5)
    assert matrix.at_random(7, 5) != matrix.at_random(8, 5)

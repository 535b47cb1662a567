"""What the kill matrix is made of: when, whom, how, and with how many workers. Pure."""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

STATES = ("intended", "created", "booting", "reachable", "checked", "warming", "ready", "destroying")
"""As the ledger names them. In *ready* the tests run."""
VICTIMS: dict[str, tuple[str, ...]] = {
    "controller": ("controller",),
    "worker": ("worker",),
    "supervisor": ("supervisor",),
    "guard": ("guard",),
    "controller_and_supervisor": ("controller", "supervisor"),
    "controller_and_guard": ("guard", "controller"),
    "supervisor_and_guard": ("guard", "supervisor"),
    "all": ("guard", "supervisor", "controller"),
}
"""Whom a blow strikes, in this order. Where guard and supervisor are struck nobody on this machine is left to destroy
anything."""
BLOWS = ("sigint", "double_sigint", "sigterm", "group_sigterm", "sigkill")
WORKERS = (0, 2)
LONGEST_RUN_S = 9.0
"""About how long an undisturbed run of the scene takes: random moments fall into this time."""


class Kill(NamedTuple):
    """One blow against a run."""

    when: str | float
    """A state, or seconds after the start."""
    victim: str
    blow: str
    workers: int

    def __str__(self) -> str:
        moment = self.when if isinstance(self.when, str) else f"{self.when:.2f}s"
        return f"{moment}-{self.victim}-{self.blow}-n{self.workers}"


def every() -> list[Kill]:
    """The whole matrix; a worker can only be hit where there is one."""
    return [
        Kill(*cell)
        for cell in itertools.product(STATES, VICTIMS, BLOWS, WORKERS)
        if not (cell[1] == "worker" and cell[3] == 0)
    ]


def covering(seed: int) -> list[Kill]:
    """A sample of the matrix in which every two values that can meet do meet; another seed, another sample."""
    left = every()
    random.Random(seed).shuffle(left)
    wanted = {pair for kill in left for pair in pairs(kill)}
    sample = []
    while wanted:
        best = max(left, key=lambda kill: len(wanted & pairs(kill)))
        left.remove(best)
        wanted -= pairs(best)
        sample.append(best)
    return sample


def at_random(seed: int, number: int) -> list[Kill]:
    """So many blows at any moment."""
    dice = random.Random(seed)
    kinds = every()
    return [dice.choice(kinds)._replace(when=round(dice.uniform(0.0, LONGEST_RUN_S), 2)) for _ in range(number)]


def pairs(kill: Kill) -> set[tuple[tuple[int, object], ...]]:
    """Every two of its values."""
    return set(itertools.combinations(enumerate(kill), 2))

"""The table at the end of a run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal
from itertools import islice

from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import State
from pytest_vastgpu.reporting.sentences import gpus
from pytest_vastgpu.reporting.sentences import outcome

_STEPS = (
    ("boot", (State.CREATED, State.BOOTING)),
    ("check", (State.REACHABLE,)),
    ("warm-up", (State.CHECKED, State.WARMING)),
    ("ready", (State.READY,)),
)
_HEAD = ("machine", "GPU", "USD/h", *(name for name, _ in _STEPS), "cost USD", "outcome")


def table(attempts: Sequence[Attempt]) -> list[str]:
    """One line for each attempt: machine, GPU, price, seconds per step, cost and outcome."""
    rows = [_HEAD, *(_row(attempt) for attempt in attempts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def total(attempts: Sequence[Attempt]) -> str:
    """The last line: how many instances and what they cost."""
    rented = [attempt for attempt in attempts if attempt.instance_id]
    cost = sum(attempt.cost_usd for attempt in rented)
    return f"{len(rented)} instance{'' if len(rented) == 1 else 's'}, {cost:.4f} USD"


def dearest(tests: Mapping[str, Decimal], most: int = 5) -> list[str]:
    """The tests that cost most, a line for each: ``0.000123 USD  test_it.py::test_it``.

    :param tests: USD by node id, the dearest first.
    """
    return [f"{usd:.6f} USD  {test}" for test, usd in islice(tests.items(), most)]


def _row(attempt: Attempt) -> tuple[str, ...]:
    steps = tuple(_seconds(sum(attempt.seconds.get(state.value, 0.0) for state in states)) for _, states in _STEPS)
    return (
        str(attempt.offer.machine_id),
        gpus(attempt.offer.num_gpus, attempt.offer.gpu_name),
        f"{attempt.price_usd_h or attempt.offer.price_usd_h:.3f}",
        *steps,
        f"{attempt.cost_usd:.4f}",
        outcome(attempt),
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds else "-"

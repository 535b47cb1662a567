"""Builds the table at the end of a run. Pure."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal
from itertools import islice

from pytest_vastgpu.core.text.durations import measured
from pytest_vastgpu.core.text.layout import columns
from pytest_vastgpu.core.text.layout import cut_middle
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import State
from pytest_vastgpu.reporting.sentences import decisive
from pytest_vastgpu.reporting.sentences import gpus
from pytest_vastgpu.reporting.sentences import outcome
from pytest_vastgpu.reporting.sentences import together


def _step(*states: State) -> Callable[[Attempt], str]:
    """A function that shows the seconds which an attempt spent in some states together."""
    return lambda attempt: measured(sum(attempt.seconds.get(state.value, 0.0) for state in states), 1)


WORKLOAD_CHARS = 40
"""Most characters of a workload in the table."""
COLUMNS: Mapping[str, Callable[[Attempt], str]] = {
    "machine": lambda attempt: str(attempt.offer.machine_id),
    "GPU": lambda attempt: gpus(attempt.offer.num_gpus, attempt.offer.gpu_name),
    "USD/h": lambda attempt: f"{attempt.price_usd_h or attempt.offer.price_usd_h:.3f}",
    "boot": _step(State.CREATED, State.BOOTING),
    "check": _step(State.REACHABLE),
    "warm-up": _step(State.CHECKED, State.WARMING),
    "ready": _step(State.READY),
    "cost USD": lambda attempt: f"{attempt.cost_usd:.4f}",
    "workload": lambda attempt: cut_middle(attempt.workload, WORKLOAD_CHARS, "…"),
    "outcome": outcome,
}
"""The columns of the table, by their headings."""


def table(attempts: Sequence[Attempt]) -> list[str]:
    """The table: one line for each attempt."""
    return columns(tuple(COLUMNS), [[cell(attempt) for cell in COLUMNS.values()] for attempt in attempts])


def failed_starts(attempts: Sequence[Attempt]) -> list[str]:
    """A line for each workload that several attempts did not bring to *ready*: what happened, and what to do."""
    by_workload: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_workload.setdefault(attempt.workload, []).append(attempt)
    return [
        f"{workload}: {together(tried)}; {decisive(tried).remedy}"
        for workload, tried in by_workload.items()
        if len(tried) > 1 and all(attempt.verdict and State.READY.value not in attempt.seconds for attempt in tried)
    ]


def total(attempts: Sequence[Attempt]) -> str:
    """The last line: the number of instances and their total cost."""
    rented = [attempt for attempt in attempts if attempt.instance_id]
    cost = sum(attempt.cost_usd for attempt in rented)
    return f"{len(rented)} instance{'' if len(rented) == 1 else 's'}, {cost:.4f} USD"


def dearest(tests: Mapping[str, Decimal], most: int = 5) -> list[str]:
    """The most expensive tests, one line each: ``0.000123 USD  test_it.py::test_it``.

    :param tests: USD by node id, the most expensive first.
    """
    return [f"{usd:.6f} USD  {test}" for test, usd in islice(tests.items(), most)]

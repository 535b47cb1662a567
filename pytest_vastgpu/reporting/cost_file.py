"""Writes ``cost.json``, the cost of a run for programs. It is in the run's directory; the summary names the path.

The whole file is written again whenever an instance that the run has paid for is gone or has found another run, and at
the run's end, so that a crash leaves the newest state. Amounts are USD, exact to nine digits: an instance's
``cost_usd`` is the sum of its ``overhead_usd`` and the ``cost_usd`` of its tests, and ``total_usd`` is the sum over all
instances. They are upper bounds: an instance's price is counted from just before its create until it is seen to be
gone, and the transfer is computed from the workload's sizes of image and model. ::

    {
      "version": 1,
      "run": "3f9c21ab",
      "market": "https://console.vast.ai",
      "written": 1790000000.0,                        epoch seconds
      "budget_usd": 5.0,
      "total_usd": 0.0421,
      "instances": [
        {
          "label": "vastgpu-3f9c21ab-1-6ab13b80",
          "id": 12345678,
          "workload": "vllm 'org/model'",
          "attempt": 1,                               of this workload
          "machine": 4242,
          "gpu": "RTX 4090",
          "usd_h": 0.36,                              the market's own price, once it has shown it
          "seconds": {"booting": 31.2, "ready": 60.1},  in each state
          "outcome": "ready",                         or the verdict, or "called off"
          "age_s": 71.3,                              since its create, also by an earlier run
          "reused_at_s": 0.0,                         its age when this run got it from an earlier one
          "gone": true,                               false: it may go on costing money
          "cost_usd": 0.0421,
          "transfer_usd": 0.01,                       part of the overhead
          "overhead_usd": 0.0371,                     while no test used it
          "idle_usd": 0.0,                            part of the overhead: while it waited for another run
          "tests": [{"test": "test_it.py::test_it", "seconds": 50.0, "cost_usd": 0.005}]
        }
      ],
      "tests": [{"test": "test_it.py::test_it", "cost_usd": 0.005}]    over all instances, the most expensive first
    }
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vastgpu.core.files import write_whole
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.reporting.costs import by_test
from pytest_vastgpu.reporting.costs import money
from pytest_vastgpu.reporting.sentences import gpus
from pytest_vastgpu.reporting.sentences import outcome

if TYPE_CHECKING:
    from pytest_vastgpu.reporting.costs import InstanceCost

VERSION = 1
NAME = "cost.json"


def document(head: Mapping[str, object], accounts: Sequence[InstanceCost]) -> dict[str, object]:
    """The content of the file.

    :param head: Facts about the run as a whole.
    """
    return {
        "version": VERSION,
        **head,
        "total_usd": float(sum((account.shares.cost for account in accounts), Decimal(0))),
        "instances": [_instance(account) for account in accounts],
        "tests": [
            {"test": test, "cost_usd": float(usd)}
            for test, usd in by_test(account.shares for account in accounts).items()
        ],
    }


def _instance(account: InstanceCost) -> dict[str, object]:
    attempt, bill, shares = account.attempt, account.bill, account.shares
    return {
        "label": attempt.label,
        "id": attempt.instance_id,
        "workload": attempt.workload,
        "attempt": attempt.number,
        "machine": attempt.offer.machine_id,
        "gpu": gpus(attempt.offer.num_gpus, attempt.offer.gpu_name),
        "usd_h": bill.usd_h,
        "seconds": {state: round(seconds, 3) for state, seconds in attempt.seconds.items()},
        "outcome": outcome(attempt),
        "age_s": round(account.age_s, 3),
        "reused_at_s": round(attempt.reused_at_s, 3),
        "gone": bill.gone,
        "cost_usd": float(shares.cost),
        "transfer_usd": float(money(bill.transfer_usd)),
        "overhead_usd": float(shares.overhead),
        "idle_usd": float(money(account.idle_usd)),
        "tests": [
            {"test": test, "seconds": round(shares.seconds[test], 3), "cost_usd": float(usd)}
            for test, usd in shares.tests.items()
        ],
    }


class CostFile:
    """Keeps the file up to date. Any thread may use it.

    :param head: Facts about the run as a whole.
    :param books: Returns the current accounts of all instances.
    :param warn: Called if the file cannot be written.
    """

    def __init__(
        self,
        directory: Path,
        head: Mapping[str, object],
        books: Callable[[], Sequence[InstanceCost]],
        warn: Callable[[str], None],
    ) -> None:
        self.path = directory / NAME
        self._head = head
        self._books = books
        self._warn = warn
        self._lock = threading.Lock()
        self._begun = 0
        self._newest = 0
        """The last begun of the writes that are through."""

    def write(self) -> None:
        """Write the newest state. If the file cannot be written, the run continues."""
        with self._lock:
            self._begun += 1
            nth = self._begun
        # The books have locks of their own, under which others come here: none of ours may be held now.
        known = document({**self._head, "written": round(time.time(), 3)}, self._books())
        text = json.dumps(sanitize.clean(known), indent=1)
        with self._lock:
            if nth < self._newest:  # a later one has read the books since, and is through
                return
            self._newest = nth
            try:
                write_whole(self.path, text + "\n")
            except OSError as error:
                problem = f"{self.path} cannot be written: {error}"
            else:
                return
        self._warn(problem)

"""How late each way of waiting is: ready → the test's first line, running → SSH in, create → endpoint.

``python -m tests.benchmarks.latency`` rents from a local market, again and again with other boot times: how long the
host takes until the instance runs, until its SSH server is up, and until the server answers. Each round gives the same
times to

* ``ours``: pytest with this plugin;
* ``polls of 30 s`` and ``polls of 10 s``: the loop of an earlier system. It sleeps, shows the instance, logs in with a
  new ``ssh`` to see whether that works, then asks six things, each with a new ``ssh``, one after the other. Its sleeps
  are divided by 15 so that this ends today; what it sleeps after the event that it waits for is multiplied again
  in the results, everything else is as measured;
* ``plain loop``: shows the instance every 2 s until it runs, then asks its published port every 0.5 s. No SSH.

The server itself writes down when it is ready; *running* is the start of the instance's first process. Ours starts its
server over SSH after a check of the host, the others from the start script; so compare what is late, the first two
columns, rather than the last. Needs Linux with isolation, where each instance has a first process of its own.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

from pytest_vastgpu.local.embed import LocalMarket
from tests.benchmarks import report
from tests.benchmarks.latency_ways import SERVER
from tests.benchmarks.latency_ways import WAYS
from tests.benchmarks.latency_ways import Boot
from tests.benchmarks.latency_ways import Way

ROUNDS = 20
GOALS_S = {"median": 0.1, "95th percentile": 0.25}
"""Of ours, ready → the test's first line, on an idle machine."""

LATE, IN, WHOLE = "ready → test", "running → SSH in", "create → endpoint"


def measure(way: Way, boot: Boot) -> dict[str, float]:
    """One rental, from a market of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, LocalMarket(boot.fleet()) as market:
        folder = Path(name)
        (folder / "server.py").write_text(SERVER)
        seen = way(market, boot, folder)
        note = json.loads((folder / "note").read_text())
    late = seen.late(note["ready"], seen.first_line)
    times = {LATE: late, WHOLE: note["ready"] - seen.created + late}
    if seen.ssh_in:
        times[IN] = boot.ssh_s + seen.late(note["running"] + boot.ssh_s, seen.ssh_in)
    return times


def rows(quick: bool) -> list[report.Row]:
    dice = random.Random(0)
    # Wider than the plain loop's period, and than the scaled ones: so any moment of a period is as likely as another.
    boots = [
        Boot(dice.uniform(0.5, 2.5), dice.uniform(0, 1), dice.uniform(0.5, 2.5)) for _ in range(1 if quick else ROUNDS)
    ]
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    for number, boot in enumerate(boots, 1):
        for name, way in WAYS.items():
            measured[name].append(measure(way, boot))
        sys.stderr.write(f"round {number} of {len(boots)}\n")
    ours = measured.pop("ours")
    return [
        compared(column, which, ours, name, others)
        for column, which in ((LATE, "median"), (LATE, "95th percentile"), (IN, "median"), (WHOLE, "median"))
        for name, others in measured.items()
        if column in others[0]
    ]


def compared(
    column: str, which: str, ours: list[dict[str, float]], name: str, others: list[dict[str, float]]
) -> report.Row:
    mine, theirs = ([each[column] for each in found] for found in (ours, others))
    of = statistics.median if which == "median" else partial(report.percentile, share=0.95)
    return report.Row(
        f"{column}, {which}",
        of(mine),
        others=of(theirs),
        beside=name,
        most=GOALS_S[which] if column == LATE else None,
        facts={"seconds": mine, "others_seconds": theirs},
    )


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))

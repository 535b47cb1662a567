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

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path

from pytest_vastgpu.local.embed import LocalMarket
from tests.benchmarks.latency_ways import SCALE
from tests.benchmarks.latency_ways import SERVER
from tests.benchmarks.latency_ways import WAYS
from tests.benchmarks.latency_ways import Boot
from tests.benchmarks.latency_ways import Way

GOALS_S = {"median": 0.1, "p95": 0.25}
"""Of ours, ready → the test's first line, on an idle machine."""

COLUMNS = ("ready → test", "running → SSH in", "create → endpoint")


def measure(way: Way, boot: Boot) -> dict[str, float]:
    """One rental, from a market of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, LocalMarket(boot.fleet()) as market:
        folder = Path(name)
        (folder / "server.py").write_text(SERVER)
        seen = way(market, boot, folder)
        note = json.loads((folder / "note").read_text())
    late = seen.late(note["ready"], seen.first_line)
    times = {"ready → test": late, "create → endpoint": note["ready"] - seen.created + late}
    if seen.ssh_in:
        times["running → SSH in"] = boot.ssh_s + seen.late(note["running"] + boot.ssh_s, seen.ssh_in)
    return times


def summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {"median": statistics.median(ordered), "p95": p95, "longest": ordered[-1]}


def main() -> int:
    """Measure all ways in turn, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all numbers there")
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    # Wider than the plain loop's period, and than the scaled ones: so any moment of a period is as likely as another.
    boots = [Boot(dice.uniform(0.5, 2.5), dice.uniform(0, 1), dice.uniform(0.5, 2.5)) for _ in range(arguments.rounds)]
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    for number, boot in enumerate(boots, 1):
        for name, way in WAYS.items():
            measured[name].append(measure(way, boot))
        sys.stderr.write(f"round {number} of {len(boots)}\n")
    results = {
        name: {column: summary([each[column] for each in rows]) for column in COLUMNS if column in rows[0]}
        for name, rows in measured.items()
    }
    best = results["ours"]
    title = "seconds: median / 95th percentile"
    sys.stdout.write(f"{title:36}" + "".join(f"{column:>28}" for column in COLUMNS) + "\n")
    for name, columns in results.items():
        cells = [
            f"{found['median']:.3f} / {found['p95']:.3f} ({found['median'] / best[column]['median']:.0f}x)"
            if (found := columns.get(column))
            else "-"
            for column in COLUMNS
        ]
        sys.stdout.write(f"{name:36}" + "".join(f"{cell:>28}" for cell in cells) + "\n")
    met = all(best["ready → test"][which] <= goal for which, goal in GOALS_S.items())
    goals = " and ".join(f"{which} at most {goal:g} s" for which, goal in GOALS_S.items())
    load = os.getloadavg()[0]
    sys.stdout.write(f"goal of ours, ready → test ({goals}, on an idle machine): {'met' if met else 'NOT met'}")
    sys.stdout.write(f"; load at the end: {load:.1f} on {os.cpu_count()} cores\n")
    if arguments.json:
        report = {
            "rounds": arguments.rounds,
            "seed": arguments.seed,
            "scale_of_long_polls": SCALE,
            "load_at_end": load,
            "seconds": results,
            "each": measured,
        }
        arguments.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

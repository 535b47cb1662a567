"""How long the first run of the quick start takes, part by part, beside pytest with an empty test.

``python -m tests.benchmarks.first_run`` runs both again and again in turn, each time with a fresh home, and shows the
quickest round: whatever else goes on makes a run slower, never quicker. Byte code is compiled beforehand, as ``pip
install`` does it. Plugins of a development environment count with both; for what a user sees, install the package into
an environment of its own with ``pip install -e '.[quickstart]'``, and run this with its Python.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from pytest_vastgpu.model import State
from tests.benchmarks import report
from tests.benchmarks import suite

ROUNDS = 7
GOAL_S = 2.2
EXAMPLE = Path(__file__).parents[2] / "conftest_examples" / "quickstart"
TESTS_OF_EXAMPLE = 6
PARTS: Mapping[str, State] = {
    "pytest, supervisor and market start": State.INTENDED,
    "create, boot, SSH": State.REACHABLE,
    "host checked": State.CHECKED,
    "server launched": State.WARMING,
    "server ready": State.READY,
    "tests": State.DESTROYING,
    "seen gone": State.GONE,
}
"""The parts of a run, each with the state of the instance that ends it. One more part follows: all processes end."""
LAST = "market, supervisor and pytest end"


class Measured:
    """One run: its seconds, those of the processor, and those of each part."""

    def __init__(self, directory: Path, passed: int) -> None:
        with tempfile.TemporaryDirectory() as home:
            began, used = time.time(), _processor_s()
            self.seconds = suite.run(directory, Path(home), passed=passed)
            self.processor_s = _processor_s() - used
            self.parts = _parts(Path(home), began, began + self.seconds)


def _processor_s() -> float:
    """What ended processes have used, with all that they have waited for. Instances are not among these."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def _parts(home: Path, began: float, ended: float) -> dict[str, float]:
    """Seconds by part, from the events of the run; empty where it has rented nothing."""
    times: dict[str, float] = {}
    for log in home.glob(".local/state/pytest-vastgpu/runs/*/events.jsonl"):
        for line in log.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            times.setdefault(str(event["state"]), event["time"])
    if not times:
        return {}
    moments = [began, *(times[state.value] for state in PARTS.values()), ended]
    return dict(zip([*PARTS, LAST], (after - before for before, after in pairwise(moments)), strict=True))


def rows(quick: bool) -> list[report.Row]:
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "pytest.ini").touch()
        (Path(scratch) / "test_empty.py").write_text("def test_nothing(): pass\n", encoding="utf-8")
        rounds = [
            (Measured(EXAMPLE, TESTS_OF_EXAMPLE), Measured(Path(scratch), 1)) for _ in range(1 if quick else ROUNDS)
        ]
    ours, empty = min(rounds, key=lambda both: both[0].seconds)
    beside = "pytest with an empty test"
    every = {"seconds": [run.seconds for run, _ in rounds], "empty_seconds": [run.seconds for _, run in rounds]}
    name = "first run"
    return [
        report.Row(f"{name}, all of it", ours.seconds, others=empty.seconds, beside=beside, most=GOAL_S, facts=every),
        report.Row(f"{name}, processor", ours.processor_s, others=empty.processor_s, beside=beside),
        *(report.Row(f"{name}: {part}", seconds) for part, seconds in ours.parts.items()),
    ]


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))

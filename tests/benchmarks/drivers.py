"""Our driver beside ``vllm bench serve``, on real vLLM on CPU: what each says of one server under the same load.

``VASTGPU_VLLM=DIR python -m tests.benchmarks.drivers``, where ``.ci/vllm-cpu.sh DIR`` has made ``DIR``. The two take
turns on one server; told are the medians of their numbers, rates as seconds for each request or token. Neither is right
by itself: a ratio of 1 says that both see the same. How far turns of one driver differ is in the JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks import suite

TURNS = 5
SECONDS = 10.0
OURS, THEIRS = "", "vllm bench serve"
RATES = {"throughput": "s for each request", "output_throughput": "s for each token"}
TIMES = ("ttft_p50", "ttft_p90", "tpot_p50", "itl_p50", "e2e_p50", "e2e_p90")
GOAL_RATIO = 1.05

TESTS = """
import json
from pathlib import Path
import pytest
from pytest_vastgpu import completions, vllm

@pytest.fixture
def vast_workload():
    args = ("--enforce-eager", "--gpu-memory-utilization=0.1")
    return vllm({model!r}, *args, env={env!r}, gpus=0, disk_gb=8, image_gb=0, warmup_s=240)

def test_it(vast_instance):
    found = []
    for turn in range({turns}):
        for driver in {drivers!r}:
            load = completions(
                model={model!r}, max_tokens=32, ignore_eos=True, temperature=0, concurrency=2, driver=driver
            )
            seen = vast_instance.measure(load, seconds={seconds})
            found.append([driver, {{name: figure.value for name, figure in seen.figures.items()}}, list(seen.notes)])
    Path({found!r}).write_text(json.dumps(found))
"""


def rows(quick: bool) -> list[report.Row]:
    if "VASTGPU_VLLM" not in os.environ:
        raise report.Skipped("VASTGPU_VLLM does not name an environment with vLLM, see .ci/vllm-cpu.sh")
    place = Path(os.environ["VASTGPU_VLLM"]).resolve()
    path = f"{place / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    env = {"PATH": path, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    turns, seconds = (1, 2.0) if quick else (TURNS, SECONDS)
    with tempfile.TemporaryDirectory() as scratch:
        directory, home, found = (Path(scratch, name) for name in ("suite", "home", "found.json"))
        directory.mkdir()
        home.mkdir()
        directory.joinpath("pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        asked = {"turns": turns, "seconds": seconds, "drivers": (OURS, THEIRS), "found": str(found)}
        tests = TESTS.format(model=str(place / "tiny-llama"), env=env, **asked)
        directory.joinpath("test_it.py").write_text(tests, encoding="utf-8")
        suite.run(directory, home, "--vast-backend=local", passed=1)
        told = json.loads(found.read_text(encoding="utf-8"))
    seen: dict[str, list[dict[str, float]]] = {OURS: [], THEIRS: []}
    for driver, numbers, _ in told:
        seen[driver].append(numbers)
    notes = sorted({note for _, _, said in told for note in said})
    known = set.intersection(*(set(numbers) for _, numbers, _ in told))  # too few requests have no p90
    return [row(name, seen[OURS], seen[THEIRS], notes) for name in (*RATES, *TIMES) if name in known]


def row(name: str, ours: list[dict[str, float]], theirs: list[dict[str, float]], notes: list[str]) -> report.Row:
    sides = [[1 / each[name] if name in RATES else each[name] for each in side] for side in (ours, theirs)]
    mine, beside = map(statistics.median, sides)
    facts = {"seconds": sides[0], "others_seconds": sides[1], "notes": notes}
    what = f"real vLLM (CPU), {RATES.get(name, name)}"
    return report.Row(what, mine, others=beside, beside=THEIRS, most_ratio=GOAL_RATIO, facts=facts)


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))

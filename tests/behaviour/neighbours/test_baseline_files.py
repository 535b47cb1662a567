"""pytest-benchmark's own command reads the stored baselines."""

from __future__ import annotations

import csv
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.measuring.baselines.files import document
from tests.behaviour.neighbours.test_neighbours import PLACE
from tests.behaviour.neighbours.test_neighbours import needs_them
from tests.measuring.test_baseline_files import COMMIT
from tests.measuring.test_baseline_files import ENTRY
from tests.measuring.test_baseline_files import WHEN


@needs_them
@pytest.mark.slow
def test_pytest_benchmark_compares_stored_baselines(tmp_path: Path) -> None:
    place = tmp_path / ".vastgpu/baselines/RTX_4090"
    place.mkdir(parents=True)
    slower = replace(ENTRY, quantiles=[each * 2 for each in ENTRY.quantiles])
    bare = replace(ENTRY, quantiles=(), figures={}, name="bare")
    (place / "0001_main_4711.json").write_text(document([ENTRY, bare], "main", WHEN, COMMIT))
    (place / "0002_main_4712.json").write_text(document([slower], "main", WHEN, COMMIT))
    command = (f"{PLACE}/bin/pytest-benchmark", "--storage", ".vastgpu/baselines", "compare", "--csv=found.csv")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Failed to load" not in done.stdout + done.stderr
    with (tmp_path / "found.csv").open() as file:
        medians = {(row["name"].rpartition("::")[2], round(float(row["median"]), 3)) for row in csv.DictReader(file)}
    assert medians == {
        ("test_it[a] (completions, concurrency 4)", 0.25),
        ("test_it[a] (completions, concurrency 4)", 0.5),
        ("test_it[a] (bare, completions, concurrency 4)", 0.0),
    }

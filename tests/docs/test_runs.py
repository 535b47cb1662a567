"""What pages say to run is run, on a local market: few, since each is a whole run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.pages import blocks_of

pytestmark = pytest.mark.slow


def run(arguments: Sequence[str], directory: Path) -> str:
    """Run a module of Python there, and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def shapes(text: str) -> set[str]:
    """The lines of an output without numbers, ids and the width of gaps, and without stages that may pass unseen.

    How many tests have passed on one line is not told either: on a busy machine another line comes between them.
    """
    lines = (" ".join(line.split()) for line in text.split("\n") if "warming: " not in line)
    return {re.sub(r"\b[0-9a-f]{8}\b|\d[\d.,]*|[-=]{3,}|armed \(\w+\)| \.+(?= \[)", "0", line) for line in lines}


def test_the_local_market_serves_the_test_of_another_tool(tmp_path: Path) -> None:
    conftest, test, script = (block for block in blocks_of("docs/local-market.md") if block.language == "python")
    for block, name in ((conftest, "conftest.py"), (test, "test_my_tool.py")):
        assert f"`{name}`" in block.introduction
        (tmp_path / name).write_text(block.text)
    run(["pytest", "-p", "no:cacheprovider", "-p", "no:randomly"], tmp_path)
    (tmp_path / "script.py").write_text(f"{script.text}\n\nmain()\n")
    assert "http://127.0.0.1:" in run(["script"], tmp_path)


def test_the_quick_start_prints_what_its_page_shows() -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("the page is of a machine without a GPU")
    page = "conftest_examples/quickstart/README.md"
    [shown] = (block.text for block in blocks_of(page) if block.language == "text")
    printed = run(["pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-n0", Path(page).parent.as_posix()], ROOT)
    home = os.environ["HOME"]
    assert shapes(shown) - shapes(printed.replace(home, "~")) == set()

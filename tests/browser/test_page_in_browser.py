"""The page of a run as Chromium shows it: whole, readable, usable by keyboard, and judged by axe-core.

Needs the environment that ``.ci/browser.sh DIR`` makes::

    VASTGPU_BROWSER=DIR pytest tests/browser

Screenshots are kept in ``VASTGPU_SCREENSHOTS``, if that names a directory.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.reporting.run.report import RunReport
from tests.browser import look
from tests.support.measured import kept
from tests.support.reports import FOREIGN
from tests.support.reports import run_report

if "VASTGPU_BROWSER" not in os.environ:
    pytest.skip(
        "VASTGPU_BROWSER does not name an environment with Playwright, see .ci/browser.sh", allow_module_level=True
    )

PYTHON = Path(os.environ["VASTGPU_BROWSER"]).resolve() / "bin" / "python"
LARGEST_BYTES = 2_000_000
"""Of a page with 500 tests on 20 instances."""

PAGES = {
    "measured": replace(run_report(10, 5), measured=kept()),
    "large": run_report(500, 20),
    "foreign": run_report(10, 5, FOREIGN),
    "nothing": RunReport("", over=True),
}
CLOSELY = "measured"
"""The page that is judged by axe-core, with all of its details open: it has all that a page may have."""


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What is seen of each page."""
    pytest.importorskip("jinja2")
    from pytest_vastgpu.reporting.page.render import render

    directory = tmp_path_factory.mktemp("pages")
    shots = Path(os.environ.get("VASTGPU_SCREENSHOTS", directory)).resolve()
    shots.mkdir(parents=True, exist_ok=True)
    pages = {name: directory / f"{name}.html" for name in PAGES}
    for name, page in pages.items():
        page.write_text(render(PAGES[name]), encoding="utf-8")
        assert page.stat().st_size < LARGEST_BYTES
    command = [str(each) for each in (PYTHON, look.__file__, shots, CLOSELY, *pages.values())]
    found: dict[str, list[dict[str, Any]]] = json.loads(subprocess.check_output(command, text=True))
    for name, seen in found.items():
        assert all((shots / f"{name}-{each['width']}-{each['scheme']}-first.png").stat().st_size for each in seen)
    return found


@pytest.mark.parametrize("name", PAGES)
def test_a_page_in_the_browser(name: str, looks: dict[str, list[dict[str, Any]]]) -> None:
    assert len(looks[name]) == len(look.SIZES) * (len(look.SCHEMES) if name == CLOSELY else 1)
    for seen in looks[name]:
        where = f"{name}, {seen['width']} px, {seen['scheme']}"
        assert seen["said"] == [], where
        assert seen["violations"] == [], where
        assert seen["title"].endswith(f"vastgpu {PAGES[name].id}".rstrip()), where
        assert seen["wider"] <= 0, where
        assert bool(seen["bars"]) == bool(PAGES[name].instances), where
        assert seen["first"] or name != CLOSELY, where
        assert (seen["focused"], seen["skipped_to"]) == ("skip", "main"), where

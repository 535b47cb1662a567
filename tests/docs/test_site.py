"""The site of the documentation: every page has its place, and its links are checked. `.ci/site.sh` builds it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

SITE = ROOT / "docs/site"
PAGE = '<h1 id="top-of-it">A page</h1> <a href="LINK">there</a>'


def test_every_page_has_its_place() -> None:
    entries = re.findall(r"^   (?:.*<)?/(\S+?)>?$", (SITE / "index.rst").read_text(), re.MULTILINE)
    pages = {path.relative_to(ROOT).with_suffix("").as_posix() for path in (ROOT / "docs").glob("*.md")}
    own = {entry for entry in entries if "*" not in entry}
    assert own == pages | {"README", "CONTRIBUTING", "CHANGELOG"}


@pytest.mark.parametrize(
    ("link", "wrong"),
    [
        ("other.html", ""),
        ("other.html#top-of-it", ""),
        ("#top-of-it", ""),
        ("data.txt", ""),
        ("https://pypi.org/project/pytest-vastgpu/", ""),
        ("missing.html", "leads to no file"),
        ("#missing", "leads to nothing with that name"),
        ("other.html#missing", "leads to nothing with that name"),
        ("http://pypi.org/", "is no https"),
        ("https://pypi.example/", "leads to a host that check_links.py does not list"),
        ("", ""),
    ],
)
def test_a_wrong_link_is_found(tmp_path: Path, link: str, wrong: str) -> None:
    (tmp_path / "page.html").write_text(PAGE.replace("LINK", link))
    (tmp_path / "other.html").write_text(PAGE.replace("LINK", "page.html"))
    (tmp_path / "data.txt").touch()
    problems = runpy.run_path(str(SITE / "check_links.py"))["problems"]
    assert list(problems(tmp_path)) == ([f"page.html: {link} {wrong}"] if wrong else [])


def test_a_site_without_pages_is_wrong(tmp_path: Path) -> None:
    problems = runpy.run_path(str(SITE / "check_links.py"))["problems"]
    assert list(problems(tmp_path)) == [f"{tmp_path}: no page is there"]

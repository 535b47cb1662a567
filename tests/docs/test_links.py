"""Links lead somewhere, and what is named in backticks exists: files, options, variables, commands, our modules."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import pytest

from pytest_vastgpu.cli.main import parser
from pytest_vastgpu.settings import HOST_OPTIONS
from pytest_vastgpu.settings import OPTIONS
from tests.docs.console import VARIABLES
from tests.docs.pages import PAGES
from tests.docs.pages import ROOT
from tests.docs.pages import prose_of

OTHERS = frozenset({"VAST_TCP_PORT_8000", "VAST_CONTAINERLABEL"})
"""Variables that Vast.ai sets in a container."""
FLAGS = {option.flag for option in (*OPTIONS, *HOST_OPTIONS)} | {"--vast-plan", "--vast-plan-json"}

pages = pytest.mark.parametrize("page", PAGES)


def links_of(page: str) -> list[tuple[int, str]]:
    """The targets of a page's links, but those to other sites, each with its line."""
    prose = prose_of(page)
    found = re.finditer(r"\]\(([^)\s]+)\)", prose)
    return [(prose.count("\n", 0, each.start()) + 1, each[1]) for each in found if "://" not in each[1]]


@cache
def anchors_of(page: str) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    found: Counter[str] = Counter()
    anchors = set()
    for heading in re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE):
        name = (
            re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).strip().replace(" ", "-")
        )
        anchors.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return frozenset(anchors)


def wrong_link(page: str, target: str) -> str:
    """Why a link of a page leads nowhere; empty if it does not."""
    path, _, anchor = target.partition("#")
    file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
    if not file.exists():
        return f"{path} does not exist"
    if anchor and anchor not in anchors_of(file.relative_to(ROOT).as_posix()):
        return f"{path or page} has no heading {anchor!r}"
    return ""


@pages
def test_links_lead_somewhere(page: str) -> None:
    wrong = [f"{page}:{line}: {why}" for line, target in links_of(page) if (why := wrong_link(page, target))]
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


@pages
def test_options_variables_and_commands_that_it_names_exist(page: str) -> None:
    commands = {name for action in parser()._actions for name in (action.choices or ())}
    wrong = []
    for number, line in enumerate(prose_of(page).split("\n"), 1):
        wrong += [
            f"{page}:{number}: there is no option {flag}"
            for flag in re.findall(r"(?<![\w-])--vast-[a-z-]*[a-z]", line)
            if flag not in FLAGS
        ]
        wrong += [
            f"{page}:{number}: nothing reads the variable {name}"
            for name in re.findall(r"(?<![\w-])VAST_[A-Z_0-9]*[A-Z0-9]\b", line)
            if name not in VARIABLES | OTHERS
        ]
        wrong += [
            f"{page}:{number}: there is no command `vastgpu {name}`"
            for name in re.findall(r"`vastgpu ([a-z]+)", line)
            if name not in commands
        ]
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)

"""Links lead somewhere, and what is named in backticks exists: files, options, variables, commands, our modules."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pytest_vastgpu.cli.main import parser
from pytest_vastgpu.settings import HOST_OPTIONS
from pytest_vastgpu.settings import OPTIONS
from tests.docs.console import VARIABLES
from tests.docs.pages import PAGES
from tests.docs.pages import ROOT
from tests.docs.pages import files_of
from tests.docs.pages import prose_of
from tests.docs.pages import words_of

PATH = re.compile(r"(?:pytest_vastgpu|tests|conftest_examples|docs|\.ci|\.github)/[\w./-]*|[\w-]+\.(?:toml|md)")
NAME = re.compile(r"pytest_vastgpu(?:\.\w+)+")
ENTRY_POINTS = frozenset({"pytest_vastgpu.adapters"})
OTHERS = frozenset({"VAST_TCP_PORT_8000", "VAST_CONTAINERLABEL"})
"""Variables that Vast.ai sets in a container."""
FLAGS = {option.flag for option in (*OPTIONS, *HOST_OPTIONS)} | {"--vast-plan", "--vast-plan-json"}
COMMANDS = {name for action in parser()._actions for name in (action.choices or ())}


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


def names_in(module: Path) -> set[str]:
    """What a module defines or imports, and the members of its classes as ``Class.member``."""
    found: set[str] = set()

    def bind(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef):
                found.add(prefix + child.name)
                if isinstance(child, ast.ClassDef):
                    bind(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.alias):
                found.add(child.asname or child.name)
            elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                found.add(prefix + child.id)
            else:
                bind(child, prefix)

    bind(ast.parse(module.read_text()), "")
    return found


def is_there(name: str) -> bool:
    """Whether a dotted name leads to a module, or to something that a module defines."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:end])
        module = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if module.exists():
            return end == len(parts) or ".".join(parts[end:]) in names_in(module) | {"__all__"}
    return False


def wrong_names(page: str) -> Iterator[str]:
    """The paths and names of this repository that a page names, and that there are not."""
    for word in words_of(page):
        if PATH.fullmatch(word) and not (ROOT / word).exists() and word not in files_of(page):
            yield f"{page}: {word} does not exist"
        if NAME.fullmatch(word) and word not in ENTRY_POINTS and not is_there(word):
            yield f"{page}: no module defines {word}"


def wrong_usage(page: str) -> Iterator[str]:
    """The options, variables and commands that a page's prose names, and that there are not."""
    for number, line in enumerate(prose_of(page).split("\n"), 1):
        for flag in re.findall(r"(?<![\w-])--vast-[a-z-]*[a-z]", line):
            if flag not in FLAGS:
                yield f"{page}:{number}: there is no option {flag}"
        for name in re.findall(r"(?<![\w-])VAST_[A-Z_0-9]*[A-Z0-9]\b", line):
            if name not in VARIABLES | OTHERS:
                yield f"{page}:{number}: nothing reads the variable {name}"
        for name in re.findall(r"`vastgpu ([a-z]+)", line):
            if name not in COMMANDS:
                yield f"{page}:{number}: there is no command `vastgpu {name}`"


@pytest.mark.parametrize("page", PAGES)
def test_what_it_names_and_links_to_exists(page: str) -> None:
    wrong = [f"{page}:{line}: {why}" for line, target in links_of(page) if (why := wrong_link(page, target))]
    wrong += [*wrong_names(page), *wrong_usage(page)]
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)

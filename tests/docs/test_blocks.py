"""Every fenced block of the pages is run or checked, by its language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import printed
from tests.docs.console import CommandLines
from tests.docs.console import commands_of
from tests.docs.console import options_of
from tests.docs.data_files import json_problems
from tests.docs.data_files import settings_problems
from tests.docs.data_files import yaml_problems
from tests.docs.pages import PAGES
from tests.docs.pages import Block
from tests.docs.pages import blocks_of
from tests.docs.pages import files_of
from tests.docs.python_code import Page

LANGUAGES = {
    "python": "is run, but the bodies of its functions; their names, fixtures and keywords must exist",
    "console": "its commands are parsed; `vastgpu` and `pytest` by our own parsers",
    "yaml": "a fleet of the local market, or a job of GitHub, GitLab or Buildkite",
    "ini": "settings of pytest",
    "toml": "settings of pytest or of another tool",
    "json": "one document",
    "xml": "an excerpt of a JUnit file; its properties are ours",
    "text": "what the program prints; after `$ `, a command",
}
"""The languages that a block may have, and how each is checked."""

pages = pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)])


def command_problems(block: Block, commands: CommandLines) -> Iterator[tuple[int, str]]:
    """What is wrong with the commands of a block; in one of output they stand after a `$ `."""
    if block.language == "text" and "\n$ " not in f"\n{block.text}":
        return
    for offset, line in commands_of(block.text):
        for problem in commands.problems(line):
            yield offset, problem


def printed_problems(block: Block) -> Iterator[tuple[int, str]]:
    """The lines of output that nothing prints; a line that is a command is none."""
    shown = re.sub(r"^\$ .*$", "", block.text, flags=re.MULTILINE)
    for offset, line in printed.of_the_package().unexplained(shown):
        yield offset, f"nothing in this package prints {line.strip()!r}: run it, and copy what it says"


@pages
def test_its_blocks_are_right(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    commands = CommandLines(options_of(pytestconfig), files_of(page))
    python = Page(tmp_path)
    told = []
    for block in blocks_of(page):
        problems: Iterator[tuple[int, str]] = iter(())
        if block.language == "python":
            problems = python.problems(block, monkeypatch)
        elif block.language in {"console", "text"}:
            problems = command_problems(block, commands)
        elif block.language == "yaml":
            problems = yaml_problems(block, commands)
        elif block.language in {"ini", "toml"}:
            problems = settings_problems(block)
        elif block.language == "json":
            problems = json_problems(block)
        elif block.language == "xml":
            problems = printed.unknown_properties(block.text)
        elif not block.language.startswith("{"):  # a directive: the site's build checks it
            unknown = f"the language {block.language!r} is not checked; use one of {', '.join(LANGUAGES)}"
            problems = iter([(-1, unknown)])
        told += [f"{block.page}:{block.line + offset}: {problem}" for offset, problem in problems]
    if told:
        pytest.fail("\n".join(told), pytrace=False)


def test_every_line_of_output_is_one_that_is_printed() -> None:
    """One test for all pages, since each process that looks reads the whole package."""
    told = [
        f"{block.page}:{block.line + offset}: {problem}"
        for page in PAGES
        for block in blocks_of(page)
        if block.language == "text"
        for offset, problem in printed_problems(block)
    ]
    if told:
        pytest.fail("\n".join(told), pytrace=False)

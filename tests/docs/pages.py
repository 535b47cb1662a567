"""The pages that people read, and the fenced blocks in them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = tuple(
    page.relative_to(ROOT).as_posix()
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("**/*.md")),
        *sorted((ROOT / "conftest_examples").glob("*/README.md")),
    )
)
_FILE = re.compile(r"`([\w./-]+)`")
_FENCE = re.compile(r"^( *)(`{3,})(\S*)[^`]*$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    """Of its first line, from 1."""
    language: str
    text: str
    introduction: str
    """The paragraph before it: it may name the file that the block is."""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def text_of(page: str) -> str:
    """A page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def blocks_of(page: str) -> tuple[Block, ...]:
    """The blocks of a page, in their order."""
    return tuple(parse(page, text_of(page)))


def parse(page: str, text: str) -> list[Block]:
    """The fenced blocks of a Markdown text; one that is never closed goes on to its end."""
    blocks = []
    lines = text.split("\n")
    index = 0
    while index < len(lines):
        start = _FENCE.match(lines[index])
        index += 1
        if start is None:
            continue
        first = index
        while index < len(lines) and lines[index].strip() != start[2]:
            index += 1
        before = "\n".join(lines[: first - 1]).rstrip().rpartition("\n\n")[2]
        content = textwrap.dedent("\n".join(lines[first:index])) + "\n"
        blocks.append(Block(page, first + 1, start[3], content, before))
        index += 1
    return blocks


@cache
def prose_of(page: str) -> str:
    """A page's text without what is in its blocks; lines keep their numbers."""
    kept = []
    fence = ""
    for line in text_of(page).split("\n"):
        start = _FENCE.match(line)
        inside = fence != ""
        if inside and line.strip() == fence:
            fence = ""
        elif not inside and start is not None:
            fence = start[2]
            inside = True
        kept.append("" if inside else line)
    return "\n".join(kept)


def files_of(page: str) -> set[str]:
    """The reader's files that a page gives: named in backticks above a block, or in the block's first comment."""
    found: set[str] = set()
    for block in blocks_of(page):
        names = _FILE.findall(block.introduction) + re.findall(r"^# ([\w./-]+)$", block.text, re.MULTILINE)
        for name in names:
            found |= {name, *(parent.as_posix() for parent in Path(name).parents)}
    return found - {"."}


def words_of(page: str) -> list[str]:
    """The words of a page in backticks and in its blocks of commands."""
    commands = [block.text for block in blocks_of(page) if block.language == "console"]
    spans = re.findall(r"`([^`\n]+)`", prose_of(page))
    return [word.strip("'\"") for part in [*commands, *spans] for word in part.split()]

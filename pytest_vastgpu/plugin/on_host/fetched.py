"""The folder of what was fetched, and what is said of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.plugin.on_host.pack import TOO_MUCH
from pytest_vastgpu.plugin.on_host.unpack import MOST_BYTES
from pytest_vastgpu.plugin.on_host.unpack import MOST_FILES
from pytest_vastgpu.plugin.on_host.unpack import TOLD
from pytest_vastgpu.plugin.on_host.unpack import Received
from pytest_vastgpu.plugin.on_host.unpack import shown
from pytest_vastgpu.reporting.sentences import count
from pytest_vastgpu.reporting.sentences import size
from pytest_vastgpu.reporting.sentences import some

FOLDER = "vast-fetched"
"""Below the project's root directory: a folder for each host."""
_OURS = "# Made by pytest-vastgpu for what --vast-fetch brings. The next run that fetches empties this folder."
_IGNORE = ".gitignore"


class NotOurs(Exception):
    """There is a folder of that name that somebody else has made."""


def folder_for_a_run(folder: Path) -> None:
    """Make the folder, or empty it: what lies there afterwards is of this run.

    :raises NotOurs: one line: it is there, and this package has not made it.
    :raises OSError: it cannot be made or emptied.
    """
    folder.mkdir(exist_ok=True)
    mark, there = folder / _IGNORE, sorted(folder.iterdir())
    if there and not (mark.is_file() and mark.read_text(encoding="utf-8", errors="replace").startswith(_OURS)):
        raise NotOurs(f"{folder} holds files that are not of --vast-fetch, and would be emptied: move them elsewhere")
    for each in there:
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        elif each != mark:
            each.unlink()
    mark.write_text(f"{_OURS}\n*\n", encoding="utf-8")


def told(host: str, where: str, tmp: Sequence[str], got: Received) -> list[str]:
    """What has come from a host, and what has not, each in a line.

    :param where: The folder of what has come.
    :param tmp: Where the ``tmp_path`` of each failed test should be, below that.
    """
    lines = []
    if got.files:
        then = f", and then no more: {got.broken}" if got.broken else ""
        lines.append(f"fetched {count(got.files, 'file')} ({size(got.size)}) into {where}{then}")
    elif got.broken:
        lines.append(f"nothing fetched: {got.broken}")
    if gone := [each for each in tmp if each in _list(got.end.get("gone"))]:
        lines.append(f"not fetched: {some(gone, 1)}: removed there by the end of the run")
    lines += _unsent(got)
    return [f"vastgpu: {host}: {line}" for line in lines]


def matches(got: Received, patterns: Sequence[str]) -> dict[str, tuple[int, int]]:
    """For each pattern how many files were sent, and how many it matches there; empty where the host does not say."""
    found = {}
    for pattern, said in zip(patterns, _list(got.end.get("matches")), strict=False):
        match said:
            case [int() as sent, int() as matching]:
                found[pattern] = (sent, matching)
    return found


def nothing_for(found: Sequence[Mapping[str, tuple[int, int]]], patterns: Sequence[str]) -> list[str]:
    """A line for each pattern for which no host has had anything.

    :param found: What :func:`matches` has found, of each host; of one whose answer was lost, nothing.
    """
    lines = []
    for pattern in patterns:
        said = [each[pattern] for each in found if pattern in each]
        if said and not any(sent for sent, _ in said):
            most = max(matching for _, matching in said)
            where = "on any host" if len(said) == len(found) else "on the hosts that have answered"
            why = f"{count(most, 'file')} there, written by no test of this run" if most else f"no such file {where}"
            lines.append(f"vastgpu: nothing fetched for {pattern!r}: {why}")
    return lines


def _unsent(got: Received) -> list[str]:
    """What was not taken, and what the host says that it has not sent."""
    refused, large, total = list(got.refused), [], got.refused_count
    said = _list(got.end.get("unsent"))
    for each in said:
        match each:
            case [str() as name, str() as why, int() as bytes_there] if why == TOO_MUCH:
                large.append(f"{shown(name)} ({size(bytes_there)})")
            case [str() as name, str() as why, int()]:
                refused.append(f"{shown(name)} ({sanitize.line(why, 100)})")
    unsent = got.end.get("unsent_count")
    total += unsent if isinstance(unsent, int) else len(said)
    named = refused[:TOLD] + large[:TOLD]
    if not named:
        return []
    more = f" and {total - len(named)} more" if total > len(named) else ""
    limit = f"; {size(MOST_BYTES)} and {MOST_FILES:,} files of a host are the most: ask for less" if large else ""
    return [f"not fetched: {', '.join(named)}{more}{limit}"]


def _list(said: Any) -> list[Any]:
    return said if isinstance(said, list) else []

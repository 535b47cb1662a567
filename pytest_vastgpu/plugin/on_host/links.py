"""How a project's symbolic links are brought: as links, by what they lead to, or not at all."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path


@dataclass
class Sorted:
    """A project's links."""

    kept: dict[str, str] = field(default_factory=dict)
    """Those that are brought as links, and where they lead."""
    followed: list[str] = field(default_factory=list)
    """Those in whose place comes what they lead to."""
    out: list[str] = field(default_factory=list)
    """Those that lead out of the project."""

    def notice(self, root: Path) -> str:
        """What is told of those that lead out."""
        first = f"{self.out[0]} -> {(root / self.out[0]).readlink()}"
        what = f"a link that leads out of the project, {first}"
        if len(self.out) > 1:
            what = f"{len(self.out)} links that lead out of the project, such as {first}"
        return f"left out: {what}; --vast-sync={glob.escape(self.out[0])} brings what it leads to"


def sort(root: Path, links: Mapping[str, bool], names: Iterable[str]) -> Sorted:
    """Decide how links are brought.

    :param links: Paths below the root directory, and whether ``--vast-sync`` names them.
    :param names: What else is brought.
    """
    found = Sorted()
    if not links:
        return found
    real_root = os.path.realpath(root)
    there = {".", *names, *links}
    for name in tuple(there):
        above = name.rpartition("/")[0]
        while above and above not in there:
            there.add(above)
            above = above.rpartition("/")[0]
    for name, is_asked in links.items():
        real = os.path.realpath(root / name)
        target = os.path.relpath(real, real_root)
        inside = target.partition("/")[0] != ".."
        text = str((root / name).readlink())
        if not os.path.lexists(real):
            found.kept[name] = text  # it leads nowhere, here as there
        elif inside and (target in there or not is_asked):
            found.kept[name] = _within(name, text, target)
        elif is_asked:
            found.followed.append(name)
        else:
            found.out.append(name)
    return found


def _within(name: str, text: str, target: str) -> str:
    """Where a link leads that works elsewhere, too: as it says, unless it says so by way of what is outside."""
    folder = name.rpartition("/")[0] or "."
    if not text.startswith("/") and os.path.normpath(f"{folder}/{text}").partition("/")[0] != "..":
        return text
    return os.path.relpath(target, folder)

"""Where the project is here, and where it is on a host: paths are carried over, and back."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pathlib import PurePosixPath

TMP = "tmp"
"""Below the working directory of a host: the folder with each worker's ``tmp_path`` s."""
BEGAN = "began-"
"""There, too: how the name of the file begins that says when a run began there."""


def within(path: Path, root: Path) -> PurePosixPath | None:
    """A path from the root directory; None if it lies outside. A link may lead to the root."""
    for each in (root, Path(os.path.realpath(root))):
        if path.is_relative_to(each):
            return PurePosixPath(path.relative_to(each))
    return None


@dataclass(frozen=True)
class Places:
    """The two places of a project."""

    root: Path
    """pytest's root directory here."""
    there: PurePosixPath
    """The same directory on the host."""

    def on_host(self, text: str) -> str:
        """A text in which each path of the project here is the one on the host.

        A path begins where no name goes on, or behind a short option (``-c/path``), and ends where its name does.
        """
        return self._here.sub(lambda _: str(self.there), text)

    def here(self, text: str) -> str:
        """A text in which each path of the project on the host is the one here."""
        return self._there.sub(lambda _: str(self.root), text)

    def path_on_host(self, path: Path) -> PurePosixPath | None:
        """Where a path of the project is on the host; None if it lies outside of the project."""
        found = within(path, self.root)
        return None if found is None else self.there / found

    @cached_property
    def _here(self) -> re.Pattern[str]:
        return _any_of({str(self.root), os.path.realpath(self.root)})

    @cached_property
    def _there(self) -> re.Pattern[str]:
        return _any_of({str(self.there)})


def _any_of(paths: Iterable[str]) -> re.Pattern[str]:
    names = "|".join(re.escape(path) for path in sorted(paths, key=len, reverse=True))
    return re.compile(rf"(?:(?<![\w./~-])|(?<=\A-[A-Za-z]))(?:{names})(?![\w-]|\.\w)")

"""Writes the evidence of a failed attempt or test as files: limited in size, safe to show, without secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.layout import bounded

FOLDER = "vast-artifacts"
"""Below the directory in which pytest was started: ``vast-artifacts/<run id>/<attempt number>/``."""
FILE_CHARS = 1_000_000
"""Most characters of one file; a longer one loses its middle."""
TOTAL_CHARS = 4_000_000
"""Most characters of all files of one attempt together."""


def timeline(events: str, label: str) -> str:
    """The lines of an event log about one attempt."""
    return "".join(line for line in events.splitlines(keepends=True) if f'"label": {json.dumps(label)}' in line)


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write files into a directory, the most important first: if the total gets too large, the last ones are shortened.

    Empty files are left out.

    :raises OSError: if they cannot be written.
    """
    left = TOTAL_CHARS
    for name, text in files.items():
        if not text:
            continue
        kept = bounded(sanitize.block(text), min(FILE_CHARS, left))
        left = max(0, left - len(kept))
        (directory / name).write_text(kept, encoding="utf-8", errors="replace")

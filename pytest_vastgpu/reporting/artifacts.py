"""Evidence of a failed attempt as files: bounded in size, without secrets, ready to be uploaded as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vastgpu.readiness.evidence import without_secrets

if TYPE_CHECKING:
    from pytest_vastgpu.model import Workload

FOLDER = "vast-artifacts"
"""Below the directory in which pytest was started: ``vast-artifacts/<run id>/<attempt number>/``."""
FILE_CHARS = 1_000_000
"""Most of one file; what is longer loses its middle."""
TOTAL_CHARS = 4_000_000
"""Most of all files of one attempt together."""
LONG_VALUE_CHARS = 8
"""A value of the workload's environment is taken for a secret from that length on, whatever its name."""

_SECRET_NAME = re.compile(r"key|token|secret|pass|auth|credential", re.IGNORECASE)


def secrets_of(workload: Workload, **more: str) -> dict[str, str]:
    """Values that must not be shown, each with the name that is shown instead.

    The workload's environment counts: what looks secret by its name, and whatever is long.

    :param more: Further secrets by name.
    """
    named = [
        (name, value) for name, value in workload.env if _SECRET_NAME.search(name) or len(value) >= LONG_VALUE_CHARS
    ]
    return {value: f"<{name}>" for name, value in (*named, *more.items()) if value}


def redacted(text: str, secrets: Mapping[str, str]) -> str:
    """A text without the secrets that are known and without what looks like one."""
    for value in sorted(secrets, key=len, reverse=True):  # one may be part of another
        text = text.replace(value, secrets[value])
    return without_secrets(text)


def bounded(text: str, limit: int) -> str:
    """A text of at most about that many characters: causes stand at its start, consequences at its end."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[len(text) - half :]}"


def timeline(events: str, label: str) -> str:
    """The lines of an event log that tell of one attempt."""
    return "".join(line for line in events.splitlines(keepends=True) if f'"label": {json.dumps(label)}' in line)


def write_files(directory: Path, files: Mapping[str, str], secrets: Mapping[str, str]) -> None:
    """Write files into a directory, the important ones first: the last ones give way where it becomes too much.

    Empty ones are left out.

    :raises OSError: if they cannot be written.
    """
    left = TOTAL_CHARS
    for name, text in files.items():
        if not text:
            continue
        kept = bounded(redacted(text, secrets), min(FILE_CHARS, left))
        left = max(0, left - len(kept))
        (directory / name).write_text(kept, encoding="utf-8", errors="replace")

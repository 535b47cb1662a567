"""Reads JSON that anybody may have written: what is not of the expected kind reads as nothing. Nothing here raises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pytest_vastgpu.core.files import read_file
from pytest_vastgpu.core.text import sanitize

MOST_BYTES = 64 << 20
"""A larger file is not read."""
_LATEST = 253402300799.0  # the end of the year 9999
_MOST = 1e15


def content(path: Path) -> bytes:
    """A file's content; empty where it cannot be read."""
    try:
        return read_file(path, MOST_BYTES)
    except OSError:
        return b""


def json_object(data: bytes) -> Mapping[str, object]:
    """A JSON object; empty where it is none."""
    with suppress(ValueError, RecursionError):
        found = json.loads(data)
        if isinstance(found, dict):
            return found
    return {}


def rows(data: bytes) -> Iterator[Mapping[str, object]]:
    """The objects of a file with one in each line; lines that are none are left out."""
    return filter(None, map(json_object, data.splitlines()))


def objects(value: object) -> list[Mapping[str, object]]:
    """The objects of a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def sub_object(value: object) -> Mapping[str, object]:
    """An object within another one; empty where it is none."""
    return value if isinstance(value, dict) else {}


def texts(value: object, limit: int = sanitize.LINE_CHARS) -> tuple[str, ...]:
    """The texts of a list, each made safe."""
    return tuple(line(each, limit) for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def number(value: object) -> float:
    """A finite number; 0 where it is none."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return 0.0
    with suppress(OverflowError):
        return float(value) if abs(value) < _MOST else 0.0  # NaN is not below
    return 0.0


def amount(value: object) -> float:
    """A number that is not negative."""
    return max(0.0, number(value))


def moment(value: object) -> float:
    """Epoch seconds of a time that can be shown; 0 where it is none."""
    found = number(value)
    return found if 0 < found < _LATEST else 0.0


def whole(value: object) -> int:
    """A whole number that is not negative."""
    return int(amount(value))


def line(value: object, limit: int = sanitize.LINE_CHARS) -> str:
    """A text as one safe line; empty where it is no text."""
    return sanitize.line(value, limit) if isinstance(value, str) else ""


def block(value: object, limit: int = sanitize.TEXT_CHARS) -> str:
    """A text of several lines, made safe; empty where it is no text."""
    return sanitize.block(value[:limit]) if isinstance(value, str) else ""

"""Checks what runs leave for programs: each file meets its schema, and has no key that the schema does not know."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from pytest_vastgpu.reporting.schemas import schema


@functools.cache
def validator(name: str) -> Draft202012Validator:
    """Of what this version writes. The schema itself allows further keys, for readers of later versions."""
    return Draft202012Validator(_closed(json.loads(schema(name))))


def problems(name: str, document: object) -> list[str]:
    """What is wrong with a document, or with a line of one."""
    return [f"{error.json_path}: {error.message[:500]}" for error in validator(name).iter_errors(document)]


def problems_of_run(directory: Path) -> Iterator[str]:
    """What is wrong with the files of a run. Those that it lacks are not missed."""
    for name in ("cost", "tests"):
        path = directory / f"{name}.json"
        if path.exists():
            yield from (f"{path.name}: {problem}" for problem in problems(name, strict(path.read_text())))
    events = directory / "events.jsonl"
    whole = events.read_text().rpartition("\n")[0] if events.exists() else ""  # a killed run's last line may be cut
    for line in whole.splitlines():
        yield from (f"{events.name}: {problem} in {line[:2000]}" for problem in problems("events", strict(line)))


def strict(text: str) -> Any:
    """The value of a text that is JSON for every program: Python alone knows NaN and Infinity."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def _closed(part: Any) -> Any:
    if isinstance(part, list):
        return [_closed(each) for each in part]
    if not isinstance(part, dict):
        return part
    found = {key: _closed(value) for key, value in part.items()}
    if found.get("type") == "object" and "properties" in found and "additionalProperties" not in found:
        found["additionalProperties"] = False
    return found

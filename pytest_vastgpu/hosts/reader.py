"""The text of a host cache read into values. Pure.

The file is a stream of YAML documents. The first one is the snapshot, which people read and edit; each one after it is
a record that was appended since. Both end with a line of three dots, so that a record which was cut off by a crash is
told from a whole one, wherever the cut is. ``---`` and ``...`` at the start of a line are always marks between
documents, in any YAML, so the stream is cut there and each document is read by itself: one that is broken does not take
others along.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from datetime import date
from datetime import datetime
from datetime import timedelta
from datetime import timezone
from typing import Any

import yaml

from pytest_vastgpu.hosts.book import Book
from pytest_vastgpu.hosts.book import both_entries
from pytest_vastgpu.hosts.book import both_values
from pytest_vastgpu.hosts.book import either
from pytest_vastgpu.hosts.book import merged
from pytest_vastgpu.hosts.evidence import Ban
from pytest_vastgpu.hosts.evidence import Entry
from pytest_vastgpu.hosts.evidence import Evidence
from pytest_vastgpu.hosts.writer import EPOCH
from pytest_vastgpu.hosts.writer import FOREVER
from pytest_vastgpu.hosts.writer import FORMAT
from pytest_vastgpu.hosts.writer import VERSION
from pytest_vastgpu.model import FailureClass

try:
    from yaml import CSafeLoader as _BaseLoader
except ImportError:  # PyYAML was built without libyaml: the same, slower
    from yaml import SafeLoader as _BaseLoader  # type: ignore[assignment]

_UNREADABLE = (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""What PyYAML's safe loader raises for foreign text: the last ones for tags it knows on values that do not fit them."""
_MARKS = re.compile(rb"^(?:---(?=[ \t\r\n]|\Z)|\.\.\.[ \t]*(?:\r?\n|\Z))", re.MULTILINE)


@dataclass(frozen=True)
class Parsed:
    """What was read from a file."""

    book: Book
    damage: str = ""
    """Why the file as a whole is not one of ours, in words; the book then holds what could be saved from it."""
    newer: bool = False
    """It was written by a later version in a format that this one does not know."""
    broken: tuple[bytes, ...] = ()
    """Appended records that are cut off or unreadable, as they are."""
    notes: tuple[str, ...] = ()
    """Entries that were not understood, each in a sentence; they are kept under ``not_understood``."""


def parse(data: bytes, *, continued: bool = False) -> Parsed:
    """Read a cache's text.

    :param continued: The text was appended to a snapshot that was read before.
    """
    reader = _Reader()
    first = not continued
    damage = ""
    broken = []
    for start, chunk, closed in _documents(data):
        try:
            content = yaml.load(chunk.decode("utf-8-sig"), Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
        except _UNREADABLE as error:
            if first:
                damage = _where(error, data.count(b"\n", 0, start))
            else:
                broken.append(chunk)
        else:
            if content is None:  # only comments
                continue
            if isinstance(content, dict) and FORMAT in content:
                if content[FORMAT] != VERSION:
                    return Parsed(Book(), newer=True)
                reader.snapshot(content)
            elif first:
                damage = f"it has no key {FORMAT!r}: another program's file"
            elif not closed or not reader.record(content):
                broken.append(chunk)
        first = False
    return Parsed(reader.book(), damage, False, tuple(broken), tuple(reader.notes))


def machine_id(value: object) -> int:
    """An id as a person may have written it: 123, "123" or 123.0.

    :raises ValueError: if it is not a positive whole number.
    """
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError(f"{value!r} is not an id")


class _Loader(_BaseLoader):
    """Joins the values of a key that stands twice, as when a person adds an entry for a machine that has one already.

    YAML forbids it and PyYAML keeps the last one: a rewrite would then lose what the first one said.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        pairs: dict[Any, tuple[Any, Any]] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
            known = pairs.get(name)
            if known and type(known[1]) is type(value) and isinstance(value, yaml.CollectionNode):
                known[1].value.extend(value.value)
            else:
                pairs[name] = (key, value)
        node.value = list(pairs.values())
        return super().construct_mapping(node, deep)


def _documents(data: bytes) -> Iterator[tuple[int, bytes, bool]]:
    """Each document: where it begins, its text, and whether three dots end it."""
    start = 0
    for mark in [*_MARKS.finditer(data), None]:
        end = mark.start() if mark else len(data)
        closed = mark is not None and mark[0].startswith(b".")
        if data[start:end].strip():
            yield start, data[start:end], closed
        start = mark.end() if mark and closed else end


def _where(error: Exception, lines_before: int) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {lines_before + error.problem_mark.line + 1}: {error.problem}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    return f"after line {lines_before}: {' '.join(str(error).split()) or type(error).__name__}"


class _Reader:
    """Collects what documents say."""

    def __init__(self) -> None:
        self.evidence: dict[str, Evidence] = {}
        self.machines: dict[int, Entry] = {}
        self.hosts: dict[int, Entry] = {}
        self.extra: dict[str, object] = {}
        self.notes: list[str] = []
        self.odd: list[object] = []

    def book(self) -> Book:
        extra = self.extra
        if self.odd:
            extra = merged(extra, {"not_understood": self.odd}, both_values)
        return Book(self.evidence, self.machines, self.hosts, extra)

    def record(self, content: object) -> bool:
        """Take in an appended record.

        :returns: False where it is not one.
        """
        try:
            fields = _mapping(content)
            item = _evidence_in(machine_id(fields.pop("machine", None)), fields)
        except ValueError:
            return False
        self._add(item)
        return True

    def snapshot(self, content: Mapping[object, object]) -> None:
        fields = _mapping(content)
        del fields[FORMAT]
        for key, entry in self._entries("machines", fields):
            items = entry.pop("evidence", None) or []
            self._take(self.machines, "machines", key, entry)
            for item in items if isinstance(items, list) else [items]:
                self._evidence(key, item)
        for key, entry in self._entries("hosts", fields):
            self._take(self.hosts, "hosts", key, entry)
        self.extra = merged(self.extra, fields, both_values)

    def _entries(self, section: str, fields: dict[str, object]) -> Iterator[tuple[object, dict[str, object]]]:
        entries = fields.pop(section, None) or {}
        if not isinstance(entries, dict):
            self._misread(section, entries, "it is not a mapping by id")
            return
        for key, entry in entries.items():
            try:
                yield key, _mapping(entry or {})
            except ValueError as error:
                self._misread(f"{section}: {key}", {section: {key: entry}}, str(error))

    def _take(self, to: dict[int, Entry], section: str, key: object, fields: dict[str, object]) -> None:
        try:
            number = machine_id(key)
            entry = _entry_in(fields)
        except ValueError as error:
            self._misread(f"{section}: {key}", {section: {key: fields}}, str(error))
            return
        if entry != Entry():
            to[number] = both_entries(to[number], entry) if number in to else entry

    def _evidence(self, key: object, item: object) -> None:
        try:
            self._add(_evidence_in(machine_id(key), _mapping(item)))
        except ValueError as error:
            self._misread(f"evidence of machine {key}", {"machines": {key: {"evidence": [item]}}}, str(error))

    def _add(self, item: Evidence) -> None:
        known = self.evidence.get(item.id)
        self.evidence[item.id] = either(known, item) if known else item

    def _misread(self, place: str, raw: object, why: str) -> None:
        self.notes.append(f"{place}: {why}")
        self.odd.append(raw)


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{str(value)[:60]!r} is not a mapping")  # noqa: TRY004 - callers handle what a person mistyped
    return {str(key): item for key, item in value.items()}


def _evidence_in(machine: int, fields: dict[str, object]) -> Evidence:
    try:
        outcome = FailureClass(str(fields.pop("outcome", "")))
        item = Evidence(
            id=_required_text(fields, "id"),
            time=_time_in(fields.pop("time", None)),
            machine_id=machine,
            outcome=outcome,
            host_id=machine_id(host) if (host := fields.pop("host", None)) else 0,
            gpu_name=_text(fields, "gpu"),
            reason=_text(fields, "reason"),
            workload=_text(fields, "workload"),
            seconds={key: _number(value) for key, value in _mapping(fields.pop("seconds", {})).items()},
            run_id=_text(fields, "run"),
        )
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing") from error
    return replace(item, extra=fields)


def _entry_in(fields: dict[str, object]) -> Entry:
    fields = dict(fields)
    allowed = fields.pop("allow", False)
    if not isinstance(allowed, bool):
        raise ValueError(f"allow is true or false, not {allowed!r}")  # noqa: TRY004 - as above
    ban = fields.pop("ban", False)
    return Entry(allowed, None if ban is False or ban is None else _ban_in(ban), fields)


def _ban_in(value: object) -> Ban:
    if value is True or value == FOREVER:
        return Ban()
    if not isinstance(value, dict):
        return Ban(until=_time_in(value))
    fields = _mapping(value)
    until = fields.pop("until", FOREVER)
    since = fields.pop("since", None)
    return Ban(
        until=math.inf if until == FOREVER else _time_in(until),
        since=_time_in(since) if since else 0.0,
        reason=_text(fields, "reason"),
        extra=fields,
    )


def _text(fields: dict[str, object], name: str) -> str:
    value = fields.pop(name, None)
    return "" if value is None else str(value)


def _required_text(fields: dict[str, object], name: str) -> str:
    text = _text(fields, name)
    if not text:
        raise ValueError(f"{name} is missing")
    return text


def _number(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ValueError(f"{value!r} is not a number of seconds")


def _time_in(value: object) -> float:
    """Epoch seconds of a time as a person may have written it; without a zone it is UTC, a date is its first moment."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        except ValueError as error:
            raise ValueError(f"{value!r} is not a time such as 2030-01-31 18:00, nor {FOREVER!r}") from error
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError(f"{value!r} is not a time such as 2030-01-31 18:00")  # noqa: TRY004 - as above
    if value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    return round((value - EPOCH) / timedelta(milliseconds=1)) / 1000

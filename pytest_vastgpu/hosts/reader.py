"""The text of a host cache read into values. Pure.

The file is a stream of YAML documents. The first one is the snapshot, which people read and edit; each one after it is
a record that was appended since. Both end with a line of three dots, so that a record which was cut off by a crash is
told from a whole one, wherever the cut is. ``---`` and ``...`` at the start of a line are always marks between
documents, in any YAML, so the stream is cut there and each document is read by itself: one that is broken does not take
others along.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from pytest_vastgpu.hosts.book import Book
from pytest_vastgpu.hosts.book import both_entries
from pytest_vastgpu.hosts.book import both_values
from pytest_vastgpu.hosts.book import either
from pytest_vastgpu.hosts.book import merged
from pytest_vastgpu.hosts.evidence import Entry
from pytest_vastgpu.hosts.evidence import Evidence
from pytest_vastgpu.hosts.fields import entry_in
from pytest_vastgpu.hosts.fields import evidence_in
from pytest_vastgpu.hosts.fields import machine_id
from pytest_vastgpu.hosts.fields import mapping
from pytest_vastgpu.hosts.writer import FORMAT
from pytest_vastgpu.hosts.writer import VERSION

try:
    from yaml import CSafeLoader as _BaseLoader
except ImportError:  # PyYAML was built without libyaml: the same, slower
    from yaml import SafeLoader as _BaseLoader  # type: ignore[assignment] # another class, used in the same way

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
            fields = mapping(content)
            item = evidence_in(machine_id(fields.pop("machine", None)), fields)
        except ValueError:
            return False
        self._add(item)
        return True

    def snapshot(self, content: Mapping[object, object]) -> None:
        fields = mapping(content)
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
                yield key, mapping(entry or {})
            except ValueError as error:
                self._misread(f"{section}: {key}", {section: {key: entry}}, str(error))

    def _take(self, to: dict[int, Entry], section: str, key: object, fields: dict[str, object]) -> None:
        try:
            number = machine_id(key)
            entry = entry_in(fields)
        except ValueError as error:
            self._misread(f"{section}: {key}", {section: {key: fields}}, str(error))
            return
        if entry != Entry():
            to[number] = both_entries(to[number], entry) if number in to else entry

    def _evidence(self, key: object, item: object) -> None:
        try:
            self._add(evidence_in(machine_id(key), mapping(item)))
        except ValueError as error:
            self._misread(f"evidence of machine {key}", {"machines": {key: {"evidence": [item]}}}, str(error))

    def _add(self, item: Evidence) -> None:
        known = self.evidence.get(item.id)
        self.evidence[item.id] = either(known, item) if known else item

    def _misread(self, place: str, raw: object, why: str) -> None:
        self.notes.append(f"{place}: {why}")
        self.odd.append(raw)

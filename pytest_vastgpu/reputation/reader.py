"""Reads the text of a host cache into values. Pure.

The file is a stream of YAML documents. The first one is the snapshot, which people read and edit: machines and hosts by
market. Each later one is a record that was appended. All of them end with a line of three dots, which shows whether
a crash has cut off a record, at any position. ``---`` and ``...`` at the start of a line always separate documents,
in any YAML, so the reader splits the stream there and parses each document by itself: a broken document does not
affect the others.

Format 1 did not name the market. The reader assigns its contents to Vast.ai: people banned and allowed Vast.ai's
machines, and paid for its records. It leaves behind the records of a machine whose operator has the machine's own
number: a local market numbers operators like that by default, and on Vast.ai the two numbers differ. Any record that
is still wrong expires, as every record does.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vastgpu.providers.market_name import VAST
from pytest_vastgpu.providers.market_name import market_name
from pytest_vastgpu.reputation.contents import CacheContents
from pytest_vastgpu.reputation.contents import MarketRecords
from pytest_vastgpu.reputation.contents import both_entries
from pytest_vastgpu.reputation.contents import both_values
from pytest_vastgpu.reputation.contents import either
from pytest_vastgpu.reputation.contents import merged
from pytest_vastgpu.reputation.fields import machine_id
from pytest_vastgpu.reputation.fields import mapping
from pytest_vastgpu.reputation.loader import Unreadable
from pytest_vastgpu.reputation.loader import load
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.reputation.outcomes import Override
from pytest_vastgpu.reputation.record_codec import read_record
from pytest_vastgpu.reputation.writer import FORMAT
from pytest_vastgpu.reputation.writer import VERSION

_MARKS = re.compile(rb"^(?:---(?=[ \t\r\n]|\Z)|\.\.\.[ \t]*(?:\r?\n|\Z))", re.MULTILINE)


@dataclass(frozen=True)
class Parsed:
    """The result of reading a file."""

    contents: CacheContents
    damage: str = ""
    """Why the file as a whole is not a valid cache, in words; then the contents are the part that could be saved."""
    newer: bool = False
    """Whether a later version wrote it in a format that this version does not know."""
    broken: tuple[bytes, ...] = ()
    """Appended records that are cut off or unreadable, unchanged."""
    notes: tuple[str, ...] = ()
    """Entries that were not understood, one sentence each; they are kept under ``not_understood``."""
    old: bool = False
    """Whether it was written in format 1."""
    left_behind: int = 0
    """Number of records of format 1 that were made on a local market."""


def parse(data: bytes, *, continued: bool = False) -> Parsed:
    """Parse a cache's text.

    :param continued: Whether the text was appended to a snapshot that was read before.
    """
    reader = _Reader()
    first = not continued
    old = False
    damage = ""
    broken = []
    for start, chunk, closed in _documents(data):
        try:
            content = load(chunk)
        except Unreadable as error:
            if first:
                damage = error.where(data.count(b"\n", 0, start))
            else:
                broken.append(chunk)
        else:
            if content is None:  # the document has only comments
                continue
            if isinstance(content, dict) and FORMAT in content:
                if content[FORMAT] not in range(1, VERSION + 1):
                    return Parsed(CacheContents(), newer=True)
                old = old or content[FORMAT] != VERSION
                reader.snapshot(content)
            elif first:
                damage = f"it has no key {FORMAT!r}: another program's file"
            elif not closed or not reader.record(content):
                broken.append(chunk)
        first = False
    return Parsed(reader.contents(), damage, False, tuple(broken), tuple(reader.notes), old, reader.left_behind)


def _documents(data: bytes) -> Iterator[tuple[int, bytes, bool]]:
    """Each document: its position, its text, and whether three dots end it."""
    start = 0
    for mark in [*_MARKS.finditer(data), None]:
        end = mark.start() if mark else len(data)
        closed = mark is not None and mark[0].startswith(b".")
        if data[start:end].strip():
            yield start, data[start:end], closed
        start = mark.end() if mark and closed else end


class _Market:
    """Collects one market's contents from the documents."""

    def __init__(self) -> None:
        self.evidence: dict[str, Outcome] = {}
        self.machines: dict[int, Override] = {}
        self.hosts: dict[int, Override] = {}
        self.extra: dict[str, object] = {}

    def add(self, item: Outcome) -> None:
        known = self.evidence.get(item.id)
        self.evidence[item.id] = either(known, item) if known else item

    def book(self) -> MarketRecords:
        return MarketRecords(self.evidence, self.machines, self.hosts, self.extra)


class _Reader:
    """Collects the contents of all documents."""

    def __init__(self) -> None:
        self.markets: dict[str, _Market] = defaultdict(_Market)
        self.extra: dict[str, object] = {}
        self.notes: list[str] = []
        self.odd: list[object] = []
        self.left_behind = 0

    def contents(self) -> CacheContents:
        extra = self.extra
        if self.odd:
            extra = merged(extra, {"not_understood": self.odd}, both_values)
        books = {name: market.book() for name, market in self.markets.items()}
        return CacheContents({name: book for name, book in books.items() if book != MarketRecords()}, extra)

    def record(self, content: object) -> bool:
        """Add an appended record.

        :returns: False if the document is not a record.
        """
        try:
            fields = mapping(content)
            market = fields.pop("market", None)
            name = None if market is None else market_name(str(market))
            item = read_record(Outcome, fields, machine_id=machine_id(fields.pop("machine", None)))
        except ValueError:
            return False
        self._add(name, item)
        return True

    def snapshot(self, content: Mapping[object, object]) -> None:
        fields = mapping(content)
        del fields[FORMAT]
        self._sections(None, fields)  # written in format 1, or added there by hand
        for key, inner in self._entries("markets", fields, ()):
            try:
                name = market_name(str(key))
            except ValueError as error:
                self._misread(f"markets: {key}", {"markets": {key: inner}}, str(error))
                continue
            self._sections(name, inner)
            market = self.markets[name]
            market.extra = merged(market.extra, inner, both_values)
        self.extra = merged(self.extra, fields, both_values)

    def _sections(self, name: str | None, fields: dict[str, object]) -> None:
        """Add the machines and hosts of one market.

        :param name: The market's name; None if the file names none.
        """
        market = self.markets[name or VAST]
        path = ("markets", name) if name else ()
        for key, entry in self._entries("machines", fields, path):
            items = entry.pop("evidence", None) or []
            self._take(market.machines, (*path, "machines", key), entry)
            for item in items if isinstance(items, list) else [items]:
                self._evidence(name, key, item)
        for key, entry in self._entries("hosts", fields, path):
            self._take(market.hosts, (*path, "hosts", key), entry)

    def _entries(
        self, section: str, fields: dict[str, object], path: tuple[object, ...]
    ) -> Iterator[tuple[object, dict[str, object]]]:
        entries = fields.pop(section, None) or {}
        if not isinstance(entries, dict):
            self._misread(section, _nested((*path, section), entries), "it is not a mapping by id")
            return
        for key, entry in entries.items():
            try:
                yield key, mapping(entry or {})
            except ValueError as error:
                self._misread(f"{section}: {key}", _nested((*path, section, key), entry), str(error))

    def _take(self, to: dict[int, Override], path: tuple[object, ...], fields: dict[str, object]) -> None:
        *_, section, key = path
        try:
            number = machine_id(key)
            entry = read_record(Override, fields)
        except ValueError as error:
            self._misread(f"{section}: {key}", _nested(path, fields), str(error))
            return
        if entry != Override():
            to[number] = both_entries(to[number], entry) if number in to else entry

    def _evidence(self, market: str | None, key: object, item: object) -> None:
        try:
            self._add(market, read_record(Outcome, mapping(item), machine_id=machine_id(key)))
        except ValueError as error:
            path = ("markets", market, "machines", key) if market else ("machines", key)
            self._misread(f"evidence of machine {key}", _nested(path, {"evidence": [item]}), str(error))

    def _add(self, market: str | None, item: Outcome) -> None:
        if market is None and item.host_id == item.machine_id:
            self.left_behind += 1
        else:
            self.markets[market or VAST].add(item)

    def _misread(self, place: str, raw: object, why: str) -> None:
        self.notes.append(f"{place}: {why}")
        self.odd.append(raw)


def _nested(path: Sequence[object], value: object) -> object:
    """The value inside the keys that lead to it in the file."""
    for key in reversed(path):
        value = {key: value}
    return value

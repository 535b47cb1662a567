"""The host cache: one YAML file, shared by all processes of a user.

Recording appends one small document, so its cost does not grow with the file. Everything else rewrites the file: the
new text is made beside it without any lock; only to compare, to take over what was appended meanwhile, and to put it in
place the file is locked, for some milliseconds. So a rewrite never keeps a recording process waiting as long as YAML
takes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import filelock
import platformdirs

from pytest_vastgpu.errors import HostCacheError
from pytest_vastgpu.hosts import disk
from pytest_vastgpu.hosts.book import Book
from pytest_vastgpu.hosts.book import pruned
from pytest_vastgpu.hosts.book import union
from pytest_vastgpu.hosts.evidence import Ban
from pytest_vastgpu.hosts.evidence import Entry
from pytest_vastgpu.hosts.evidence import Evidence
from pytest_vastgpu.hosts.reader import Parsed
from pytest_vastgpu.hosts.reader import parse
from pytest_vastgpu.hosts.reputation import reputation
from pytest_vastgpu.hosts.writer import END
from pytest_vastgpu.hosts.writer import FORMAT
from pytest_vastgpu.hosts.writer import VERSION
from pytest_vastgpu.hosts.writer import record_text
from pytest_vastgpu.hosts.writer import snapshot_text
from pytest_vastgpu.model import Reputation

OPTIMISTIC = 4
"""Rewrites that are tried without holding the lock while the text is made, before one is made under the lock."""
RECORD_TRIES = 10
"""A record finds no file of ours to append to only when it is the first one, or a person has just removed the file."""
COMPACT_BYTES = 256 * 1024
"""Appended records are moved into the snapshot when they are that many bytes and half of a file that is read."""

_OURS = re.compile(rb"^%s:[ \t]*%d[ \t]*\r?$" % (FORMAT.encode(), VERSION), re.MULTILINE)
_LOG = logging.getLogger("pytest_vastgpu.hosts")


def default_path(environ: Mapping[str, str]) -> Path:
    """Where the cache is: ``VAST_HOST_CACHE``, else ``pytest-vastgpu/hosts.yaml`` in the user's cache directory."""
    if named := environ.get("VAST_HOST_CACHE"):
        return Path(named).expanduser()
    return platformdirs.user_cache_path("pytest-vastgpu") / "hosts.yaml"


class HostCache:
    """The host cache at a path. Nothing is made before something is written.

    :param path: The YAML file.
    :param tell: Told, in a sentence each, what the user should know: what was damaged and where it was put.
        Default: a warning of the logger ``pytest_vastgpu.hosts``.
    """

    def __init__(self, path: Path, tell: Callable[[str], None] = _LOG.warning) -> None:
        self.path = path.resolve()  # a rewrite must replace what a link points to, not the link
        self._tell = tell
        self._known = (b"", Book())

    def read(self, now: float | None = None) -> Reputation:
        """What is known at a moment. A damaged file is set aside, what can be saved of it is kept, and that is told.

        :param now: Epoch seconds; None: now.
        :raises HostCacheError: if the file cannot be read, or is damaged and cannot be set aside.
        """
        book = self.book()
        return reputation(book.evidence.values(), book.machines, book.hosts, time.time() if now is None else now)

    def book(self) -> Book:
        """Everything that the file says, as :meth:`read`."""
        with self._explained("read"):
            data = self._bytes() or b""
            if data and not data.endswith(END):  # a record may be on its way: with the lock held none is
                with disk.exclusive(self.path):
                    data = self._bytes() or b""
            seen, known = self._known
            if seen and data.startswith(seen):
                # The same file, grown: only what is new is parsed. Most reads of a run are this.
                parsed = self._parse(data[len(seen) :], continued=True)
                parsed = replace(parsed, book=union(known, parsed.book))
            else:
                parsed = self._parse(data)
            for note in parsed.notes:
                self._tell(f"{self.path}: {note}; it is ignored, and kept under 'not_understood'")
            appended = len(data) - data.find(END)
            if parsed.damage or parsed.broken or (appended > COMPACT_BYTES and 2 * appended > len(data)):
                return self._rewritten(lambda book: book)
            self._known = (data, parsed.book) if data.endswith(END) else (b"", Book())
            return parsed.book

    def record(self, evidence: Evidence) -> None:
        """Add one outcome. When this returns no crash of a process can lose it.

        :raises HostCacheError: if it cannot be written.
        """
        text = record_text(evidence)
        with self._explained("write"):
            for _ in range(RECORD_TRIES):
                if self._append(text):
                    return
                self._rewritten(lambda book: book)
        raise HostCacheError(f"{self.path} is being replaced by another program again and again: nothing was recorded")

    def ban(self, number: int, *, host: bool = False, until: float, reason: str = "", since: float) -> None:
        """Ban a machine, or with ``host`` an operator. It is taken off the allow-list.

        :param until: Epoch seconds; ``inf`` for good.
        :param since: Epoch seconds of now.
        """
        self._set(number, host, lambda entry: replace(entry, allowed=False, ban=Ban(until, reason, since)))

    def allow(self, number: int, *, host: bool = False) -> None:
        """Put a machine, or with ``host`` an operator, on the allow-list: it is never banned."""
        self._set(number, host, lambda entry: replace(entry, allowed=True, ban=None))

    def clear(self, number: int, *, host: bool = False) -> int:
        """Forget all that is known of a machine, or with ``host`` of all machines of an operator.

        :returns: The number of pieces of evidence that are forgotten.
        """
        forgotten = 0

        def forget(book: Book) -> Book:
            nonlocal forgotten
            evidence = {
                key: item
                for key, item in book.evidence.items()
                if (item.host_id if host else item.machine_id) != number
            }
            forgotten = len(book.evidence) - len(evidence)
            machines = book.machines if host else _without(book.machines, number)
            hosts = _without(book.hosts, number) if host else book.hosts
            return replace(book, evidence=evidence, machines=machines, hosts=hosts)

        with self._explained("write"):
            self._rewritten(forget)
        return forgotten

    def clear_all(self) -> Path | None:
        """Forget everything.

        :returns: Where the file was put aside; None where there was none.
        """
        if not self.path.parent.is_dir():
            return None
        with self._explained("write"), disk.exclusive(self.path):
            data = self._bytes()
            if data is None:
                return None
            backup = disk.set_aside(self.path, data, "cleared")
            self.path.unlink()
            disk.sync_directory(self.path.parent)
            return backup

    def merge(self, others: Sequence[Path]) -> int:
        """Add what other caches say; what was known already counts once.

        :returns: The number of pieces of evidence that are new.
        :raises HostCacheError: if one of them cannot be read; nothing is changed then.
        """
        added = Book()
        for other in others:
            added = union(added, _foreign(other))
        new = 0

        def add(book: Book) -> Book:
            nonlocal new
            new = len(added.evidence.keys() - book.evidence.keys())
            return union(book, added)

        with self._explained("write"):
            self._rewritten(add)
        return new

    # ------------------------------------------------------------- appending

    def _append(self, text: bytes) -> bool:
        """:returns: False where the file is not there or not one of ours."""
        try:
            return disk.append(self.path, text, _OURS)
        except FileNotFoundError:
            return False

    # ------------------------------------------------------------- rewriting

    def _set(self, number: int, host: bool, change: Callable[[Entry], Entry]) -> None:
        def changed(book: Book) -> Book:
            entries = book.hosts if host else book.machines
            entries = {**entries, number: change(entries.get(number, Entry()))}
            return replace(book, hosts=entries) if host else replace(book, machines=entries)

        with self._explained("write"):
            self._rewritten(changed)

    def _rewritten(self, change: Callable[[Book], Book]) -> Book:
        """Replace the file by what ``change`` makes of it, and return that."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(OPTIMISTIC):
            seen = self._bytes()
            parsed = self._parse(seen or b"")
            book = pruned(change(parsed.book), time.time())
            with disk.draft(self.path, snapshot_text(book)) as draft, disk.exclusive(self.path):
                current = self._bytes()
                if current == seen:
                    return self._put(draft, seen, parsed, book)
                if seen and current and seen.endswith(END) and current.startswith(seen):
                    # Only appended to meanwhile: take that over as it is.
                    with draft.open("ab") as file:
                        file.write(current[len(seen) :])
                        file.flush()
                        os.fsync(file.fileno())
                    return self._put(draft, seen, parsed, book)
        with disk.exclusive(self.path):
            seen = self._bytes()
            parsed = self._parse(seen or b"")
            book = pruned(change(parsed.book), time.time())
            with disk.draft(self.path, snapshot_text(book)) as draft:
                return self._put(draft, seen, parsed, book)

    def _put(self, draft: Path, seen: bytes | None, parsed: Parsed, book: Book) -> Book:
        """Put the new file in place; what it does not take over is set aside first. The lock is held."""
        told = ""
        if parsed.damage:
            aside = disk.set_aside(self.path, seen or b"", "damaged")
            told = (
                f"{self.path} is not a readable host cache ({parsed.damage}); it was moved to {aside}, and "
                f"{len(parsed.book.evidence)} records were saved from it. Once repaired: vastgpu hosts merge {aside}"
            )
        elif parsed.broken:
            aside = disk.set_aside(self.path, b"".join(parsed.broken), "damaged")
            told = f"{self.path}: {len(parsed.broken)} records that were cut off or unreadable were moved to {aside}"
        if seen is not None:
            draft.chmod(stat.S_IMODE(self.path.stat().st_mode))
        draft.replace(self.path)
        disk.sync_directory(self.path.parent)
        if told:
            self._tell(told)
        return book

    # ------------------------------------------------------------- reading and locking

    def _bytes(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def _parse(self, data: bytes, *, continued: bool = False) -> Parsed:
        parsed = parse(data, continued=continued)
        if parsed.newer:
            raise HostCacheError(
                f"{self.path} was written by a newer pytest-vastgpu: update this one, "
                "or name another file with --vast-host-cache"
            )
        return parsed

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except filelock.Timeout as error:
            raise HostCacheError(
                f"{disk.lock_path(self.path)} has been locked for {disk.LOCK_TIMEOUT_S:g} s by a process that was "
                "stopped: end it (fuser shows which one it is), or name another file with --vast-host-cache"
            ) from error
        except OSError as error:
            raise HostCacheError(
                f"cannot {doing} the host cache {self.path} ({error.strerror or error}): "
                "make it readable and writable, or name another file with --vast-host-cache"
            ) from error


def _foreign(path: Path) -> Book:
    """What another cache says.

    :raises HostCacheError: if it is not there, or is not a whole host cache.
    """
    try:
        parsed = parse(path.read_bytes())
    except OSError as error:
        raise HostCacheError(f"cannot read {path} ({error.strerror or error})") from error
    if parsed.newer:
        raise HostCacheError(f"{path} was written by a newer pytest-vastgpu: update this one")
    if parsed.damage:
        raise HostCacheError(f"{path} is not a readable host cache ({parsed.damage}): nothing was merged")
    return parsed.book


def _without(entries: Mapping[int, Entry], number: int) -> dict[int, Entry]:
    return {key: entry for key, entry in entries.items() if key != number}

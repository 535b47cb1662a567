"""The host cache: one YAML file, shared by all processes of a user, with a part for each market.

Recording appends one small document, so its cost does not grow with the file. All other changes rewrite the file.
The new text is made beside it without a lock. Only the comparison, the transfer of records that were appended
meanwhile, and the replacement run under the lock, for some milliseconds. So a rewrite never blocks a recording
process for as long as YAML takes.
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

from pytest_vastgpu.errors import HostCacheError
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.providers.market_name import VAST
from pytest_vastgpu.reputation import locked_files
from pytest_vastgpu.reputation.contents import CacheContents
from pytest_vastgpu.reputation.contents import MarketRecords
from pytest_vastgpu.reputation.contents import pruned
from pytest_vastgpu.reputation.contents import together
from pytest_vastgpu.reputation.contents import union
from pytest_vastgpu.reputation.other_files import foreign
from pytest_vastgpu.reputation.other_files import set_aside
from pytest_vastgpu.reputation.outcomes import Ban
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.reputation.outcomes import Override
from pytest_vastgpu.reputation.reader import Parsed
from pytest_vastgpu.reputation.reader import parse
from pytest_vastgpu.reputation.scoring import reputation
from pytest_vastgpu.reputation.writer import END
from pytest_vastgpu.reputation.writer import FORMAT
from pytest_vastgpu.reputation.writer import VERSION
from pytest_vastgpu.reputation.writer import record_text
from pytest_vastgpu.reputation.writer import snapshot_text

OPTIMISTIC = 4
"""Attempts to rewrite with the text made outside the lock, before one makes the text under the lock."""
RECORD_TRIES = 10
"""Attempts to append: they fail only if no cache file exists yet, or a person has just removed it."""
COMPACT_BYTES = 256 * 1024
"""Appended records move into the snapshot when they are larger than this and more than half of the file."""

_OURS = re.compile(rb"^%s:[ \t]*%d[ \t]*\r?$" % (FORMAT.encode(), VERSION), re.MULTILINE)
_LOG = logging.getLogger("pytest_vastgpu.hosts")


class HostCache:
    """The part of the host cache at a path that belongs to one market. It creates no file before the first write.

    :param path: The YAML file; ``~`` is the user's home.
    :param tell: Called with each sentence that the user should read: what was damaged and where it was put.
        Default: a warning of the logger ``pytest_vastgpu.hosts``.
    :param market: See :func:`pytest_vastgpu.providers.market_name.market_name`. Records of other markets are neither
        read nor changed.
    :param compact_bytes: When the records appended behind the document are longer, they are moved into it.
    :raises HostCacheError: if no file can have that name.
    """

    def __init__(
        self,
        path: Path,
        tell: Callable[[str], None] = _LOG.warning,
        market: str = VAST,
        compact_bytes: int = COMPACT_BYTES,
    ) -> None:
        self._compact_bytes = compact_bytes
        try:
            self.path = path.expanduser().resolve()  # a rewrite must replace a link's target, not the link
        except (OSError, RuntimeError, ValueError) as error:  # a circle of links, an unknown user, a NUL
            raise HostCacheError(
                f"the host cache cannot be at {str(path)!r} ({error}): name another file with --vast-host-cache"
            ) from error
        self.market = market
        self._tell = tell
        self._known = (b"", CacheContents())

    def read(self, now: float | None = None) -> Reputation:
        """The reputation at a moment. A damaged file is set aside, its readable part is kept, and the user is told.

        :param now: Epoch seconds; None: now.
        :raises HostCacheError: if the file cannot be read, or is damaged and cannot be set aside.
        """
        book = self.book()
        return reputation(book.evidence.values(), book.machines, book.hosts, time.time() if now is None else now)

    def book(self) -> MarketRecords:
        """The file's contents for this market; raises as :meth:`read`."""
        return self.contents().of(self.market)

    def contents(self) -> CacheContents:
        """The file's complete contents; raises as :meth:`read`."""
        with self._explained("read"):
            data = self._bytes() or b""
            if data and not data.endswith(END):  # a record may be half written; under the lock none is
                with locked_files.exclusive(self.path):
                    data = self._bytes() or b""
            seen, known = self._known
            if seen and data.startswith(seen):
                # The same file has grown: parse only the new part. Most reads of a run take this path.
                parsed = self._parse(data[len(seen) :], continued=True)
                parsed = replace(parsed, contents=together(known, parsed.contents))
            else:
                parsed = self._parse(data)
            for note in parsed.notes:
                self._tell(f"{self.path}: {note}; it is ignored, and kept under 'not_understood'")
            appended = len(data) - data.find(END)
            spoilt = parsed.damage or parsed.broken or parsed.old
            if spoilt or (appended > self._compact_bytes and 2 * appended > len(data)):
                return self._rewritten(lambda contents: contents)
            self._known = (data, parsed.contents) if data.endswith(END) else (b"", CacheContents())
            return parsed.contents

    def require_writable(self) -> None:
        """Check that outcomes can be recorded, before there are any.

        :raises HostCacheError: if they cannot; the text says why, and what to do.
        """
        with self._explained("write"):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._append(b"")
            with locked_files.draft(self.path, snapshot_text(CacheContents())):
                pass

    def record(self, evidence: Outcome) -> None:
        """Add one outcome. After the return no crash of a process can lose it.

        :raises HostCacheError: if it cannot be written.
        """
        text = record_text(self.market, evidence)
        with self._explained("write"):
            for _ in range(RECORD_TRIES):
                if self._append(text):
                    return
                self._rewritten(lambda contents: contents)
        raise HostCacheError(f"{self.path} is being replaced by another program again and again: nothing was recorded")

    def ban(self, number: int, *, host: bool = False, until: float, reason: str = "", since: float) -> None:
        """Ban a machine, or with ``host`` an operator, and remove it from the allow-list.

        :param until: Epoch seconds; ``inf`` for a ban without end.
        :param since: The current epoch seconds.
        """
        self._set(number, host, lambda entry: replace(entry, allowed=False, ban=Ban(until, reason, since)))

    def allow(self, number: int, *, host: bool = False) -> None:
        """Put a machine, or with ``host`` an operator, on the allow-list: it is never banned."""
        self._set(number, host, lambda entry: replace(entry, allowed=True, ban=None))

    def clear(self, number: int, *, host: bool = False) -> int:
        """Remove all evidence and entries of a machine, or with ``host`` of all machines of an operator.

        :returns: The number of removed outcomes.
        """
        forgotten = 0

        def forget(book: MarketRecords) -> MarketRecords:
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

        self._change(forget)
        return forgotten

    def clear_all(self) -> Path | None:
        """Remove everything about this market.

        :returns: The path of a copy of the whole old file; None if there was no file.
        """
        with self._explained("write"):
            data = self._bytes()
            if data is None:
                return None
            copy = locked_files.set_aside(self.path, data, "cleared")
        self._change(lambda _: MarketRecords())
        return copy

    def merge(self, others: Sequence[Path]) -> int:
        """Add the contents of other caches for this market; an outcome that is already known counts once.

        :returns: The number of new outcomes.
        :raises HostCacheError: if one of them cannot be read; then nothing is changed.
        """
        added = MarketRecords()
        for other in others:
            added = union(added, foreign(other).of(self.market))
        new = 0

        def add(book: MarketRecords) -> MarketRecords:
            nonlocal new
            new = len(added.evidence.keys() - book.evidence.keys())
            return union(book, added)

        self._change(add)
        return new

    # ------------------------------------------------------------- appending

    def _append(self, text: bytes) -> bool:
        """:returns: False if the file does not exist or is not a cache of this format."""
        try:
            return locked_files.append(self.path, text, _OURS)
        except FileNotFoundError:
            return False

    # ------------------------------------------------------------- rewriting

    def _set(self, number: int, host: bool, change: Callable[[Override], Override]) -> None:
        def changed(book: MarketRecords) -> MarketRecords:
            entries = book.hosts if host else book.machines
            entries = {**entries, number: change(entries.get(number, Override()))}
            return replace(book, hosts=entries) if host else replace(book, machines=entries)

        self._change(changed)

    def _change(self, change: Callable[[MarketRecords], MarketRecords]) -> None:
        with self._explained("write"):
            self._rewritten(lambda contents: contents.changed(self.market, change))

    def _rewritten(self, change: Callable[[CacheContents], CacheContents]) -> CacheContents:
        """Replace the file with the result of ``change``, and return that result."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(OPTIMISTIC):
            seen = self._bytes()
            parsed = self._parse(seen or b"")
            contents = pruned(change(parsed.contents), time.time())
            with locked_files.draft(self.path, snapshot_text(contents)) as draft, locked_files.exclusive(self.path):
                current = self._bytes()
                if current == seen:
                    return self._put(draft, seen, parsed, contents)
                if seen and current and seen.endswith(END) and current.startswith(seen):
                    # Others have only appended: copy the new records unchanged.
                    with draft.open("ab") as file:
                        file.write(current[len(seen) :])
                        file.flush()
                        os.fsync(file.fileno())
                    return self._put(draft, seen, parsed, contents)
        with locked_files.exclusive(self.path):
            seen = self._bytes()
            parsed = self._parse(seen or b"")
            contents = pruned(change(parsed.contents), time.time())
            with locked_files.draft(self.path, snapshot_text(contents)) as draft:
                return self._put(draft, seen, parsed, contents)

    def _put(self, draft: Path, seen: bytes | None, parsed: Parsed, contents: CacheContents) -> CacheContents:
        """Put the new file in place; set aside first what it does not contain. The caller holds the lock."""
        told = set_aside(self.path, seen or b"", parsed)
        if seen is not None:
            draft.chmod(stat.S_IMODE(self.path.stat().st_mode))
        draft.replace(self.path)
        locked_files.sync_directory(self.path.parent)
        if told:
            self._tell(told)
        return contents

    # ------------------------------------------------------------- reading and locking

    def _bytes(self) -> bytes | None:
        try:
            return locked_files.read(self.path)
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
                f"{locked_files.lock_path(self.path)} has been locked for {locked_files.LOCK_TIMEOUT_S:g} s by a "
                "process that was stopped: end it (fuser shows which one it is), or name another file with "
                "--vast-host-cache"
            ) from error
        except OSError as error:
            raise HostCacheError(
                f"cannot {doing} the host cache {self.path} ({error.strerror or error}): "
                "make it a file that can be read and written, or name another one with --vast-host-cache"
            ) from error


def _without(entries: Mapping[int, Override], number: int) -> dict[int, Override]:
    return {key: entry for key, entry in entries.items() if key != number}

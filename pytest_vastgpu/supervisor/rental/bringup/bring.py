"""Before the server is started: brings the workload's files."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import PurePosixPath

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.reporting.sentences import count
from pytest_vastgpu.reporting.sentences import size
from pytest_vastgpu.servers.archive import Brought
from pytest_vastgpu.servers.archive import batches
from pytest_vastgpu.servers.archive import packed
from pytest_vastgpu.servers.archive import same
from pytest_vastgpu.servers.compression import compressed
from pytest_vastgpu.servers.files import Entry
from pytest_vastgpu.servers.listing import brought_by
from pytest_vastgpu.ssh.base import Connection
from pytest_vastgpu.supervisor.rental.bringup.connect import check_ran
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.services import AttemptFailed

LIMIT_S = 60.0
"""Time limit of a command on files that are there."""
STILL_S = 60.0
"""Files that come no further for so long have failed; however large they are, they may take their time."""
TOLD_BYTES = 10_000_000
"""Less than this is brought without a word."""
_STALE = Brought("", None)
"""What is known of a file that is there, and has to be sent again."""


def bring(context: BringUpContext) -> None:
    """Bring the workload's files; the rental notes each one that has arrived.

    Those that came for the server before, and do not come again, are removed; so is a directory that none is in any
    more, with whatever the server has put there. Those that are there as they are here do not come again: after a
    connection that broke, and for another start of the server.

    :raises AttemptFailed: if they can no longer be read here, cannot be written there, or come no further.
    :raises ConnectFailed: if the connection broke.
    :raises Cancelled: the run is ending.
    """
    rental = context.rental
    try:
        wanted = brought_by(rental.workload)
        connection = rental.connected.connection()
        _remove(context, connection, wanted)
        there = _there(context, connection, wanted)
        missing = [entry for entry in wanted if entry.name not in there]
        # Directories alone say nothing new, where all that is in them is there.
        if any(not entry.is_directory for entry in missing) or (wanted and not rental.files):
            _Transfer(context, missing).send(connection)
    except ConfigurationError as error:
        raise _fatal("files_unreadable", str(error), "leave the files as they are while tests run") from error


def _remove(context: BringUpContext, connection: Connection, wanted: Sequence[Entry]) -> None:
    rental = context.rental
    files = {entry.name for entry in wanted if not entry.is_directory}
    if rental.files.keys() == files:
        return
    directories = _directories(rental.files) - {entry.name for entry in wanted if entry.is_directory}
    gone = sorted((rental.files.keys() - files) | (directories - _directories(files)))
    if gone:
        names = b"".join(os.fsencode(name) + b"\0" for name in gone)
        check_ran(connection.run(job.REMOVE, timeout_s=LIMIT_S, stdin=names), connection)
        rental.brought({name: brought for name, brought in rental.files.items() if name not in gone})


def _directories(files: Iterable[str]) -> set[str]:
    """The directories that files are in, by their names; without the working directory."""
    return {str(above) for name in files for above in PurePosixPath(name).parents} - {"."}


def _there(context: BringUpContext, connection: Connection, wanted: Sequence[Entry]) -> set[str]:
    """The names of files that are there as they are here."""
    before = context.rental.files
    asked = [entry for entry in wanted if entry.name in before and "\n" not in entry.name + entry.link]
    if not asked:
        return set()
    names = b"".join(os.fsencode(f"{entry.name}\n{entry.link}\n") for entry in asked)
    said = check_ran(connection.run(job.UNTOUCHED, timeout_s=LIMIT_S, stdin=names), connection).stdout.split()
    if len(said) != len(asked):  # its shell cannot tell
        return set()
    untouched = [entry for entry, word in zip(asked, said, strict=True) if word == "same"]
    return {entry.name for entry in untouched if same(entry, before[entry.name])}


class _Transfer:
    """Files on their way, one archive after the other."""

    def __init__(self, context: BringUpContext, missing: Sequence[Entry]) -> None:
        self._context = context
        self._missing = missing
        self._clock = context.services.clock
        self._began = self._clock.monotonic()
        self._total = sum(entry.size for entry in missing)
        self._sent = 0
        """Bytes of the archives before."""
        self._read = 0
        """Bytes of this one so far."""
        self._arrived: dict[str, Brought] = {}
        self._whole = False
        """Whether this one was read to its end."""
        self._torn: set[str] = set()

    def send(self, connection: Connection) -> None:
        """Send them all. Raises what :func:`bring` does."""
        rental = self._context.rental
        told = self._total >= TOLD_BYTES
        if told:
            files = count(sum(not entry.is_directory for entry in self._missing), "file")
            rental.tell(f"bringing {files}, {size(self._total)}")
        # What is about to be replaced counts no more as there: the note of when files came is newer after each group
        rental.brought({**rental.files, **{e.name: _STALE for e in self._missing if e.name in rental.files}})
        for group in batches(self._missing):
            data = functools.partial(self._parts, group)
            result = connection.send(job.UNPACK, data, still_s=STILL_S, watch=self._watch, name="write_files")
            _check(check_ran(result, connection), self._sent + self._read, self._total)
            if not self._whole:
                raise _cannot_write("tar ended well before it had been sent all files")
            self._sent += self._read
            self._read = 0
            rental.brought({**rental.files, **self._arrived})
        rental.shows("")
        if self._torn:
            files = sanitize.line(", ".join(sorted(self._torn)))
            rental.tell(f"written to while it was brought, so that the copy there may be half old, half new: {files}")
        if told:
            seconds = self._clock.monotonic() - self._began
            rental.tell(f"brought {size(self._total)} of files in {seconds:.0f} s{_speed(self._total, seconds)}")

    def _parts(self, group: Sequence[Entry]) -> Iterator[bytes]:
        self._read = 0
        self._arrived = {}
        self._whole = False
        yield from compressed(packed(group, self._arrived.__setitem__, self._reads, self._torn.add))
        self._whole = True

    def _reads(self, length: int) -> None:
        self._read += length

    def _watch(self) -> None:
        self._context.go_on()
        seconds = self._clock.monotonic() - self._began
        self._context.rental.shows(progress(self._sent + self._read, self._total, seconds))


def _check(result: ProbeResult, sent: int, total: int) -> None:
    """:raises AttemptFailed: the files were not written."""
    if result.ok:
        return
    said = result.stderr.strip()
    if result.failure is ProbeFailure.TIMEOUT:  # our own uplink may have stood still
        text = f"{size(sent)} of {size(total)} of files were brought, and nothing more for {STILL_S:.0f} s"
        remedy = "see whether the network of this machine is up; bring less, or have setup= download it"
        raise AttemptFailed(Verdict(FailureClass.UNKNOWN, "files_too_slow", text, remedy))
    if result.exit_code == 127:
        raise _fatal("tar_missing", said, "name an image that has tar, or bring no files")
    if "gzip: Cannot exec" in said or "gzip: not found" in said:
        raise _fatal("gzip_missing", said, "name an image that has gzip, or bring no files")
    if "No space left on device" in said or "Disk quota exceeded" in said:
        text = f"{size(total)} of files do not fit onto its disk: {said.splitlines()[0]}"
        raise AttemptFailed(Verdict(FailureClass.UNKNOWN, "disk_full", text, "raise disk_gb, or bring less"))
    raise _cannot_write(said or f"files could not be written: {result.failure.value}")


def progress(sent: int, total: int, seconds: float) -> str:
    """``bringing files: 1.2 of 4.7 GB, 38 MB/s``."""
    unit, of = _unit(total)
    return f"bringing files: {sent / unit:.1f} of {total / unit:.1f} {of}{_speed(sent, seconds, ', ', '')}"


def _unit(count_bytes: int) -> tuple[float, str]:
    return (1e9, "GB") if count_bytes >= 1e9 else (1e6, "MB")


def _speed(sent: int, seconds: float, before: str = " (", after: str = ")") -> str:
    speed = sent / 1e6 / seconds if seconds >= 1 else 0.0
    return f"{before}{speed:.{0 if speed >= 10 else 1}f} MB/s{after}" if speed else ""


def _cannot_write(evidence: str) -> AttemptFailed:
    remedy = "another host would do; this one cannot write files"
    return AttemptFailed(Verdict(FailureClass.INFRA_FATAL, "cannot_write_files", evidence, remedy))


def _fatal(reason: str, evidence: str, remedy: str) -> AttemptFailed:
    return AttemptFailed(Verdict(FailureClass.WORKLOAD_FATAL, reason, evidence, remedy))

"""The record of our SSH key in the account: attaching the key makes one, which the run takes out again at its end.

A run notes in its ledger that the record will be its own, before it rents anything: so a guard or a sweep can take it
out, too. A record that was there before is the user's, unless another run of ours has made it. The last run that uses
the key takes it out. Runs of one machine find each other by their ledgers, under a lock; those of other machines by the
labels of their instances.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from filelock import Timeout

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import Label
from pytest_vastgpu.core.ledger_record import Record
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.core.ownership import is_owned
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import RateLimited
from pytest_vastgpu.supervisor.cleanup.destroy import cause_of
from pytest_vastgpu.supervisor.ledger.ledger import Ledger

if TYPE_CHECKING:
    from pytest_vastgpu.providers.base import Provider
    from pytest_vastgpu.ssh.keys import KeyPair

LOCKED_WITHIN_S = 10.0
"""How long a run waits for another one that looks at the account's keys: a few calls of the API."""
_TRANSIENT = (MarketUnreachable, MarketAnswerInvalid, RateLimited)


def note_key(directory: Path, client: Provider, ledger: Ledger, market: str, key: KeyPair) -> str:
    """Write into the run's ledger that it makes the account's record of its key, where that is so.

    :param directory: The run's directory, among those of other runs.
    :param market: Identity of account and market; see :class:`Record`.
    :returns: What the user should know; empty as a rule.
    """
    blob = _blob(key.public_line)
    shared = key.path is not None
    with _locked(directory.parent):
        if shared:
            try:
                there = any(_blob(each.public_line) == blob for each in client.account_keys())
            except MarketError as error:
                return f"whether the account has the SSH key already is not known, so it will stay there: {error}"
            if there and not any(record.key == blob for _, record in _others(directory, market)):
                return ""
        ledger.write("", "key_added", key=blob, shared=shared)
    return ""


def take_out_key(directory: Path, client: Provider, ledger: Ledger) -> str:
    """Take the record out of the account that a run has made, once no run needs it any more. Idempotent.

    :param directory: The run's directory, which the caller owns.
    :returns: Why it is still there, for people; empty where it is gone, or is left to another run or a later sweep.
    :raises Cancelled: and no other error: the instances are gone, and that must be told.
    """
    try:
        record = read_ledger(directory / FILE)
        if not record.key or any(not entry.gone for entry in record.entries.values()):
            return ""
        if not any(entry.instance_id for entry in record.entries.values()):
            ledger.write("", "key_gone")
            return ""
        try:
            with _locked(directory.parent):
                return _take_out(directory, client, ledger, record)
        except MarketError as error:
            if not isinstance(error, _TRANSIENT):
                ledger.write("", "key_gone")  # no later try would fare better
            return f"the SSH key that run {directory.name} has added stays in the account: {error}"
    except Cancelled:
        raise
    except Exception as error:  # noqa: BLE001 - see above
        return f"whether run {directory.name} has left an SSH key in the account is not known: {cause_of(error)}"


def _take_out(directory: Path, client: Provider, ledger: Ledger, record: Record) -> str:
    if record.key_shared:
        if any(other.key == record.key and is_owned(path) for path, other in _others(directory, record.market)):
            ledger.write("", "key_gone")  # the other run takes it out
            return ""
        labels = [Label.parse(status.label) for status in client.list_instances()]
        if any(label is not None and label.run_id != directory.name for label in labels):
            return ""
    for each in client.account_keys():
        if _blob(each.public_line) == record.key:
            client.delete_account_key(each.id)
    ledger.write("", "key_gone")
    return ""


def _others(directory: Path, market: str) -> Iterator[tuple[Path, Record]]:
    """The other runs on this account, with their ledgers."""
    for path in directory.parent.iterdir():
        if path != directory:
            with contextlib.suppress(OSError):  # it has no ledger yet, or is being removed
                record = read_ledger(path / FILE)
                if record.market == market:
                    yield path, record


def _blob(public_line: str) -> str:
    """Type and base64 of a key: comments differ."""
    return " ".join(public_line.split()[:2])


@contextlib.contextmanager
def _locked(runs: Path) -> Iterator[None]:
    """Keep other runs of this machine from looking at the same time; without the lock after a while."""
    lock = FileLock(runs.with_name("account_key.lock"), timeout=LOCKED_WITHIN_S, mode=0o600)
    held = False
    with contextlib.suppress(Timeout, OSError):
        lock.acquire()
        held = True
    try:
        yield
    finally:
        if held:
            lock.release()

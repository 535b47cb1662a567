"""Finds and destroys what earlier runs have left on the market: at the start of each run, and in ``vastgpu reap``.

A run counts as over in two cases: on this machine, no process owns its directory; or, from any machine, the end of life
in an instance's label has passed. The sweep never touches an instance without one of our labels, or one of a run that
may be alive.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vastgpu.core.account import account_identity
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.clock import Deadline
from pytest_vastgpu.core.directories import is_private
from pytest_vastgpu.core.directories import runs_dir
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import Label
from pytest_vastgpu.core.ledger_record import Record
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.core.ownership import is_owned
from pytest_vastgpu.core.ownership import ownership
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from pytest_vastgpu.supervisor.cleanup.destroy import cause_of
from pytest_vastgpu.supervisor.cleanup.destroy import destroy
from pytest_vastgpu.supervisor.cleanup.recover import Recovery
from pytest_vastgpu.supervisor.cleanup.recover import RecoveryPlan
from pytest_vastgpu.supervisor.cleanup.recover import due
from pytest_vastgpu.supervisor.cleanup.recover import recover

if TYPE_CHECKING:
    from pytest_vastgpu.core.events import EventLog
    from pytest_vastgpu.providers.base import InstanceStatus
    from pytest_vastgpu.providers.base import Provider

CLOCKS_S = 60.0
"""An end of life counts as passed after this much longer: the clock that wrote it may differ from ours."""


def overdue(listed: Sequence[InstanceStatus], now: float) -> list[InstanceStatus]:
    """The instances whose end of life, by their label, has passed; of any run on any machine. Pure.

    :param now: Epoch seconds.
    """
    return [status for status in listed if (label := Label.parse(status.label)) and label.ends_at + CLOCKS_S < now]


@dataclass(frozen=True)
class Orphan:
    """A dead run of this machine that has left something behind."""

    directory: Path
    record: Record
    due: RecoveryPlan


def orphans(runs: Path, market: str, listed: Sequence[InstanceStatus]) -> list[Orphan]:
    """The dead runs on this market and account that have left something behind.

    :param market: See :func:`pytest_vastgpu.providers.open.account_identity`. Other runs are left alone.
    """
    found = []
    for directory in filter(is_private, sorted(runs.iterdir()) if runs.is_dir() else []):
        # A new run has no ledger yet, another process may remove a finished one meanwhile, and a directory that cannot
        # be read or locked is not ours to recover. Whatever is wrong with one, the others are looked at.
        with contextlib.suppress(Exception):
            record = read_ledger(directory / FILE)
            left = due(directory.name, record, listed, time.time())
            something = left.destroy or left.look_for or record.key
            if record.market in {market, ""} and something and not is_owned(directory):
                found.append(Orphan(directory, record, left))
    return found


def would(listed: Sequence[InstanceStatus], runs: Path, market: str) -> list[str]:
    """What a sweep would destroy, and why: one line for each instance or attempt.

    :param listed: All instances of the account.
    :param market: See :func:`orphans`.
    """
    shown = {status.id: status for status in listed}
    reasons = {}
    for orphan in orphans(runs, market, listed):
        why = f"its run {orphan.directory.name} is over (process {orphan.record.pid or 'unknown'} is dead)"
        for entry in orphan.due.destroy:
            reasons[entry.label] = f"{_described(entry.instance_id, shown.get(entry.instance_id))}: {why}"
        for entry in orphan.due.look_for:
            reasons[entry.label] = f"what attempt {entry.label} may have rented, whose create was never answered: {why}"
        if orphan.record.key:
            reasons[orphan.directory.name] = f"the account's record of an SSH key: {why}"
    for status in overdue(listed, time.time()):
        label = Label.parse(status.label)
        if label and status.label not in reasons:
            minutes = (time.time() - label.ends_at) / 60
            reasons[status.label] = f"{_described(status.id, status)}: its end of life was {minutes:.0f} min ago"
    return list(reasons.values())


def _described(instance_id: int, status: InstanceStatus | None) -> str:
    return f"instance {instance_id}" + (f" ({status.price_usd_h:.3f} USD/h)" if status else "")


def sweep(
    client: Provider,
    runs: Path,
    market: str,
    *,
    by: str,
    wait: Callable[[float], None] = time.sleep,
    timeouts: Timeouts = DEFAULTS,
) -> Recovery:
    """Destroy what earlier runs have left, verified. Several processes may sweep at once.

    Where there is nothing to do, it makes one call of the API.

    :param by: Name of the caller, for the ledgers.
    :param wait: Waits for a number of seconds. Its exceptions pass through.
    :raises MarketError: if the market does not list its instances.
    """
    listed = client.list_instances()
    swept = Recovery()
    for orphan in orphans(runs, market, listed):
        try:
            with ownership(orphan.directory) as ours:
                if ours:  # else another process recovers this run
                    done = recover(orphan.directory, client, by=by, wait=wait, timeouts=timeouts)
                    swept.destroyed += done.destroyed
                    swept.problems += done.problems
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - the others must have their turn
            run = orphan.directory.name
            swept.problems.append(str(NotDestroyed(f"--run {run}", cause_of(error), what=f"what run {run} has left")))
    for status in overdue(listed, time.time()):
        if status.id in swept.destroyed:
            continue
        try:
            destroy(client, status.id, wait, timeouts)
        except NotDestroyed as problem:
            swept.problems.append(str(problem))
        else:
            swept.destroyed.append(status.id)
    return swept


@contextmanager
def sweeping(url: str, api_key: Secret, events: EventLog, timeouts: Timeouts) -> Iterator[None]:
    """Sweep in the background, at most until the ``with`` block ends; write events only where there was something."""
    cancel = CancelToken()

    def work() -> None:
        with contextlib.suppress(Cancelled):
            swept = _persevere(url, api_key, cancel, timeouts)
            for text in (*([swept.told()] if swept.destroyed else []), *swept.problems):
                events.write(Event("", None, text))

    thread = threading.Thread(target=work, name="vastgpu-sweep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        cancel.cancel()
        thread.join(timeouts.leave_s)  # it is in none but short steps, or in one that is of no use any more


def _persevere(url: str, api_key: Secret, cancel: CancelToken, timeouts: Timeouts) -> Recovery:
    """Sweep; as long as one destroy may take, whatever goes wrong is tried again."""
    deadline = Deadline.after(timeouts.destroy_within_s)
    pauses = iter(timeouts.recovery_pauses_s)
    while True:
        try:
            with open_provider(url, api_key, cancel=cancel, timeouts=timeouts) as client:
                identity = account_identity(url, api_key)
                return sweep(client, runs_dir(), identity, by="sweep", wait=cancel.wait, timeouts=timeouts)
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - what is left costs money until it is gone
            if deadline.passed:
                return Recovery(problems=[f"what earlier runs have left cannot be looked for: {cause_of(error)}"])
        cancel.wait(next(pauses, timeouts.recovery_pauses_s[-1]))

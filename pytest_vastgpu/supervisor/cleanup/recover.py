"""Destroys what a dead run has left behind, for the guard, the next run's sweep, and ``vastgpu reap``.

The caller owns the run's directory. Recovery works in rounds: compare the ledger with the market, destroy what should
not be there, and repeat until the market lists nothing of the run. So it works wherever the run, or an earlier
recovery, was cut short.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.core.clock import Deadline
from pytest_vastgpu.core.ledger_record import FILE
from pytest_vastgpu.core.ledger_record import Label
from pytest_vastgpu.core.ledger_record import LedgerEntry
from pytest_vastgpu.core.ledger_record import Record
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.supervisor.cleanup.account_key import take_out_key
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from pytest_vastgpu.supervisor.cleanup.destroy import cause_of
from pytest_vastgpu.supervisor.cleanup.destroy import destroy
from pytest_vastgpu.supervisor.ledger.ledger import Ledger

if TYPE_CHECKING:
    from pytest_vastgpu.providers.base import InstanceStatus
    from pytest_vastgpu.providers.base import Provider

LATE_CREATE_S = 60.0
"""The market may carry out a create without an answer up to this long after the request: gateways cut requests off
after a minute at the latest."""
LOOKS = 3
"""An instance must be missing in this many lists before it counts as never created: lists lag behind."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecoveryPlan:
    """What to do about a dead run."""

    destroy: tuple[LedgerEntry, ...] = ()
    """Attempts whose instance exists, or may exist, each with its id."""
    look_for: tuple[LedgerEntry, ...] = ()
    """Attempts whose create was never answered, and whose instance the market does not list (yet)."""
    disowned: tuple[LedgerEntry, ...] = ()
    """Attempts whose instance carries another label now: its user has taken it over."""


def due(run_id: str, record: Record, listed: Sequence[InstanceStatus] | None, now: float) -> RecoveryPlan:
    """Compare the ledger with the market's list. Pure.

    The market decides: an instance with a label of this run belongs to the run, even where the ledger was cut short and
    does not know it, or calls it gone. A kept instance is left alone until its end.

    :param listed: All instances of the account; None where the market does not answer, so that the ledger decides.
    :param now: Epoch seconds.
    """
    if record.embedded:
        return RecoveryPlan()
    shown = {status.id: status.label for status in listed or ()}
    kept = {entry.label for entry in record.entries.values() if entry.kept_until > now}
    there = [
        LedgerEntry(label, instance_id)
        for instance_id, label in shown.items()
        if (parsed := Label.parse(label)) and parsed.run_id == run_id and label not in kept
    ]
    seen = {entry.label for entry in there}
    left = [entry for entry in record.left(now) if entry.label not in seen]
    return RecoveryPlan(
        destroy=(*there, *(entry for entry in left if entry.instance_id and entry.instance_id not in shown)),
        look_for=tuple(entry for entry in left if not entry.instance_id),
        disowned=tuple(entry for entry in left if entry.instance_id in shown),
    )


@dataclass
class Recovery:
    """Result of a recovery."""

    destroyed: list[int] = field(default_factory=list)
    """Ids of the instances that the recovery has destroyed."""
    problems: list[str] = field(default_factory=list)
    """One line for each instance that could not be destroyed, with the command that does it, and for an SSH key that
    could not be taken out of the account."""

    def told(self) -> str:
        """The destroyed instances, in one line for people."""
        ids = ", ".join(map(str, self.destroyed))
        return f"left behind by earlier runs, and gone now: instance{'s' * (len(self.destroyed) > 1)} {ids}"


def recover(
    directory: Path,
    client: Provider,
    *,
    by: str,
    wait: Callable[[float], None] = time.sleep,
    within_s: float | None = None,
    timeouts: Timeouts = DEFAULTS,
    clock: Clock = SYSTEM_CLOCK,
    with_key: bool = True,
) -> Recovery:
    """Destroy what a dead run has left, verified, and write that into its ledger.

    It waits for creates that were never answered, up to :data:`LATE_CREATE_S` after the request. Repeating it is safe.

    :param directory: The run's directory, named by its id. The caller owns it.
    :param by: Name of the caller, for the ledger.
    :param wait: Waits for a number of seconds. :class:`~pytest_vastgpu.core.clock.Cancelled` passes through, and is
        the only error that does: any other is tried again until the time is over.
    :param within_s: How long to try to destroy an instance that resists, before one last try, and to read a ledger that
        cannot be read: it says what is kept; None: as long as one destroy.
    :param with_key: Whether to take the run's SSH key out of the account, too.
    """
    ledger: Ledger | _Unwritable
    try:
        ledger = Ledger(directory)
    except ConfigurationError as error:
        ledger = _Unwritable(directory / FILE, error)
    try:
        deadline = Deadline.after(timeouts.destroy_within_s if within_s is None else within_s, clock)
        return _Recovering(directory.name, client, ledger, by, wait, timeouts, clock, with_key).go(deadline)
    finally:
        ledger.close()


class _Unwritable:
    """In the place of a ledger that cannot be written, for example on a full disk: what is left is destroyed anyway."""

    def __init__(self, path: Path, error: ConfigurationError) -> None:
        self.path = path
        _log.warning("%s", error)

    def write(self, label: str, step: str, **facts: object) -> None:
        """See :meth:`Ledger.write`."""

    def close(self) -> None:
        """See :meth:`Ledger.close`."""


@dataclass
class _Recovering:
    run_id: str
    client: Provider
    ledger: Ledger | _Unwritable
    by: str
    wait: Callable[[float], None]
    timeouts: Timeouts
    clock: Clock
    with_key: bool
    destroyed: dict[int, None] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    """Labels of what is gone: a ledger that cannot be written does not say so."""
    rounds: int = 0

    def go(self, deadline: Deadline) -> Recovery:
        pauses = iter(self.timeouts.recovery_pauses_s)
        while True:
            last = deadline.passed
            try:
                problems = self._round(last=last)
            except Cancelled:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, what is left costs money until it is gone
                problems = [self._of_the_run(error)]
            if problems is None:
                return Recovery(list(self.destroyed), self._take_out_key())
            if problems and last:
                return Recovery(list(self.destroyed), [str(problem) for problem in problems])
            self.wait(next(pauses, self.timeouts.recovery_pauses_s[-1]))

    def _take_out_key(self) -> list[str]:
        if not self.with_key or isinstance(self.ledger, _Unwritable):
            return []  # the run itself or a later sweep takes it out
        stays = take_out_key(self.ledger.path.parent, self.client, self.ledger)
        return [stays] if stays else []

    def _of_the_run(self, error: Exception) -> NotDestroyed:
        return NotDestroyed(f"--run {self.run_id}", cause_of(error), what=f"what run {self.run_id} has left")

    def _round(self, *, last: bool) -> list[NotDestroyed] | None:
        """Do one round; returns what resists, or None where nothing is left to do.

        :param last: Whether it is the last one, which destroys also where the ledger cannot say what is kept.
        """
        listed: Sequence[InstanceStatus] | None = None
        problems: list[NotDestroyed] = []
        try:
            listed = self.client.list_instances()
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - the ledger knows what to destroy, too
            problems.append(self._of_the_run(error))
        now = self.clock.time()
        try:
            record = read_ledger(self.ledger.path)
        except OSError as error:
            problems.append(self._of_the_run(error))
            if not last:
                return problems
            record = Record()
        found = due(self.run_id, record, listed, now)
        shown = {status.id for status in listed or ()}
        left = [entry for entry in found.destroy if entry.instance_id in shown or entry.label not in self.settled]
        problems += [problem for entry in left if (problem := self._destroy(entry, record))]
        if listed is None:
            return problems
        for entry in found.disowned:
            self.ledger.write(entry.label, "disowned", by=self.by)
        self.rounds += 1
        awaited = [
            entry
            for entry in found.look_for
            if self.rounds < LOOKS or abs(now - entry.intended_at) < LATE_CREATE_S  # the clock may have been set back
        ]
        for entry in found.look_for:
            if entry not in awaited:
                self.ledger.write(entry.label, "not_created", by=self.by)
        return problems if problems or left or awaited else None

    def _destroy(self, entry: LedgerEntry, record: Record) -> NotDestroyed | None:
        known = record.entries.get(entry.label)
        if known is None or known.instance_id != entry.instance_id:
            self.ledger.write(entry.label, "created", instance_id=entry.instance_id, by=self.by)
        try:
            status = self.client.show(entry.instance_id)
            if status is not None and status.label not in {"", entry.label}:
                self.ledger.write(entry.label, "disowned", by=self.by)
                return None
            self.ledger.write(entry.label, "destroying", by=self.by)
            limits = replace(self.timeouts, destroy_within_s=self.timeouts.recovery_round_s)
            destroy(self.client, entry.instance_id, self.wait, limits, self.clock)
        except (Cancelled, NotDestroyed) as ended:
            if isinstance(ended, NotDestroyed):
                return ended
            raise
        except Exception as error:  # noqa: BLE001 - the others must have their turn
            return NotDestroyed(entry.instance_id, cause_of(error))
        self.ledger.write(entry.label, "gone", by=self.by)
        self.settled.add(entry.label)
        if status is not None:
            self.destroyed[entry.instance_id] = None
        return None

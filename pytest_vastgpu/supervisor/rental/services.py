"""The services that all rentals of a run share."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Protocol

from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.core.image_login import ImageLogin
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.settings import Settings
from pytest_vastgpu.ssh.base import Connector
from pytest_vastgpu.ssh.keys import KeyPair
from pytest_vastgpu.supervisor.money.run_budgets import RunBudgets
from pytest_vastgpu.supervisor.rental.instance_poller import InstancePoller
from pytest_vastgpu.supervisor.rental.keep import Keeper


class AttemptFailed(Exception):
    """The attempt has failed."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


class LedgerWriter(Protocol):
    """Records each step of a rental on disk before it happens, and knows what the user has done beside the run."""

    def write(self, label: str, step: str, **facts: object) -> None:
        """See :meth:`pytest_vastgpu.supervisor.ledger.ledger.Ledger.write`."""
        ...

    def destroyed_by_user(self, label: str) -> bool:
        """Whether the user has destroyed an instance with ``vastgpu destroy``."""
        ...


class EventWriter(Protocol):
    """Writes events."""

    path: Path
    """The event log's file."""

    def write(self, event: Event) -> None:
        """See :meth:`pytest_vastgpu.core.events.EventLog.write`."""
        ...


@dataclass(frozen=True)
class RentalServices:
    """The services that all rentals of a run share."""

    provider: Provider
    """Its calls end when the run does."""
    cleaner: Provider
    """The same market, for giving back: its calls go on when the run ends."""
    settings: Settings
    key: KeyPair
    ledger: LedgerWriter
    events: EventWriter
    run_id: str
    artifacts: Path
    """Directory for the evidence of attempts that failed, or on which a test did, with a subdirectory for each."""
    budgets: RunBudgets
    poller: InstancePoller
    keeper: Keeper
    connector: Connector
    timeouts: Timeouts = DEFAULTS
    clock: Clock = SYSTEM_CLOCK
    ssh_has_worked: threading.Event = field(default_factory=threading.Event)
    """Set once an SSH connection of this run has succeeded."""
    ending: CancelToken = field(default_factory=CancelToken)
    """Cancelled when the run ends: from then on only giving back is waited for."""
    image_login: ImageLogin | None = None
    """The user's login at a registry, for the images of that registry."""

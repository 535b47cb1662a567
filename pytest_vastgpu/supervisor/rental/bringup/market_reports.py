"""What the market reports of one instance while it is brought up, for the steps that wait for something."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NoCredit
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.supervisor.rental.boot_progress import BootHistory
from pytest_vastgpu.supervisor.rental.boot_progress import StatusSample
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.instance_poller import StatusUpdate

BOOT_LOG_LINES = 100
ACCOUNT_ERRORS = (BadApiKey, NotAuthorized, NoCredit)
"""Errors that say of every call what they say of this one; others may pass, and must not end a healthy instance."""


class MarketReports:
    """The reports on one instance since its create.

    :mod:`~pytest_vastgpu.supervisor.rental.give_up` decides what they mean.
    """

    def __init__(self, context: BringUpContext) -> None:
        self._context = context
        self.history = BootHistory(
            _judge_status, context.rental.offer.machine_id, anonymous=context.image_login is None
        )
        self._updates: deque[StatusUpdate] = deque()
        self._heard = 0.0
        self._error: MarketError | None = None

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Have the market asked for the instance again and again, until the ``with`` block ends."""
        services, context = self._context.services, self._context
        self._heard = services.clock.monotonic()
        with services.poller.watching(context.rental.label, context.cancel.nudge) as self._updates:
            yield

    def wait(self, seconds: float) -> bool:
        """Wait for a report, for at most these seconds; whether there was one.

        :raises AttemptFailed: the price is above the limits, or the instance is at its end of life.
        :raises Cancelled: the run is ending.
        :raises MarketError: what is wrong with our account.
        """
        self._context.go_on()
        self._context.cancel.wait(seconds, lambda: bool(self._updates))
        return bool(self._updates) and self._take(self._updates.popleft())

    def check_heard(self) -> None:
        """Check that the market answers at all.

        :raises MarketError: if it has given no answer for too long.
        """
        services = self._context.services
        silent_s = services.clock.monotonic() - self._heard
        if silent_s > services.timeouts.market_silence_s:
            text = f"the market has said nothing of the instances for {silent_s:.0f} s"
            raise self._error or MarketUnreachable(text)

    def _take(self, update: StatusUpdate) -> bool:
        rental, services = self._context.rental, self._context.services
        status = update.status
        try:
            if update.error is not None:
                raise update.error
            if status is None or status.id != rental.instance_id:
                # The list may lag behind create, or lose a row: the instance itself is asked for before it is missed.
                status = services.provider.show(rental.instance_id)
        except ACCOUNT_ERRORS:
            raise
        except MarketError as error:
            self._error = error
            return False
        self._heard = services.clock.monotonic()
        self._error = None
        if status is not None and self._price_counts(status):
            rental.priced(status)
        log = self._container_log() if self.history.wants_log(rental.age_s) else ""
        self.history.add(StatusSample(rental.age_s, status, log))
        return True

    def _price_counts(self, status: InstanceStatus) -> bool:
        """An impossible price is looked at twice, as everything else that may be a gap."""
        return self.history.concerns(status) and (not status.incredible or self.history.doubted)

    def _container_log(self) -> str:
        try:
            return self._context.services.provider.logs(self._context.rental.instance_id, BOOT_LOG_LINES)
        except MarketError:
            return ""  # it may have no log yet; the poller notices whether the market answers


def _judge_status(text: str) -> Verdict:
    return classify(text, channel=Channel.STATUS_MSG)

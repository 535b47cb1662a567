"""While *booting*: wait until the provider reports the instance running."""

from __future__ import annotations

import math

from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import OfferGone
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.reconnecting import ReconnectingConnection
from pytest_vastgpu.supervisor.rental import give_up
from pytest_vastgpu.supervisor.rental.boot_progress import BootHistory
from pytest_vastgpu.supervisor.rental.boot_progress import StatusSample
from pytest_vastgpu.supervisor.rental.bringup.attach_key import TRANSIENT
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.polling import connect_pause_s
from pytest_vastgpu.supervisor.rental.services import AttemptFailed

LOOK_AGAIN_S = 1.0
"""Pause between two checks whether to go on waiting."""
BOOT_LOG_LINES = 100


def boot(context: BringUpContext) -> InstanceStatus:
    """Wait until the provider says that it runs and where it is, or until SSH lets us in: the provider may lag.

    :returns: What the provider said last. Where SSH was quicker, the rental has the connection.
    :raises AttemptFailed: with the verdict.
    :raises OfferGone: if the market has rented the offer to another client, too, and that one has it.
    :raises MarketError: if the provider gives no answer for too long.
    """
    rental, services = context.rental, context.services
    history = BootHistory(_judge_status, anonymous=context.image_login is None)
    told = ""
    heard = services.clock.monotonic()
    early = _EarlyConnection(context)
    with services.poller.watching(rental.label, context.cancel.nudge) as updates:
        while True:
            context.go_on()
            context.cancel.wait(LOOK_AGAIN_S, lambda: bool(updates))
            silent_s = services.clock.monotonic() - heard
            if not updates:
                if silent_s > services.timeouts.market_silence_s:
                    raise MarketUnreachable(f"the market has said nothing of the instances for {silent_s:.0f} s")
                continue
            update = updates.popleft()
            if update.error is not None:
                if not isinstance(update.error, TRANSIENT) or silent_s > services.timeouts.market_silence_s:
                    raise update.error
                continue
            heard = services.clock.monotonic()
            status = update.status
            if status is not None:
                rental.priced(status)
            log = _container_log(context) if history.wants_log(rental.age_s) else ""
            history.add(StatusSample(rental.age_s, status, log))
            step = give_up.judge_boot(history, services.settings.boot_timeout, services.timeouts)
            if isinstance(step, give_up.GiveUp):
                verdict = rental.attribute_fault(step.verdict)
                if give_up.sold_twice(verdict, history):
                    raise OfferGone(f"somebody else has rented it at the same moment: {verdict.evidence}")
                raise AttemptFailed(verdict)
            if status is None:
                continue
            if isinstance(step, give_up.Connect) or early.attempt(status):
                return status
            if (text := status.message or status.state) != told:
                told = text
                rental.tell(f"booting: {text[:100]}")


class _EarlyConnection:
    """Tries SSH before the provider reports the instance running. A failure here counts against no machine.

    It is not verified against live Vast.ai whether an address is listed, and answers, before the instance runs.
    """

    def __init__(self, context: BringUpContext) -> None:
        self._context = context
        self._attempts: list[give_up.ConnectAttempt] = []

    def attempt(self, status: InstanceStatus) -> bool:
        """Connect, where something answers that speaks SSH, and not too often; whether SSH has let us in."""
        services, rental = self._context.services, self._context.rental
        if self._attempts:
            pause_s = connect_pause_s(self._attempts, math.inf, services.timeouts)
            if rental.age_s < self._attempts[-1].at_s + pause_s:
                return False
        failures: tuple[ProbeFailure, ...] = ()
        if speaking := [address for address in status.ssh if services.connector.speaks_ssh(address)]:
            connection = ReconnectingConnection(services.connector, speaking)
            try:
                connection.connection()
            except ConnectFailed as failed:
                failures = tuple(failure.kind for failure in failed.failures)
            else:
                rental.connects(connection)
                return True
        # The pause is counted from the end: what was said while a long try went on is read before the next one.
        self._attempts.append(give_up.ConnectAttempt(rental.age_s, failures))
        return False


def _container_log(context: BringUpContext) -> str:
    try:
        return context.services.provider.logs(context.rental.instance_id, BOOT_LOG_LINES)
    except MarketError:
        return ""  # it may have no log yet; the poller notices whether the market answers


def _judge_status(text: str) -> Verdict:
    return classify(text, channel=Channel.STATUS_MSG)

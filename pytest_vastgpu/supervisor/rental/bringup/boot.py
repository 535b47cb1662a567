"""While *booting*: wait until the provider reports the instance running."""

from __future__ import annotations

import math

from pytest_vastgpu.errors import OfferGone
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.reconnecting import ReconnectingConnection
from pytest_vastgpu.supervisor.rental import give_up
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.bringup.market_reports import MarketReports
from pytest_vastgpu.supervisor.rental.polling import connect_pause_s
from pytest_vastgpu.supervisor.rental.services import AttemptFailed

LOOK_AGAIN_S = 1.0
"""Pause between two checks whether to go on waiting."""


def boot(context: BringUpContext, reports: MarketReports) -> None:
    """Wait until the provider says that it runs and where it is, or until SSH lets us in: the provider may lag.

    Where SSH was quicker, the rental has the connection.

    :param reports: They are followed.
    :raises AttemptFailed: with the verdict.
    :raises OfferGone: if the market has rented the offer to another client, too, and that one has it.
    :raises MarketError: if the provider gives no answer for too long.
    """
    rental, services = context.rental, context.services
    told = ""
    early = _EarlyConnection(context, reports)
    while True:
        if not reports.wait(LOOK_AGAIN_S):
            reports.check_heard()
            continue
        step = give_up.judge_boot(reports.history, services.settings.boot_timeout, services.timeouts)
        if isinstance(step, give_up.GiveUp):
            verdict = rental.attribute_fault(step.verdict)
            if give_up.sold_twice(verdict, reports.history):
                raise OfferGone(f"another client has rented it at the same moment: {verdict.evidence}")
            raise AttemptFailed(verdict)
        if isinstance(step, give_up.Connect) or early.attempt():
            return
        newest = reports.history.samples[-1]
        status = newest.status
        rental.shows(_last_line(newest.log) or (status.message or status.state if status is not None else ""))
        if status is not None and (text := status.message or status.state) != told:
            told = text
            rental.tell(f"booting: {text[:100]}")


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


class _EarlyConnection:
    """Tries SSH before the provider reports the instance running. A failure here counts against no machine.

    It is not verified against live Vast.ai whether an address is listed, and answers, before the instance runs.
    """

    def __init__(self, context: BringUpContext, reports: MarketReports) -> None:
        self._context = context
        self._reports = reports
        self._attempts: list[give_up.ConnectAttempt] = []

    def attempt(self) -> bool:
        """Connect, where something answers that speaks SSH, and not too often; whether SSH has let us in."""
        services, rental = self._context.services, self._context.rental
        if self._attempts:
            pause_s = connect_pause_s(self._attempts, math.inf, services.timeouts)
            if rental.age_s < self._attempts[-1].at_s + pause_s:
                return False
        failures: tuple[ProbeFailure, ...] = ()
        if speaking := [address for address in self._reports.history.ssh if services.connector.speaks_ssh(address)]:
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

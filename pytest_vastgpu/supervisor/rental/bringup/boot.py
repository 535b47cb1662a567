"""From *created* to *reachable*: what the market says of an instance, then whether SSH lets us in."""

from __future__ import annotations

import math
import socket
import time

from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import RateLimited
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.login import ConnectFailed
from pytest_vastgpu.ssh.reconnecting import ReconnectingConnection
from pytest_vastgpu.supervisor.rental import boot_progress
from pytest_vastgpu.supervisor.rental import policy
from pytest_vastgpu.supervisor.rental import self_check
from pytest_vastgpu.supervisor.rental.boot_progress import StatusSample
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.polling import connect_pause_s
from pytest_vastgpu.supervisor.rental.rental import AttemptFailed

TICK_S = 0.2
"""How late it is noticed that the run is being called off."""
BANNER_S = 1.0
"""How long an address that may not be the instance's yet is given to say what it is."""
TRANSIENT = (MarketUnreachable, MarketAnswerInvalid, RateLimited)
"""What passes by itself, and must not cost a healthy instance."""
MARKET_SILENCE_S = 300.0
"""The market may be unreachable that long without costing a healthy instance."""
BOOT_LOG_LINES = 100


def boot(effort: BringUpContext) -> InstanceStatus:
    """Wait until the market says that it runs and where it is, or until SSH lets us in: what the market says may lag.

    :raises AttemptFailed: with the verdict.
    :raises MarketError: if the market cannot be asked for too long.
    """
    rental = effort.rental
    timeouts = effort.tools.timeouts
    rental.enter(State.BOOTING, "booting")
    looks: list[StatusSample] = []
    told = ""
    heard = time.monotonic()
    door = _EarlyConnection(effort)
    with effort.tools.board.watching(rental.label) as inbox:
        while True:
            effort.go_on()
            news = inbox.news(TICK_S)
            silent_s = time.monotonic() - heard
            if news is None:
                if silent_s > MARKET_SILENCE_S:
                    raise MarketUnreachable(f"the market has said nothing of the instances for {silent_s:.0f} s")
                continue
            if news.error is not None:
                if not isinstance(news.error, TRANSIENT) or silent_s > MARKET_SILENCE_S:
                    raise news.error
                continue
            heard = time.monotonic()
            status = news.status
            if status is not None:
                rental.priced(status)
            log = _container_log(effort) if boot_progress.wants_log(looks, rental.age_s, _judge_status) else ""
            looks.append(StatusSample(rental.age_s, status, log))
            step = policy.boot(looks, effort.tools.settings.boot_timeout, _judge_status, timeouts)
            if isinstance(step, policy.GiveUp):
                raise AttemptFailed(rental.fair(step.verdict))
            if status is None:
                continue
            if isinstance(step, policy.Connect) or door.opens(status):
                return status
            if (text := status.message or status.state) != told:
                told = text
                rental.tell(f"booting: {text[:100]}")


class _EarlyConnection:
    """SSH of an instance of which the market does not say yet that it runs. That it stays shut is held against nobody.

    Whether an address is listed before the instance runs, and answers then, was not tried against live Vast.ai.
    """

    def __init__(self, effort: BringUpContext) -> None:
        self._effort = effort
        self._knocks: list[policy.ConnectAttempt] = []

    def opens(self, status: InstanceStatus) -> bool:
        """Whether SSH lets us in. It is tried where something answers that speaks SSH, and not too often."""
        rental = self._effort.rental
        timeouts = self._effort.tools.timeouts
        if self._knocks and rental.age_s < self._knocks[-1].at_s + connect_pause_s(self._knocks, math.inf, timeouts):
            return False
        failures: tuple[ProbeFailure, ...] = ()
        if speaking := [address for address in status.ssh if _speaks_ssh(address)]:
            link = ReconnectingConnection(speaking, self._effort.tools.key, timeouts.connect_s)
            try:
                link.connection()
            except ConnectFailed as failed:
                failures = tuple(failure.kind for failure in failed.failures)
            else:
                rental.link = link
                return True
        self._knocks.append(policy.ConnectAttempt(rental.age_s, failures))
        return False


def reach(effort: BringUpContext, status: InstanceStatus) -> None:
    """Wait until SSH lets us in.

    :raises AttemptFailed: with the verdict.
    """
    rental = effort.rental
    timeouts = effort.tools.timeouts
    running_at = rental.age_s
    knocks: list[policy.ConnectAttempt] = []
    attached_again = False
    addresses = status.ssh
    link = rental.link = rental.link or ReconnectingConnection(addresses, effort.tools.key, timeouts.connect_s)
    while True:
        effort.go_on()
        try:
            link.connection()
            break
        except ConnectFailed as failed:
            kinds = tuple(failure.kind for failure in failed.failures)
            knocks.append(policy.ConnectAttempt(rental.age_s, kinds, str(failed)))
        step = policy.reach(knocks, running_at, effort.tools.settings.boot_timeout, attached_again, timeouts)
        if isinstance(step, policy.GiveUp):
            proxy = next((address for address in addresses if address.kind == "proxy"), None)
            leaves = effort.tools.ssh_has_worked.is_set() or self_check.proxy_answers(proxy)
            raise AttemptFailed(rental.fair(step.verdict, ssh_leaves=leaves))
        if isinstance(step, policy.AttachKey):
            attached_again = True
            attach_key(effort)
        if len(knocks) == 1:
            rental.tell(f"running; waiting for SSH ({knocks[0].failures[0].value})")
        effort.patience.wait(connect_pause_s(knocks, running_at, timeouts))
    effort.tools.ssh_has_worked.set()
    rental.enter(State.REACHABLE, f"SSH answers after {rental.age_s:.1f} s")


def attach_key(effort: BringUpContext) -> None:
    """What keeps it from being attached now may have passed when it is tried again, see :func:`decide.reach`."""
    try:
        effort.tools.client.attach_key(effort.rental.instance_id, effort.tools.key.public_line)
    except TRANSIENT as error:
        effort.rental.tell(f"the SSH key is not attached yet: {error}")


def _container_log(effort: BringUpContext) -> str:
    try:
        return effort.tools.client.logs(effort.rental.instance_id, BOOT_LOG_LINES)
    except MarketError:
        return ""  # it may have none yet; others tell whether the market answers


def _speaks_ssh(address: SshAddress) -> bool:
    """Whether a server greets us there as SSH servers do. Our key is not shown to find that out."""
    try:
        with socket.create_connection((address.host, address.port), BANNER_S) as sock:
            return sock.recv(4, socket.MSG_WAITALL) == b"SSH-"
    except OSError:
        return False


def _judge_status(text: str) -> Verdict:
    return classify(text, channel=Channel.STATUS_MSG)

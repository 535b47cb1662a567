"""From *booting* to *reachable*: SSH lets us in, and runs our commands."""

from __future__ import annotations

from pytest_vastgpu.core.clock import Deadline
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.ssh.base import AddressFailure
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.base import Connection
from pytest_vastgpu.ssh.reconnecting import ReconnectingConnection
from pytest_vastgpu.supervisor.rental import give_up
from pytest_vastgpu.supervisor.rental import self_check
from pytest_vastgpu.supervisor.rental.bringup.attach_key import attach_key
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.bringup.market_reports import MarketReports
from pytest_vastgpu.supervisor.rental.polling import connect_pause_s
from pytest_vastgpu.supervisor.rental.services import AttemptFailed

LOOK_AGAIN_S = 1.0
"""Pause between two checks whether to go on waiting."""
_MARK = "vastgpu-is-in"


def connect(context: BringUpContext, reports: MarketReports) -> None:
    """Wait until SSH lets us in and runs a command; the rental has the connection, perhaps since it booted.

    The market is asked on meanwhile: it may publish a better address later, or know what has become of the instance.

    :param reports: They are followed, and have an address.
    :raises AttemptFailed: with the verdict.
    """
    rental, services = context.rental, context.services
    known = reports.history.ssh
    since = rental.age_s
    attempts: list[give_up.ConnectAttempt] = []
    told: ProbeFailure | None = None
    attached_again = False
    connection = rental.connection or ReconnectingConnection(services.connector, known)
    rental.connects(connection)
    while True:
        context.go_on()
        if reports.history.ssh != known:
            known = reports.history.ssh
            since, attempts = rental.age_s, []  # what failed elsewhere says nothing of this address
        connection.knows(known)
        attempt = _knock(context, connection)
        if attempt is None:
            _settle_doubts(context, reports)
            return
        attempts.append(attempt)
        step = give_up.judge_connect(attempts, since, services.settings.boot_timeout, attached_again, services.timeouts)
        against = give_up.judge_reports(reports.history, services.timeouts) if reports.history.samples else None
        if isinstance(against, give_up.GiveUp):
            step = against
        if isinstance(step, give_up.GiveUp):
            proxy = next((address for address in known if address.kind == "proxy"), None)
            leaves = services.ssh_has_worked.is_set() or self_check.proxy_answers(services.connector, proxy)
            raise AttemptFailed(rental.attribute_fault(step.verdict, ssh_leaves=leaves))
        if isinstance(step, give_up.AttachKey):
            attached_again = True
            attach_key(context)
        rental.shows(f"waiting for SSH ({attempt.failures[0].value})")
        if attempt.failures[0] is not told and (told is None or attempt.failures[0] is ProbeFailure.NOT_RUN):
            told = attempt.failures[0]
            rental.tell(f"running; waiting for SSH ({attempt.text if told is ProbeFailure.NOT_RUN else told.value})")
        pause = Deadline.after(connect_pause_s(attempts, since, services.timeouts), services.clock)
        while not pause.passed and reports.history.ssh == known:
            reports.wait(pause.remaining_s)


def _settle_doubts(context: BringUpContext, reports: MarketReports) -> None:
    """Ask the market once more about what its newest report doubts: a quick start may have seen but this one.

    :raises AttemptFailed: it says the same again.
    """
    while reports.history.doubted:
        if not reports.wait(LOOK_AGAIN_S):
            reports.check_heard()
            continue
        against = give_up.judge_reports(reports.history, context.services.timeouts)
        if isinstance(against, give_up.GiveUp):
            raise AttemptFailed(context.rental.attribute_fault(against.verdict))


def check_ran(result: ProbeResult, connection: Connection) -> ProbeResult:
    """Return the result of a command that came to its end, or to its time limit, whether it succeeded or not.

    :raises ConnectFailed: if the connection broke.
    :raises AttemptFailed: if the login shell has not started it: the host is not to blame for what its image does.
    """
    if result.failure is ProbeFailure.TRANSPORT:
        raise ConnectFailed([AddressFailure(connection.address, result.failure, result.stderr.strip())])
    if result.failure is ProbeFailure.NOT_RUN:
        raise AttemptFailed(
            Verdict(
                FailureClass.UNKNOWN,
                "commands_not_run",
                result.stderr.strip(),
                "see what the image does at a login; another host would do",
            )
        )
    return result


def _knock(context: BringUpContext, connection: ReconnectingConnection) -> give_up.ConnectAttempt | None:
    """Log in, and have a command run; None where that succeeded, else how it failed."""
    rental = context.rental
    try:
        said = connection.run(f"echo {_MARK}", timeout_s=context.services.timeouts.connect_s)
    except ConnectFailed as failed:
        kinds = tuple(failure.kind for failure in failed.failures)
        return give_up.ConnectAttempt(rental.age_s, kinds, str(failed))
    if _MARK in said.stdout:
        return None
    text = f"SSH lets us in, and runs no command: {' '.join(said.stderr.split()) or said.failure.value}"
    return give_up.ConnectAttempt(rental.age_s, (ProbeFailure.NOT_RUN,), text)

"""From *booting* to *reachable*: SSH lets us in."""

from __future__ import annotations

from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.reconnecting import ReconnectingConnection
from pytest_vastgpu.supervisor.rental import give_up
from pytest_vastgpu.supervisor.rental import self_check
from pytest_vastgpu.supervisor.rental.bringup.attach_key import attach_key
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.polling import connect_pause_s
from pytest_vastgpu.supervisor.rental.services import AttemptFailed


def connect(context: BringUpContext, status: InstanceStatus) -> None:
    """Wait until SSH lets us in; the rental has the connection, which may have been made while it booted.

    :raises AttemptFailed: with the verdict.
    """
    rental, services = context.rental, context.services
    running_at = rental.age_s
    attempts: list[give_up.ConnectAttempt] = []
    attached_again = False
    connection = rental.connection or ReconnectingConnection(services.connector, status.ssh)
    rental.connects(connection)
    while True:
        context.go_on()
        try:
            connection.connection()
        except ConnectFailed as failed:
            kinds = tuple(failure.kind for failure in failed.failures)
            attempts.append(give_up.ConnectAttempt(rental.age_s, kinds, str(failed)))
        else:
            return
        step = give_up.judge_connect(
            attempts, running_at, services.settings.boot_timeout, attached_again, services.timeouts
        )
        if isinstance(step, give_up.GiveUp):
            proxy = next((address for address in status.ssh if address.kind == "proxy"), None)
            leaves = services.ssh_has_worked.is_set() or self_check.proxy_answers(services.connector, proxy)
            raise AttemptFailed(rental.attribute_fault(step.verdict, ssh_leaves=leaves))
        if isinstance(step, give_up.AttachKey):
            attached_again = True
            attach_key(context)
        if len(attempts) == 1:
            rental.tell(f"running; waiting for SSH ({attempts[0].failures[0].value})")
        context.cancel.wait(connect_pause_s(attempts, running_at, services.timeouts))

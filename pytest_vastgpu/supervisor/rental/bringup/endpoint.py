"""From *warming* to *ready*: opens the URL at which tests reach the server.

Other ports are forwarded when a test asks for them, see :mod:`~pytest_vastgpu.supervisor.rental.forwarded_ports`.
"""

from __future__ import annotations

from pytest_vastgpu.ssh.base import Forward
from pytest_vastgpu.supervisor.rental import give_up
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.bringup.market_reports import MarketReports
from pytest_vastgpu.supervisor.rental.services import AttemptFailed

LOOK_AGAIN_S = 1.0
"""Pause between two checks whether to go on waiting."""


def open_endpoint(context: BringUpContext, reports: MarketReports) -> tuple[str, Forward | None]:
    """Open the endpoint: its URL, and the forwarded port; None where the provider publishes the port itself.

    :raises AttemptFailed: if the user asked for a published port (``--vast-expose``) and there is none in time.
    :raises MarketError: if the provider gives no answer for too long.
    """
    rental, services = context.rental, context.services
    port = rental.workload.port
    if not port:
        return "", None
    if services.settings.expose:
        return f"http://{_published(context, reports, port)}", None
    if all(address.kind != "direct" for address in reports.history.ssh):
        with reports.followed():
            reports.wait(LOOK_AGAIN_S)
    rental.connected.knows(reports.history.ssh)
    return _tunnel(context)


def open_again(context: BringUpContext) -> tuple[str, Forward | None]:
    """Open the endpoint of another start of a server; it stays the same where the port does.

    A published port cannot change: see :func:`~pytest_vastgpu.supervisor.rental.reuse.takes`.
    """
    if not context.rental.workload.port or context.services.settings.expose:
        return context.rental.endpoint, None
    return _tunnel(context)


def _tunnel(context: BringUpContext) -> tuple[str, Forward]:
    forward = context.rental.ports.open(context.rental.workload.port)
    return forward.url, forward


def _published(context: BringUpContext, reports: MarketReports, port: int) -> str:
    """``host:port`` at which the provider publishes a port, which may be later than the instance runs."""
    rental, history, timeouts = context.rental, reports.history, context.services.timeouts
    if port in history.published:
        return history.published[port]
    with reports.followed():
        while True:
            if not reports.wait(LOOK_AGAIN_S):
                reports.check_heard()
                continue
            if port in history.published:
                return history.published[port]
            for step in (give_up.judge_reports(history, timeouts), give_up.judge_published(history, port, timeouts)):
                if isinstance(step, give_up.GiveUp):
                    raise AttemptFailed(rental.attribute_fault(step.verdict))

"""From *warming* to *ready*: opens the URL at which tests reach the server."""

from __future__ import annotations

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.ssh.base import Forward
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.services import AttemptFailed


def open_endpoint(context: BringUpContext, status: InstanceStatus) -> tuple[str, Forward | None]:
    """Open the endpoint: its URL, and the forwarded port; None where the provider publishes the port itself.

    :raises AttemptFailed: if the user asked for a published port (``--vast-expose``) and there is none.
    """
    rental, services = context.rental, context.services
    port = rental.workload.port
    if services.settings.expose:
        public = status.published.get(port)
        if public is None:
            evidence = f"the market published {dict(status.published)}, not {port}"
            raise AttemptFailed(
                Verdict(FailureClass.INFRA_FATAL, "port_not_published", evidence, "another host would do")
            )
        return f"http://{public}", None
    forward = services.connector.forward(rental.connected.connection_if_any, port)
    return forward.url, forward

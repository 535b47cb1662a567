"""Our SSH key is attached: after create, and once more where it is refused for long."""

from __future__ import annotations

from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import RateLimited
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext

TRANSIENT = (MarketUnreachable, MarketAnswerInvalid, RateLimited)
"""Errors that pass by themselves, and must not end a healthy instance."""


def attach_key(context: BringUpContext) -> None:
    """Attach our public key. Temporary market errors are only told: :func:`connect` tries again."""
    rental, services = context.rental, context.services
    try:
        services.provider.attach_key(rental.instance_id, services.key.public_line)
    except TRANSIENT as error:
        rental.tell(f"the SSH key is not attached yet: {error}")

"""From *intended* to *created*: rents the offer."""

from __future__ import annotations

from pytest_vastgpu.errors import CreateUnsettled
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NotSent
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.deadman import onstart
from pytest_vastgpu.supervisor.rental.rental import END_GRACE_S


def create_request(context: BringUpContext) -> CreateRequest:
    """What to rent it with."""
    rental, services = context.rental, context.services
    settings, workload = services.settings, rental.workload
    login = context.image_login
    return CreateRequest(
        image=context.image,
        image_login=login.text() if login is not None else None,
        disk_gb=workload.disk_gb,
        label=rental.label,
        onstart=onstart(
            services.provider.self_destruct,
            lease_s=settings.lease,
            boot_timeout_s=settings.boot_timeout,
            lifetime_s=settings.max_lifetime + END_GRACE_S,
            public_key=services.key.public_line,
        ),
        ports=(workload.port,) if settings.expose and workload.port else (),
    )


def create(context: BringUpContext, request: CreateRequest) -> int:
    """Rent the offer; the id of the instance.

    :raises OfferGone: nothing was rented.
    :raises OfferRefused: likewise.
    :raises MarketError: the market's or our own fault.
    """
    rental, services = context.rental, context.services
    try:
        return services.provider.create(rental.offer.id, request)
    except MarketError as error:
        if not _may_exist(error):
            rental.not_created()
        raise


def _may_exist(error: MarketError) -> bool:
    """Whether a create that ended with this error may have rented an instance, or may still do so."""
    lost = isinstance(error, (CreateUnsettled, MarketUnreachable, MarketAnswerInvalid))
    return lost and not isinstance(error, NotSent)

"""Rents an offer and brings the instance to *ready*. Each step is a module; :class:`Rental` keeps the results."""

from __future__ import annotations

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.supervisor.rental.bringup.attach_key import attach_key
from pytest_vastgpu.supervisor.rental.bringup.boot import boot
from pytest_vastgpu.supervisor.rental.bringup.check_host import check_host
from pytest_vastgpu.supervisor.rental.bringup.check_host import read_host
from pytest_vastgpu.supervisor.rental.bringup.connect import connect
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.bringup.create import create
from pytest_vastgpu.supervisor.rental.bringup.create import create_request
from pytest_vastgpu.supervisor.rental.bringup.endpoint import open_endpoint
from pytest_vastgpu.supervisor.rental.bringup.launch import launch
from pytest_vastgpu.supervisor.rental.bringup.warmup import warm_up
from pytest_vastgpu.supervisor.rental.services import AttemptFailed


def bring_up(context: BringUpContext) -> None:
    """Create the instance and bring it to *ready*.

    :raises AttemptFailed: with the verdict; the instance still exists and must be destroyed.
    :raises OfferGone: another client has the offer. An instance that was created all the same must be destroyed.
    :raises OfferRefused: nothing was rented.
    :raises MarketError: the market's or our own fault, not the host's.
    :raises Cancelled: the run is ending.
    """
    rental = context.rental
    request = create_request(context)
    rental.begin()
    rental.created(create(context, request))
    attach_key(context)
    rental.booting()
    status = boot(context)
    connect(context, status)
    rental.reached()
    try:
        rental.begin_heartbeat(context.cancel.nudge)
        rental.found(read_host(context))
        rental.checked(check_host(context))
        rental.launched(launch(context))
        warm_up(context)
        rental.ready(*open_endpoint(context, status))
    except ConnectFailed as lost:
        # SSH worked before: the host was lost while it was being prepared.
        verdict = Verdict(FailureClass.INFRA_FATAL, "ssh_lost", str(lost), "another host is tried")
        raise AttemptFailed(rental.attribute_fault(verdict)) from lost

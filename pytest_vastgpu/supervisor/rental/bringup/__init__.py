"""Rents an offer and brings the instance to *ready*. Each step is a module; :class:`Rental` keeps the results."""

from __future__ import annotations

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
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
from pytest_vastgpu.supervisor.rental.bringup.market_reports import MarketReports
from pytest_vastgpu.supervisor.rental.bringup.warmup import warm_up
from pytest_vastgpu.supervisor.rental.services import AttemptFailed


def bring_up(context: BringUpContext) -> None:
    """Create the instance and bring it to *ready*.

    :raises AttemptFailed: with the verdict; the instance still exists and must be destroyed.
    :raises OfferGone: nothing was rented.
    :raises MarketError: the market's or our own fault, not the host's.
    :raises Cancelled: the run is ending.
    """
    rental = context.rental
    request = create_request(context)
    rental.begin()
    rental.created(create(context, request))
    attach_key(context)
    rental.booting()
    reports = MarketReports(context)
    with reports.followed():
        boot(context, reports)
        connect(context, reports)
    rental.reached()
    rental.begin_heartbeat(context.cancel.nudge)
    while True:
        try:
            _prepare(context, reports)
        except ConnectFailed as failed:
            _check_lost(context, failed)
        else:
            return


def _prepare(context: BringUpContext, reports: MarketReports) -> None:
    """Take the instance from where it is now, *reachable* or later, to *ready*.

    :raises ConnectFailed: if SSH does not let us in.
    """
    rental = context.rental
    context.go_on()
    if rental.state is State.REACHABLE:
        rental.found(read_host(context))
        rental.checked(check_host(context))
    if rental.state is State.CHECKED:
        rental.launched(launch(context))
    warm_up(context)
    rental.ready(*open_endpoint(context, reports))


def _check_lost(context: BringUpContext, failed: ConnectFailed) -> None:
    """Look whether an instance that SSH let us into before is lost; one login that fails may be a gap.

    :raises AttemptFailed: it is.
    """
    rental = context.rental
    lost = rental.confirm_lost()
    if lost is None:
        rental.tell(f"SSH let us in no more, and does again: {failed}")
    elif lost.failure_class is FailureClass.RUNTIME_LOST:
        raise AttemptFailed(Verdict(FailureClass.INFRA_FATAL, "ssh_lost", lost.evidence, "another host is tried"))
    else:
        raise AttemptFailed(lost)

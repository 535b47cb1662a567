"""Rents an offer and brings the instance to *ready*. Each step is a module; :class:`Rental` keeps the results."""

from __future__ import annotations

from collections.abc import Callable

from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import workload_line
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.base import Forward
from pytest_vastgpu.supervisor.rental.bringup import beside
from pytest_vastgpu.supervisor.rental.bringup.attach_key import attach_key
from pytest_vastgpu.supervisor.rental.bringup.boot import boot
from pytest_vastgpu.supervisor.rental.bringup.check_host import check_host
from pytest_vastgpu.supervisor.rental.bringup.check_host import read_host
from pytest_vastgpu.supervisor.rental.bringup.connect import connect
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.bringup.create import create
from pytest_vastgpu.supervisor.rental.bringup.create import create_request
from pytest_vastgpu.supervisor.rental.bringup.endpoint import open_again
from pytest_vastgpu.supervisor.rental.bringup.endpoint import open_endpoint
from pytest_vastgpu.supervisor.rental.bringup.launch import launch
from pytest_vastgpu.supervisor.rental.bringup.market_reports import MarketReports
from pytest_vastgpu.supervisor.rental.bringup.stop import stop
from pytest_vastgpu.supervisor.rental.bringup.warmup import warm_up
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.server.monitor import ServerMonitor
from pytest_vastgpu.supervisor.rental.server.watched import WatchedServer
from pytest_vastgpu.supervisor.rental.services import AttemptFailed

GAPS = 3
"""SSH failures in a row, while the instance comes no further, after which it counts as lost."""
GAP_S = 1.0
"""Pause before a step is taken again."""


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
    context.cancel.check()
    rental.begin(request)
    rental.created(create(context, request))
    attach_key(context)
    rental.booting()
    reports = MarketReports(context)
    with reports.followed():
        boot(context, reports)
        connect(context, reports)
    rental.reached()
    rental.begin_heartbeat(context.cancel.nudge)
    _through_gaps(context, lambda: _prepare(context, reports))


def restart(context: BringUpContext, why: str = "") -> None:
    """Start the server of a ready instance again, whether it has ended or not. The endpoint stays the same.

    :param why: Ends a sentence after "because": ``its GPU memory has grown``.
    :raises AttemptFailed: as :func:`relaunch`.
    :raises Cancelled: the instance is given back.
    """
    relaunch(context, context.rental.workload, why)


def relaunch(
    context: BringUpContext, workload: Workload, why: str = "", name: str = "", *, by_test: bool = False
) -> None:
    """Replace the server of a ready instance, which no test uses, by that of a workload that it takes.

    Image, disk, and what is on it stay: only files and setup command that differ are brought and run. The endpoint
    changes with the port.

    :param context: With the adapter of the workload.
    :param workload: See :func:`~pytest_vastgpu.supervisor.rental.reuse.takes`.
    :param why: As for :func:`restart`.
    :param name: The workload's name in this run; empty: what it is called where it needs no other name.
    :param by_test: Whether the test that uses the instance, alone, has it replaced.
    :raises AttemptFailed: with the verdict; the instance still exists and must be destroyed.
    :raises Cancelled: the instance is given back.
    """
    rental = context.rental
    known = rental.purpose if workload == rental.workload else workload_line(workload)
    rental.replaces_server(workload, name or known, why, by_test=by_test)
    _through_gaps(context, lambda: _prepare_again(context))


def launch_beside(context: BringUpContext, workload: Workload, name: str) -> None:
    """Start the server of a second workload beside that of a ready instance, which goes on.

    :param context: With the adapter of the workload.
    :param workload: See :func:`~pytest_vastgpu.supervisor.rental.clash.clash`.
    :param name: As for :func:`relaunch`.
    :raises AttemptFailed: as :func:`relaunch`.
    :raises Cancelled: the instance is given back.
    """
    context.rental.adds_server(workload, name)
    try:
        _through_gaps(context, lambda: _prepare_again(context))
    except AttemptFailed as failed:
        raise AttemptFailed(beside.judged(failed.verdict)) from failed


def _through_gaps(context: BringUpContext, step: Callable[[], None]) -> None:
    """Take a step, and take it again where SSH fails on an instance that is not lost.

    :raises AttemptFailed: if SSH fails again and again, though it lets us in, and the instance comes no further.
    :raises MarketUnreachable: if neither the instance nor the market has answered for too long.
    """
    rental = context.rental
    reached, gaps, silent = (rental.state, rental.files), 0, False
    while True:
        try:
            step()
        except ConnectFailed as failed:
            _check_lost(context)
            if (rental.state, rental.files) != reached:
                reached, gaps = (rental.state, rental.files), 0
            if rental.connected.living() is None:  # the market is silent, too: our network may be down
                _check_silence(context, told=silent)
                silent = True
            else:
                rental.tell(f"SSH let us in no more, and does again: {failed}")
                gaps, silent = gaps + 1, False
            if gaps == GAPS:
                text = f"SSH lets us in, and failed {GAPS} times in a row while {rental.state.value}: {failed}"
                raise AttemptFailed(rental.attribute_fault(_ssh_lost(text))) from failed
            context.cancel.wait(GAP_S)
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
    monitor = warm_up(context)
    _open(context, monitor, *open_endpoint(context, reports))


def _prepare_again(context: BringUpContext) -> None:
    """Take an instance whose server is replaced, or gets a second one beside it, to *ready* again.

    :raises ConnectFailed: if SSH does not let us in.
    """
    rental = context.rental
    context.go_on()
    if rental.start is None:
        if rental.folder == job.HOME:
            stop(context)
        else:
            beside.note_others(context)
        rental.launched(launch(context))
    monitor = warm_up(context)
    _open(context, monitor, *open_again(context))


def _open(context: BringUpContext, monitor: ServerMonitor, endpoint: str, forward: Forward | None) -> None:
    """From now on tests may use the server."""
    rental = context.rental
    server = WatchedServer(
        monitor,
        rental.connected,
        forward,
        rental.workload,
        context.adapter,
        rental.api_key,
        rental.tell,
        rental.record,
        context.services.clock,
    )
    rental.ready(endpoint, server)


def _check_lost(context: BringUpContext) -> None:
    """Look whether an instance that SSH let us into before is lost; one login that fails may be a gap.

    :raises AttemptFailed: it is.
    """
    rental = context.rental
    lost = rental.confirm_lost()
    if lost is None:
        return
    if lost.failure_class is FailureClass.RUNTIME_LOST:
        raise AttemptFailed(_ssh_lost(lost.evidence))
    raise AttemptFailed(lost)


def _check_silence(context: BringUpContext, *, told: bool) -> None:
    """Look how long neither the instance nor the market has answered.

    :param told: Whether this silence has been told.
    :raises MarketUnreachable: for too long.
    """
    rental = context.rental
    silent_s = rental.beating.silent_s
    if silent_s > context.services.timeouts.market_silence_s:
        raise MarketUnreachable(
            f"neither instance {rental.instance_id} nor the market has answered for {silent_s:.0f} s: see whether the "
            "network of this machine is up"
        )
    if not told:
        rental.tell("neither SSH nor the market answers: our own network may be down")


def _ssh_lost(evidence: str) -> Verdict:
    return Verdict(FailureClass.INFRA_FATAL, "ssh_lost", evidence, "another host would do")

"""An offer taken and brought to *ready*, step by step.

Thin on purpose: what an answer means is decided in :mod:`decide`, by the adapter and by the verdict rules.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pytest_vastgpu.errors import CreateUnsettled
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NotSent
from pytest_vastgpu.hostcheck import check
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.reporting.sentences import offer_line
from pytest_vastgpu.ssh.connection import TransferFailed
from pytest_vastgpu.ssh.login import ConnectFailed
from pytest_vastgpu.ssh.tunnel import Tunnel
from pytest_vastgpu.supervisor.rental import server_job
from pytest_vastgpu.supervisor.rental.bringup.boot import attach_key
from pytest_vastgpu.supervisor.rental.bringup.boot import boot
from pytest_vastgpu.supervisor.rental.bringup.boot import reach
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.bringup.warmup import warm
from pytest_vastgpu.supervisor.rental.deadman import onstart
from pytest_vastgpu.supervisor.rental.rental import END_GRACE_S
from pytest_vastgpu.supervisor.rental.rental import AttemptFailed

_PULSE_S = 0.05


def bring_up(effort: BringUpContext) -> None:
    """Create the instance and bring it to *ready*.

    :raises AttemptFailed: with the verdict; the instance still exists and must be destroyed.
    :raises OfferGone: nothing was rented.
    :raises MarketError: the market's or our own fault, nobody else's.
    :raises Cancelled: the run is ending.
    """
    rental = effort.rental
    try:
        _create(effort)
        status = boot(effort)
        reach(effort, status)
        _check(effort)
        _launch(effort)
        warm(effort)
        rental.endpoint = _open_endpoint(effort, status)
        rental.enter(State.READY, f"ready after {rental.age_s:.1f} s", endpoint=rental.endpoint)
    except ConnectFailed as lost:
        # It had let us in before: the host went away while it was being prepared.
        verdict = Verdict(FailureClass.INFRA_FATAL, "ssh_lost", str(lost), "another host is tried")
        raise AttemptFailed(rental.fair(verdict)) from lost


def _create(effort: BringUpContext) -> None:
    rental = effort.rental
    tools = effort.tools
    settings = tools.settings
    image = rental.workload.image or effort.adapter.default_image
    request = CreateRequest(
        image=image,
        disk_gb=rental.workload.disk_gb,
        label=rental.label,
        onstart=onstart(
            tools.client.self_destruct,
            lease_s=settings.lease,
            boot_timeout_s=settings.boot_timeout,
            lifetime_s=settings.max_lifetime + END_GRACE_S,
        ),
        ports=(rental.workload.port,) if settings.expose else (),
    )
    tools.ledger.write(rental.label, "intended", offer=rental.offer.id, machine=rental.offer.machine_id)
    rental.tell(f"renting {offer_line(rental.offer)}")
    rental.begin()
    rental.unsettled = True  # until the market has answered; whatever cuts that short, the label settles it
    try:
        rental.instance_id = tools.client.create(rental.offer.id, request)
    except MarketError as error:
        if not _may_exist(error):
            rental.unsettled = False
            tools.ledger.write(rental.label, "not_created")
        raise
    rental.unsettled = False
    instance_id = rental.instance_id
    rental.enter(State.CREATED, f"created instance {instance_id}", instance_id=instance_id)
    attach_key(effort)


def _may_exist(error: MarketError) -> bool:
    """Whether a create that ended so may have rented, or may do so late."""
    lost = isinstance(error, (CreateUnsettled, MarketUnreachable, MarketAnswerInvalid))
    return lost and not isinstance(error, NotSent)


def _check(effort: BringUpContext) -> None:
    rental = effort.rental
    heartbeat = rental.begin_heartbeat()
    result = rental.connected.run(check.SCRIPT, timeout_s=check.TIMEOUT_S)
    rental.facts = check.parse(result.stdout)
    verdict = check.judge(rental.offer, rental.workload, rental.facts)
    if verdict is not None:
        raise AttemptFailed(verdict)
    while not heartbeat.known(_PULSE_S):  # nothing is begun before that is clear
        effort.go_on()
    facts = {"sold": asdict(rental.offer), "found": asdict(rental.facts), "switch": asdict(heartbeat.switch)}
    rental.enter(State.CHECKED, "host checked", **facts)


def _launch(effort: BringUpContext) -> None:
    rental = effort.rental
    launch = effort.adapter.launch(rental.workload, rental.api_key)
    rental.headers = effort.adapter.headers(rental.workload, rental.api_key)
    connection = rental.connected.connection()
    folders = {str(Path(server_job.WORK, name).parent) for name, _ in rental.workload.files}
    made = connection.run(server_job.make_folders(folders), timeout_s=30)
    host = "0.0.0.0" if effort.tools.settings.expose else "127.0.0.1"  # noqa: S104 - asked for by --vast-expose
    files = server_job.files_of(launch, rental.api_key, host, dict(rental.workload.env))
    try:
        for name, text in files.items():
            connection.write_file(f"{server_job.HOME}/{name}", text.encode())
        for name, path in rental.workload.files:
            connection.write_file(f"{server_job.WORK}/{name}", Path(path).read_bytes(), mode=0o700)
    except TransferFailed as failed:
        raise _cannot_start(made.stderr or str(failed)) from failed
    started = connection.run(server_job.START, timeout_s=30)
    if not started.ok:
        raise _cannot_start(started.stderr or f"exit code {started.exit_code}")
    rental.enter(State.WARMING, "server launched")


def _open_endpoint(effort: BringUpContext, status: InstanceStatus) -> str:
    rental = effort.rental
    port = rental.workload.port
    if effort.tools.settings.expose:
        public = status.published.get(port)
        if public is None:
            evidence = f"the market published {dict(status.published)}, not {port}"
            raise AttemptFailed(
                Verdict(FailureClass.INFRA_FATAL, "port_not_published", evidence, "another host is tried")
            )
        return f"http://{public}"
    rental.tunnel = Tunnel(rental.connected.connection_if_any, port)
    return rental.tunnel.url


def _cannot_start(evidence: str) -> AttemptFailed:
    remedy = "another host is tried; this one can neither write files nor start processes"
    return AttemptFailed(Verdict(FailureClass.INFRA_FATAL, "cannot_start_processes", evidence, remedy))

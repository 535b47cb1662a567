"""An offer taken and brought to *ready*, step by step.

Thin on purpose: what an answer means is decided in :mod:`decide`, by the adapter and by the verdict rules.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from pytest_vastgpu.errors import CreateUnsettled
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import RateLimited
from pytest_vastgpu.lifecycle import decide
from pytest_vastgpu.lifecycle import serverjob
from pytest_vastgpu.lifecycle import signs
from pytest_vastgpu.lifecycle.clock import Patience
from pytest_vastgpu.lifecycle.link import Link
from pytest_vastgpu.lifecycle.rental import LOG_KEEP_CHARS
from pytest_vastgpu.lifecycle.rental import AttemptFailed
from pytest_vastgpu.lifecycle.rental import Rental
from pytest_vastgpu.lifecycle.rental import Tools
from pytest_vastgpu.lifecycle.signs import Look
from pytest_vastgpu.market.client import CreateRequest
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import InstanceStatus
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.readiness import hostcheck
from pytest_vastgpu.readiness.adapter import Adapter
from pytest_vastgpu.readiness.adapter import Failed
from pytest_vastgpu.readiness.adapter import Observation
from pytest_vastgpu.readiness.adapter import Ready
from pytest_vastgpu.readiness.verdicts import classify
from pytest_vastgpu.reporting import artifacts
from pytest_vastgpu.reporting.text import offer_line
from pytest_vastgpu.ssh.connection import TransferFailed
from pytest_vastgpu.ssh.login import Address
from pytest_vastgpu.ssh.login import ConnectFailed
from pytest_vastgpu.ssh.tunnel import Tunnel

POLL_S = 1.0
"""Between two looks at the market; its own minimum interval for the list is 1 s."""
KNOCK_S = 0.5
"""Between two tries to connect."""
WARM_POLL_S = 0.1
"""Between two looks at a warming server; a look costs a few milliseconds on the instance."""
WARM_POLL_SLOW_S = 1.0
"""The same once it has been warming for a minute."""
TRANSIENT = (MarketUnreachable, MarketAnswerInvalid, RateLimited)
"""What passes by itself, and must not cost a healthy instance."""
MARKET_SILENCE_S = 300.0
"""The market may be unreachable that long without costing a healthy instance."""
BOOT_LOG_LINES = 100
ONSTART = """\
touch ~/.no_auto_tmux
mkdir -p ~/.ssh && chmod 700 ~/.ssh && touch ~/.ssh/authorized_keys && chmod 600 ~/.ssh/authorized_keys
"""
"""Keeps Vast's login from wrapping commands in tmux, and mends the modes that make sshd refuse good keys."""


class BringUp:
    """Drives one rental from *intended* to *ready*.

    :param patience: Ends all waiting when the run is called off.
    """

    def __init__(self, tools: Tools, rental: Rental, adapter: Adapter, patience: Patience) -> None:
        self._tools = tools
        self._rental = rental
        self._workload = rental.workload
        self._offer = rental.offer
        self._adapter = adapter
        self._patience = patience

    def run(self) -> None:
        """Create the instance and bring it to *ready*.

        :raises AttemptFailed: with the verdict; the instance still exists and must be destroyed.
        :raises OfferGone: nothing was rented.
        :raises MarketError: the market's or our own fault, nobody else's.
        :raises Cancelled: the run is ending.
        """
        try:
            self._create()
            status = self._boot()
            self._reach(status)
            self._check()
            self._launch()
            self._warm()
            self._rental.endpoint = self._open_endpoint(status)
            self._rental.enter(State.READY, f"ready after {self._rental.age_s:.1f} s", endpoint=self._rental.endpoint)
        except ConnectFailed as lost:
            # It had let us in before: the host went away while it was being prepared.
            verdict = Verdict(FailureClass.INFRA_FATAL, "ssh_lost", str(lost), "another host is tried")
            raise AttemptFailed(self._rental.fair(verdict)) from lost

    def _create(self) -> None:
        tools = self._tools
        image = self._workload.image or self._adapter.default_image
        request = CreateRequest(
            image=image,
            disk_gb=self._workload.disk_gb,
            label=self._rental.label,
            onstart=ONSTART,
            ports=(self._workload.port,) if tools.settings.expose else (),
        )
        tools.ledger.write(self._rental.label, "intended", offer=self._offer.id, machine=self._offer.machine_id)
        self._rental.tell(f"renting {offer_line(self._offer)}")
        self._rental.begin()
        self._rental.unsettled = True  # until the market has answered; whatever cuts that short, the label settles it
        try:
            self._rental.instance_id = tools.client.create(self._offer.id, request)
        except CreateUnsettled:
            raise
        except MarketError:
            self._rental.unsettled = False
            tools.ledger.write(self._rental.label, "not_created")
            raise
        self._rental.unsettled = False
        instance_id = self._rental.instance_id
        self._rental.enter(State.CREATED, f"created instance {instance_id}", instance_id=instance_id)
        self._attach_key()

    def _attach_key(self) -> None:
        """What keeps it from being attached now may have passed when it is tried again, see :func:`decide.reach`."""
        try:
            self._tools.client.attach_key(self._rental.instance_id, self._tools.key.public_line)
        except TRANSIENT as error:
            self._rental.tell(f"the SSH key is not attached yet: {error}")

    def _boot(self) -> InstanceStatus:
        self._rental.enter(State.BOOTING, "booting")
        looks: list[Look] = []
        told = ""
        heard = time.monotonic()
        while True:
            self._go_on()
            try:
                found = self._tools.client.list_instances(self._rental.label)
            except TRANSIENT:
                if time.monotonic() - heard > MARKET_SILENCE_S:
                    raise
                self._patience.wait(POLL_S)
                continue
            heard = time.monotonic()
            log = self._container_log() if signs.wants_log(looks, self._rental.age_s, _judge_status) else ""
            looks.append(Look(self._rental.age_s, found[0] if found else None, log))
            step = decide.boot(looks, self._tools.settings.boot_timeout, _judge_status)
            if isinstance(step, decide.GiveUp):
                raise AttemptFailed(self._rental.fair(step.verdict))
            if found and isinstance(step, decide.Connect):
                return found[0]
            if found and (text := found[0].status_msg or found[0].actual_status) != told:
                told = text
                self._rental.tell(f"booting: {text[:100]}")
            self._patience.wait(POLL_S)

    def _container_log(self) -> str:
        try:
            return self._tools.client.logs(self._rental.instance_id, BOOT_LOG_LINES)
        except MarketError:
            return ""  # it may have none yet; others tell whether the market answers

    def _reach(self, status: InstanceStatus) -> None:
        running_at = self._rental.age_s
        knocks: list[decide.Knock] = []
        attached_again = False
        self._rental.link = Link(_addresses(status), self._tools.key)
        while True:
            self._go_on()
            try:
                self._rental.link.connection()
                break
            except ConnectFailed as failed:
                kinds = tuple(failure.kind for failure in failed.failures)
                knocks.append(decide.Knock(self._rental.age_s, kinds, str(failed)))
            step = decide.reach(knocks, running_at, self._tools.settings.boot_timeout, attached_again)
            if isinstance(step, decide.GiveUp):
                raise AttemptFailed(self._rental.fair(step.verdict))
            if isinstance(step, decide.AttachKey):
                attached_again = True
                self._attach_key()
            if len(knocks) == 1:
                self._rental.tell(f"running; waiting for SSH ({knocks[0].failures[0].value})")
            self._patience.wait(KNOCK_S)
        self._rental.enter(State.REACHABLE, f"SSH answers after {self._rental.age_s:.1f} s")

    def _check(self) -> None:
        result = self._rental.connected.run(hostcheck.SCRIPT, timeout_s=hostcheck.TIMEOUT_S)
        self._rental.facts = hostcheck.parse(result.stdout)
        verdict = hostcheck.judge(self._offer, self._workload, self._rental.facts)
        if verdict is not None:
            raise AttemptFailed(verdict)
        self._rental.enter(State.CHECKED, "host checked", sold=asdict(self._offer), found=asdict(self._rental.facts))

    def _launch(self) -> None:
        launch = self._adapter.launch(self._workload, self._rental.api_key)
        connection = self._rental.connected.connection()
        folders = {str(Path(serverjob.WORK, name).parent) for name, _ in self._workload.files}
        made = connection.run(serverjob.make_folders(folders), timeout_s=30)
        host = "0.0.0.0" if self._tools.settings.expose else "127.0.0.1"  # noqa: S104 - asked for by --vast-expose
        files = serverjob.files_of(launch, self._rental.api_key, host, dict(self._workload.env))
        try:
            for name, text in files.items():
                connection.write_file(f"{serverjob.HOME}/{name}", text.encode())
            for name, path in self._workload.files:
                connection.write_file(f"{serverjob.WORK}/{name}", Path(path).read_bytes(), mode=0o700)
        except TransferFailed as failed:
            raise _cannot_start(made.stderr or str(failed)) from failed
        started = connection.run(serverjob.START, timeout_s=30)
        if not started.ok:
            raise _cannot_start(started.stderr or f"exit code {started.exit_code}")
        self._rental.enter(State.WARMING, "server launched")

    def _warm(self) -> None:
        window = self._workload.warmup_s or self._adapter.warmup_s
        started = time.monotonic()
        moves = [decide.Moved(0.0, Progress("launched"))]
        probes = self._adapter.probes(self._workload)
        env = {"VASTGPU_API_KEY": self._rental.api_key}
        offset = 0
        while True:
            self._go_on()
            age = time.monotonic() - started
            results = self._rental.connected.probe_all([*probes, Probe("_server", serverjob.look_command(offset))], env)
            look = results.pop("_server")
            state = serverjob.parse_look(look.stdout, offset)
            if state is not None:
                offset = state.next_offset
                self._rental.log = artifacts.bounded(self._rental.log + state.log, LOG_KEEP_CHARS)
            seen = Observation(results, self._rental.log, state.exit_code if state else None, age)
            found = self._adapter.assess(self._workload, seen)
            if isinstance(found, Ready):
                return
            if isinstance(found, Failed):
                raise AttemptFailed(found.verdict)
            if found.progress != moves[-1].progress:
                moves.append(decide.Moved(age, found.progress))
                self._rental.tell(f"warming: {found.progress}")
            step = decide.warm(moves, age, window)
            if isinstance(step, decide.GiveUp):
                raise AttemptFailed(step.verdict)
            self._patience.wait(WARM_POLL_S if age < 60 else WARM_POLL_SLOW_S)

    def _open_endpoint(self, status: InstanceStatus) -> str:
        port = self._workload.port
        if self._tools.settings.expose:
            public = status.ports.get(f"{port}/tcp")
            if public is None:
                evidence = f"the market published {dict(status.ports)}, not {port}/tcp"
                raise AttemptFailed(
                    Verdict(FailureClass.INFRA_FATAL, "port_not_published", evidence, "another host is tried")
                )
            return f"http://{status.public_ipaddr}:{public}"
        self._rental.tunnel = Tunnel(self._rental.connected.connection_if_any, port)
        return self._rental.tunnel.url

    def _go_on(self) -> None:
        """:raises Cancelled: the run is ending. :raises AttemptFailed: its hard end of life has come."""
        self._patience.check()
        limit = self._tools.settings.max_lifetime
        if self._rental.age_s > limit:
            raise AttemptFailed(
                Verdict(
                    FailureClass.OWN_FAULT,
                    "lifetime_over",
                    f"not ready {self._rental.age_s:.0f} s after create; --vast-max-lifetime is {limit:g} s",
                    "raise --vast-max-lifetime",
                )
            )


def _addresses(status: InstanceStatus) -> list[Address]:
    """Where SSH is reached: direct first, it is quicker and works where the proxy's tunnel never comes up."""
    addresses = []
    if status.public_ipaddr and "22/tcp" in status.ports:
        addresses.append(Address(status.public_ipaddr, status.ports["22/tcp"], "direct"))
    if status.ssh_host and status.ssh_port:
        addresses.append(Address(status.ssh_host, status.ssh_port, "proxy"))
    return addresses


def _cannot_start(evidence: str) -> AttemptFailed:
    remedy = "another host is tried; this one can neither write files nor start processes"
    return AttemptFailed(Verdict(FailureClass.INFRA_FATAL, "cannot_start_processes", evidence, remedy))


def _judge_status(text: str) -> Verdict:
    return classify(text, channel=Channel.STATUS_MSG)

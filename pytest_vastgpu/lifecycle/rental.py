"""One attempt under way: an offer taken, brought to *ready* step by step, and given back.

Thin on purpose: what an answer means is decided in :mod:`decide`, by the adapter and by the verdict rules.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

from pytest_vastgpu.errors import CreateUnsettled
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import RateLimited
from pytest_vastgpu.lifecycle import decide
from pytest_vastgpu.lifecycle import evidence
from pytest_vastgpu.lifecycle import ourselves
from pytest_vastgpu.lifecycle import serverjob
from pytest_vastgpu.lifecycle import signs
from pytest_vastgpu.lifecycle.clock import Patience
from pytest_vastgpu.lifecycle.destroy import NotDestroyed
from pytest_vastgpu.lifecycle.destroy import destroy
from pytest_vastgpu.lifecycle.ledger import Ledger
from pytest_vastgpu.lifecycle.ledger import make_label
from pytest_vastgpu.lifecycle.link import Link
from pytest_vastgpu.lifecycle.signs import Look
from pytest_vastgpu.market.client import CreateRequest
from pytest_vastgpu.market.client import MarketClient
from pytest_vastgpu.market.price import transfer_usd
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import InstanceStatus
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.options import Settings
from pytest_vastgpu.readiness import hostcheck
from pytest_vastgpu.readiness.adapter import Adapter
from pytest_vastgpu.readiness.adapter import Failed
from pytest_vastgpu.readiness.adapter import Observation
from pytest_vastgpu.readiness.adapter import Ready
from pytest_vastgpu.readiness.verdicts import classify
from pytest_vastgpu.reporting import artifacts
from pytest_vastgpu.reporting.events import Event
from pytest_vastgpu.reporting.events import EventLog
from pytest_vastgpu.reporting.text import offer_line
from pytest_vastgpu.ssh.connection import TransferFailed
from pytest_vastgpu.ssh.keys import KeyPair
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
MARKET_SILENCE_S = 300.0
"""The market may be unreachable that long without costing a healthy instance."""
LOG_TAIL_LINES = 15
BOOT_LOG_LINES = 100
LOG_KEEP_CHARS = 4_000_000
"""Most of a server's log that is kept for the verdict; the middle of a longer one is cut out."""

ONSTART = """\
touch ~/.no_auto_tmux
mkdir -p ~/.ssh && chmod 700 ~/.ssh && touch ~/.ssh/authorized_keys && chmod 600 ~/.ssh/authorized_keys
"""
"""Keeps Vast's login from wrapping commands in tmux, and mends the modes that make sshd refuse good keys."""


class AttemptFailed(Exception):
    """The attempt is over."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


@dataclass(frozen=True)
class Tools:
    """What every rental of a run shares."""

    client: MarketClient
    settings: Settings
    key: KeyPair
    ledger: Ledger
    events: EventLog
    run_id: str
    artifacts: Path
    """Where evidence of failed attempts goes, a directory for each."""
    api_key: str = field(repr=False)


class Rental:
    """One attempt. The thread that provisions drives it; once it is ready, any thread may use it.

    :param number: 1 for the first attempt of this run, unique within the run.
    """

    def __init__(
        self, tools: Tools, workload: Workload, adapter: Adapter, offer: Offer, number: int, patience: Patience
    ) -> None:
        self.workload = workload
        self.offer = offer
        self.number = number
        self.instance_id = 0
        self.state = State.INTENDED
        self.link: Link | None = None
        self.endpoint = ""
        self.label = make_label(tools.run_id, number, time.time() + tools.settings.max_lifetime)
        self._tools = tools
        self._adapter = adapter
        self._patience = patience
        self._api_key = secrets.token_urlsafe(24)
        self._tunnel: Tunnel | None = None
        self._created = 0.0
        self._entered = time.monotonic()
        self._seconds: dict[str, float] = {}
        self._log = ""
        self._directory = tools.artifacts / str(number)
        self._facts: hostcheck.HostFacts | None = None
        self._failed: Attempt | None = None
        self._secrets = artifacts.secrets_of(workload, **{"instance key": self._api_key, "VAST_API_KEY": tools.api_key})
        self._unsettled = False
        self._destroyed_cost = -1.0
        self._destroy_lock = threading.Lock()

    # ------------------------------------------------------------------ steps

    def bring_up(self) -> None:
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
            self.endpoint = self._open_endpoint(status)
            self._enter(State.READY, f"ready after {self.age_s:.1f} s", endpoint=self.endpoint)
        except ConnectFailed as lost:
            # It had let us in before: the host went away while it was being prepared.
            verdict = Verdict(FailureClass.INFRA_FATAL, "ssh_lost", str(lost), "another host is tried")
            raise AttemptFailed(self._fair(verdict)) from lost

    def _create(self) -> None:
        tools = self._tools
        image = self.workload.image or self._adapter.default_image
        request = CreateRequest(
            image=image,
            disk_gb=self.workload.disk_gb,
            label=self.label,
            onstart=ONSTART,
            ports=(self.workload.port,) if tools.settings.expose else (),
        )
        tools.ledger.write(self.label, "intended", offer=self.offer.id, machine=self.offer.machine_id)
        self._tell(f"renting {offer_line(self.offer)}")
        self._entered = self._created = time.monotonic()
        self._unsettled = True  # until the market has answered; whatever cuts that short, the label settles it
        try:
            self.instance_id = tools.client.create(self.offer.id, request)
        except CreateUnsettled:
            raise
        except MarketError:
            self._unsettled = False
            tools.ledger.write(self.label, "not_created")
            raise
        self._unsettled = False
        self._enter(State.CREATED, f"created instance {self.instance_id}", instance_id=self.instance_id)
        tools.client.attach_key(self.instance_id, tools.key.public_line)

    def _boot(self) -> InstanceStatus:
        self._enter(State.BOOTING, "booting")
        looks: list[Look] = []
        told = ""
        heard = time.monotonic()
        while True:
            self._go_on()
            try:
                found = self._tools.client.list_instances(self.label)
            except (MarketUnreachable, MarketAnswerInvalid, RateLimited):
                if time.monotonic() - heard > MARKET_SILENCE_S:
                    raise
                self._patience.wait(POLL_S)
                continue
            heard = time.monotonic()
            log = self._container_log() if signs.wants_log(looks, self.age_s, _judge_status) else ""
            looks.append(Look(self.age_s, found[0] if found else None, log))
            step = decide.boot(looks, self._tools.settings.boot_timeout, _judge_status)
            if isinstance(step, decide.GiveUp):
                raise AttemptFailed(self._fair(step.verdict))
            if found and isinstance(step, decide.Connect):
                return found[0]
            if found and (text := found[0].status_msg or found[0].actual_status) != told:
                told = text
                self._tell(f"booting: {text[:100]}")
            self._patience.wait(POLL_S)

    def _container_log(self) -> str:
        try:
            return self._tools.client.logs(self.instance_id, BOOT_LOG_LINES)
        except MarketError:
            return ""  # it may have none yet; others tell whether the market answers

    def _reach(self, status: InstanceStatus) -> None:
        running_at = self.age_s
        knocks: list[decide.Knock] = []
        attached_again = False
        self.link = Link(_addresses(status), self._tools.key)
        while True:
            self._go_on()
            try:
                self.link.connection()
                break
            except ConnectFailed as failed:
                kinds = tuple(failure.kind for failure in failed.failures)
                knocks.append(decide.Knock(self.age_s, kinds, str(failed)))
            step = decide.reach(knocks, running_at, self._tools.settings.boot_timeout, attached_again)
            if isinstance(step, decide.GiveUp):
                raise AttemptFailed(self._fair(step.verdict))
            if isinstance(step, decide.AttachKey):
                attached_again = True
                self._tools.client.attach_key(self.instance_id, self._tools.key.public_line)
            if len(knocks) == 1:
                self._tell(f"running; waiting for SSH ({knocks[0].failures[0].value})")
            self._patience.wait(KNOCK_S)
        self._enter(State.REACHABLE, f"SSH answers after {self.age_s:.1f} s")

    def _check(self) -> None:
        result = self._connected.run(hostcheck.SCRIPT, timeout_s=hostcheck.TIMEOUT_S)
        self._facts = hostcheck.parse(result.stdout)
        verdict = hostcheck.judge(self.offer, self.workload, self._facts)
        if verdict is not None:
            raise AttemptFailed(verdict)
        self._enter(State.CHECKED, "host checked", sold=asdict(self.offer), found=asdict(self._facts))

    def _launch(self) -> None:
        launch = self._adapter.launch(self.workload, self._api_key)
        connection = self._connected.connection()
        folders = {str(Path(serverjob.WORK, name).parent) for name, _ in self.workload.files}
        made = connection.run(serverjob.make_folders(folders), timeout_s=30)
        host = "0.0.0.0" if self._tools.settings.expose else "127.0.0.1"  # noqa: S104 - asked for by --vast-expose
        files = serverjob.files_of(launch, self._api_key, host, dict(self.workload.env))
        try:
            for name, text in files.items():
                connection.write_file(f"{serverjob.HOME}/{name}", text.encode())
            for name, path in self.workload.files:
                connection.write_file(f"{serverjob.WORK}/{name}", Path(path).read_bytes(), mode=0o700)
        except TransferFailed as failed:
            raise _cannot_start(made.stderr or str(failed)) from failed
        started = connection.run(serverjob.START, timeout_s=30)
        if not started.ok:
            raise _cannot_start(started.stderr or f"exit code {started.exit_code}")
        self._enter(State.WARMING, "server launched")

    def _warm(self) -> None:
        window = self.workload.warmup_s or self._adapter.warmup_s
        started = time.monotonic()
        moves = [decide.Moved(0.0, Progress("launched"))]
        probes = self._adapter.probes(self.workload)
        env = {"VASTGPU_API_KEY": self._api_key}
        offset = 0
        while True:
            self._go_on()
            age = time.monotonic() - started
            results = self._connected.probe_all([*probes, Probe("_server", serverjob.look_command(offset))], env)
            look = results.pop("_server")
            state = serverjob.parse_look(look.stdout, offset)
            if state is not None:
                offset = state.next_offset
                self._log = artifacts.bounded(self._log + state.log, LOG_KEEP_CHARS)
            seen = Observation(results, self._log, state.exit_code if state else None, age)
            found = self._adapter.assess(self.workload, seen)
            if isinstance(found, Ready):
                return
            if isinstance(found, Failed):
                raise AttemptFailed(found.verdict)
            if found.progress != moves[-1].progress:
                moves.append(decide.Moved(age, found.progress))
                self._tell(f"warming: {found.progress}")
            step = decide.warm(moves, age, window)
            if isinstance(step, decide.GiveUp):
                raise AttemptFailed(step.verdict)
            self._patience.wait(WARM_POLL_S if age < 60 else WARM_POLL_SLOW_S)

    def _open_endpoint(self, status: InstanceStatus) -> str:
        port = self.workload.port
        if self._tools.settings.expose:
            public = status.ports.get(f"{port}/tcp")
            if public is None:
                evidence = f"the market published {dict(status.ports)}, not {port}/tcp"
                raise AttemptFailed(
                    Verdict(FailureClass.INFRA_FATAL, "port_not_published", evidence, "another host is tried")
                )
            return f"http://{status.public_ipaddr}:{public}"
        self._tunnel = Tunnel(self._connected.connection_if_any, port)
        return self._tunnel.url

    # -------------------------------------------------------------------- use

    @property
    def headers(self) -> Mapping[str, str]:
        """HTTP headers a client of the endpoint must send."""
        return self._adapter.headers(self.workload, self._api_key)

    def read_log(self) -> str:
        """The server's log so far."""
        result = self._connected.run(f"tail -c {LOG_KEEP_CHARS} {serverjob.HOME}/server.log", timeout_s=30)
        return result.stdout

    @property
    def age_s(self) -> float:
        """Seconds since create."""
        return time.monotonic() - self._created if self._created else 0.0

    @property
    def cost_usd(self) -> float:
        """What it has cost so far, at most: its price from create on, and the transfer of image and model."""
        if not self._created:
            return 0.0
        if self._destroyed_cost >= 0:
            return self._destroyed_cost
        return self.offer.price_usd_h * self.age_s / 3600 + transfer_usd(self.offer, self.workload)

    def confirm_lost(self) -> Verdict | None:
        """Ask SSH, then the market, whether it went away. None where it is alive, or where nobody can say."""
        if self.link is not None:
            try:
                if self.link.run("true", timeout_s=10).ok:
                    return None
            except ConnectFailed as failed:
                seen = str(failed)
            else:
                seen = "commands over SSH get no answer"
        else:
            seen = "no SSH connection"
        try:
            status = self._tools.client.show(self.instance_id)
        except MarketError:
            return None  # neither answers: our own network may be down, and nobody is blamed for that
        state = (
            "the market no longer knows it" if status is None else f"actual_status is {status.actual_status or 'null'}"
        )
        return self._fair(
            Verdict(
                FailureClass.RUNTIME_LOST,
                "instance_lost",
                f"{seen}; {state}",
                "the next test that needs it gets a new instance; run the lost test again; what was left of it is in "
                f"{self._directory}",
            )
        )

    # ---------------------------------------------------------------- the end

    def give_back(self, wait: Callable[[float], None]) -> None:
        """Destroy the instance, verified; idempotent, from any thread.

        :raises NotDestroyed: if it may still be there.
        """
        with self._destroy_lock:
            self._keep_evidence()
            if self._tunnel is not None:
                self._tunnel.close()
            if self.link is not None:
                self.link.close()
            if self._unsettled and not self.instance_id:
                self._settle()
            if not self.instance_id or self.state is State.GONE:
                return
            if self.state is not State.DESTROYING:
                self._enter(State.DESTROYING, "destroying")
            destroy(self._tools.client, self.instance_id, wait)
            self._destroyed_cost = self.cost_usd
            self._enter(State.GONE, f"gone after {self.age_s:.1f} s, {self._destroyed_cost:.4f} USD")

    def _keep_evidence(self) -> None:
        """Once, of a failed attempt, while there is still somebody to ask."""
        failed, self._failed = self._failed, None
        if failed is None:
            return
        connection = self.link.living() if self.link else None
        sources: dict[str, evidence.Source] = {
            "container log": lambda: {
                "container.log": self._tools.client.logs(self.instance_id, evidence.CONTAINER_LOG_LINES)
            }
        }
        if connection is not None:
            sources["SSH"] = lambda: evidence.probe_files(connection.probe_all(evidence.PROBES))
        case = evidence.Case(failed, self._facts, self._log, self._tools.events.path)
        try:
            evidence.keep(case, sources, Path(failed.artifacts), self._secrets)
        except OSError as error:
            self._tell(f"the evidence cannot be kept: {error}")

    def _settle(self) -> None:
        """Look up whether the create whose answer was lost has rented after all."""
        try:
            found = self._tools.client.list_instances(self.label)
        except MarketError as error:
            raise NotDestroyed(self.label, str(error)) from error
        self._unsettled = False
        if found:
            self.instance_id = found[0].id
            self._enter(State.CREATED, f"created after all: instance {self.instance_id}", instance_id=self.instance_id)
        else:
            self._tools.ledger.write(self.label, "not_created")

    def finish(self, verdict: Verdict | None) -> Attempt:
        """The attempt as it ended."""
        if verdict is None:
            return self.attempt()
        failed_in = self.state
        self._enter(State.FAILED, f"failed: {verdict.failure_class.value}: {verdict.reason}")
        attempt = self.attempt(verdict, failed_in)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._tell(f"the evidence cannot be kept: {error}")
            return attempt
        self._failed = replace(attempt, artifacts=str(self._directory))
        return self._failed

    def attempt(self, verdict: Verdict | None = None, failed_in: State | None = None) -> Attempt:
        """The attempt as it stands."""
        tail = artifacts.redacted("\n".join(self._log.splitlines()[-LOG_TAIL_LINES:]), self._secrets)
        seconds = dict(self._seconds)
        if self.state not in (State.GONE, State.DESTROYING):
            seconds[self.state.value] = time.monotonic() - self._entered
        return Attempt(
            number=self.number,
            label=self.label,
            offer=self.offer,
            instance_id=self.instance_id,
            verdict=verdict,
            failed_in=failed_in,
            seconds=seconds,
            cost_usd=self.cost_usd,
            log_tail=tail if verdict else "",
        )

    # --------------------------------------------------------------- plumbing

    @property
    def _connected(self) -> Link:
        if self.link is None:
            raise RuntimeError(f"{self.label} has no SSH link in state {self.state.value}")
        return self.link

    def _fair(self, verdict: Verdict) -> Verdict:
        """The verdict, after a look at ourselves."""
        return ourselves.fair(verdict, ourselves.look(self._tools.client))

    def _go_on(self) -> None:
        """:raises Cancelled: the run is ending. :raises AttemptFailed: its hard end of life has come."""
        self._patience.check()
        limit = self._tools.settings.max_lifetime
        if self.age_s > limit:
            raise AttemptFailed(
                Verdict(
                    FailureClass.OWN_FAULT,
                    "lifetime_over",
                    f"not ready {self.age_s:.0f} s after create; --vast-max-lifetime is {limit:g} s",
                    "raise --vast-max-lifetime",
                )
            )

    def _enter(self, state: State, text: str, **facts: object) -> None:
        if state not in decide.TRANSITIONS[self.state]:
            raise RuntimeError(f"{self.label}: {self.state.value} cannot become {state.value}")
        now = time.monotonic()
        self._seconds[self.state.value] = self._seconds.get(self.state.value, 0.0) + now - self._entered
        self._entered = now
        self.state = state
        self._tools.ledger.write(self.label, state.value, **facts)
        self._tell(text, **facts)

    def _tell(self, text: str, **facts: object) -> None:
        name = f"instance {self.instance_id}" if self.instance_id else f"attempt {self.number}"
        self._tools.events.write(Event(self.label, self.state, f"{name}: {text}", dict(facts)))


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

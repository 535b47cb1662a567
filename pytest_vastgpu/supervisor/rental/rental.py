"""One attempt: what is rented, in which state it is, and how it is given back."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

from pytest_vastgpu.core import foreign
from pytest_vastgpu.core.clock import Deadline
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.core.events import EventLog
from pytest_vastgpu.core.redaction import KNOWN
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.hostcheck import check
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.options import Settings
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.selection.pricing import transfer_usd
from pytest_vastgpu.ssh.keys import KeyPair
from pytest_vastgpu.ssh.reconnecting import ReconnectingConnection
from pytest_vastgpu.ssh.tunnel import Tunnel
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from pytest_vastgpu.supervisor.cleanup.destroy import destroy
from pytest_vastgpu.supervisor.ledger.ledger import Ledger
from pytest_vastgpu.supervisor.ledger.ledger import make_label
from pytest_vastgpu.supervisor.money.budget import Budget
from pytest_vastgpu.supervisor.money.costs import CostRecord
from pytest_vastgpu.supervisor.money.price_tag import InstancePrice
from pytest_vastgpu.supervisor.rental import evidence
from pytest_vastgpu.supervisor.rental import policy
from pytest_vastgpu.supervisor.rental import self_check
from pytest_vastgpu.supervisor.rental import server_job
from pytest_vastgpu.supervisor.rental.heartbeat import Heartbeat
from pytest_vastgpu.supervisor.rental.instance_poller import InstancePoller
from pytest_vastgpu.supervisor.rental.keep import Keeper
from pytest_vastgpu.supervisor.rental.loss import confirm_lost

LOG_TAIL_LINES = 15
END_GRACE_S = 5.0
"""An instance ends itself so long after its hard end of life: its owner, who can say why, comes first."""
LOG_KEEP_CHARS = 4_000_000
"""Most of a server's log that is kept for the verdict; the middle of a longer one is cut out."""


class AttemptFailed(Exception):
    """The attempt is over."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


@dataclass(frozen=True)
class RentalServices:
    """What every rental of a run shares."""

    client: Provider
    settings: Settings
    key: KeyPair
    ledger: Ledger
    events: EventLog
    run_id: str
    artifacts: Path
    """Where evidence of failed attempts goes, a directory for each."""
    budget: Budget
    board: InstancePoller
    keeper: Keeper
    timeouts: Timeouts
    ssh_has_worked: threading.Event = field(default_factory=threading.Event)
    """Set once a machine has let this run in."""


class Rental:
    """One attempt. Any thread may use it once it is ready.

    :func:`~pytest_vastgpu.supervisor.rental.bringup.bring_up` brings it there.

    :param number: 1 for the first attempt of this run, unique within the run.
    """

    def __init__(self, tools: RentalServices, workload: Workload, offer: Offer, number: int) -> None:
        self.workload = workload
        self.offer = offer
        self.number = number
        self.instance_id = 0
        self.state = State.INTENDED
        self.link: ReconnectingConnection | None = None
        self.endpoint = ""
        self.label = make_label(tools.run_id, number, time.time() + tools.settings.longest_life)
        self._tools = tools
        self.headers: Mapping[str, str] = {}
        """HTTP headers a client of the endpoint must send; known from the launch on."""
        self.api_key = secrets.token_urlsafe(24)
        self.heartbeat: Heartbeat | None = None
        self.tunnel: Tunnel | None = None
        self._price = InstancePrice(self.label, offer, workload, tools.settings.max_price, tools.budget)
        self._created = 0.0
        self._entered = time.monotonic()
        self._seconds: dict[str, float] = {}
        self.log = ""
        self.directory = tools.artifacts / str(number)
        """Where evidence is kept if it fails."""
        self.facts: check.HostFacts | None = None
        self._failed: Attempt | None = None
        KNOWN.add("instance key", self.api_key)
        KNOWN.add_workload(workload)
        self.unsettled = False
        self.went_wrong = False
        """Its bring-up failed, or a test that used it."""
        self._gone_at: float | None = None
        self._destroy_lock = threading.Lock()

    # -------------------------------------------------------------------- use

    def read_log(self) -> str:
        """The server's log so far."""
        result = self.connected.run(f"tail -c {LOG_KEEP_CHARS} {server_job.HOME}/server.log", timeout_s=30)
        return result.stdout

    @property
    def age_s(self) -> float:
        """Seconds since create."""
        return time.monotonic() - self._created if self._created else 0.0

    @property
    def cost_usd(self) -> float:
        """What it has cost so far, at most."""
        return self.bill.cost_usd

    @property
    def bill(self) -> CostRecord:
        """What it has cost so far, at most: its price from create on, and the transfer of image and model.

        Measured on our own clock, from before the create until it is seen to be gone: never less than the market's.
        """
        until = self._gone_at or time.monotonic()
        if not (self.instance_id or self.unsettled):
            return CostRecord(self.label, 0.0, 0.0, until, until, gone=True)
        transfer = transfer_usd(self.offer, self.workload)
        gone = self._gone_at is not None
        return CostRecord(self.label, self.price_usd_h, transfer, self._created, until, gone, self._price.earlier)

    @property
    def price_usd_h(self) -> float:
        """What it costs an hour: what the market shows, and until it shows it, what the offer said."""
        return self._price.usd_h

    def priced(self, status: InstanceStatus) -> None:
        """The market shows what it costs, while it boots.

        :raises AttemptFailed: if that is more than may be paid.
        """
        self.look_at_price(status)
        if self.too_dear is not None:
            raise AttemptFailed(self.too_dear)

    def look_at_price(self, status: InstanceStatus) -> None:
        """Take the price that the market shows now. Where it is more than may be paid, see :attr:`too_dear`."""
        if news := self._price.look(status, lambda: self.bill):
            self.tell(news)

    @property
    def too_dear(self) -> Verdict | None:
        """Why nobody may get it any more, where its price has become more than may be paid."""
        return self._price.too_dear

    @property
    def money_lasts_s(self) -> float:
        """See :meth:`~pytest_vastgpu.supervisor.money.budget.Budget.lasts_s`."""
        return self._tools.budget.lasts_s(self.label)

    def confirm_lost(self) -> Verdict | None:
        """See :func:`~pytest_vastgpu.supervisor.rental.loss.confirm_lost`."""
        return confirm_lost(self, self._tools.client)

    # ---------------------------------------------------------------- the end

    def give_back(self, wait: Callable[[float], None]) -> None:
        """Destroy the instance, verified, or leave it for a look inside; idempotent, from any thread.

        :raises NotDestroyed: if it may still be there.
        """
        with self._destroy_lock:
            self._keep_evidence()
            if self.state is not State.KEPT and self.too_dear is None:
                self._tools.keeper.keep(self)
            if self.heartbeat is not None:
                self.heartbeat.stop()
            if self.tunnel is not None:
                self.tunnel.close()
            if self.link is not None:
                self.link.close()
            if self.state is State.KEPT:
                return
            if self.unsettled and not self.instance_id:
                self._settle()
            if self.unsettled:
                return  # the end of the run looks once more, and longer; its money stays set aside until then
            if self.instance_id and self.state is not State.GONE:
                if self.state is not State.DESTROYING:
                    self.enter(State.DESTROYING, "destroying")
                destroy(self._tools.client, self.instance_id, wait, self._tools.timeouts)
                self._gone_at = time.monotonic()
                self.enter(State.GONE, f"gone after {self.age_s:.1f} s, {self.cost_usd:.4f} USD")
            self._tools.budget.settle(self.label, self.cost_usd)

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
        case = evidence.Case(failed, self.facts, self.log, self._tools.events.path)
        try:
            evidence.keep(case, sources, Path(failed.artifacts))
        except OSError as error:
            self.tell(f"the evidence cannot be kept: {error}")

    def _settle(self) -> None:
        """Look up whether the create whose answer was lost has rented after all. It may still do so later."""
        try:
            found = self._tools.client.list_instances(self.label)
        except MarketError as error:
            raise NotDestroyed(self.label, str(error)) from error
        if found:
            self.unsettled = False
            self.instance_id = found[0].id
            self.enter(State.CREATED, f"created after all: instance {self.instance_id}", instance_id=self.instance_id)

    def finish(self, verdict: Verdict | None) -> Attempt:
        """The attempt as it ended."""
        if verdict is None:
            return self.attempt()
        verdict = replace(verdict, evidence=shown(verdict.evidence))
        failed_in = self.state
        self.went_wrong = True
        self.enter(State.FAILED, f"failed: {verdict.failure_class.value}: {verdict.reason}")
        attempt = self.attempt(verdict, failed_in)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.tell(f"the evidence cannot be kept: {error}")
            return attempt
        self._failed = replace(attempt, artifacts=str(self.directory))
        return self._failed

    def attempt(self, verdict: Verdict | None = None, failed_in: State | None = None) -> Attempt:
        """The attempt as it stands."""
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
            price_usd_h=self.price_usd_h,
            cost_usd=self.cost_usd,
            log_tail=foreign.tail(self.log, LOG_TAIL_LINES) if verdict else "",
            unguarded=self.heartbeat.missing if self.heartbeat is not None else "",
        )

    # --------------------------------------------------------------- plumbing

    @property
    def connected(self) -> ReconnectingConnection:
        """The SSH link, from *reachable* on."""
        if self.link is None:
            raise RuntimeError(f"{self.label} has no SSH link in state {self.state.value}")
        return self.link

    def fair(self, verdict: Verdict, *, ssh_leaves: bool = True) -> Verdict:
        """See :func:`~pytest_vastgpu.supervisor.rental.self_check.attribute_fault`."""
        return self_check.attribute_fault(verdict, replace(self_check.look(self._tools.client), ssh_leaves=ssh_leaves))

    def begin(self) -> None:
        """From now on it may cost money."""
        self._entered = self._created = time.monotonic()

    def begin_heartbeat(self) -> Heartbeat:
        """From now on the instance lives only as long as it hears of us, and ends itself when its time has come."""
        settings = self._tools.settings
        end = Deadline(self._created + settings.max_lifetime + END_GRACE_S)
        self.heartbeat = Heartbeat(self.connected, settings.lease, end, self.tell)
        self.heartbeat.start()
        return self.heartbeat

    def enter(self, state: State, text: str, **facts: object) -> None:
        """Go on to another state, and write that down."""
        if state not in policy.TRANSITIONS[self.state]:
            raise RuntimeError(f"{self.label}: {self.state.value} cannot become {state.value}")
        now = time.monotonic()
        self._seconds[self.state.value] = self._seconds.get(self.state.value, 0.0) + now - self._entered
        self._entered = now
        self.state = state
        self._tools.ledger.write(self.label, state.value, cost_usd=round(self.cost_usd, 9), **facts)
        self.tell(text, **facts)

    def tell(self, text: str, **facts: object) -> None:
        """Write down what happens, for everybody who listens."""
        name = f"instance {self.instance_id}" if self.instance_id else f"attempt {self.number}"
        self._tools.events.write(Event(self.label, self.state, f"{name}: {text}", dict(facts)))

"""One attempt: what is rented, in which state it is, and how it is given back."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pytest_vastgpu.core import foreign
from pytest_vastgpu.core.clock import Deadline
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.core.redaction import KNOWN
from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.hostcheck.facts import HostFacts
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.reporting.costs import CostRecord
from pytest_vastgpu.reporting.sentences import offer_line
from pytest_vastgpu.selection.pricing import transfer_usd
from pytest_vastgpu.ssh.base import Forward
from pytest_vastgpu.ssh.reconnecting import ReconnectingConnection
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from pytest_vastgpu.supervisor.cleanup.destroy import destroy
from pytest_vastgpu.supervisor.ledger.ledger import make_label
from pytest_vastgpu.supervisor.money.price_tag import InstancePrice
from pytest_vastgpu.supervisor.rental import evidence
from pytest_vastgpu.supervisor.rental import loss
from pytest_vastgpu.supervisor.rental import policy
from pytest_vastgpu.supervisor.rental import self_check
from pytest_vastgpu.supervisor.rental import server_job
from pytest_vastgpu.supervisor.rental.deadman import DeadmanState
from pytest_vastgpu.supervisor.rental.heartbeat import Heartbeat
from pytest_vastgpu.supervisor.rental.keep import NotKept
from pytest_vastgpu.supervisor.rental.services import AttemptFailed
from pytest_vastgpu.supervisor.rental.services import RentalServices

_T = TypeVar("_T")
LOG_TAIL_LINES = 15
END_GRACE_S = 5.0
"""An instance ends itself so long after its hard end of life: its owner, who can say why, comes first."""
LOG_KEEP_CHARS = 4_000_000
"""Most of a server's log that is kept for the verdict; the middle of a longer one is cut out."""


class Rental:
    """One attempt. Any thread may use it once it is ready.

    :func:`~pytest_vastgpu.supervisor.rental.bringup.bring_up` brings it there.

    :param number: 1 for the first attempt of this run, unique within the run.
    """

    def __init__(self, services: RentalServices, workload: Workload, offer: Offer, number: int) -> None:
        self.workload = workload
        self.offer = offer
        self.number = number
        self.instance_id = 0
        self.state = State.INTENDED
        self.connection: ReconnectingConnection | None = None
        self.endpoint = ""
        self._services = services
        self._clock = services.clock
        self.label = make_label(services.run_id, number, self._clock.time() + services.settings.longest_life)
        self.headers: Mapping[str, str] = {}
        """HTTP headers a client of the endpoint must send; known from the launch on."""
        self.api_key = secrets.token_urlsafe(24)
        self.heartbeat: Heartbeat | None = None
        self._forward: Forward | None = None
        settings, budget = services.settings, services.budget
        self._price = InstancePrice(self.label, offer, workload, settings.max_price, budget, self._clock.monotonic)
        self._created: float | None = None
        self._entered = self._clock.monotonic()
        self._seconds: dict[str, float] = {}
        self.log = ""
        self.directory = services.artifacts / str(number)
        """Where evidence is kept if it fails."""
        self.facts: HostFacts | None = None
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
        return 0.0 if self._created is None else self._clock.monotonic() - self._created

    @property
    def cost_usd(self) -> float:
        """What it has cost so far, at most."""
        return self.bill.cost_usd

    @property
    def bill(self) -> CostRecord:
        """What it has cost so far, at most: its price from create on, and the transfer of image and model.

        Measured on our own clock, from before the create until it is seen to be gone: never less than the market's.
        """
        until = self._clock.monotonic() if self._gone_at is None else self._gone_at
        if self._created is None or not (self.instance_id or self.unsettled):
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
        return self._services.budget.lasts_s(self.label)

    def confirm_lost(self) -> Verdict | None:
        """See :func:`~pytest_vastgpu.supervisor.rental.loss.confirm_lost`."""
        return loss.confirm_lost(self._seen(), self._services.provider)

    def fails(self) -> None:
        """A test that used it has failed."""
        self.went_wrong = True

    # ---------------------------------------------------------------- the end

    def give_back(self) -> None:
        """Destroy the instance, verified, or leave it for a look inside; idempotent, from any thread.

        :raises NotDestroyed: if it may still be there.
        """
        with self._destroy_lock:
            self._keep_evidence()
            if self.state is not State.KEPT and self.too_dear is None:
                self._keep_for_a_look()
            if self.heartbeat is not None:
                self.heartbeat.stop()
            if self._forward is not None:
                self._forward.close()
            if self.connection is not None:
                self.connection.close()
            if self.state is State.KEPT:
                return
            if self.unsettled and not self.instance_id:
                self._settle()
            if self.unsettled:
                return  # the end of the run looks once more, and longer; its money stays set aside until then
            if self.instance_id and self.state is not State.GONE:
                if self.state is not State.DESTROYING:
                    self.enter(State.DESTROYING, "destroying")
                services = self._services
                destroy(services.provider, self.instance_id, self._clock.sleep, services.timeouts, self._clock)
                self._gone_at = self._clock.monotonic()
                self.enter(State.GONE, f"gone after {self.age_s:.1f} s, {self.cost_usd:.4f} USD")
            self._services.budget.settle(self.label, self.cost_usd)

    def _keep_for_a_look(self) -> None:
        """Leave it where that is wanted and can be done; where it cannot be done, why not is told."""
        keeper = self._services.keeper
        if not keeper.wants(self.state, went_wrong=self.went_wrong):
            return
        connection = self.connection.living() if self.connection is not None else None
        try:
            kept = keeper.leave(self.instance_id, connection, self.heartbeat, self.price_usd_h)
        except NotKept as why:
            self.tell(f"is not kept: {why}")
            return
        self.enter(State.KEPT, f"kept for a look inside until {kept.ends}", until=kept.until, ssh=kept.ssh)
        keeper.note(kept)

    def _seen(self) -> loss.Seen:
        """What the question whether it was lost is decided by."""
        return loss.Seen(self.instance_id, self.connection, self.heartbeat, self.directory, self.attribute_fault)

    def _keep_evidence(self) -> None:
        """Once, of a failed attempt, while there is still somebody to ask."""
        failed, self._failed = self._failed, None
        if failed is None:
            return
        connection = self.connection.living() if self.connection else None
        sources: dict[str, evidence.Source] = {
            "container log": lambda: {
                "container.log": self._services.provider.logs(self.instance_id, evidence.CONTAINER_LOG_LINES)
            }
        }
        if connection is not None:
            sources["SSH"] = lambda: evidence.probe_files(connection.probe_all(evidence.PROBES))
        case = evidence.Case(failed, self.facts, self.log, self._services.events.path)
        try:
            evidence.keep(case, sources, Path(failed.artifacts))
        except OSError as error:
            self.tell(f"the evidence cannot be kept: {error}")

    def _settle(self) -> None:
        """Look up whether the create whose answer was lost has rented after all. It may still do so later."""
        try:
            found = self._services.provider.list_instances(self.label)
        except MarketError as error:
            raise NotDestroyed(self.label, str(error)) from error
        if found:
            self.created(found[0].id, "created after all:")

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
            seconds[self.state.value] = self._clock.monotonic() - self._entered
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

    # ------------------------------------------------- what the steps of bring-up give

    def begin(self) -> None:
        """The offer is about to be rented: from now on it may cost money."""
        offer = self.offer
        self._services.ledger.write(self.label, "intended", offer=offer.id, machine=offer.machine_id)
        self.tell(f"renting {offer_line(offer)}")
        self._entered = self._created = self._clock.monotonic()
        self.unsettled = True  # until the provider has answered; whatever cuts that short, the label settles it

    def not_created(self) -> None:
        """Nothing was rented."""
        self.unsettled = False
        self._services.ledger.write(self.label, "not_created")

    def created(self, instance_id: int, how: str = "created") -> None:
        """It exists."""
        self.instance_id = instance_id
        self.unsettled = False
        self.enter(State.CREATED, f"{how} instance {instance_id}", instance_id=instance_id)

    def booting(self) -> None:
        """It is waited for."""
        self.enter(State.BOOTING, "booting")

    def connects(self, connection: ReconnectingConnection) -> None:
        """SSH is tried: from now on the end of the rental is that of the connection, also of one that is being made."""
        self.connection = connection

    def reached(self) -> None:
        """SSH lets us in."""
        self._services.ssh_has_worked.set()
        self.enter(State.REACHABLE, f"SSH answers after {self.age_s:.1f} s")

    def begin_heartbeat(self, nudge: Callable[[], None]) -> None:
        """From now on the instance lives only as long as it hears of us, and ends itself when its time has come.

        :param nudge: Told when it is known how the switch is.
        """
        settings = self._services.settings
        end = Deadline((self._created or 0.0) + settings.max_lifetime + END_GRACE_S, self._clock)
        self.heartbeat = Heartbeat(self.connected, settings.lease, end, self.tell, nudge, self._clock)
        self.heartbeat.start()

    def found(self, facts: HostFacts) -> None:
        """The host has said what it is."""
        self.facts = facts

    def checked(self, switch: DeadmanState) -> None:
        """What was sold is there."""
        facts = {"sold": asdict(self.offer), "found": asdict(self.host_facts), "switch": asdict(switch)}
        self.enter(State.CHECKED, "host checked", **facts)

    def launched(self, headers: Mapping[str, str]) -> None:
        """The server has been started."""
        self.headers = headers
        self.enter(State.WARMING, "server launched")

    def printed(self, log: str) -> None:
        """All that the server has printed by now."""
        self.log = log

    def ready(self, endpoint: str, forward: Forward | None) -> None:
        """Tests may use it."""
        self.endpoint, self._forward = endpoint, forward
        self.enter(State.READY, f"ready after {self.age_s:.1f} s", endpoint=endpoint)

    # --------------------------------------------------------------- plumbing

    @property
    def connected(self) -> ReconnectingConnection:
        """The connection, from *reachable* on."""
        return self._from(State.REACHABLE, self.connection)

    @property
    def beating(self) -> Heartbeat:
        """The heartbeat, from *reachable* on."""
        return self._from(State.REACHABLE, self.heartbeat)

    @property
    def host_facts(self) -> HostFacts:
        """What the host has said of itself, from *reachable* on."""
        return self._from(State.REACHABLE, self.facts)

    def _from(self, state: State, value: _T | None) -> _T:
        if value is None:
            raise RuntimeError(f"{self.label} is {self.state.value}, and not {state.value} yet")
        return value

    def attribute_fault(self, verdict: Verdict, *, ssh_leaves: bool = True) -> Verdict:
        """See :func:`~pytest_vastgpu.supervisor.rental.self_check.attribute_fault`."""
        seen = self_check.look(self._services.provider)
        return self_check.attribute_fault(verdict, replace(seen, ssh_leaves=ssh_leaves))

    def enter(self, state: State, text: str, **facts: object) -> None:
        """Go on to another state, and write that down."""
        if state not in policy.TRANSITIONS[self.state]:
            raise RuntimeError(f"{self.label}: {self.state.value} cannot become {state.value}")
        now = self._clock.monotonic()
        self._seconds[self.state.value] = self._seconds.get(self.state.value, 0.0) + now - self._entered
        self._entered = now
        self.state = state
        self._services.ledger.write(self.label, state.value, cost_usd=round(self.cost_usd, 9), **facts)
        self.tell(text, **facts)

    def tell(self, text: str, **facts: object) -> None:
        """Write down what happens, for everybody who listens."""
        name = f"instance {self.instance_id}" if self.instance_id else f"attempt {self.number}"
        self._services.events.write(Event(self.label, self.state, f"{name}: {text}", dict(facts), self._clock.time()))

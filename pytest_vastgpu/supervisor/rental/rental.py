"""One attempt: the rented instance, its state, its cost, and how it is given back."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pytest_vastgpu.client.calls import Mark
from pytest_vastgpu.core.clock import Deadline
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.core.ledger_record import Label
from pytest_vastgpu.core.ledger_record import make_label
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.hostcheck.facts import HostFacts
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.reporting.alive import moment
from pytest_vastgpu.reporting.event_facts import offer_facts
from pytest_vastgpu.reporting.event_facts import verdict_facts
from pytest_vastgpu.reporting.sentences import offer_line
from pytest_vastgpu.reporting.sentences import verdict_line
from pytest_vastgpu.reporting.words import whose
from pytest_vastgpu.reporting.words import words
from pytest_vastgpu.servers.archive import Brought
from pytest_vastgpu.ssh.reconnecting import ReconnectingConnection
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from pytest_vastgpu.supervisor.cleanup.destroy import cause_of
from pytest_vastgpu.supervisor.cleanup.destroy import destroy
from pytest_vastgpu.supervisor.rental import evidence
from pytest_vastgpu.supervisor.rental import loss
from pytest_vastgpu.supervisor.rental import self_check
from pytest_vastgpu.supervisor.rental.cost import RentalCost
from pytest_vastgpu.supervisor.rental.deadman import DeadmanState
from pytest_vastgpu.supervisor.rental.forwarded_ports import ForwardedPorts
from pytest_vastgpu.supervisor.rental.heartbeat import Heartbeat
from pytest_vastgpu.supervisor.rental.keep import NotKept
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.server.end import ServerEnd
from pytest_vastgpu.supervisor.rental.server.end import log_since
from pytest_vastgpu.supervisor.rental.server.job import Launched
from pytest_vastgpu.supervisor.rental.server.starts import Starts
from pytest_vastgpu.supervisor.rental.server.watched import InstanceSilent
from pytest_vastgpu.supervisor.rental.server.watched import WatchedServer
from pytest_vastgpu.supervisor.rental.services import AttemptFailed
from pytest_vastgpu.supervisor.rental.services import RentalServices
from pytest_vastgpu.supervisor.rental.shown import Shown
from pytest_vastgpu.supervisor.rental.states import TRANSITIONS

_T = TypeVar("_T")
LOG_TAIL_LINES = 15
END_GRACE_S = 5.0
"""Delay of an instance's dead man's switch after its hard end of life, so that the supervisor, which can report the
reason, destroys it first."""
LOG_KEEP_CHARS = 4_000_000
"""Characters of a server's log kept for the verdict; the middle of a longer log is cut out."""


class Rental:
    """One attempt, from the intention to rent until the instance is gone. Thread-safe once it is ready.

    :func:`~pytest_vastgpu.supervisor.rental.bringup.bring_up` makes it ready.

    :param number: 1 for the first attempt of this run, unique within the run.
    :param nth: 1 for the first attempt of the workload.
    :param name: The workload's name.
    """

    def __init__(
        self, services: RentalServices, workload: Workload, offer: Offer, number: int, nth: int, name: str
    ) -> None:
        self.workload = workload
        self.offer = offer
        self.number = number
        self.nth = nth
        self.instance_id = 0
        self.state = State.INTENDED
        self.connection: ReconnectingConnection | None = None
        self.endpoint = ""
        self._services = services
        self._clock = services.clock
        self.label = make_label(services.run_id, number, self._clock.time() + services.settings.longest_life)
        self.rented: CreateRequest | None = None
        """What was fixed when it was created; known from the create on."""
        self.start: Launched | None = None
        """How its server was started; None before that, and while it is replaced."""
        self.set_up_with = ""
        """The key of what its setup command depended on when that succeeded; empty before that."""
        self.files: Mapping[str, Brought] = {}
        """What was brought of each file for its server, by name."""
        self.api_key = secrets.token_hex(24)  # a "-" at its start would be an option on a command line
        self.heartbeat: Heartbeat | None = None
        self.folder = job.HOME
        """Where the server that was started last has its files, see :func:`.server.job.start`."""
        self.others: frozenset[int] | None = frozenset()
        """Ports on which another server listens, beside which that one starts; None: not looked at yet."""
        self.ports = ForwardedPorts(lambda port: services.connector.forward(self.connected.connection_if_any, port))
        self.servers = Starts()
        self.ready_at = 0.0
        """When its server became ready: epoch seconds."""
        self.cut_short: Verdict | None = None
        """Why it was taken from the tests that used it; None where it was not."""
        settings, budgets = services.settings, services.budgets
        self.cost = RentalCost(
            self.label, offer, workload, settings.max_price, settings.max_lifetime, budgets, self._clock
        )
        self._entered = self._clock.monotonic()
        self._seconds: dict[str, float] = {}
        self.log = ""
        self.shown = Shown()
        """What it shows to people who wait for it."""
        self.directory = services.artifacts / str(number)
        """Where evidence is kept if the attempt fails, or a test that uses it."""
        self.facts: HostFacts | None = None
        self._failed: Attempt | None = None
        KNOWN.add("instance key", self.api_key)
        self.purpose = sanitize.line(name)
        """The workload in words."""
        self.unsettled = False
        self._looked_at = False
        """Whether a test has failed on it, and it was looked at."""
        self.went_wrong = False
        """Whether its bring-up failed, or a test that used it."""
        self._detail = False
        self.resists = ""
        """Why the last try to destroy it has failed; empty where none has."""
        self._destroy_lock = threading.Lock()

    # -------------------------------------------------------------------- use

    def read_log(self) -> str:
        """What the setup command, if there is one, and the server have printed so far."""
        setup = f"{job.HOME}/setup.log " if self.workload.setup else ""
        result = self.connected.run(f"cat {setup}{self.folder}/server.log | tail -c {LOG_KEEP_CHARS}", timeout_s=30)
        return result.stdout

    @property
    def age_s(self) -> float:
        """Seconds since create."""
        return self.cost.age_s

    @property
    def headers(self) -> Mapping[str, str]:
        """HTTP headers that a client of the endpoint must send; known from the launch on."""
        return self.start.headers if self.start is not None else {}

    @property
    def unguarded(self) -> str:
        """Why nothing would end it if this machine died; empty where its dead man's switch is armed, or not known."""
        return self.heartbeat.missing if self.heartbeat is not None else ""

    @property
    def ends_itself_at(self) -> float:
        """Epoch seconds at which it is gone at the latest, whatever happens here; 0: nothing is known to end it."""
        label = Label.parse(self.label)
        armed = self.heartbeat is not None and self.heartbeat.switch.armed
        return label.ends_at if armed and label is not None else 0.0

    @property
    def may_cost(self) -> bool:
        """Whether something is rented, or may be, that must be given back: neither gone, nor kept on purpose."""
        return bool(self.instance_id or self.unsettled) and self.state not in (State.GONE, State.KEPT)

    def priced(self, status: InstanceStatus) -> None:
        """Take the price that the market shows during the boot.

        :raises AttemptFailed: if the price is above the limits.
        """
        self.look_at_price(status)
        if self.cost.too_dear is not None:
            raise AttemptFailed(self.cost.too_dear)

    def look_at_price(self, status: InstanceStatus) -> None:
        """See :meth:`RentalCost.look`."""
        if text := self.cost.look(status):
            self.tell(text)

    def look(self, mark: Mark | None = None) -> ServerEnd | Verdict | None:
        """What has become of its server, or why the instance counts as lost; None: it serves, or nothing can tell.

        :param mark: The server of a test, as it was then; None: the present one.
        """
        server = self.servers[-1 if mark is None else mark.start]
        try:
            return server.look(None if mark is None else mark.unanswered)
        except InstanceSilent:
            return self.confirm_lost()

    def mark(self) -> Mark:
        """Where its server is now, for a test that gets it."""
        return self.servers.mark()

    @property
    def doubtful(self) -> bool:
        """See :attr:`WatchedServer.doubtful`."""
        return self.servers[-1].doubtful

    @property
    def is_full(self) -> str:
        """Why no server can be started beside its own, in a sentence; empty where one can."""
        return "one was started there already; serve() ends both" if self.folder == job.BESIDE else ""

    def touched(self) -> None:
        """See :meth:`WatchedServer.touched`."""
        self.servers.touched()

    @property
    def restarted(self) -> str:
        """Why its server was started again, in a sentence; empty if it was not."""
        return self.servers.again

    def cuts_short(self, verdict: Verdict) -> None:
        """Note why it is taken from the tests that use it."""
        self.cut_short = verdict
        self.record("is taken from its tests", cut_short=verdict_facts(verdict))

    def confirm_lost(self) -> Verdict | None:
        """See :func:`~pytest_vastgpu.supervisor.rental.loss.confirm_lost`."""
        services = self._services
        pause_s = services.timeouts.look_most_s
        return loss.confirm_lost(self._seen(), services.provider, lambda: services.clock.sleep(pause_s))

    def fails(self) -> None:
        """Note that a test that used it has failed."""
        self.went_wrong = True

    @property
    def _serves(self) -> bool:
        """Whether the instance is there to be asked."""
        return self.state is State.READY and self.cut_short is None

    def log_since(self, mark: Mark) -> str:
        """See :meth:`~pytest_vastgpu.client.calls.InstanceCalls.logs_since`."""
        return log_since(*self.servers[mark.start].log(fresh=self._serves), mark)

    def keep_log(self, mark: Mark) -> str:
        """See :meth:`~pytest_vastgpu.client.calls.InstanceCalls.keep_log`."""
        serves = self._serves
        log, _ = self.servers[mark.start].log(fresh=serves)
        if not log:
            return ""
        connection = None
        if serves and self.connection is not None and not self._looked_at:
            self._looked_at, connection = True, self.connection.living()
        limit_s, ending = self._services.timeouts.evidence_s, self._services.ending
        try:
            return str(evidence.keep_of_test(log, connection, self.directory, limit_s, ending))
        except OSError as error:
            self.tell(f"the server's log cannot be kept: {error}")
            return ""

    def forget_tests(self) -> None:
        """Forget what tests of an earlier run have done: failures, and starts of the server that they had got."""
        self.went_wrong = self._looked_at = False
        self.servers.forget_earlier()

    # ---------------------------------------------------------------- the end

    def give_back(self) -> None:
        """Destroy the instance and verify that it is gone, or keep it for inspection. Idempotent and thread-safe.

        :raises NotDestroyed: if it may still be there.
        """
        with self._destroy_lock:
            self._whatever_happens(self._keep_evidence)
            if self.state is not State.KEPT and self.cost.too_dear is None:
                self._whatever_happens(self._keep_for_inspection)
            if self.heartbeat is not None:
                self._whatever_happens(self.heartbeat.stop)
            self._whatever_happens(self.servers.close)
            self._whatever_happens(self.ports.close)
            if self.connection is not None:
                self._whatever_happens(self.connection.close)
            if self.state is State.KEPT:
                return
            if self.unsettled and not self.instance_id:
                self._settle()
            if self.unsettled:
                return  # the end of the run checks once more, and for longer; the reservation stays until then
            if self.instance_id and self.state is not State.GONE:
                if self.state is not State.DESTROYING:
                    self.enter(State.DESTROYING, "destroying")
                services = self._services
                destroy(
                    services.cleaner,
                    self.instance_id,
                    self._clock.sleep,
                    services.timeouts,
                    self._clock,
                    self._resisted,
                )
                self.cost.ends()
                self.enter(State.GONE, f"gone after {self.age_s:.1f} s, {self.cost.usd:.4f} USD")
            self.cost.settle()

    def _whatever_happens(self, step: Callable[[], object]) -> None:
        """Do a step of the end. An error in it is told, and does not keep the instance from being destroyed."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - whatever it is, the instance costs money until it is gone
            self.tell(f"its end goes on after {type(error).__name__}: {error}, a defect of pytest-vastgpu")

    def _resisted(self, cause: str) -> None:
        self.resists = cause

    def _keep_for_inspection(self) -> None:
        """Keep the instance where the user wants that; where it cannot be kept, report the reason."""
        keeper = self._services.keeper
        if not keeper.wants(self.state, went_wrong=self.went_wrong):
            return
        connection = self.connection.living() if self.connection is not None else None
        try:
            kept = keeper.leave(self.instance_id, connection, self.heartbeat, self.cost.usd_h)
        except NotKept as why:
            self.tell(f"is not kept: {why}")
            return
        self.enter(State.KEPT, f"kept for a look inside until {moment(kept.until)}", until=kept.until, ssh=kept.ssh)
        keeper.note(kept)

    def _seen(self) -> loss.Seen:
        """The facts that decide whether it was lost."""
        return loss.Seen(self.instance_id, self.connection, self.heartbeat, self.directory, self.attribute_fault)

    def _keep_evidence(self) -> None:
        """Collect evidence of a failed attempt, once, while the instance still exists."""
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
            sources["SSH"] = lambda: evidence.probe_files(connection.probe_all(evidence.with_log(self.folder)))
        case = evidence.Case(failed, self.facts, self.log, self._services.events.path)
        try:
            limit_s, ending = self._services.timeouts.evidence_s, self._services.ending
            evidence.keep(case, sources, Path(failed.artifacts), limit_s, ending)
        except OSError as error:
            self.tell(f"the evidence cannot be kept: {error}")

    def _settle(self) -> None:
        """Ask the market whether a create whose answer was lost has rented an instance. It may still do so later."""
        try:
            found = self._services.cleaner.list_instances(self.label)
        except Exception as error:
            raise NotDestroyed(self.label, cause_of(error)) from error
        if found:
            self.created(found[0].id, "created after all:")

    def finish(self, verdict: Verdict) -> Attempt:
        """End a rental that has failed or was lost; returns the attempt."""
        verdict = replace(verdict, evidence=shown(verdict.evidence))
        failed_in = self.state
        self.went_wrong = True
        self.enter(State.FAILED, f"failed: {verdict_line(verdict)} ({self.purpose})")
        self.record("its verdict", verdict=verdict_facts(verdict), failed_in=failed_in, artifacts=str(self.directory))
        attempt = self.attempt(verdict, failed_in)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.tell(f"the evidence cannot be kept: {error}")
            return attempt
        self._failed = replace(attempt, artifacts=str(self.directory))
        return self._failed

    def attempt(self, verdict: Verdict | None = None, failed_in: State | None = None) -> Attempt:
        """The attempt as it is now."""
        seconds = dict(self._seconds)
        if self.state not in (State.GONE, State.DESTROYING):
            seconds[self.state.value] = self._clock.monotonic() - self._entered
        return Attempt(
            number=self.nth,
            label=self.label,
            offer=self.offer,
            instance_id=self.instance_id,
            verdict=verdict,
            failed_in=failed_in,
            seconds=seconds,
            price_usd_h=self.cost.usd_h,
            cost_usd=self.cost.usd,
            log_tail=sanitize.tail(self.log, LOG_TAIL_LINES) if verdict else "",
            unguarded=self.unguarded,
            workload=self.purpose,
        )

    # ------------------------------------------------- results of bring-up's steps

    def begin(self, request: CreateRequest | None = None) -> None:
        """Bring-up is about to rent the offer: from now on it may cost money."""
        offer, self.rented = self.offer, request
        self._services.ledger.write(self.label, "intended", offer=offer.id, machine=offer.machine_id)
        self.tell(f"renting {offer_line(offer)} for {self.purpose}", offer=offer_facts(offer))
        self._entered = self._clock.monotonic()
        self.cost.begins()
        self.unsettled = True  # until the provider has answered; without an answer, the label finds the instance

    def not_created(self) -> None:
        """The provider has rented nothing."""
        self.unsettled = False
        self.cost.refused()
        self._services.ledger.write(self.label, "not_created")

    def created(self, instance_id: int, how: str = "created") -> None:
        """The provider has created the instance."""
        self.instance_id = instance_id
        self.unsettled = False
        self.enter(State.CREATED, f"{how} instance {instance_id} for {self.purpose}", instance_id=instance_id)

    def booting(self) -> None:
        """Bring-up waits for the instance to boot."""
        self.enter(State.BOOTING, "booting")

    def connects(self, connection: ReconnectingConnection) -> None:
        """SSH is tried: from now on the end of the rental is that of the connection, also of one that is being made."""
        self.connection = connection

    def reached(self) -> None:
        """SSH lets us in."""
        self._services.ssh_has_worked.set()
        self.enter(State.REACHABLE, f"SSH answers after {self.age_s:.1f} s")

    def begin_heartbeat(self, nudge: Callable[[], None]) -> None:
        """Start the heartbeat. From now on the instance destroys itself without one, and at its hard end of life.

        :param nudge: Called when the state of the dead man's switch is known.
        """
        settings = self._services.settings
        end = Deadline(self.cost.created + settings.max_lifetime + END_GRACE_S, self._clock)
        self.heartbeat = Heartbeat(
            self.connected, settings.lease, end, self.tell, nudge, self._clock, self._services.timeouts.arm_within_s
        )
        self.heartbeat.start()

    def found(self, facts: HostFacts) -> None:
        """Bring-up has read the host's facts."""
        self.facts = facts

    def checked(self, switch: DeadmanState) -> None:
        """The host has what the offer promised."""
        facts = {"sold": asdict(self.offer), "found": asdict(self.host_facts), "switch": asdict(switch)}
        self.enter(State.CHECKED, "host checked", **facts)

    def brought(self, files: Mapping[str, Brought]) -> None:
        """These files of the workload are there, and no others."""
        self.files = files

    def sets_up(self, key: str) -> None:
        """Its setup command has succeeded, with what this key stands for; empty: it runs."""
        self.set_up_with = key

    def launched(self, start: Launched) -> None:
        """The server is started, or a host for tests has its environment."""
        self.start = start
        text = words(self.workload).launched
        if self.state is State.WARMING:
            self.tell(text)
        else:
            self.enter(State.WARMING, text)

    def replaces_server(self, workload: Workload, name: str, why: str, *, by_test: bool = False) -> None:
        """Its server is ended, and started again, or that of another workload is.

        :param name: The workload's name.
        :param why: Why its server is started again: ends a sentence after "because".
        :param by_test: Whether the test that uses it has that done.
        """
        before, same = self.purpose, workload == self.workload
        self._starts_next(workload, name, job.HOME)
        if same:
            because = f" because {sanitize.line(why)}" if why else ""
            self.servers.replace(f"was stopped{because}", by_test=by_test)
            text = words(workload).begins_again.format(because)
        else:
            self.servers.replace(f"was stopped for {self.purpose}", by_test=by_test)
            text = f"starting {self.purpose} in place of {before}"
        self.enter(State.WARMING, text)

    def adds_server(self, workload: Workload, name: str) -> None:
        """The server of another workload is started beside its own, which goes on.

        :param name: The workload's name.
        """
        before = self.purpose
        self._starts_next(workload, name, job.BESIDE)
        self.enter(State.WARMING, f"starting {self.purpose} beside {before}")

    def has_others(self, ports: frozenset[int]) -> None:
        """Another server listens on these ports, beside which its own starts."""
        self.others = ports

    def _starts_next(self, workload: Workload, name: str, folder: str) -> None:
        self.cost.brings(self.workload, workload)
        self.workload, self.purpose, self.folder = workload, sanitize.line(name), folder
        self.others = frozenset() if folder == job.HOME else None
        self.start, self.log = None, ""

    def shows(self, text: str, window: str = "", window_s: float = 0.0, left_s: float = 0.0) -> None:
        """Note what goes on, for people who wait, until the next state begins.

        :param window: The name of the time limit that runs, its length, and what is left of it.
        """
        self.shown = Shown(text, window, window_s, self._clock.monotonic() + left_s)

    def printed(self, log: str) -> None:
        """Take the server's whole log so far."""
        self.log = log

    def ready(self, endpoint: str, server: WatchedServer) -> None:
        """The server is ready; tests may use the endpoint."""
        first, took_s = not self.ready_at, self._clock.monotonic() - self._entered
        self.endpoint, self.ready_at = endpoint, self._clock.time()
        self.servers.add(server)
        text = f"ready after {self.age_s if first else took_s:.1f} s ({self.purpose})"
        self.enter(State.READY, (words(self.workload).again and self.restarted) or text, endpoint=endpoint)

    # --------------------------------------------------------------- plumbing

    @property
    def services(self) -> RentalServices:
        """What it shares with the other rentals."""
        return self._services

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
        """The host's facts, from *reachable* on."""
        return self._from(State.REACHABLE, self.facts)

    def _from(self, state: State, value: _T | None) -> _T:
        if value is None:
            raise RuntimeError(f"{self.label} is {self.state.value}, and not {state.value} yet")
        return value

    def attribute_fault(self, verdict: Verdict, *, ssh_leaves: bool = True) -> Verdict:
        """See :func:`~pytest_vastgpu.supervisor.rental.self_check.attribute_fault`."""
        seen = self_check.look(self._services.provider)
        by_user = self._services.ledger.destroyed_by_user(self.label)
        return self_check.attribute_fault(verdict, replace(seen, ssh_leaves=ssh_leaves, destroyed_by_user=by_user))

    def enter(self, state: State, text: str, **facts: object) -> None:
        """Enter another state, and record that in the ledger and the events."""
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"{self.label}: {self.state.value} cannot become {state.value}")
        now = self._clock.monotonic()
        self._seconds[self.state.value] = self._seconds.get(self.state.value, 0.0) + now - self._entered
        self._entered = now
        self.state = state
        self.shown = Shown()
        self._services.ledger.write(self.label, state.value, cost_usd=round(self.cost.usd, 9), **facts)
        self.tell(text, **facts)

    @contextmanager
    def in_detail(self) -> Iterator[None]:
        """What happens within this block is shown only to those who want to see more."""
        self._detail = True
        try:
            yield
        finally:
            self._detail = False

    def record(self, text: str, **facts: object) -> None:
        """Write an event for reports alone."""
        about = {"workload": self.purpose, "attempt": self.nth}
        event = Event(self.label, self.state, text, {**about, **facts}, self._clock.time(), silent=True)
        self._services.events.write(event)

    def tell(self, text: str, **facts: object) -> None:
        """Write an event."""
        name = whose(self.workload, self.purpose, self.instance_id, self.nth)
        about = {"workload": self.purpose, "attempt": self.nth}
        self._services.events.write(
            Event(
                self.label, self.state, f"{name}: {text}", {**about, **facts}, self._clock.time(), detail=self._detail
            )
        )

"""Composition root of the supervisor: creates its parts, and checks what can be checked, before the first rent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.core import environment
from pytest_vastgpu.core.account import account_identity
from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.core.events import EventLog
from pytest_vastgpu.core.events import Listener
from pytest_vastgpu.core.image_login import ImageLogin
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.errors import NoCredit
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Workload
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.reporting.artifacts import FOLDER
from pytest_vastgpu.reporting.cost_file import CostFile
from pytest_vastgpu.reporting.event_facts import considered_facts
from pytest_vastgpu.reporting.sentences import WorkloadNames
from pytest_vastgpu.reputation.cache_path import cache_path
from pytest_vastgpu.reputation.outcomes import workload_key
from pytest_vastgpu.reputation.records import Records
from pytest_vastgpu.selection.admission import admit
from pytest_vastgpu.selection.requirements import OfferRequirements
from pytest_vastgpu.selection.search_cache import SearchCache
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.settings import Settings
from pytest_vastgpu.ssh import known_hosts
from pytest_vastgpu.ssh.connector import SshConnector
from pytest_vastgpu.ssh.keys import load_key
from pytest_vastgpu.supervisor.cleanup.account_key import note_key
from pytest_vastgpu.supervisor.cleanup.guard import Guard
from pytest_vastgpu.supervisor.cleanup.sweep import sweeping
from pytest_vastgpu.supervisor.ledger.embedded_market import published
from pytest_vastgpu.supervisor.ledger.ledger import Ledger
from pytest_vastgpu.supervisor.ledger.run_directory import forget_old_runs
from pytest_vastgpu.supervisor.ledger.run_directory import owned
from pytest_vastgpu.supervisor.money.run_budgets import RunBudgets
from pytest_vastgpu.supervisor.pool.access import InstanceAccess
from pytest_vastgpu.supervisor.pool.pool import InstancePool
from pytest_vastgpu.supervisor.pool.price_monitor import PriceMonitor
from pytest_vastgpu.supervisor.pool.provisioner import Provisioner
from pytest_vastgpu.supervisor.rental.instance_poller import InstancePoller
from pytest_vastgpu.supervisor.rental.keep import Keeper
from pytest_vastgpu.supervisor.rental.keep import require_lasting_market
from pytest_vastgpu.supervisor.rental.rental import Rental
from pytest_vastgpu.supervisor.rental.services import RentalServices
from pytest_vastgpu.supervisor.run import Run
from pytest_vastgpu.supervisor.waits import MarketWaits


class Plugins(Protocol):
    """The hooks of conftest files and plugins, as plain calls."""

    def offers(self, run: str, offers: list[Offer], workload: Workload) -> list[Offer]:
        """Filter or re-rank offers for a pytest run."""
        ...

    def outcome(self, run: str, attempt: Attempt, workload: Workload) -> None:
        """Report the outcome of an attempt to the pytest run that pays for it."""
        ...


def open_run(
    opening: Opening,
    environ: Mapping[str, str],
    directory: Path,
    known: Mapping[str, Adapter],
    plugins: Plugins,
    listener: Listener,
    clock: Clock = SYSTEM_CLOCK,
    ending: CancelToken | None = None,
    market: LocalMarket | None = None,
) -> Run:
    """Create everything that is needed before anything can be rented.

    :param environ: The environment, secrets included.
    :param opening: What the first pytest run sends. It has not joined yet.
    :param directory: The supervisor's own directory, named by the id of that run.
    :param known: Adapters by name.
    :param listener: Called with every event.
    :param ending: Cancelled when the run ends: from then on only giving back is waited for.
    :param market: The local market for the backend ``local``; it may have begun to start. None: a new one.
    :raises Cancelled: the run has ended meanwhile; nothing was rented.
    :raises pytest_vastgpu.errors.VastGpuError: one line; nothing was rented.
    """
    settings, timeouts, started_in = opening.settings, opening.timeouts, Path(opening.directory)
    run_id = directory.name
    require_lasting_market(settings)
    key = load_key(environ, Path.home(), started_in)
    with contextlib.ExitStack() as stack:
        forget_old_runs(directory.parent)
        guarding = stack.enter_context(contextlib.ExitStack())  # the guard ends after the ownership
        stack.enter_context(owned(directory))
        ledger = Ledger(directory)
        stack.callback(ledger.close)
        events = EventLog(directory)
        events.listen(listener)
        records = Records(
            settings.url,
            cache_path(settings.host_cache, environ, started_in),
            directory,
            lambda text: events.write(Event("", None, f"warning: {text}")),
        )
        login = environment.image_login(environ)
        KNOWN.add_login(environment.IMAGE_LOGIN, login)
        url, api_key = _market(settings, environ, stack, events, market or LocalMarket(rate_limits=False))
        # An embedded market belongs to this run alone: its throttle files go into the run's directory.
        embedded = settings.backend == "local"
        identity = account_identity(url, api_key)
        if embedded:
            stack.enter_context(published(directory, url, api_key))
        ledger.begin(run_id, identity, url, embedded=embedded, started_in=opening.directory)
        ending = ending or CancelToken()
        throttle = directory / "throttle" if embedded else None
        waits = MarketWaits(lambda text, **facts: events.write(Event("", None, text, facts)), clock)
        client = open_provider(url, api_key, throttle, cancel=ending, timeouts=timeouts, tell=waits.begins)
        stack.callback(client.close)
        cleaning = CancelToken()
        cleaner = open_provider(url, api_key, throttle, cancel=cleaning, timeouts=timeouts, tell=waits.begins)
        stack.callback(cleaner.close)
        _require_credit(client, url, events)
        if not embedded and (unknown := note_key(directory, client, ledger, identity, key)):
            events.write(Event("", None, f"warning: {unknown}"))
        evidence = started_in / FOLDER / run_id
        keeper = Keeper(settings.keep, directory, key, clock)
        stack.enter_context(keeper.key_at_hand())
        budgets = RunBudgets()
        poller = InstancePoller(client.list_instances, timeouts, clock)
        services = RentalServices(
            client,
            cleaner,
            settings,
            key,
            ledger,
            events,
            run_id,
            evidence,
            budgets,
            poller,
            keeper,
            SshConnector(key, timeouts.connect_s, hosts=directory / known_hosts.FILE),
            timeouts,
            clock,
            ending=ending,
            image_login=ImageLogin.parse(login) if login else None,
        )

        def record(attempt: Attempt, workload: Workload) -> None:
            records.record(attempt, workload, run_id)
            plugins.outcome(budgets.payer(attempt.label), attempt, workload)

        searches, names = SearchCache(client.search, clock.monotonic), WorkloadNames()

        def find(run: str, workload: Workload, failed: frozenset[int], gone: frozenset[int]) -> Sequence[Offer]:
            need = _need(settings, records, workload, clock.time(), failed)
            found = searches.find(need, gone)
            chosen = plugins.offers(run, [ranked.offer for ranked in found], workload)
            considered = considered_facts(names[workload], found, admit(searches.seen(need), need).dropped, chosen)
            text = f"offers considered for {names[workload]}"
            events.write(Event("", None, text, {**considered, "run": run}, clock.time(), silent=True))
            return chosen

        def fits(workload: Workload, offer: Offer) -> bool:
            return bool(admit([offer], _need(settings, records, workload, clock.time())).kept)

        def tell(text: str) -> None:
            events.write(Event("", None, text))

        pool = InstancePool(known, settings, budgets, record, fits, tell, timeouts, clock)
        guard = None
        if not embedded:  # an embedded market destroys everything by itself when this process dies
            guard = Guard(directory, api_key, ledger)
            guarding.callback(guard.let_go)
            guard.start()
            stack.enter_context(sweeping(url, api_key, events, timeouts))

        def started(rental: Rental) -> None:
            if guard is not None:
                guard.ensure()
            pool.registry.started(rental)

        look_s, losses = timeouts.price_look_s, pool.losses
        rentals = pool.registry.alive
        prices = PriceMonitor(client.list_instances, rentals, losses.too_dear, losses.end, look_s, clock)
        stack.callback(prices.close)
        costs: dict[str, CostFile] = {}

        def write_costs(labels: Iterable[str]) -> None:
            """Write the files of all runs that have paid for these instances."""
            for run in {payment.run for label in labels for payment in budgets.payments(label)}:
                if run in costs and costs[run].path.parent.is_dir():  # the directories of old runs are removed
                    costs[run].write()

        def reused(rental: Rental) -> None:
            write_costs([rental.label])

        events.listen(lambda event: write_costs([event.label]) if event.state is State.GONE else None)
        stack.callback(lambda: write_costs(pool.registry.bills()))
        pool.open(Provisioner(services, find, record, started, pool.registry.ended, reused, pool.hosts_wanted, names))
        return Run(
            pool,
            InstanceAccess(pool.registry, lambda attempt, workload: records.record(attempt, workload, run_id)),
            run_id,
            directory,
            identity,
            url,
            embedded,
            budgets,
            waits,
            cleaner,
            cleaning,
            events,
            keeper,
            timeouts,
            clock,
            ledger,
            ending,
            guard,
            stack.pop_all(),
            costs=costs,
        )
    raise AssertionError("unreachable: the stack swallows nothing")


def _market(
    settings: Settings, environ: Mapping[str, str], stack: contextlib.ExitStack, events: EventLog, market: LocalMarket
) -> tuple[str, Secret]:
    """URL and key of the market. This starts the local market where the backend is ``local``."""
    if settings.backend == "vast":
        return settings.url, Secret(environment.api_key(environ))
    stack.enter_context(market)

    def tell_what_was_not_isolated() -> None:
        # At the end, since the market finds out while the first instance boots.
        with contextlib.suppress(LocalMarketError):  # it has ended, which is reported elsewhere
            if reason := market.status()["not_isolated"]:
                events.write(Event("", None, f"the local market: {reason}"))

    stack.callback(tell_what_was_not_isolated)
    return market.url, Secret(market.api_key)


def _require_credit(client: Provider, url: str, events: EventLog) -> None:
    """Check that the account can pay. A key that may not look at the account does not end the run.

    :raises NoCredit: if it cannot.
    :raises MarketError: if the market cannot be used at all.
    """
    try:
        credit_usd = client.account().credit_usd
    except NotAuthorized as lacks:
        events.write(Event("", None, f"warning: the account's credit is not known: {lacks}"))
        return
    if credit_usd <= 0:
        raise NoCredit(f"the account has no credit ({credit_usd:.2f} USD): add some on {url}")


def _need(
    settings: Settings, records: Records, workload: Workload, now: float, failed: frozenset[int] = frozenset()
) -> OfferRequirements:
    return OfferRequirements.under(settings, workload, workload_key(workload), records.read(), now, failed)

"""The fixture ``vast_compare``: two versions side by side on one host, and on a second one where that must confirm."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import pytest

from pytest_vastgpu.client.calls import Leases
from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.core.text.durations import spoken
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.measuring.comparison import Finding
from pytest_vastgpu.measuring.comparison import HostRounds
from pytest_vastgpu.measuring.comparison import Judged
from pytest_vastgpu.measuring.comparison import judge
from pytest_vastgpu.measuring.comparison import needs_second_host
from pytest_vastgpu.measuring.comparison import would_settle
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.plan import ComparisonPlan
from pytest_vastgpu.measuring.plan import limit_s
from pytest_vastgpu.measuring.record import Compared
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin import leases as renting
from pytest_vastgpu.plugin.measuring.report import keep
from pytest_vastgpu.plugin.measuring.rounds import HostLost
from pytest_vastgpu.plugin.measuring.rounds import HostMeasured
from pytest_vastgpu.plugin.measuring.rounds import measure_host
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.plugin.reports import drop
from pytest_vastgpu.reporting.measurements import compared_lines
from pytest_vastgpu.reporting.sentences import WorkloadNames
from pytest_vastgpu.servers.workloads import require_workload

SPARE_HOSTS = 1
"""So many hosts more are rented where one is lost, or is no fair place."""


class VastBenchmarkWarning(pytest.PytestWarning):
    """A comparison that does not say whether there is a regression. With ``--vast-benchmark-strict`` the test fails."""


class Compare(Protocol):
    """The value of the fixture ``vast_compare``."""

    def __call__(
        self,
        *,
        baseline: Workload,
        candidate: Workload,
        load: Load,
        rounds: int = 6,
        hosts: int = 2,
        blocks: int = 2,
        seconds: float = 10.0,
        minutes: float = 60.0,
    ) -> Comparison: ...


class Comparison:
    """Two versions, measured side by side. :meth:`assert_no_regression` says what they differ in."""

    def __init__(self, bench: _Bench) -> None:
        self._bench = bench

    @property
    def hosts(self) -> list[HostRounds]:
        """What was measured on each host, in order."""
        return [each.host for each in self._bench.measured]

    @property
    def seconds(self) -> float:
        """Seconds of all rounds so far, starts of servers included."""
        return sum(each.seconds for each in self._bench.measured)

    @property
    def usd(self) -> float:
        """USD that all hosts have cost so far."""
        return self._bench.usd

    def judge(self, **gates: float) -> list[Judged]:
        """What each gated metric shows; measures on a second host where a slowdown is suspected.

        :param gates: The slowdown that counts, by the metric's name: ``throughput=0.05`` is 5 % less.
        """
        __tracebackhide__ = True
        return renting.reported(self._bench.item, lambda: self._bench.judge(gates))

    def assert_no_regression(self, **gates: float) -> None:
        """Fail for a regression that a second host confirms, and for nothing else.

        What is inconclusive, and what the hardware is to blame for, warns; with ``--vast-benchmark-strict`` it fails.

        :param gates: The slowdown that counts, by the metric's name: ``throughput=0.05`` is 5 % less,
            ``ttft_p50=0.10`` is 10 % more time to the first token. Several are judged together (Holm).
        :raises AssertionError: for a regression.
        """
        __tracebackhide__ = True
        judged = self.judge(**gates)
        text = self._bench.keep(judged)
        found = {each.finding for each in judged}
        unsettled = bool(found & {Finding.INCONCLUSIVE, Finding.HARDWARE})
        if Finding.REGRESSION in found or (unsettled and self._bench.strict):
            raise AssertionError(text)
        if unsettled:
            warnings.warn(VastBenchmarkWarning(text), stacklevel=2)


def comparing(request: pytest.FixtureRequest) -> Compare:
    """The value of the fixture ``vast_compare``."""
    item = request.node

    def compare(
        *,
        baseline: Workload,
        candidate: Workload,
        load: Load,
        rounds: int = 6,
        hosts: int = 2,
        blocks: int = 2,
        seconds: float = 10.0,
        minutes: float = 60.0,
    ) -> Comparison:
        __tracebackhide__ = True

        def begin() -> _Bench:
            sides = {"A": baseline, "B": candidate}
            for name, workload in (("baseline", baseline), ("candidate", candidate)):
                require_workload(workload, f"{name} of vast_compare")
            if not isinstance(load, Load):
                raise ConfigurationError(
                    f"load of vast_compare is of type {type(load).__name__}; completions(model=…) and others make one"
                )
            plan = ComparisonPlan(rounds, hosts, blocks, seconds, minutes)
            whole = {side: renting.whole(item, workload) for side, workload in sides.items()}
            bench = _Bench(item, renting.opened(item.session), whole, load, plan)
            bench.begin()
            return bench

        return Comparison(renting.reported(item, begin))

    return compare


class _Bench:
    """Rents hosts for a comparison, and measures on them."""

    def __init__(
        self,
        item: pytest.Item,
        leases: Leases,
        sides: Mapping[str, Workload],
        load: Load,
        plan: ComparisonPlan,
    ) -> None:
        self.item = item
        self.measured: list[HostMeasured] = []
        self.usd = 0.0
        self.notes: list[str] = []
        self._leases = leases
        self._sides = sides
        self._load = load
        self._plan = plan
        self._settings = item.config.stash[SETTINGS]
        self._spare = SPARE_HOSTS
        self._machines: list[int] = []
        """Those that were rented."""
        self._gpu = self._kind = ""
        self._usd_h = self._settings.max_price
        self._rented = _for_both(sides["A"], sides["B"])
        names = WorkloadNames()
        self._names = {side: names[workload] for side, workload in sides.items()}

    @property
    def strict(self) -> bool:
        """Whether what is not settled fails the test."""
        return bool(self._settings.benchmark_strict)

    def begin(self) -> None:
        """Measure on a first host.

        :raises ConfigurationError: if the sides cannot share a host; nothing was rented.
        """
        baseline, candidate = self._sides["A"], self._sides["B"]
        if why := self._leases.apart(baseline, candidate):
            raise ConfigurationError(
                f"baseline and candidate cannot be compared on one host: {why}; have both use the same, and bring what "
                "differs with args=, files= or setup="
            )
        most_s = limit_s(self._plan, self._settings.max_lifetime)
        told = self._plan.told(self._load.warmup_s, most_s, self._settings.max_price)
        here = "; on the local market a second host is this same machine" if self._is_local else ""
        self._leases.tell(f"comparing {self._names['A']} (A) with {self._names['B']} (B): {told}{here}")
        self._measure()

    def judge(self, gates: Mapping[str, float]) -> list[Judged]:
        """See :meth:`Comparison.judge`."""
        better = {name: way for each in self.measured for name, way in each.better.items()}
        if self._fair:
            _check(gates, better)
        judged = judge([each.host for each in self.measured], gates, better)
        if needs_second_host(judged) and len(self._fair) < self._plan.hosts:
            suspects = ", ".join(f"{each.metric} {each.slowdown:+.1%}" for each in judged if each.confirm)
            self._leases.tell(f"a slowdown is suspected ({suspects}): a second host must confirm it")
            try:
                self._measure()
            except VastGpuError as failed:
                self.notes.append(f"no second host has confirmed it: {str(failed).splitlines()[0]}")
            judged = judge([each.host for each in self.measured], gates, better)
        return judged

    def keep(self, judged: Sequence[Judged]) -> str:
        """Keep the comparison for the run's report; returns the same for people."""
        hosts = tuple(each.host for each in self.measured)
        seconds = sum(each.seconds for each in self.measured)
        record = Compared(self._names["A"], self._names["B"], self._load, judged, hosts, self._gpu, seconds, self.usd)
        record = replace(record, notes=self._notes(judged))
        keep(self.item, record)
        headline = ", ".join(f"{each.metric}: {each.finding.value}" for each in judged)
        return "\n".join([headline, *(line for line, _ in compared_lines(self.item.name, record))])

    def _notes(self, judged: Sequence[Judged]) -> tuple[str, ...]:
        notes = [*self.notes, *(each.stopped for each in self.measured if each.stopped)]
        rounds, hosts = would_settle(judged)
        if rounds and self._fair:
            seconds = rounds * hosts * max(each.round_s for each in self.measured)
            usd = seconds * self._usd_h / HOUR_S
            notes.append(
                f"{rounds} rounds on each of {hosts} hosts would settle it: vast_compare(rounds={rounds}), about "
                f"{spoken(seconds)} and {usd:.2f} USD"
            )
        return tuple(notes)

    # ---------------------------------------------------------------- hosts

    @property
    def _fair(self) -> list[HostMeasured]:
        return [each for each in self.measured if not each.unfair]

    @property
    def _is_local(self) -> bool:
        return bool(self._settings.backend == "local")

    def _measure(self) -> None:
        """Measure on one more host; on another one where that is lost, or is no fair place."""
        while True:
            instance = self._rent()
            found = HostMeasured(self._counts_as(instance))
            found.unfair = instance.fairness().unfair
            if found.unfair:  # what it would measure says nothing, and costs the same
                self._give_back(instance)
                self.measured.append(found)
                if not self._spare:
                    return
                self._spare -= 1
                self._leases.tell(f"machine {instance.offer.machine_id} is no fair place, so another host is needed")
                drop(self.item, instance)
                continue
            life_s = self._settings.max_lifetime - sum(instance.seconds.values())
            try:
                with renting.waiting(self.item, f"rounds on machine {instance.offer.machine_id}"):
                    measure_host(
                        instance,
                        found,
                        self._sides,
                        self._load,
                        self._plan,
                        limit_s(self._plan, life_s),
                        self._leases.tell,
                    )
            except HostLost as lost:
                if not self._spare:
                    raise VastGpuError(str(lost)) from lost
                self._spare -= 1
                self._leases.tell(f"another host is needed: {str(lost).splitlines()[0]}")
                self._give_back(instance)
                drop(self.item, instance)
            else:
                self._give_back(instance)
                self.measured.append(found)
                return

    def _counts_as(self, instance: VastInstance) -> int:
        """As which machine it counts; the one machine of the local market counts once more."""
        machine = instance.offer.machine_id
        if machine not in self._machines:
            self._machines.append(machine)
            return machine
        self.notes.append(f"the second host, instance {instance.id}, is the same machine {machine} once more")
        return instance.id

    def _rent(self) -> VastInstance:
        workload = self._rented
        if workload.gpus and self._kind:
            workload = replace(workload, gpu_name=self._kind)
        ask: Callable[[list[int]], list[VastInstance]] = lambda others: renting.granted(  # noqa: E731
            self.item, lambda leases: [leases.acquire_another(self.item.nodeid, workload, others)]
        )
        try:
            (instance,) = ask(self._machines)
        except NoOffers:
            if not self._is_local or not self._machines:
                raise
            (instance,) = ask([])
        self._kind, self._gpu, self._usd_h = instance.offer.gpu_name, instance.gpu, instance.offer.price_usd_h
        return instance

    def _give_back(self, instance: VastInstance) -> None:
        self.usd += instance.cost_so_far
        instance.close()


def _for_both(one: Workload, other: Workload) -> Workload:
    """What is rented: it has what either side needs."""
    return replace(
        one,
        gpu_name=one.gpu_name or other.gpu_name,
        gpu_ram_gb=max(one.gpu_ram_gb, other.gpu_ram_gb),
        compute_cap=max(one.compute_cap, other.compute_cap),
        cuda=max(one.cuda, other.cuda),
        disk_gb=max(one.disk_gb, other.disk_gb),
        expected_use_s=max(one.expected_use_s, other.expected_use_s),
    )


def _check(gates: Mapping[str, float], better: Mapping[str, int]) -> None:
    """Check what is gated.

    :raises ConfigurationError: one line.
    """
    known = ", ".join(sorted(better))
    if not gates:
        raise ConfigurationError(f"nothing is gated: name a metric and the slowdown that counts; there are {known}")
    for metric, gate in gates.items():
        if metric not in better:
            raise ConfigurationError(f"{metric}={gate!r:.20}: there is no metric of that name; there are {known}")
        if isinstance(gate, bool) or not isinstance(gate, (int, float)) or not 0 < gate < 1:
            raise ConfigurationError(f"{metric}={gate!r:.20}: give the slowdown that counts, such as 0.05 for 5 %")

"""Rents the hosts of a comparison, and measures on them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pytest_vastgpu.client.calls import Leases
from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.errors import BudgetSpent
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import HostsLost
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MeasurementFailed
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.errors import NoRoom
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.measuring.comparing.comparison import Judged
from pytest_vastgpu.measuring.comparing.comparison import judge
from pytest_vastgpu.measuring.comparing.comparison import needs_second_host
from pytest_vastgpu.measuring.comparing.comparison import would_settle
from pytest_vastgpu.measuring.comparing.plan import ComparisonPlan
from pytest_vastgpu.measuring.comparing.plan import about
from pytest_vastgpu.measuring.comparing.plan import limit_s
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.record import Compared
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin import leases as renting
from pytest_vastgpu.plugin.measuring.gates import check_gates
from pytest_vastgpu.plugin.measuring.rounds import HostLost
from pytest_vastgpu.plugin.measuring.rounds import HostMeasured
from pytest_vastgpu.plugin.measuring.rounds import TooFewRounds
from pytest_vastgpu.plugin.measuring.rounds import at_fault
from pytest_vastgpu.plugin.measuring.rounds import measure_host
from pytest_vastgpu.plugin.measuring.sides import side_names
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.plugin.reports import drop
from pytest_vastgpu.reporting.measurements import compared_lines
from pytest_vastgpu.servers.files import entries

SPARE_HOSTS = 1
"""So many hosts more are rented where one is lost, or has a hardware problem."""


class Bench:
    """A comparison: its hosts, one after the other, and what was measured on them."""

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
        self._notes: list[str] = []
        self._leases = leases
        self._sides = sides
        self._load = load
        self._plan = plan
        self._settings = item.config.stash[SETTINGS]
        self._spare = SPARE_HOSTS
        self._instance: VastInstance | None = None
        """What is rented now."""
        self._machines: list[int] = []
        """Those that were rented."""
        self._gates: dict[str, float] = {}
        """All that were asked for: they are judged together, however many calls that takes."""
        self._confirms = plan.hosts > 1
        """Whether a second host may still be rented. It is tried once."""
        self._gpu = self._kind = ""
        self._usd_h = self._settings.max_price
        self._rented = _for_both(sides["A"], sides["B"], together=plan.together)
        self._names = side_names(sides)

    def begin(self) -> None:
        """Measure on a first host.

        :raises ConfigurationError: if the sides cannot share a host; nothing was rented.
        """
        baseline, candidate = self._sides["A"], self._sides["B"]
        if self._plan.together:
            if why := self._leases.clash(baseline, candidate):
                raise ConfigurationError(f"baseline and candidate cannot run at a time (together=True): {why}")
            self._notes.append("both servers ran at a time, each with part of the memory")
        if why := self._leases.apart(baseline, candidate):
            raise ConfigurationError(
                f"baseline and candidate cannot be compared on one host: {why}; have both use the same, and bring what "
                "differs by arguments, env=, files= or setup="
            )
        most_s = limit_s(self._plan, self._settings.max_lifetime)
        announcement = self._plan.announcement(self._load.warmup_s, most_s, self._settings.max_price, self._most_usd)
        transfers = any(each.image_gb + each.model_gb for each in self._sides.values())
        if transfers and self._most_usd < self._settings.budget:  # which has room for the transfers, too
            announcement += ", and what the transfer of image and models costs"
        here = "; on the local market a second host is this same machine" if self._is_local else ""
        workers = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
        if self._is_local and workers != "1":
            shared = f"{workers} workers share this machine's CPU, and what they do meanwhile is in the numbers"
            here += f"; {shared}: compare with -n 0"
            self._notes.append(shared)
        self._leases.tell(f"comparing {self._names['A']} (A) with {self._names['B']} (B): {announcement}{here}")
        self._measure()

    def judge(self, gates: Mapping[str, float]) -> list[Judged]:
        """What each gated metric shows; measures on a second host where a slowdown is suspected.

        :raises ConfigurationError: if a gate says nothing.
        """
        check_gates(gates, self._better, self._missing, {name for each in self.measured for name in each.seen})
        self._gates |= gates
        judged = self._judged()
        if needs_second_host(judged) and self._confirms:
            self._confirms = False
            suspects = ", ".join(f"{each.metric} {each.slowdown:+.1%}" for each in judged if each.confirm)
            self._leases.tell(f"a slowdown is suspected ({suspects}): a second host must confirm it")
            try:
                self._measure()
            except VastGpuError as failed:  # a host that is slow to start servers is no fault of theirs either
                if not _is_not_had(failed) and not isinstance(failed, TooFewRounds):
                    raise
                self._give_back()
                self._notes.append(f"no second host has confirmed it: {str(failed).splitlines()[0]}")
            judged = self._judged()
        return [each for each in judged if each.metric in gates]

    @property
    def notes(self) -> Sequence[str]:
        """What one must know to read it, in sentences."""
        notes = list(self._notes)
        for each in self.measured:
            place = each.host.place
            notes += [f"{place}: {note}" for note in (*each.notes, *each.left_out)]
            notes += [each.stopped] if each.stopped else []
            notes += [f"{place} does not count: {each.hardware_problem}"] if each.hardware_problem else []
        return notes

    def described(self, judged: Sequence[Judged] | None = None) -> str:
        """All of it in lines, for people.

        :param judged: None: all that was gated so far.
        """
        judged = self._judged() if judged is None else judged
        lines = [line for line, _ in compared_lines(self.item.name, self.record(judged))]
        if not judged:  # no table
            known = ", ".join(sorted(self._better)) or "none, as each host had a hardware problem"
            lines[2:3] = [f"nothing is gated so far; assert_no_regression takes one or more of {known}"]
        return "\n".join(lines)

    def record(self, judged: Sequence[Judged]) -> Compared:
        """What was found, with all that is behind it."""
        hosts = tuple(each.host for each in self.measured)
        seconds = sum(each.seconds for each in self.measured)
        missing = self._missing
        lacks = [
            f"{each.metric}, where it has no value: {missing[each.metric]}" for each in judged if each.metric in missing
        ]
        notes = [*self.notes, *lacks, *self._settles(judged)]
        names = self._names
        return Compared(
            names["A"], names["B"], self._load, judged, hosts, self._gpu, seconds, self.usd, notes=tuple(notes)
        )

    def _judged(self) -> list[Judged]:
        return judge([each.host for each in self.measured], self._gates, self._better)

    def _settles(self, judged: Sequence[Judged]) -> list[str]:
        """What would settle what is open: rounds, hosts, time and money."""
        rounds, hosts = would_settle(judged)
        if not hosts or not self._usable:
            return []
        if not rounds:
            return ["more rounds do not settle it: have windows of more seconds, or a load that varies less"]
        seconds = rounds * hosts * max(each.round_s for each in self.measured)
        takes = about(seconds, self._usd_h)
        if needs_second_host(judged):
            return [f"a second host would settle it: {takes}"]
        if hosts == 1:
            return [f"a third host would tell, which another run may rent: {takes}"]
        return [
            f"{rounds} rounds on each of up to {hosts} hosts would settle it: {takes}, vast_compare(rounds={rounds})"
        ]

    # ---------------------------------------------------------------- hosts

    @property
    def _better(self) -> Mapping[str, int]:
        return {name: way for each in self.measured for name, way in each.better.items()}

    @property
    def _missing(self) -> Mapping[str, str]:
        return {name: why for each in self.measured for name, why in each.missing.items()}

    @property
    def _usable(self) -> list[HostMeasured]:
        return [each for each in self.measured if not each.hardware_problem]

    @property
    def _most_usd(self) -> float:
        """What all hosts may cost: the spare ones too, each until the end of its life; without what is transferred."""
        settings, hosts = self._settings, self._plan.hosts + SPARE_HOSTS
        return min(settings.budget, hosts * settings.max_price * settings.max_lifetime / HOUR_S)

    @property
    def _is_local(self) -> bool:
        return bool(self._settings.backend == "local")

    def _measure(self) -> None:
        """Measure on one more host; on another one where that is lost, or has a hardware problem.

        What fails otherwise is the test's failure: the host goes back with the test, which shows its log or keeps it.

        :raises HostsLost: if the last one that may be rented is lost.
        :raises MeasurementFailed: if a side is at fault for that.
        """
        lost = list[tuple[HostLost, HostMeasured]]()
        why = ""
        while True:
            try:
                instance = self._instance = self._rent()
            except VastGpuError as none:
                if not why or not _is_not_had(none):
                    raise
                first = str(none).splitlines()[0]
                if lost:
                    raise HostsLost(f"{why}; no other host could be rented: {first}") from none
                self._notes.append(f"no other host could be rented: {first}")
                return
            machine = instance.offer.machine_id
            found = self._host(instance)
            life_s = self._settings.max_lifetime - sum(instance.seconds.values())
            try:
                with renting.waiting(self.item, f"rounds on machine {machine}"):
                    limit = limit_s(self._plan, life_s)
                    measure_host(instance, found, self._sides, self._load, self._plan, limit, self._leases.tell)
            except HostLost as end:
                lost.append((end, found))
                if not self._spare:
                    if fault := at_fault(lost):
                        self._give_back()  # or what became of it would excuse the test
                        raise MeasurementFailed(fault) from end
                    raise HostsLost(str(end)) from end
                why = str(end).splitlines()[0]
                self._notes.append(f"what machine {machine} measured does not count: {why}")
            else:
                self.measured.append(found)
                problem = found.hardware_problem
                why = f"machine {machine} has a hardware problem: {problem}" if problem else ""
            if not why or not self._spare:
                self._give_back(drops=False)
                return
            self._give_back()
            self._spare -= 1
            self._leases.tell(f"another host is needed: {why}")

    def _give_back(self, *, drops: bool = True) -> None:
        """Give the host back, if there is one.

        :param drops: Whether what becomes of it says nothing of the test.
        """
        instance, self._instance = self._instance, None
        if instance is not None:
            self.usd += instance.cost_so_far
            instance.close()
            if drops:
                drop(self.item, instance)

    def _host(self, instance: VastInstance) -> HostMeasured:
        """A host before anything is measured there; the one machine of the local market counts once more."""
        machine = instance.offer.machine_id
        if all(machine != each.machine_id for each in self.measured):
            return HostMeasured(machine)
        which = "second host" if self._usable else "host in place of the first"
        self._notes.append(f"the {which}, instance {instance.id}, is the same machine {machine} once more")
        return HostMeasured(instance.id, f"machine {machine} once more")

    def _rent(self) -> VastInstance:
        workload = self._rented
        if workload.gpus and self._kind:
            workload = replace(workload, gpu_name=self._kind)
        try:
            instance = self._another(workload, self._machines)
        except NoOffers:
            if not self._is_local or not self._machines:
                raise
            instance = self._another(workload, [])
        self._machines.append(instance.offer.machine_id)
        self._kind, self._gpu, self._usd_h = instance.offer.gpu_name, instance.gpu, instance.offer.price_usd_h
        return instance

    def _another(self, workload: Workload, other_than: list[int]) -> VastInstance:
        test = self.item.nodeid
        (instance,) = renting.granted(self.item, lambda leases: [leases.acquire_another(test, workload, other_than)])
        return instance


def _is_not_had(failed: VastGpuError) -> bool:
    """Whether a further host is not to be had, or was lost: neither is a failure of what was to be measured there."""
    if isinstance(failed, ProvisioningFailed) and failed.attempts:
        return failed.machines_failed  # else what was rented does not start for a fault of its own
    return isinstance(failed, NoOffers | NoRoom | BudgetSpent | HostsLost | MarketError | ProvisioningFailed)


def _for_both(one: Workload, other: Workload, *, together: bool) -> Workload:
    """What is rented: it has what either side needs, and the GPU memory for both where they run together."""
    return replace(
        one,
        gpu_name=one.gpu_name or other.gpu_name,
        gpu_ram_gb=(sum if together else max)((one.gpu_ram_gb, other.gpu_ram_gb)),
        compute_cap=max(one.compute_cap, other.compute_cap),
        cuda=max(one.cuda, other.cuda),
        disk_gb=max(one.disk_gb + _beside_gb(other, one), other.disk_gb + _beside_gb(one, other)),
        expected_use_s=max(one.expected_use_s, other.expected_use_s),
    )


def _beside_gb(one: Workload, other: Workload) -> float:
    """GB of what a side has on the disk beside all that the other one has there: what either brings stays."""
    model_gb = one.model_gb if (one.model, one.model_gb) != (other.model, other.model_gb) else 0.0
    return model_gb + round(sum(entry.size for entry in entries(set(one.files) - set(other.files))) / 1e9, 1)

"""What a run has done, as all reports show it. Values only; texts are safe to show, but not escaped for any format.

Times are epoch seconds, durations seconds, amounts USD. An unknown number is 0, an unknown text empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import ClassVar
from typing import NamedTuple

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.reporting.measurements import Kept
from pytest_vastgpu.reporting.sentences import blame


class Phase(NamedTuple):
    """A state of an instance, from when to when."""

    name: str
    """As in :class:`pytest_vastgpu.model.State`."""
    start: float
    end: float


class Used(NamedTuple):
    """A period in which a test used an instance."""

    test: str
    """Its node id; that of another run has the run's id behind it."""
    start: float
    end: float
    waited_s: float = 0.0
    """How long the test had waited for the instance."""


class Note(NamedTuple):
    """Something that was told of an instance, or of the run."""

    time: float
    text: str


class MarketPause(NamedTuple):
    """A call that waited for the market's limits."""

    start: float
    end: float
    what: str
    """The kind of call: ``search``."""


class GpuMemorySample(NamedTuple):
    """The memory of all GPUs of an instance at one moment."""

    time: float
    used_mib: tuple[float, ...]
    total_mib: tuple[float, ...]


@dataclass(frozen=True)
class VerdictReport:
    """Whose fault a failure is, and why that is thought."""

    failure_class: str
    """As in :class:`pytest_vastgpu.model.FailureClass`; whatever another version has written."""
    reason: str = ""
    evidence: str = ""
    remedy: str = ""

    @property
    def known_class(self) -> FailureClass:
        """The class; one that only another version knows is an unknown one."""
        try:
            return FailureClass(self.failure_class)
        except ValueError:
            return FailureClass.UNKNOWN

    def __str__(self) -> str:
        """``infra_fatal: ssh_never_up``."""
        return f"{self.failure_class}: {self.reason}" if self.reason else self.failure_class


@dataclass(frozen=True)
class OfferReport:
    """An offer that was considered."""

    machine: int
    gpu: str = ""
    usd_h: float = 0.0
    where: str = ""
    chance: float = 0.0
    """Expected share of starts that succeed; 0: not known."""
    expected_s: float = 0.0
    expected_usd: float = 0.0
    """Until an endpoint is ready, failed starts included."""
    why_not: tuple[str, ...] = ()
    """The conditions that it does not meet; empty: it was admitted."""
    taken: bool = False
    """Whether this attempt has rented it."""


@dataclass(frozen=True)
class Considered:
    """The offers that were considered before an attempt."""

    admitted: tuple[OfferReport, ...] = ()
    """In the order in which they are tried."""
    rejected: tuple[OfferReport, ...] = ()
    more_admitted: int = 0
    """How many are not listed."""
    more_rejected: int = 0


@dataclass(frozen=True)
class InstanceReport:
    """One attempt: an instance that became ready, or failed, or was called off."""

    label: str
    number: int = 0
    """1 for the first attempt of the run; its evidence is in a directory of that name."""
    id: int = 0
    """0: it was never created, as far as is known."""
    machine: int = 0
    gpu: str = ""
    workload: str = ""
    attempt: int = 0
    """1 for the first attempt of its workload."""
    usd_h: float = 0.0
    cost_usd: float = 0.0
    overhead_usd: float = 0.0
    """While no test used it."""
    idle_usd: float = 0.0
    """While it waited for another run."""
    transfer_usd: float = 0.0
    test_costs: Mapping[str, float] = field(default_factory=dict)
    """USD by test."""
    outcome: str = ""
    """``ready``, ``called off``, a verdict; else the last step that is known."""
    verdict: VerdictReport | None = None
    """Why it failed, or was lost."""
    failed_in: str = ""
    """The state in which it failed."""
    artifacts: str = ""
    """Directory of the evidence; empty: there is none."""
    phases: tuple[Phase, ...] = ()
    tests: tuple[Used, ...] = ()
    notes: tuple[Note, ...] = ()
    considered: Considered = field(default_factory=Considered)
    gpu_memory: tuple[GpuMemorySample, ...] = ()
    gone: bool = False
    """Whether it was seen to be gone, or never was; False: it may go on costing money."""
    kept_until: float = 0.0
    """Until when it is kept for a look inside; 0: it is not."""
    ends_at: float = 0.0
    """The hard end of its life."""

    @property
    def still_there(self) -> str:
        """In which way it may still be there, in words; empty: it is gone."""
        return "" if self.gone else "kept" if self.kept_until else "not seen to be gone"

    @property
    def lost(self) -> bool:
        """Whether it was lost after it had been ready."""
        return self.verdict is not None and any(phase.name == "ready" for phase in self.phases)

    @property
    def seconds(self) -> Mapping[str, float]:
        """How long it was in each state, in the order in which they began; one that came again is there once."""
        found: dict[str, float] = {}
        for phase in self.phases:
            found[phase.name] = found.get(phase.name, 0.0) + phase.end - phase.start
        return found

    @property
    def idle(self) -> tuple[Phase, ...]:
        """The periods in which it was ready, and no test used it."""
        found: list[Phase] = []
        for phase in self.phases:
            if phase.name != "ready":
                continue
            at = phase.start
            for use in sorted(self.tests, key=lambda use: use.start):
                if at < min(use.start, phase.end):
                    found.append(Phase("idle", at, min(use.start, phase.end)))
                at = max(at, use.end)
            if at < phase.end:
                found.append(Phase("idle", at, phase.end))
        return tuple(found)


@dataclass(frozen=True)
class TestReport:
    """One test that used an instance, or that failed for want of one."""

    __test__: ClassVar[bool] = False  # pytest shall not collect it

    nodeid: str
    outcome: str = ""
    """``passed``, ``failed``, ``error``, ``skipped``, ``xfailed``, ``xpassed``; empty: it has not ended."""
    when: str = ""
    """The phase that decided: ``setup``, ``call`` or ``teardown``."""
    started: float = 0.0
    duration_s: float = 0.0
    message: str = ""
    """Why it has not passed, in its own words."""
    verdict: VerdictReport | None = None
    """What became of its instance, where that explains something."""
    attempts: int = 0
    """How many attempts to get an instance have failed."""
    tries: int = 1
    """How often it was run."""
    instances: tuple[str, ...] = ()
    """Labels of those that it used."""
    host: str = ""
    """Where it ran, with ``--vast-hosts``: ``host 1``."""
    cost_usd: float = 0.0
    artifacts: str = ""

    @property
    def bad(self) -> bool:
        """Whether the run fails for it."""
        return self.outcome in {"failed", "error"}

    @property
    def blame(self) -> str:
        """Whose fault it is that it has not passed."""
        return blame(self.verdict.failure_class if self.verdict is not None else "")


@dataclass(frozen=True)
class RunReport:
    """A run."""

    id: str
    market: str = ""
    """The market's URL; empty: not known."""
    play_money: bool = False
    """Whether it rented from a local market of its own."""
    started: float = 0.0
    ended: float = 0.0
    """The last moment that is known."""
    running: bool = False
    """Whether its supervisor lives."""
    over: bool = False
    """Whether it came to its end; False also for one that was killed."""
    exit_status: int | None = None
    """That of pytest."""
    command: str = ""
    """The command line; no secret."""
    directory: str = ""
    """Where pytest was started."""
    instances: tuple[InstanceReport, ...] = ()
    tests: tuple[TestReport, ...] = ()
    """In the order in which they began."""
    notes: tuple[Note, ...] = ()
    """What was told of the run as a whole."""
    pauses: tuple[MarketPause, ...] = ()
    total_usd: float = 0.0
    budget_usd: float = 0.0
    measured: Kept = field(default_factory=Kept)
    """The measurements and comparisons."""
    missing: tuple[str, ...] = ()
    """What could not be read, one sentence for each file."""

    @property
    def left_alive(self) -> tuple[InstanceReport, ...]:
        """What was not seen to be gone: it may go on costing money. Empty where a market of its own ended with it."""
        if self.play_money and not self.running:
            return ()
        return tuple(each for each in self.instances if not each.gone and (each.id or each.outcome == "intended"))

    @property
    def failed_tests(self) -> tuple[TestReport, ...]:
        """The tests for which the run fails."""
        return tuple(test for test in self.tests if test.bad)

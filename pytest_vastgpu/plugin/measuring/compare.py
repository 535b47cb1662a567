"""The fixture ``vast_compare``: two versions side by side on one host, and on a second one where that must confirm."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol
from typing import Unpack

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.measuring.comparing.comparison import Finding
from pytest_vastgpu.measuring.comparing.comparison import HostRounds
from pytest_vastgpu.measuring.comparing.comparison import Judged
from pytest_vastgpu.measuring.comparing.plan import Budget
from pytest_vastgpu.measuring.comparing.plan import check_time
from pytest_vastgpu.measuring.comparing.plan import planned
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin import leases as renting
from pytest_vastgpu.plugin.measurements import keep
from pytest_vastgpu.plugin.measuring.bench import Bench
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.servers.workloads import require_workload


class VastBenchmarkWarning(pytest.PytestWarning):
    """A comparison that does not say whether there is a regression. With ``--vast-benchmark-strict`` the test fails."""


class Compare(Protocol):
    """The value of the fixture ``vast_compare``.

    What it takes besides both sides and the load are the fields of
    :class:`~pytest_vastgpu.measuring.comparing.plan.ComparisonPlan`, such as ``rounds=6`` or ``together=True``.
    """

    def __call__(
        self, *, baseline: Workload, candidate: Workload, load: Load, **budget: Unpack[Budget]
    ) -> Comparison: ...


class Comparison:
    """Two versions, measured side by side. :meth:`assert_no_regression` says what they differ in."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    @property
    def hosts(self) -> list[HostRounds]:
        """What was measured on each host, in order. Numbers of rounds are natural logarithms of a side's medians."""
        return [each.host for each in self._bench.measured]

    @property
    def notes(self) -> Sequence[str]:
        """What one must know to read it, in sentences: what could not be looked at on a host, which windows and rounds
        count no more, and why there are fewer than planned.
        """
        return self._bench.notes

    @property
    def seconds(self) -> float:
        """Seconds of all rounds so far, starts of servers included."""
        return sum(each.seconds for each in self._bench.measured)

    @property
    def usd(self) -> float:
        """USD that all hosts have cost so far."""
        return self._bench.usd

    def __str__(self) -> str:
        """What was compared, what each metric shows that was gated so far, and what one must know to read it."""
        return self._bench.described()

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
            ``ttft_p50=0.10`` is 10 % more time to the first token. Several are judged together (Holm), also with those
            of earlier calls.
        :raises AssertionError: for a regression.
        """
        __tracebackhide__ = True
        judged = self.judge(**gates)
        item = self._bench.item
        keep(item, self._bench.record(judged))
        headline = ", ".join(f"{each.metric}: {each.finding.value}" for each in judged)
        text = f"{headline}\n{self._bench.described(judged)}"
        found = {each.finding for each in judged}
        unsettled = bool(found & {Finding.INCONCLUSIVE, Finding.HARDWARE})
        if Finding.REGRESSION in found or (unsettled and item.config.stash[SETTINGS].benchmark_strict):
            raise AssertionError(text)
        if unsettled:
            _warn("; ".join([headline, "the report at the end of the run has the numbers"]))


def _warn(text: str) -> None:
    """Warn. Where all warnings are errors, this one is none: only a regression is red, unless that is said of it."""
    first = next((each for each in warnings.filters if issubclass(VastBenchmarkWarning, each[2])), None)
    with warnings.catch_warnings():
        if first is not None and first[0] == "error" and first[2] is not VastBenchmarkWarning:
            warnings.simplefilter("always", VastBenchmarkWarning)
        warnings.warn(VastBenchmarkWarning(text), stacklevel=3)


def comparing(request: pytest.FixtureRequest) -> Compare:
    """The value of the fixture ``vast_compare``."""
    item = request.node

    def compare(*, baseline: Workload, candidate: Workload, load: Load, **budget: Unpack[Budget]) -> Comparison:
        __tracebackhide__ = True

        def begin() -> Bench:
            sides = {"A": baseline, "B": candidate}
            for name, workload in (("baseline", baseline), ("candidate", candidate)):
                require_workload(workload, f"{name} of vast_compare")
            if not isinstance(load, Load):
                raise ConfigurationError(
                    f"load of vast_compare is of type {type(load).__name__}; completions(model=…) and others make one"
                )
            if load.driver:
                raise ConfigurationError(
                    f"load of vast_compare has driver={load.driver!r}: its start, and what warms the server for it, "
                    "would take longer than most windows; leave it out here; vast_instance.measure takes it"
                )
            plan = planned(**budget)
            check_time(plan, load.warmup_s, item.config.stash[SETTINGS].max_lifetime)
            whole = {side: renting.whole(item, workload) for side, workload in sides.items()}
            bench = Bench(item, renting.opened(item.session), whole, load, plan)
            bench.begin()
            return bench

        return Comparison(renting.reported(item, begin))

    return compare

"""What the end of a worker means, what becomes of its test, and when a host is rented again. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from enum import Enum

from pytest_vastgpu.client.calls import Fate
from pytest_vastgpu.reporting.sentences import verdict_line

MOST_LOSSES = 2
"""A test whose run was lost so often is an error. A host's place that was lost so often in a row, without a single
result in between, stays empty: what runs there may be what ends it."""


class Kind(Enum):
    """What has ended with a worker."""

    WORKER = "worker"
    """The worker alone, on a host that lives: its test is to blame, as at home."""
    CONNECTION = "connection"
    """The connection to a host that lives."""
    HOST = "host"
    """The host, or its use to us."""


@dataclass(frozen=True)
class Ending:
    """Why a worker has ended."""

    kind: Kind
    story: str = ""
    """In a few words; empty for a worker's own end."""
    evidence: str = ""
    """What was seen, for the report of a test that gets no other run."""
    blames_machine: bool = True

    @property
    def excuses(self) -> bool:
        """Whether it says nothing about the test."""
        return self.kind is not Kind.WORKER


def judge(*, answers: bool, fate: Fate | None) -> Ending:
    """Why a worker has ended.

    :param answers: Whether the proxy of its host still answers.
    :param fate: What has become of the host; None if it lives.
    """
    if fate is not None and fate.excuses:
        verdict = fate.verdict
        machine = verdict.failure_class.blames_machine
        return Ending(Kind.HOST, verdict_line(verdict), f"{verdict.evidence}; {verdict.remedy}", machine)
    if answers:
        return Ending(Kind.WORKER)
    if fate is not None:
        return Ending(Kind.CONNECTION, verdict_line(fate.verdict), fate.verdict.evidence)
    return Ending(Kind.CONNECTION, "the connection broke, the host lives")


def gone(why: str) -> Ending:
    """What is rented has no owner any more: nobody can say anything of any host.

    :param why: One line.
    """
    return Ending(Kind.HOST, why.splitlines()[0] if why else "nobody answers for it", "", blames_machine=False)


@dataclass
class LostRuns:
    """The runs of tests that were lost."""

    _of: dict[str, list[Ending]] = field(default_factory=dict)

    def lose(self, test: str, ending: Ending) -> bool:
        """A test's run was lost; returns whether it runs once more."""
        self._of.setdefault(test, []).append(ending)
        return len(self._of[test]) < MOST_LOSSES

    def endings(self, test: str) -> list[Ending]:
        """Why its runs were lost, in order."""
        return self._of.get(test, [])

    def summary(self) -> list[str]:
        """What ran twice and why, a line for each cause."""
        causes: dict[str, list[str]] = {}
        for test, endings in self._of.items():
            causes.setdefault(endings[0].story, []).append(test)
        return [f"ran twice, {story}: {listed(tests)}" for story, tests in causes.items()]


@dataclass
class Places:
    """The places of the run's hosts, by name, and what is known of losses there."""

    empty: set[str] = field(default_factory=set)
    """Those whose host was lost, and that another may take."""
    _fruitless: Counter[str] = field(default_factory=Counter)

    def fruitful(self, name: str) -> None:
        """A test has ended on its host."""
        self._fruitless.pop(name, None)

    def lost(self, name: str) -> bool:
        """Its host is lost; returns whether another one may take its place."""
        self._fruitless[name] += 1
        if self._fruitless[name] >= MOST_LOSSES:
            return False
        self.empty.add(name)
        return True

    def to_rent(self, *, left: int, workers: int, each: int) -> list[str]:
        """The places to rent hosts for: as long as more tests are left than workers, each of which can have one.

        :param left: Tests that are not over.
        :param workers: Workers that can still take tests, with those of hosts that are on their way.
        :param each: Workers of one host.
        """
        found = []
        for name in sorted(self.empty):
            if left <= workers:
                break
            found.append(name)
            workers += each
        self.empty.difference_update(found)
        return found


def listed(tests: Iterable[str], most: int = 3) -> str:
    """``a, b, c and 4 more``."""
    names = list(tests)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def runs_again(worker: str, host: str, test: str, ending: Ending) -> str:
    """The line on a test that runs once more."""
    what = f"{host} was lost" if ending.kind is Kind.HOST else f"the connection to {host} was lost"
    return f"vastgpu: {worker}: {what} ({ending.story}); {test} runs once more"


def lost_for_good(endings: Iterable[Ending]) -> str:
    """What stands in the place of a test's result whose runs were all lost."""
    told = list(endings)
    lines = [
        f"  run {number}: {each.story}{f' ({each.evidence})' if each.evidence else ''}"
        for number, each in enumerate(told, 1)
    ]
    return "\n".join(
        [
            f"vastgpu: this test has no result: {'both of its runs were' if len(told) > 1 else 'its run was'} lost",
            *lines,
            *(["  either it ends its host itself, or run it again"] if len(told) > 1 else []),
        ]
    )


def never_ran(why: str) -> str:
    """What stands in the place of a test's result that found no host any more."""
    return f"vastgpu: this test did not run: no host is left\n  {why}"

"""What the end of a worker means, and what becomes of its test. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from enum import Enum

from pytest_vastgpu.client.calls import Fate
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.reporting.sentences import count
from pytest_vastgpu.reporting.sentences import in_short
from pytest_vastgpu.reporting.sentences import some
from pytest_vastgpu.reporting.sentences import verdict_line

MOST_LOSSES = 2
"""A test whose run was lost so often is an error: it may be what ends its hosts."""


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
    verdict: Verdict | None = None
    """The same for programs; None for a worker's own end."""

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
        return Ending(Kind.HOST, verdict_line(verdict), f"{verdict.evidence}; {verdict.remedy}", machine, verdict)
    if answers:
        return Ending(Kind.WORKER)
    story = "its processes were ended, the host lives" if fate is not None else "the connection broke, the host lives"
    evidence = fate.verdict.evidence if fate is not None else ""
    verdict = Verdict(FailureClass.RUNTIME_LOST, "connection_lost", evidence or story, "run the test again")
    return Ending(Kind.CONNECTION, story, evidence, verdict=verdict)


def gone(why: str) -> Ending:
    """What is rented has no owner any more: nobody can say anything of any host.

    :param why: One line.
    """
    story = first_line(why) or "nobody answers for it"
    verdict = Verdict(FailureClass.OWN_FAULT, "supervisor_gone", story, "run the test again")
    return Ending(Kind.HOST, story, blames_machine=False, verdict=verdict)


@dataclass
class LostRuns:
    """The runs of tests that were lost."""

    _of: dict[str, list[Ending]] = field(default_factory=dict)
    _without: set[str] = field(default_factory=set)

    def lose(self, test: str, ending: Ending) -> bool:
        """A test's run was lost; returns whether it runs once more."""
        self._of.setdefault(test, []).append(ending)
        return len(self._of[test]) < MOST_LOSSES

    def of(self, test: str) -> list[Ending]:
        """Why its runs were lost, in order."""
        return self._of.get(test, [])

    def without_result(self, test: str) -> None:
        """A test gets no other run."""
        self._without.add(test)

    def summary(self) -> list[str]:
        """How many tests ran twice and why, a line for each cause."""
        causes: dict[str, list[str]] = {}
        for test in self._of.keys() - self._without:
            causes.setdefault(self._of[test][0].story, []).append(test)
        return [
            f"vastgpu: {count(len(tests), 'test')} ran twice ({story}): {some(sorted(tests))}"
            for story, tests in sorted(causes.items())
        ]


def runs_again(worker: str, host: str, test: str, ending: Ending) -> str:
    """The line on a test that runs once more."""
    what = f"{host} was lost" if ending.kind is Kind.HOST else f"the connection to {host} was lost"
    return f"vastgpu: {worker}: {what} ({ending.story}); {test} runs once more"


def lost_for_good(endings: Sequence[Ending]) -> str:
    """What stands in the place of a test's result whose runs were all lost."""
    return "\n".join(
        [
            f"vastgpu: this test has no result: it was lost {len(endings)} times, with its host or the way there",
            *_runs(endings),
            "  if it ends its host itself, mend that; otherwise run it again",
        ]
    )


def never_ran(endings: Sequence[Ending], why: str, told: str, end: str = "no host is left") -> str:
    """What stands in the place of a test's result that has not run, or not to its end.

    :param endings: Why runs of it were lost before.
    :param told: The test that has the reason in full; empty if this one shall have it.
    """
    reason = f"{first_line(why)} (the whole story: {told})" if told else why
    what = "was lost with its host" if endings else "did not run"
    return "\n".join([f"vastgpu: this test {what}, and {end}", *_runs(endings), f"  {reason}"])


def _runs(endings: Sequence[Ending]) -> list[str]:
    return [
        f"  run {number}: {each.story}{f' ({each.evidence})' if each.evidence else ''}"
        for number, each in enumerate(endings, 1)
    ]


def no_host(error: Exception) -> str:
    """Why no host could be had. The first line says it in short, with the verdict."""
    said = f"{error}" or "renting was called off"
    verdict = in_short(error.attempts) if isinstance(error, ProvisioningFailed) else ""
    first, *more = said.splitlines()
    return "\n".join([f"{first}: {verdict}" if verdict else first, *more])


def first_line(text: str) -> str:
    """What a text says in short."""
    return text.partition("\n")[0]


_FRAME = '  File "'
_MACHINERY = re.compile(r'  File "(?:<|.*/(?:_pytest|pluggy|xdist|execnet|importlib)/|.*/pytest/__main__\.py)')
_FOR_PEOPLE = re.compile(r"[\w.]*\b(?:ConftestImportFailure|UsageError): ")
_CAUSE = "\n\nThe above exception was the direct cause of the following exception:\n"


def before_any_test(error: object) -> tuple[str, str]:
    """Why a worker has ended before its first test.

    :param error: What xdist has of it: an exception of the other side, whose text is a traceback, or a text.
    :returns: One line, and the traceback without pytest's own frames; that is empty where the line says all.
    """
    text = str(error).strip("\n")
    if text == "Not properly terminated":
        return "its process has ended by itself", ""
    lines = text.splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith(_FRAME)]
    if not frames:
        return first_line(text) or type(error).__name__, ""
    said = next((line for line in lines[frames[-1] :] if line[:1].strip()), lines[-1])
    short = _FOR_PEOPLE.sub("", said, count=1)
    if short != said and "UsageError" in said:
        return short, ""
    return short, _without_machinery(text.partition(_CAUSE)[0] if short != said else text)


def _without_machinery(traceback: str) -> str:
    shown, kept = True, []
    for line in traceback.splitlines():
        if line.startswith(_FRAME):
            shown = not _MACHINERY.match(line)
        elif line[:1].strip():
            shown = True
        if shown:
            kept.append(line)
    return "\n".join(kept)

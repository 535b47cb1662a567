"""Why a test has no result of its own: the verdict travels with the report of its teardown, and is in JUnit files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from pytest_vastgpu.client.calls import Fate
from pytest_vastgpu.core.codec import NotDeclared
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.plugin.carried import CARRIED
from pytest_vastgpu.plugin.carried import Carried
from pytest_vastgpu.plugin.carried import carried
from pytest_vastgpu.plugin.carried import carry
from pytest_vastgpu.reporting.sentences import decisive

NAME = "vast_verdict"
"""Name under which it travels."""
_EVIDENCE_CHARS = 2000


@dataclass(frozen=True)
class Explained:
    """What has kept a test from its result, or what has become of its instance meanwhile."""

    verdict: Verdict
    attempts: int = 0
    """How many were made to get an instance, if none became ready; 0: the test had one."""
    artifacts: Sequence[str] = ()
    """Directories with evidence."""

    @classmethod
    def by_error(cls, error: VastGpuError) -> Explained:
        """No instance could be had."""
        attempts = error.attempts if isinstance(error, ProvisioningFailed) else ()
        if any(attempt.verdict for attempt in attempts):
            verdict = decisive(attempts)
        elif error.machines_failed:
            verdict = Verdict(FailureClass.INFRA_FATAL, _snake_case(type(error).__name__), str(error))
        else:  # nothing is said of any machine
            verdict = Verdict(FailureClass.OWN_FAULT, _snake_case(type(error).__name__), str(error))
        return cls(verdict, len(attempts), tuple(attempt.artifacts for attempt in attempts if attempt.artifacts))

    @classmethod
    def by_verdict(cls, verdict: Verdict | None) -> Explained | None:
        """Its host was lost; None where nothing is known of that."""
        return cls(verdict) if verdict is not None else None

    @classmethod
    def by_fate(cls, fate: Fate) -> Explained:
        """Its instance, or the server on it, has ended."""
        return cls(fate.verdict, artifacts=(fate.artifacts,) if fate.artifacts else ())

    def properties(self) -> list[tuple[str, object]]:
        """What a JUnit file shows of it."""
        return [
            (NAME, self.verdict.failure_class.value),
            ("vast_reason", self.verdict.reason),
            *([("vast_attempts", self.attempts)] if self.attempts else []),
            *(("vast_artifacts", sanitize.line(each)) for each in self.artifacts),
        ]


_explained = pytest.StashKey[Explained]()


def note(item: pytest.Item, explained: Explained) -> None:
    """Note it for a test. What is noted first stays, for this try."""
    item.stash.setdefault(_explained, explained)


def drop(item: pytest.Item) -> None:
    """Take it back: the test is tried again, or has passed."""
    if _explained in item.stash:
        del item.stash[_explained]


def noted(item: pytest.Item) -> list[tuple[str, object]]:
    """Have it travel with the test's next report; returns what a JUnit file shows of it."""
    explained = item.stash.get(_explained, None)
    if explained is None:
        return []
    carry(item, Carried(NAME, _text(explained)))
    return explained.properties()


def give(report: pytest.TestReport, explained: Explained) -> None:
    """Give it to a report that is made for a test elsewhere."""
    report.user_properties += explained.properties()
    setattr(report, CARRIED, [(NAME, _text(explained))])


def _text(explained: Explained) -> str:
    verdict = explained.verdict
    short = Verdict(
        verdict.failure_class,
        sanitize.line(verdict.reason),
        sanitize.line(verdict.evidence.strip(), _EVIDENCE_CHARS),
        sanitize.line(verdict.remedy.strip(), _EVIDENCE_CHARS),
    )
    return json.dumps(encode(Explained(short, explained.attempts, explained.artifacts)))


def explained_of(report: pytest.TestReport) -> Explained | None:
    """What has come with the report of a test's teardown."""
    for text in carried(report, NAME):
        try:
            found: Explained = decode(Explained, json.loads(text))
        except (ValueError, NotDeclared):  # another version of this package, in a worker
            continue
        return found
    return None


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()

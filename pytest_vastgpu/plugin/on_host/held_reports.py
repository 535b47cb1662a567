"""What workers report of tests that are not over yet. It is passed on once a test is, so that each counts once."""

from __future__ import annotations

from typing import Any
from typing import Literal

import pytest

from pytest_vastgpu.plugin.reporting.explained import Explained
from pytest_vastgpu.plugin.reporting.explained import give


def without_result(test: str, text: str, why: Explained | None, *, skip: bool) -> list[pytest.TestReport]:
    """The reports of a test that has no result of its own: an error, since that says nothing of the test, or a skip.

    That of its teardown follows, as it does of a test here: with it a JUnit file gets the test's properties.

    :param why: The verdict on its host, or why it had none.
    """
    path, _, name = test.partition("::")
    location = (path, None, name.replace("::", ".") or path)
    longrepr = (path, 0, text) if skip else text
    outcome: Literal["skipped", "failed"] = "skipped" if skip else "failed"
    reports = [
        pytest.TestReport(test, location, {}, outcome, longrepr, "setup"),
        pytest.TestReport(test, location, {}, "passed", None, "teardown"),
    ]
    if why is not None:
        give(reports[-1], why)
    return reports


Event = tuple[str, dict[str, Any]]
"""The name of an event of xdist, and its arguments."""
HELD = frozenset({"logstart", "testreport", "logfinish", "warning_recorded"})
"""The events of a test's protocol."""


class HeldReports:
    """The events of each worker's present test."""

    def __init__(self) -> None:
        self._held: dict[object, list[Event]] = {}
        self._begun: set[object] = set()

    def hold(self, name: str, arguments: dict[str, Any]) -> bool:
        """Keep an event back if it belongs to a test that may yet have to run again; returns whether it does."""
        node = arguments.get("node")
        if name not in HELD or (node is None and name != "logstart"):
            return False
        if name == "logstart":
            self._begun.add(node)
            self._held.setdefault(node, [])
        if node not in self._held:
            return False
        self._held[node].append((name, arguments))
        return True

    def has_begun(self, node: object) -> bool:
        """Whether a worker has begun a test, ever."""
        return node in self._begun

    @property
    def any_begun(self) -> bool:
        """Whether any worker has begun a test."""
        return bool(self._begun)

    def release(self, node: object) -> list[Event]:
        """Its test is over, or it has ended for good: what is to be passed on now, in order."""
        return self._held.pop(node, [])

    def drop(self, node: object) -> None:
        """Its test runs again: forget what this run of it has said."""
        self._held.pop(node, None)

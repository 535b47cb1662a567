"""Warns about tests that are marked ``vast`` and never ask for an instance.

Loaded only if a selected test has the mark. A fixture or a test may ask late, with ``request.getfixturevalue``, so only
the end of a test can tell.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Generator
from collections.abc import Sequence

import pytest

ASKED = pytest.StashKey[bool]()
"""Whether this try of a test has asked for an instance; in the stash of the test."""

_TEXT = (
    "a test is marked vast, but never asked for an instance: name the fixture vast_instance among its arguments, or "
    "remove the mark"
)


class VastMarkUnusedWarning(pytest.PytestWarning):
    """A test has the mark ``vast``, and passed without an instance."""


class Unasked:
    """Plugin object of a process that runs tests.

    :param doubtful: The tests to watch.
    """

    def __init__(self, doubtful: Collection[pytest.Item]) -> None:
        self._doubtful = doubtful

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Warn at the end of a test that passed and did not ask."""
        result = yield
        if item in self._doubtful and not item.stash.get(ASKED, False):
            try:
                item.warn(VastMarkUnusedWarning(_TEXT))
            except VastMarkUnusedWarning:  # warnings are errors
                pytest.fail(f"{VastMarkUnusedWarning.__name__}: {_TEXT}", pytrace=False)
        return result


def doubtful(items: Sequence[pytest.Item]) -> set[pytest.Item]:
    """The tests whose mark has no effect, as far as that can be told when they are collected.

    The mark of a class or a module is there for those of its tests that use an instance. One that says only what a host
    must be like, where there is no workload for it to change, is there for a run on hosts (``--vast-hosts``).
    """
    used = {node for item in items if _uses_instance(item) for node in item.listchain()}
    marks = {item: next(item.iter_markers_with_node("vast"), None) for item in items}
    found = {item for item, closest in marks.items() if closest is not None and closest[0] not in used}
    return {item for item in found if not _is_for_hosts(item)}


def _is_for_hosts(item: pytest.Item) -> bool:
    """Whether all that a test's marks can be for is a run on hosts: with such marks alone it could get no instance."""
    marks = list(item.iter_markers("vast"))
    names_server = any(mark.args or mark.kwargs.get("workload") is not None for mark in marks)
    if names_server or not any(mark.kwargs for mark in marks):
        return False
    # pytest has no public way to tell which fixtures a test could ask for. Without this one it is warned about.
    manager = getattr(item.session, "_fixturemanager", None)
    try:
        return len(manager.getfixturedefs("vast_workload", item)) == 1  # type: ignore[union-attr] # see above
    except (AttributeError, TypeError):
        return False


def _uses_instance(item: pytest.Item) -> bool:
    """Whether one of a test's fixtures is an instance, or rents one."""
    names = getattr(item, "fixturenames", ())
    return any(name.startswith("vast_") and "_instance" in name for name in names)


def watch_marks(session: pytest.Session) -> None:
    """Watch those of the collected tests whose mark may have no effect."""
    if found := doubtful(session.items):
        session.config.pluginmanager.register(Unasked(found), "vastgpu-unasked")

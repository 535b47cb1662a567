"""Xdist's schedulers where hosts come late and go early.

``worksteal`` and ``load`` can be given a test again. Those that keep tests together by scope are taught it here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.scheduler import LoadGroupScheduling
from xdist.scheduler import LoadScopeScheduling
from xdist.scheduler import WorkStealingScheduling
from xdist.workermanage import WorkerController

_BOUND = 2
"""Tests that a worker keeps: the one it runs, and the next, which it must know to tear down the right fixtures."""
DEFAULT = "worksteal"
"""A host that is ready late takes over half of what the busiest has left, and one that is lost leaves its queue."""
UNKNOWN = "each"
"""The one that has no meaning where it is not known how many hosts there will be."""


class _Again:
    """Has a scheduler of scopes run a test again. Xdist's own puts the test that has crashed back with its scope,
    without end, overwrites the part of a scope that a worker has already, and lets a late worker wait for ever: one
    that has a single test begins it only when it knows the next, or that none comes.
    """

    assigned_work: dict[WorkerController, dict[str, dict[str, bool]]]

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)  # type: ignore[call-arg]
        self._sent: defaultdict[WorkerController, list[str]] = defaultdict(list)
        """What each worker was given, in the order in which it runs it: the parts of a scope may have come apart."""

    def remove_node(self: Any, node: WorkerController) -> str | None:
        """See :class:`~xdist.scheduler.protocol.Scheduling`."""
        sent: Sequence[str]
        units, sent = self.assigned_work.pop(node), self._sent.pop(node, ())
        left = [test for test in sent if not units[self._split_scope(test)][test]]
        for test in left[1:]:
            self._put_back(test)
        self._hand_out()
        return left[0] if left else None

    def mark_test_pending(self: Any, item: str) -> None:
        """See :class:`~xdist.scheduler.protocol.Scheduling`."""
        self._put_back(item)
        self.workqueue.move_to_end(self._split_scope(item), last=False)
        self._hand_out()

    def schedule(self: Any) -> None:
        """See :class:`~xdist.scheduler.protocol.Scheduling`."""
        super().schedule()  # type: ignore[misc]
        self._fill_up()

    def _put_back(self: Any, test: str) -> None:
        self.workqueue.setdefault(self._split_scope(test), {})[test] = False

    def _hand_out(self: Any) -> None:
        for node in list(self.assigned_work):
            self._reschedule(node)
        self._fill_up()

    def _fill_up(self: Any) -> None:
        """Only when each has had its turn, so that none is given two tests where another has none."""
        for node in list(self.assigned_work):
            while not node.shutting_down and self._pending_of(self.assigned_work[node]) < _BOUND:
                self._reschedule(node)

    def _assign_work_unit(self: Any, node: WorkerController) -> None:
        scope, unit = next(iter(self.workqueue.items()))
        had = self.assigned_work[node].get(scope, {})
        super()._assign_work_unit(node)  # type: ignore[misc]
        self.assigned_work[node][scope] = {**had, **unit}
        self._sent[node] += unit


class Scopes(_Again, LoadScopeScheduling):  # type: ignore[misc] # xdist is not typed here
    """``--dist loadscope``."""


class Files(_Again, LoadFileScheduling):  # type: ignore[misc] # xdist is not typed here
    """``--dist loadfile``."""


class Groups(_Again, LoadGroupScheduling):  # type: ignore[misc] # xdist is not typed here
    """``--dist loadgroup``."""


OWN = {"loadscope": Scopes, "loadfile": Files, "loadgroup": Groups}


class Schedule:
    """What a session asks of a scheduler that xdist's protocol lacks. It is the same for all of xdist's.

    :param scheduler: Xdist's, or that of a plugin, which is taken as it is.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether all workers that it waited for at first have collected."""
        self._begun = self._begun or bool(self._scheduler.nodes and self._scheduler.collection_is_completed)
        return self._begun

    @property
    def tests(self) -> list[str] | None:
        """All tests; None before their distribution has begun, and where workers have collected different ones."""
        found: list[str] | None = self._scheduler.collection
        return found

    @property
    def waiting(self) -> int:
        """How many tests no worker has yet."""
        if isinstance(self._scheduler, LoadScopeScheduling):
            return sum(map(len, self._scheduler.workqueue.values()))  # what has run is in no queue
        return len(getattr(self._scheduler, "pending", ()))

    @property
    def movable(self) -> int:
        """How many tests a further worker could take: those, and what another one has beyond its next test."""
        queues = self._scheduler.node2pending.values() if isinstance(self._scheduler, WorkStealingScheduling) else ()
        return self.waiting + sum(max(0, len(queue) - _BOUND) for queue in queues)

    def has_tests(self, node: WorkerController) -> bool:
        """Whether a worker has tests that it has not ended."""
        if isinstance(self._scheduler, LoadScopeScheduling):
            return bool(self._scheduler._pending_of(self._scheduler.assigned_work.get(node, {})))
        return bool(getattr(self._scheduler, "node2pending", {}).get(node))

    def awaits(self, workers: int) -> None:
        """Begin as soon as so many workers have collected. Has no effect once it has begun."""
        if not self.begun and workers:
            self._scheduler.numnodes = workers
            if self.begun:
                self._scheduler.schedule()

    def remove(self, node: WorkerController) -> str | None:
        """A worker is gone; returns the test that it was running."""
        if node not in self._scheduler.nodes:
            return None
        if not self.begun:  # xdist's own would tell the others to end, since there is nothing to do for them
            for name in ("node2collection", "node2pending", "registered_collections", "assigned_work"):
                getattr(self._scheduler, name, {}).pop(node, None)
            return None
        test: str | None = self._scheduler.remove_node(node)
        return test


def may_distribute(dist: str) -> None:
    """Refuse a mode of distribution that cannot be carried out on hosts.

    :raises pytest.UsageError: one line.
    """
    if dist == UNKNOWN:
        raise pytest.UsageError(
            f"--dist {UNKNOWN} and --vast-hosts exclude each other: hosts come and go, so nobody can say on which of "
            "them a test has yet to run; leave it out, or say --dist worksteal, load, loadscope, loadfile or loadgroup"
        )

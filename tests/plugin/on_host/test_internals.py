"""What is used of the inside of xdist, execnet and pytest is there: another version shows here what it has changed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from typing import cast

import execnet
import pytest
from _pytest.reports import getworkerinfoline
from xdist import workermanage
from xdist.dsession import DSession
from xdist.dsession import TerminalDistReporter
from xdist.scheduler import LoadScheduling
from xdist.scheduler import LoadScopeScheduling
from xdist.scheduler import WorkStealingScheduling

SCHEDULERS = {
    LoadScopeScheduling: ("assigned_work", "registered_collections", "workqueue"),
    LoadScheduling: ("node2collection", "node2pending", "pending"),
    WorkStealingScheduling: ("node2collection", "node2pending", "pending"),
}


def test_xdist_has_what_is_used_of_its_inside(pytester: pytest.Pytester) -> None:
    config = pytester.parseconfigure("--tx=popen")  # no worker is started
    session, reporter = DSession(config), TerminalDistReporter(config)
    assert {"_isatty"} <= vars(reporter).keys()
    assert {"_active_nodes", "_max_worker_restart", "_summary_report"} <= vars(session).keys()
    assert "shouldstop" in DSession.__annotations__  # its loop sets it
    for name in ("_handlefailures", "worker_errordown", "worker_internal_error", "worker_runtest_protocol_complete"):
        assert callable(getattr(DSession, name))
    assert isinstance(workermanage._sys_path, list)
    for scheduling, names in SCHEDULERS.items():
        assert {"collection", "numnodes", *names} <= vars(scheduling(config)).keys()
    assert callable(LoadScopeScheduling._assign_work_unit)
    assert callable(LoadScopeScheduling._reschedule)
    node = SimpleNamespace(_workerinfocache="where it ran")
    assert getworkerinfoline(node) == "where it ran"  # type: ignore[no-untyped-call] # pytest's


def test_execnet_has_what_is_used_of_its_inside() -> None:
    group = execnet.Group()
    gateway = group.makegateway("popen")
    try:
        assert callable(group._cleanup_atexit)
        assert gateway in group._gateways
        assert isinstance(group._gateways_to_join, list)
        assert gateway._rinfo().version_info
        assert gateway._rinfo() is gateway._rinfo()
        assert callable(gateway._io.kill)
        assert callable(cast(Any, gateway._io).popen.wait)
    finally:
        group.terminate(timeout=10)

"""Keeps the hosts of runs apart: a host belongs to one run at a time. Pure."""

from __future__ import annotations

import itertools

from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.host import alike
from pytest_vastgpu.servers.host import beside


class OwnHosts:
    """Which run has which hosts. Not thread-safe: the pool's lock guards it.

    Servers are shared by runs, hosts are not: at its end a run ends whatever runs on its hosts. So what a second run
    asks for at the same time counts as another workload. The instance that it leaves can serve any later run.
    """

    def __init__(self) -> None:
        self._beside: dict[Workload, dict[str, int]] = {}
        """For hosts that are alike, the runs that have some, each with its number."""

    def of(self, run: str, workload: Workload) -> Workload:
        """What a run gets where it asks for a workload: that of a host which no other run has."""
        kind = alike(workload)
        if kind is None:
            return workload
        runs = self._beside.setdefault(kind, {})
        if run not in runs:
            runs[run] = next(number for number in itertools.count() if number not in runs.values())
        return beside(workload, runs[run])

    def over(self, run: str) -> None:
        """A run is over. What it leaves may serve another one."""
        for runs in self._beside.values():
            runs.pop(run, None)
        self._beside = {kind: runs for kind, runs in self._beside.items() if runs}

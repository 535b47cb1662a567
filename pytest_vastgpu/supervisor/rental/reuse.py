"""STUB until the branch relaunch is merged."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.rental import Rental
from pytest_vastgpu.supervisor.rental.server.end import ServerEnd


@dataclass(frozen=True)
class Fit:
    pass


@dataclass(frozen=True)
class Restart:
    why: str


@dataclass(frozen=True)
class Useless:
    verdict: Verdict


def look_again(context: BringUpContext, workload: Workload) -> Fit | Restart | Useless:
    if workload != context.rental.workload:
        return Restart("another workload")
    found = context.rental.look()
    if isinstance(found, ServerEnd):
        return Restart("it has ended")
    if found is not None:
        return Useless(found)
    context.rental.tell("reusing it")
    return Fit()


def takes(rental: Rental, workload: Workload, adapter: Adapter) -> str:
    return "" if rental.workload.image == workload.image else "image"

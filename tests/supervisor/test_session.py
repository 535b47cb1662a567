from __future__ import annotations

from typing import Any
from typing import cast

import pytest

from pytest_vastgpu.client import rpc
from pytest_vastgpu.client.calls import InstanceCalls
from pytest_vastgpu.client.calls import RunControl
from pytest_vastgpu.supervisor.pool.access import InstanceAccess
from pytest_vastgpu.supervisor.rpc_server import Caller
from pytest_vastgpu.supervisor.session import Session


class Control:
    """A supervisor with a run that has nothing but access."""

    access = InstanceAccess(cast(Any, {}))

    def run(self) -> Control:
        return self


@pytest.mark.parametrize("call", [*rpc.calls_of(RunControl), *rpc.calls_of(InstanceCalls)])
def test_every_declared_call_is_answered(call: str) -> None:
    assert callable(getattr(Session(cast(Any, Control()), Caller("a process")), call))


def test_nothing_else_is() -> None:
    with pytest.raises(AttributeError):
        Session(cast(Any, Control()), Caller("a process")).lease  # noqa: B018 - that it is there would be the fault

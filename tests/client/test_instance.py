"""A handle's methods are calls, declared once."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from pytest_vastgpu import VastInstance
from pytest_vastgpu.client import rpc
from pytest_vastgpu.client.calls import InstanceCalls
from pytest_vastgpu.client.calls import Leases
from pytest_vastgpu.client.calls import RunControl
from pytest_vastgpu.core.codec import hints
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.supervisor.pool.access import InstanceAccess
from pytest_vastgpu.supervisor.session import Session
from tests.client.conftest import SERVER
from tests.client.conftest import Connect
from tests.client.conftest import Host
from tests.client.conftest import leases


def instance(connect: Connect, label: str) -> VastInstance:
    calls = leases(connect())
    return VastInstance(calls, calls.acquire(label, SERVER, False))


def test_a_method_asks_for_its_instance(connect: Connect, host: Host) -> None:
    handle = instance(connect, "label")
    assert handle.run("true") == ProbeResult("label", ProbeFailure.NONE, 0, "true", "", 60.0)
    assert handle.run("true", timeout_s=2.0).elapsed_s == 2.0
    assert instance(connect, "x").logs() == "x" * 100
    host.errors["label"] = KeyError("none such")
    with pytest.raises(Exception, match="none such"):
        handle.failed()
    with pytest.raises(TypeError, match="command"):
        handle.run()  # type: ignore[call-arg] # too few


@pytest.mark.parametrize("port", [0, 65536, -1, True, "8001", 8001.0, None])
def test_what_is_no_port_is_refused_here(connect: Connect, port: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        instance(connect, "label").address(port)
    assert str(refused.value) == f"address({port!r}): that is no TCP port; give a whole number from 1 to 65535"


@pytest.mark.parametrize("declaration", [Leases, RunControl])
def test_what_answers_takes_what_is_declared(declaration: Any) -> None:
    for name, call in rpc.calls_of(declaration).items():
        answers = getattr(Session, name, None) or getattr(InstanceAccess, name)
        types = dict(hints(answers))
        gives = types.pop("return")
        assert (tuple(types.values()), gives) == (call.takes, call.gives), name


def test_every_method_is_documented() -> None:
    for name in rpc.calls_of(Leases).keys() & vars(InstanceCalls).keys():
        method = getattr(VastInstance, name)
        assert method.__doc__
        assert "label" not in inspect.signature(method).parameters

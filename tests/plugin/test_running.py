"""Handles that outlive a test: what they lead to, and when."""

from __future__ import annotations

from typing import Any
from typing import cast

import pytest

from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.client.calls import Leases
from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.running import InstanceOfRunningTest
from pytest_vastgpu.plugin.running import Running
from pytest_vastgpu.plugin.running import lead_to_own
from tests.support.factories import make_offer

LEASES = cast(Leases, object())


def instance(number: int) -> VastInstance:
    return VastInstance(
        LEASES, Lease(f"label-{number}", number, make_offer(), f"http://{number}", {}, api_key=f"key {number}")
    )


class Item:
    """A test, and what its fixture vast_instance gives."""

    def __init__(self, running: Running, *numbers: int, fixtures: tuple[str, ...] = ()) -> None:
        self._running, self._numbers = running, list(numbers)
        self._request = self
        self.fixturenames = list(fixtures)

    def getfixturevalue(self, name: str) -> VastInstance:
        assert name == "vast_instance"
        found = instance(self._numbers.pop(0))
        self._running.takes(cast(Any, self), found)
        return found


def test_a_handle_follows_the_tests() -> None:
    running, told = Running(), list[object]()
    handle = InstanceOfRunningTest(LEASES, running)
    with pytest.raises(VastGpuError, match="no test has used the instance yet"):
        _ = handle.endpoint
    first, second = Item(running, 1), Item(running, 2, 3)
    running.pytest_runtest_setup(cast(Any, first))
    first.getfixturevalue("vast_instance")
    assert (handle.endpoint, handle.id, handle.api_key) == ("http://1", 1, "key 1")
    running.pytest_runtest_teardown()
    assert running.last is not None
    running.last.on_measured = told.append
    assert handle.on_measured == told.append
    assert handle.endpoint == "http://1"  # of the last one, for the teardown of fixtures
    running.pytest_runtest_setup(cast(Any, second))
    assert (handle.endpoint, handle.endpoint) == ("http://2", "http://2")  # it asks late, and once
    running.pytest_runtest_setup(cast(Any, second))  # run once more
    assert handle.endpoint == "http://3"
    assert "http://3" in repr(handle)
    assert "key" not in repr(handle)


def test_a_handle_that_follows_the_tests_is_not_led_elsewhere() -> None:
    handle = InstanceOfRunningTest(LEASES, Running())
    with pytest.raises(ConfigurationError, match="this one is shared with other tests: rent one with vast_instance_fa"):
        handle.leads_to(instance(1)._lease, Workload("command"))


@pytest.mark.parametrize(
    ("fixtures", "leads"),
    [
        (("client", "vast_session_instance"), True),
        (("vast_module_instance",), True),
        (("vast_instance", "vast_session_instance"), False),
        (("tmp_path",), False),
    ],
)
def test_a_test_with_such_a_handle_takes_an_instance_of_its_own_first(fixtures: tuple[str, ...], leads: bool) -> None:
    item = Item(Running(), fixtures=fixtures)
    for _ in range(2):  # several tests share the list
        lead_to_own(cast(Any, item))
    assert item.fixturenames == [*(["vast_instance"] if leads else []), *fixtures]

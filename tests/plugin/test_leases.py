"""What is no workload is the test's one-line failure, where only the test's run can tell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.leases import owned
from pytest_vastgpu.plugin.leases import shared


def request(value: object) -> Any:
    """A test without marks, whose fixture ``vast_workload`` has this value."""
    node = SimpleNamespace(iter_markers=lambda _: iter(()))
    return SimpleNamespace(node=node, getfixturevalue=lambda _: value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("org/model", "is 'org/model', of type str and no workload"),
        (7, "is of type int and no workload"),
        ({"model": "m"}, "is of type dict and no workload"),
        (Workload("command", ready_path="up"), "ready_path of the workload must start with '/'"),
    ],
)
@pytest.mark.parametrize(
    ("ask", "source"),
    [
        (lambda value: shared(request(value), value), "the value of the fixture vast_workload "),
        (lambda value: owned(request(None))(value), "the argument of vast_instance_factory "),
    ],
)
def test_what_is_no_workload_is_one_line(ask: Any, source: str, value: object, words: str) -> None:
    with pytest.raises(pytest.fail.Exception) as caught:
        ask(value)
    text = str(caught.value)
    assert words in text
    assert text.startswith(source) or isinstance(value, Workload)
    assert not caught.value.pytrace
    assert "\n" not in text

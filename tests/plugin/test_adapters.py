"""What the hook for adapters may answer, and what is said where it fails."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.plugin.adapters import adapters_of
from pytest_vastgpu.servers.command import CommandAdapter


class Half(CommandAdapter, ABC):
    @abstractmethod
    def served(self) -> None: ...


def asked(hook: Any) -> Any:
    config: Any = SimpleNamespace(hook=SimpleNamespace(pytest_vastgpu_adapters=hook))
    return adapters_of(config)


def test_the_adapters_of_all_hooks_are_taken() -> None:
    one, two = CommandAdapter(), CommandAdapter()
    assert asked(lambda: [[one], (two,)]) == [one, two]


def test_an_adapter_that_lacks_a_method_is_one_line_with_the_place() -> None:
    def hook() -> Any:
        return [[Half()]]  # type: ignore[abstract] # the point

    line = hook.__code__.co_firstlineno + 1
    with pytest.raises(VastGpuError) as caught:
        asked(hook)
    told = str(caught.value)
    assert told.startswith(f"{__file__}:{line}: pytest_vastgpu_adapters raised TypeError: ")
    assert "Half" in told
    assert "served" in told
    assert "\n" not in told


def test_what_is_no_list_is_one_line() -> None:
    with pytest.raises(VastGpuError, match=r"gave .*CommandAdapter; return a list of adapters"):
        asked(lambda: [CommandAdapter()])


@pytest.mark.parametrize("end", [pytest.UsageError("mine"), pytest.exit.Exception("mine")])
def test_a_hook_may_end_the_run_with_words_of_its_own(end: Exception) -> None:
    def hook() -> Any:
        raise end

    with pytest.raises(type(end), match="mine"):
        asked(hook)

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable

import pytest

from pytest_vastgpu import Workload
from pytest_vastgpu import command
from pytest_vastgpu import vllm
from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.model import WorkloadFields
from pytest_vastgpu.plugin import marks

BUILDERS = (vllm, command)


@pytest.mark.parametrize("builder", BUILDERS)
def test_a_builder_shows_and_documents_every_parameter(builder: Callable[..., Workload]) -> None:
    parameters = inspect.signature(builder).parameters
    assert set(WorkloadFields.__annotations__) <= set(parameters)
    documented = inspect.getdoc(builder) or ""
    assert [name for name in parameters if f":param {name}: " not in documented] == []


@pytest.mark.parametrize("builder", BUILDERS)
def test_what_a_builder_shows_as_a_default_is_what_it_builds_with(builder: Callable[..., Workload]) -> None:
    built = builder("x", image="mine")
    parameters = inspect.signature(builder).parameters
    needs = [name for name in WorkloadFields.__annotations__ if name != "image"]
    assert {name: getattr(built, name) for name in needs} == {name: parameters[name].default for name in needs}


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("name", ["gpu_ram", "adapter", "expose"])
def test_a_builder_takes_no_other_name(builder: Callable[..., Workload], name: str) -> None:
    with pytest.raises(TypeError, match=rf"^{builder.__name__}\(\) got an unexpected keyword argument '{name}'$"):
        builder("x", **{name: 1})


def test_builders_and_marker_are_typed() -> None:
    # mypy checks these lines: a wrong name and a wrong type are errors where a test is written.
    assert vllm("m", "--seed=1", gpus=2, gpu_ram_gb=20, env={"A": "b"}).gpus == 2
    assert command("run", port=80, disk_gb=1.5, files=None).disk_gb == 1.5
    with pytest.raises(TypeError):
        vllm("m", gpu_ram=20)  # type: ignore[call-arg] # such a name
    with pytest.raises(TypeError):
        command("run", gpu_ram=20)  # type: ignore[call-arg] # such a name
    with pytest.raises(TypeError):
        marks.vast(gpu_ram=20)  # type: ignore[call-arg] # such a name
    with pytest.raises(WorkloadInvalid, match="gpus='2' of the workload is not a whole number"):
        vllm("m", gpus="2")  # type: ignore[arg-type] # such a type


def test_the_marker_lists_what_it_takes(pytester: pytest.Pytester) -> None:
    shown = pytester.runpytest_inprocess("--markers").stdout.str()
    line = next(line for line in shown.splitlines() if line.startswith("@pytest.mark.vast("))
    assert line.startswith("@pytest.mark.vast(workload=None, *, image, image_login, gpus, gpu_name, gpu_ram_gb,")
    assert [name for name in WorkloadFields.__annotations__ if name not in line] == []


def test_every_field_says_what_it_means() -> None:
    silent = [each.name for each in dataclasses.fields(Workload) if not each.metadata.get("meaning")]
    assert silent == ["adapter"]  # it has no default, and so is declared as it is

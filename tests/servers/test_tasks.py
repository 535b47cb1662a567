"""The task of a workload: how it is named, kept, and what vLLM is started with for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers import tasks
from pytest_vastgpu.servers.building import detail
from pytest_vastgpu.servers.openai_server import openai_server
from pytest_vastgpu.servers.tasks import Task
from pytest_vastgpu.servers.vllm import VllmAdapter
from pytest_vastgpu.servers.vllm import vllm


@pytest.mark.parametrize("task", tasks.TASKS)
def test_the_task_is_a_detail_of_the_workload(task: Task) -> None:
    for workload in (vllm("m", task=task), openai_server("serve", model="m", task=task)):
        assert detail(workload, "task") == task
        assert tasks.of(workload) == task


def test_a_workload_that_names_no_task_generates() -> None:
    assert vllm("m") == vllm("m", task="generate")
    assert tasks.of(Workload(adapter="vllm", model="m")) == "generate"


@pytest.mark.parametrize("task", ["embedding", "", None, 3])
def test_a_task_that_is_none_is_told_in_one_line(task: object) -> None:
    builders: tuple[Callable[..., Workload], ...] = (vllm, partial(openai_server, "serve"))
    for build in builders:
        with pytest.raises(WorkloadInvalid) as caught:
            build(model="m", task=task)
        text = str(caught.value)
        assert text.startswith(f"task={task!r} of the workload is none of ")
        assert all(repr(each) in text for each in tasks.TASKS)
        assert "\n" not in text


def test_the_nearest_task_comes_first() -> None:
    with pytest.raises(WorkloadInvalid, match="there are: 'embed'"):
        vllm("m", task="embedding")  # type: ignore[arg-type]


@pytest.mark.parametrize("task", tasks.TASKS)
def test_vllm_is_started_with_a_runner_for_the_task(task: Task) -> None:
    script = VllmAdapter().launch(vllm("m", "--runner=auto", task=task), "key").script
    pools = task in ("embed", "score", "classify")
    assert script.count("--runner pooling --runner=auto") == (2 if pools else 0), "the user's own argument wins"
    assert script.count("--runner=auto") == 2

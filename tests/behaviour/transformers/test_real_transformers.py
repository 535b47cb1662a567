"""Real ``transformers serve``, on CPU, through the plugin and the local market, as any OpenAI-compatible server.

Needs the environment that ``.ci/vllm-cpu.sh DIR`` makes; each start takes some seconds::

    VASTGPU_VLLM=DIR pytest -n 2 -m "slow or not slow" tests/behaviour/transformers
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.behaviour import conftest as renting
from tests.behaviour.real_servers import assert_nobody_blamed
from tests.behaviour.vllm import test_real_vllm as real
from tests.servers import test_recipes as recipes
from tests.support.quick import only

time_limits = renting.time_limits
rent_from = renting.rent_from
host_cache = renting.host_cache
CACHE = 'mkdir -p "${HF_HOME:-$HOME/.cache/huggingface}/hub"\n'
SERVE = 'exec transformers serve {model} --host "$VASTGPU_HOST" --port 8000'
SLOW = """
import sys, time
from transformers.cli.serving import model_manager
load = model_manager.ModelManager._load_model

def slowly(*arguments, **named):
    time.sleep(45)  # longer than a request is waited for
    return load(*arguments, **named)

model_manager.ModelManager._load_model = slowly
from transformers.cli.transformers import main
main()
"""
CONFTEST = """
import pytest
from pytest_vastgpu import openai_server

@pytest.fixture
def vast_workload():
    files = {{"slow.py": "slow.py"}}
    return openai_server({command!r}, model={model!r}, files=files, gpus=0, disk_gb=8, env={env!r}, warmup_s=240)
"""
ASKS = """
import httpx

def test_it(vast_instance, vast_workload):
    answer = httpx.post(
        vast_instance.endpoint + "/v1/chat/completions",
        headers=vast_instance.headers,
        json={"model": vast_workload.model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["role"] == "assistant"
"""


def rented(pytester: pytest.Pytester, command: str, model: str) -> pytest.RunResult:
    env = {"PATH": real.PATH, "HF_HUB_OFFLINE": "1"}
    pytester.makeconftest(CONFTEST.format(command=command, model=model, env=env))
    pytester.path.joinpath("slow.py").write_text(SLOW)
    pytester.makepyfile(ASKS)
    return pytester.runpytest_inprocess("--vast-attempts=1")


STARTS = {
    "as in the recipe": CACHE + SERVE.format(model=real.MODEL),
    "loaded by the first request": CACHE + SERVE.format(model=""),
    "without a list of models": SERVE.format(model=real.MODEL),
    "loaded slowly by the first request": CACHE + 'exec python slow.py serve --host "$VASTGPU_HOST" --port 8000',
}


@pytest.mark.parametrize("start", only({"as in the recipe"}, STARTS))
def test_a_start_that_serves(start: str, pytester: pytest.Pytester, rent_from: real.RentFrom, host_cache: Path) -> None:
    rent_from({"this_machine": True})
    rented(pytester, STARTS[start], str(real.MODEL)).assert_outcomes(passed=1)
    assert [machine.successes for machine in renting.known(host_cache).values()] == [1]


KILLED = "{ while sleep 0.2; do for pid in $(pgrep -f '[t]ransformers serve'); do kill -9 $pid; exit; done; done; } &\n"
FAILURES: dict[str, tuple[Callable[[Path], Path], str, str, str]] = {
    "wrong model": (real.same_model, "", "other", "workload_fatal: model_completes_no_text"),
    "missing model": (lambda directory: directory / "nowhere", "", "", "workload_fatal: "),
    # A broken download here, or a broken file at its source: the log cannot tell.
    "truncated weights": (real.truncated_model, "", "", "unknown: model_file_truncated"),
    "port taken": (real.same_model, real.HOLD_PORT, "", "workload_fatal: "),
    "killed": (real.same_model, KILLED, "", "incompatible: process_killed"),
}


@pytest.mark.parametrize("case", only(FAILURES.keys() - {"missing model"}, FAILURES))
def test_a_start_that_fails_gets_its_verdict_and_blames_no_machine(
    case: str, pytester: pytest.Pytester, rent_from: real.RentFrom, host_cache: Path, tmp_path: Path
) -> None:
    make_model, before, asked, verdict = FAILURES[case]
    rent_from({"this_machine": True})
    model = str(make_model(tmp_path))
    result = rented(pytester, CACHE + before + SERVE.format(model=model), asked or model)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*failed while warming: {verdict}*", "*whose fault: *", "*what to do: *"])
    assert_nobody_blamed(host_cache)


@pytest.mark.slow
def test_the_recipes_flags_are_those_of_this_release() -> None:
    help_text = subprocess.run(
        [real.PLACE / "bin" / "transformers", "serve", "--help"],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert all(f"{flag} " in help_text for flag in recipes.SERVERS["transformers serve"].flags)

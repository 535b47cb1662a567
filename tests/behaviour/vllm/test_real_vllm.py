"""Real vLLM, on CPU, through the plugin and the local market: whose fault its real failures are.

Needs the environment that ``.ci/vllm-cpu.sh DIR`` makes; each start takes half a minute::

    VASTGPU_VLLM=DIR pytest -n 2 tests/behaviour/vllm
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.servers.vllm import VllmAdapter
from tests.behaviour import conftest as renting
from tests.behaviour.real_servers import SYSTEM_PATH
from tests.behaviour.real_servers import assert_nobody_blamed
from tests.behaviour.real_servers import conftest
from tests.behaviour.real_servers import hold_port

PLACE = Path(os.environ.get("VASTGPU_VLLM", "."))
MODEL = PLACE / "tiny-llama"
PATH = f"{PLACE.resolve() / 'bin'}:{SYSTEM_PATH}"
if "VASTGPU_VLLM" not in os.environ:
    pytest.skip("VASTGPU_VLLM does not name an environment with vLLM, see .ci/vllm-cpu.sh", allow_module_level=True)

time_limits = renting.time_limits
rent_from = renting.rent_from
host_cache = renting.host_cache
RentFrom = Callable[[dict[str, Any]], LocalMarket]

WORKLOAD = "workload_fatal: "
QUICK = ("--enforce-eager", "--gpu-memory-utilization=0.1")
ASKS = """
import httpx

def ask(instance):
    return httpx.post(
        instance.endpoint + "/v1/completions",
        headers=instance.headers,
        json={"model": MODEL, "prompt": "The cheapest machine", "max_tokens": 4, "temperature": 0},
        timeout=60,
    )
"""
# A child of the server, by what it calls itself; from within the script that becomes the server, and from a test.
ENGINE = "ps -eo pid,ppid,args | awk '$3 ~ /EngineCore/ {print $1}'"
KILL_ENGINE = f'{{ while sleep 0.2; do for pid in $({ENGINE}); do sleep 1; kill -9 "$pid"; exit; done; done; }} &\n'
HOLD_PORT = hold_port(8000)


def write_suite(
    pytester: pytest.Pytester,
    tests: str,
    model: Path = MODEL,
    args: tuple[str, ...] = QUICK,
    before: str = "",
    env: Mapping[str, str] | None = None,
    task: str = "generate",
) -> None:
    offline = {"PATH": PATH, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", **(env or {})}
    needs = f"gpus=0, disk_gb=8, image_gb=0, warmup_s=240, env={offline!r}"
    workload = f"vllm({str(model)!r}, *{args!r}, task={task!r}, {needs})"
    pytester.makeconftest(conftest(VllmAdapter, workload, before))
    pytester.makepyfile(ASKS + f"MODEL = {str(model)!r}\n" + tests)


def changed_model(directory: Path, **config: object) -> Path:
    """A copy of the tiny model with another configuration."""
    model = directory / "model"
    shutil.copytree(MODEL, model)
    file = model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return model


def truncated_model(directory: Path) -> Path:
    model = changed_model(directory)
    weights = model / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    return model


def same_model(_: Path) -> Path:
    return MODEL


@pytest.mark.parametrize(
    ("make_model", "more", "verdict"),
    [
        pytest.param(same_model, {"args": (*QUICK, "--no-such-flag")}, WORKLOAD, id="bad argument"),
        pytest.param(lambda d: d / "nowhere", {}, WORKLOAD, id="missing model"),
        pytest.param(
            lambda d: changed_model(d, model_type="nosuch", architectures=["NoSuchForCausalLM"]),
            {},
            WORKLOAD,
            id="unknown architecture",
        ),
        pytest.param(same_model, {"before": HOLD_PORT}, WORKLOAD, id="port taken"),
        pytest.param(same_model, {"env": {"VLLM_CPU_KVCACHE_SPACE": "4000"}}, "incompatible: ", id="memory"),
        # A broken download here, or a broken file at its source: the log cannot tell.
        pytest.param(truncated_model, {}, "unknown: model_file_truncated", id="truncated weights"),
        pytest.param(
            same_model, {"args": (*QUICK, "--max-model-len=100000")}, WORKLOAD, id="longer context than the model has"
        ),
        pytest.param(same_model, {"before": KILL_ENGINE}, "unknown: ", id="killed worker"),
    ],
)
def test_a_start_that_fails_gets_its_verdict_and_blames_no_machine(
    pytester: pytest.Pytester,
    rent_from: RentFrom,
    host_cache: Path,
    tmp_path: Path,
    make_model: Callable[[Path], Path],
    more: dict[str, Any],
    verdict: str,
) -> None:
    market = rent_from({"this_machine": True})
    write_suite(pytester, "def test_it(vast_instance): pass", model=make_model(tmp_path), **more)
    result = pytester.runpytest_inprocess("--vast-attempts=1")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*failed while warming: {verdict}*", "*whose fault: *", "*what to do: *"])
    assert len(market.status()["ended"]) == 1
    assert_nobody_blamed(host_cache)


def test_a_good_start_serves_and_an_engine_that_dies_in_a_test_leaves_its_failure_to_the_test(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    rent_from({"this_machine": True})
    write_suite(
        pytester,
        f"""
def test_1_answers(vast_instance):
    answer = ask(vast_instance)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 4

def test_2_loses_its_engine(vast_instance):
    killed = vast_instance.run({f"kill -9 $({ENGINE})"!r})
    assert killed.ok, killed
    assert ask(vast_instance).status_code == 200
""",
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*warming: weights*", "*: ready after *", "*vastgpu server log (*", "*EngineDead*"])
    assert [machine.successes for machine in renting.known(host_cache).values()] == [1]
    assert_nobody_blamed(host_cache)


@pytest.mark.slow
def test_it_is_measured_by_our_driver_and_by_its_own(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from({"this_machine": True})
    write_suite(
        pytester,
        """
import pytest
from pytest_vastgpu import completions

@pytest.mark.parametrize("driver", ["", "vllm bench serve"])
def test_it(vast_instance, driver):
    load = completions(model=MODEL, max_tokens=8, ignore_eos=True, concurrency=2, warmup_s=1, driver=driver)
    seen = vast_instance.measure(load, seconds=3)
    assert seen["requests"].value > 0
    assert seen["errors"].value == 0
    assert seen["output_throughput"].value > 0
""",
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=2)

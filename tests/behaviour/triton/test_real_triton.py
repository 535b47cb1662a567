"""Real Triton, on CPU, through the plugin and the local market: ready, and whose fault its real failures are.

Needs the environment that ``.ci/triton.sh DIR`` makes; each start takes some seconds::

    VASTGPU_TRITON=DIR pytest -n 2 -m "slow or not slow" tests/behaviour/triton
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.servers.triton import TritonAdapter
from tests.behaviour import conftest as renting
from tests.behaviour.real_servers import SYSTEM_PATH
from tests.behaviour.real_servers import assert_nobody_blamed
from tests.behaviour.real_servers import conftest
from tests.behaviour.real_servers import hold_port

PLACE = Path(os.environ.get("VASTGPU_TRITON", ".")).resolve()
if "VASTGPU_TRITON" not in os.environ:
    pytest.skip("VASTGPU_TRITON does not name an environment with Triton, see .ci/triton.sh", allow_module_level=True)

time_limits = renting.time_limits
rent_from = renting.rent_from
host_cache = renting.host_cache
RentFrom = Callable[[dict[str, Any]], LocalMarket]

CONFIG = """
backend: "python"
input [{ name: "x" data_type: TYPE_INT32 dims: [ -1 ] }]
output [{ name: "y" data_type: TYPE_INT32 dims: [ -1 ] }]
instance_group [{ kind: KIND_CPU }]
"""
ADDS_ONE = """
import time
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        time.sleep(SLEEP_S)

    def execute(self, requests):
        inputs = [triton.get_input_tensor_by_name(each, "x").as_numpy() for each in requests]
        return [triton.InferenceResponse([triton.Tensor("y", each + 1)]) for each in inputs]
"""
BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT32", "data": [41]}]}


def add_model(repository: Path, name: str, code: str = ADDS_ONE, sleep_s: float = 0.0) -> Path:
    version = repository / name / "1"
    version.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(CONFIG)
    (version / "model.py").write_text(code.replace("SLEEP_S", str(sleep_s)))
    return version


def write_suite(
    pytester: pytest.Pytester,
    tests: str,
    models: object = None,
    infer: object = None,
    args: tuple[str, ...] = (),
    setup: str = "",
    before: str = "",
) -> None:
    env = {"PATH": f"{PLACE / 'bin'}:{SYSTEM_PATH}"}
    workload = (
        f"triton('repository', *{args!r}, models={models!r}, infer={infer!r}, setup={setup!r}, gpus=0, disk_gb=8, "
        f"image_gb=0, env={env!r})"
    )
    pytester.makeconftest(conftest(TritonAdapter, workload, before))
    pytester.makepyfile(tests)


def test_two_models_are_ready_and_every_port_is_reached(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    rent_from({"this_machine": True})
    repository = pytester.path / "repository"
    add_model(repository, "add")
    add_model(repository, "slow", sleep_s=2.0)
    add_model(repository, "broken", code="import nothing_like_this")  # nobody asks for it
    write_suite(
        pytester,
        f"""
import httpx, subprocess
from pytest_vastgpu import kserve

def test_1_http(vast_instance):
    answer = httpx.post(vast_instance.endpoint + "/v2/models/slow/infer", json={BODY!r}, timeout=30)
    assert answer.json()["outputs"][0]["data"] == [42]
    assert httpx.get(vast_instance.endpoint + "/v2/models/broken/ready", timeout=60).status_code == 400

def test_2_metrics(vast_instance):
    told = httpx.get(f"http://{{vast_instance.address(8002)}}/metrics", timeout=60).text
    assert 'nv_inference_request_success{{model="add",version="1"}} 1' in told

def test_3_grpc(vast_instance):
    ask = '''
import grpc, sys
ready = grpc.insecure_channel(sys.argv[1]).unary_unary("/inference.GRPCInferenceService/ServerReady")
assert ready(b"", timeout=30) == bytes((8, 1)), "field 1, a boolean, is true"
'''
    subprocess.run([{str(PLACE / "bin" / "python")!r}, "-c", ask, vast_instance.address(8001)], check=True)

def test_4_it_is_measured(vast_instance):
    load = kserve("add", {BODY["inputs"]!r}, concurrency=2, warmup_s=0.2)
    seen = vast_instance.measure(load, seconds=0.5)
    assert seen["requests"].value > 0 and not seen.errors

def test_5_is_killed(vast_instance):
    assert vast_instance.run("kill -9 $(pidof tritonserver)").ok
    httpx.get(vast_instance.endpoint + "/v2/health/ready", timeout=60)
""",
        models={"add": 1, "slow": ""},
        infer=("add", BODY),
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["*warming: models 1/2*", "*: ready after *", "*exit code 137*"])
    assert [machine.successes for machine in renting.known(host_cache).values()] == [1]
    assert_nobody_blamed(host_cache, weak=0)


@pytest.mark.parametrize(
    ("code", "more", "told"),
    [
        pytest.param(
            ADDS_ONE,
            {"setup": "echo 'bogus: 3' >> models/add/config.pbtxt"},
            "*'add' is not loaded: failed to read text proto*no field named*bogus*",
            id="broken config.pbtxt",
        ),
        pytest.param(
            "import nothing_like_this",
            {},
            "*'add' version 1 is not loaded: *No module named 'nothing_like_this'*",
            id="broken model.py",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "import nothing_like_this",
            {"args": ("--exit-on-error=false",), "models": ["add"]},
            "*'add' version 1 is not loaded: *No module named 'nothing_like_this'*",
            id="broken model.py and the server stays",
        ),
        pytest.param(
            ADDS_ONE,
            {"setup": "rm models/add/1/model.py"},
            "*'add' is not loaded: there is no *models/add/1/model.py*",
            id="missing model.py",
        ),
        pytest.param(
            ADDS_ONE,
            {"setup": "rm -r models/add/1", "models": "add"},
            "*'add' is not loaded: at least one version must be available*",
            id="missing version",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ADDS_ONE,
            {"args": ("--load-model=adn",), "models": "add"},
            "*'adn' is not loaded: model not found in any model repository*",
            id="wrong name",
        ),
        pytest.param(
            ADDS_ONE,
            {"setup": "sed -i s/KIND_CPU/KIND_GPU/ models/add/config.pbtxt"},
            "*'add' version 1 is not loaded: *kind KIND_GPU but no GPUs are available*",
            id="no GPU",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ADDS_ONE,
            {"infer": ("add", {"inputs": []})},
            "*add answers 400: *expected 1 inputs but got 0*",
            id="refused inference",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ADDS_ONE, {"before": hold_port(8000)}, "*Socket '127.0.0.1:8000' already in use*", id="port taken"
        ),
        pytest.param(
            ADDS_ONE,
            {"args": ("--no-such-flag",)},
            "*unrecognized option*no-such-flag*",
            id="bad argument",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_start_that_fails_names_the_model_and_blames_no_machine(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path, code: str, more: dict[str, Any], told: str
) -> None:
    market = rent_from({"this_machine": True})
    add_model(pytester.path / "repository", "add", code)
    write_suite(pytester, "def test_it(vast_instance): pass", **more)
    result = pytester.runpytest_inprocess("--vast-attempts=3")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*failed while warming: workload_fatal: *", told])
    assert len(market.status()["ended"]) == 1
    assert_nobody_blamed(host_cache, weak=0)

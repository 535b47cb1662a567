"""How far Triton's start is, and whose fault its end is. Log lines are those of Triton 2.51, as it printed them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Progress
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.triton import triton
from tests.servers.test_triton import ADD
from tests.servers.test_triton import HEALTHY
from tests.servers.test_triton import assess
from tests.servers.test_triton import listed

PLACE = "s3://bucket/models"

LOADING = 'I1129 02:56:13.7 3441 model_lifecycle.cc:472] "loading: {}:1"\n'
LOADED = "I1129 02:56:15.7 3441 model_lifecycle.cc:839] \"successfully loaded '{}'\"\n"
E = "E1129 02:57:42.0 7322 "
NO_NVML = "Error: Failed to initialize NVML\n"
NO_CUDA = (
    'W1129 02:56:13.7 3441 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory, pinned memory pool '
    'will not be available: {}"\n'
)
NO_DRIVER = NO_CUDA.format("CUDA driver version is insufficient for CUDA runtime version")
ENDS = "error: creating server: Internal - failed to load all models\n"


def failed(why: str) -> str:
    return LOADING.format("add") + f"{E}model_lifecycle.cc:642] \"failed to load 'add' version 1: {why}\"\n"


@pytest.mark.parametrize(
    ("log", "progress"),
    [
        ("", Progress("starting")),
        (LOADING.format("add") + LOADING.format("slow"), Progress("models", 0, 2)),
        (LOADING.format("add") + LOADING.format("slow") + LOADED.format("add"), Progress("models", 1, 2)),
        # as versions before 2.30 print it
        (LOADING.format("add") + "I0 1 m.cc:4] successfully loaded 'add' version 1\n", Progress("models", 1, 1)),
    ],
)
def test_progress_counts_models(log: str, progress: Progress) -> None:
    assert assess(triton(PLACE, gpus=0), log=log) == Warming(progress)


@pytest.mark.parametrize(
    ("log", "failure_class", "reason", "evidence"),
    [
        (
            "[libprotobuf ERROR text_format.cc:337] Error parsing text-format inference.ModelConfig: 1:24: no field\n"
            f"{E}model_repository_manager.cc:1460] \"Poll failed for model directory 'add': failed to read text "
            'proto"\n',
            FailureClass.WORKLOAD_FATAL,
            "model_not_loaded",
            "model 'add' is not loaded: failed to read text proto (1:24: no field)",
        ),
        (
            failed("Internal: ValueError: weights are not there\\n\\nAt:\\n  model.py(3): initialize\\n"),
            FailureClass.WORKLOAD_FATAL,
            "model_not_loaded",
            "model 'add' version 1 is not loaded: Internal: ValueError: weights are not there",
        ),
        (
            failed("Invalid argument: unable to find backend library for backend 'onnx', try specifying runtime."),
            FailureClass.WORKLOAD_FATAL,
            "model_repository_broken",
            "model 'add' version 1 is not loaded: Invalid argument: unable to find backend library for backend 'onnx'",
        ),
        (
            f"{E}model_repository_manager.cc:724] \"failed to load model 'add': at least one version must be available "
            "under the version policy of model 'add'\"\n",
            FailureClass.WORKLOAD_FATAL,
            "model_not_loaded",
            "model 'add' is not loaded: at least one version must be available under the version policy of model 'add'",
        ),
        (
            f"{E}model_repository_manager.cc:1415] \"failed to poll model 'adn': model not found in any model "
            'repository."\n',
            FailureClass.WORKLOAD_FATAL,
            "model_repository_broken",
            "model 'adn' is not loaded: model not found in any model repository.",
        ),
        (
            failed("Invalid argument: instance group add_0 of model add has kind KIND_GPU but no GPUs are available"),
            FailureClass.WORKLOAD_FATAL,
            "model_needs_gpu",
            "model 'add' version 1 is not loaded: Invalid argument: instance group add_0",
        ),
        (
            failed("Internal: RuntimeError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has 5.06 MiB free."),
            FailureClass.INCOMPATIBLE,
            "cuda_oom_loading_weights",
            "",
        ),
        (
            failed("Internal: CUDA error: uncorrectable ECC error encountered"),
            FailureClass.INFRA_FATAL,
            "uncorrectable_ecc",
            "",
        ),
        (
            'I1 1 http_server.cc:4713] "Started HTTPService at 127.0.0.1:8000"\n'
            f"{E}main.cc:257] \"failed to start HTTP service: Unavailable - Socket '127.0.0.1:8000' already in use "
            '"\n',
            FailureClass.WORKLOAD_FATAL,
            "address_in_use",
            "failed to start HTTP service: Unavailable - Socket '127.0.0.1:8000' already in use",
        ),
        (
            "error: creating server: Internal - failed to stat file /nowhere\n",
            FailureClass.WORKLOAD_FATAL,
            "model_repository_broken",
            "error: creating server: Internal - failed to stat file /nowhere",
        ),
        (
            "tritonserver: unrecognized option '--no-such'\nUsage: tritonserver [options]\n"
            "\tThe minimum supported CUDA compute capability. GPUs that\n\tdon't support it will not be used.\n",
            FailureClass.WORKLOAD_FATAL,
            "bad_cli_argument",
            "tritonserver: unrecognized option '--no-such'",
        ),
    ],
)
def test_a_start_that_has_ended_names_the_model_and_why(
    log: str, failure_class: FailureClass, reason: str, evidence: str
) -> None:
    # what a machine without a GPU prints around it is no cause
    found = assess(triton(PLACE, gpus=0), log=NO_DRIVER + log + NO_NVML + ENDS, exit_code=1)
    assert isinstance(found, Failed)
    assert (found.verdict.failure_class, found.verdict.reason) == (failure_class, reason)
    assert evidence in found.verdict.evidence
    assert "\\n" not in found.verdict.evidence or failure_class is not FailureClass.WORKLOAD_FATAL
    assert found.verdict.remedy


def test_the_model_that_was_asked_for_decides() -> None:
    other = failed("Internal: ValueError: other").replace("'add'", "'other'")
    both = other + failed("Internal: ValueError: own")
    named = assess(triton(PLACE, models="add", gpus=0), log=both, exit_code=1)
    unnamed = assess(triton(PLACE, gpus=0), log=both, exit_code=1)
    assert isinstance(named, Failed)
    assert isinstance(unnamed, Failed)
    assert named.verdict.evidence.endswith("ValueError: own")
    assert unnamed.verdict.evidence.endswith("ValueError: other")


def test_a_refused_inference_is_told_although_another_model_has_failed_before() -> None:
    workload = triton(
        PLACE, "--model-control-mode=none", "--exit-on-error=false", models="add", infer=("add", {}), gpus=0
    )
    refused = f'{listed(ADD)}{HEALTHY}@@ model_0 200\n{{"error":"no input"}}\n@@ infer 400\n'
    found = assess(workload, refused, failed("Internal: ValueError: other").replace("'add'", "'other'"))
    assert isinstance(found, Failed)
    assert found.verdict.reason == "inference_refused"


def test_a_python_backend_that_waits_for_a_dead_stub_is_given_up() -> None:
    line = "Failed to preinitialize Python stub: Python model file not found in 'm/add/1/model.py'\n"
    found = assess(triton(PLACE, gpus=0), log=f"{LOADING.format('add')}I1 2 pb_stub.cc:2105]  {line}")
    assert isinstance(found, Failed)
    assert found.verdict.failure_class is FailureClass.WORKLOAD_FATAL
    assert found.verdict.evidence == "model 'add' is not loaded: there is no m/add/1/model.py"


@pytest.mark.parametrize(
    ("line", "failure_class", "reason"),
    [
        (NO_DRIVER, FailureClass.INCOMPATIBLE, "driver_too_old_for_image"),
        (NO_CUDA.format("no CUDA-capable device is detected"), FailureClass.INFRA_FATAL, "no_gpu_in_container"),
    ],
)
def test_on_the_cpu_it_is_not_ready_where_a_gpu_was_rented(line: str, failure_class: FailureClass, reason: str) -> None:
    workload = triton(PLACE)
    served = listed(ADD) + HEALTHY
    assert assess(replace(workload, gpus=0), served, line) == Ready()
    found = assess(workload, served, line)
    assert isinstance(found, Failed)
    assert (found.verdict.failure_class, found.verdict.reason) == (failure_class, reason)


def test_a_gpu_that_triton_does_not_see_is_the_hosts_fault() -> None:
    no_gpu = failed("Invalid argument: instance group add_0 of model add has kind KIND_GPU but no GPUs are available")
    found = assess(triton(PLACE), log=no_gpu + ENDS, exit_code=1)
    assert isinstance(found, Failed)
    assert (found.verdict.failure_class, found.verdict.reason) == (FailureClass.INFRA_FATAL, "no_gpu_in_container")

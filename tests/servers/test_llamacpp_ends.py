"""Where a start of llama.cpp stands, and whose fault its end is: its answers, its log, its GPUs."""

from __future__ import annotations

import pytest

from pytest_vastgpu import llamacpp
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.llamacpp import LlamaCppAdapter
from pytest_vastgpu.supervisor.rental.server.state import LogPiece
from pytest_vastgpu.supervisor.rental.server.state import ServerState

HUB = "ggml-org/gemma-3-1b-it-GGUF:Q8_0"
ADAPTER = LlamaCppAdapter()
READY = '{"status":"ok"}\n@@ health 200\n{"data": [{"id": "m"}]}\n@@ models 200\n{"choices": [{"text": ""}]}\n'
READY += "@@ completion 200\n"
SMI = "| NVIDIA-SMI 550.54.14  Driver Version: 550.54.14  CUDA Version: 12.4 |\n"


def result(name: str, stdout: str) -> ProbeResult:
    return ProbeResult(name, ProbeFailure.NONE, 0, stdout, "", 0.1)


def assess(
    workload: Workload, log: str = "", answers: str = "", exit_code: int | None = None, smi: str = ""
) -> Readiness:
    probes = {"answers": result("answers", answers), "gpu": result("gpu", smi)}
    return ADAPTER.assess(workload, Observation(probes, log, exit_code, 1.0))


# ---------------------------------------------------------------- where the start stands

CHAT_ONLY = READY.replace('{"choices": [{"text": ""}]}\n@@ completion 200', "{}\n@@ completion 404")
CHAT_ONLY += '{"choices": [{"message": {}}]}\n@@ chat 200\n'
LOADING = '{"error":{"message":"Loading model","type":"unavailable_error","code":503}}\n@@ health 503\n'
LOADED = "load_tensors: loading model tensors, this can take a while... (mmap = true)\nload_tensors: CPU buffer\n"


@pytest.mark.parametrize(
    ("log", "answers", "expected"),
    [
        ("", "", Warming(Progress("starting"))),
        ("0.00.008.075 I srv    load_model: loading model 'tiny.gguf'\n", LOADING, Warming(Progress("weights"))),
        (LOADED + "." * 42, LOADING, Warming(Progress("weights", 42, 100))),
        (LOADED + "." * 100 + "\n", LOADING, Warming(Progress("weights"))),
        ("llama_context: constructing llama_context\n", LOADING, Warming(Progress("engine"))),
        ("", READY.replace("@@ completion 200", "@@ completion 000"), Warming(Progress("serving"))),
        ("", READY, Ready()),
        (LOADED + "." * 42, READY, Ready()),
        ("", CHAT_ONLY, Ready()),
    ],
)
def test_where_the_start_stands(log: str, answers: str, expected: Readiness) -> None:
    assert assess(llamacpp("/m", gpus=0), log, answers) == expected


@pytest.mark.parametrize(
    ("workload", "failure"),
    [
        (llamacpp("/m.gguf"), FailureClass.WORKLOAD_FATAL),
        (llamacpp("m.gguf", files={"m.gguf": __file__}, setup="true"), FailureClass.WORKLOAD_FATAL),
        (llamacpp("/m.gguf", setup="curl -o /m.gguf https://…"), FailureClass.UNKNOWN),
        (llamacpp(HUB), FailureClass.UNKNOWN),
    ],
)
def test_a_file_that_is_cut_short_is_the_workloads_fault_where_it_is_the_same_on_each_host(
    workload: Workload, failure: FailureClass
) -> None:
    log = (
        "E llama_model_load: error loading model: tensor 'a' data is not within the file bounds, model is corrupted or"
    )
    found = assess(workload, log + " incomplete\nE srv  init: exiting due to model loading error\n", exit_code=1)
    assert isinstance(found, Failed)
    assert (found.verdict.failure_class, found.verdict.reason) == (failure, "model_file_truncated")


@pytest.mark.parametrize(
    "line",
    [
        "E gguf_init_from_reader: failed to read key-value pairs",
        "E gguf_init_from_reader: key 0 is empty",
        "E gguf_init_from_reader: this GGUF file is version 99 but this software only supports up to version 3",
        "gguf_init_from_reader: bad GGUF version: 0",
    ],
)
def test_a_file_that_cannot_be_read_is_the_same_on_each_host(line: str) -> None:
    log = f"{line}\nE llama_model_load: error loading model: llama_model_loader: failed to load model from m.gguf\n"
    classes = {}
    for workload in (llamacpp("m.gguf", files={"m.gguf": __file__}), llamacpp(HUB)):
        found = assess(workload, log, exit_code=1)
        assert isinstance(found, Failed)
        classes[found.verdict.reason, found.verdict.failure_class] = True
    assert list(classes) == [
        ("model_file_invalid", FailureClass.WORKLOAD_FATAL),
        ("model_file_invalid", FailureClass.UNKNOWN),
    ]


def test_it_is_asked_for_its_health_first() -> None:
    assert [question.name for question in ADAPTER.questions(llamacpp("/m"))] == ["health", "models", "completion"]


# ---------------------------------------------------------------- the GPUs
# Lines as published in llama.cpp's issues 6787, 12614 and 13689 and in logs of its official images.

NO_GPU = "warning: no usable GPU found, --gpu-layers option will be ignored\n"
NO_GPU_OLD = "warning: not compiled with GPU offload support, --gpu-layers option will be ignored\n"
NO_DEVICE = "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected\n"
OLD_DRIVER = "ggml_cuda_init: failed to initialize CUDA: forward compatibility was attempted on non supported HW\n"
FOUND = "ggml_cuda_init: found 1 CUDA devices:\n  Device 0: NVIDIA H800, compute capability 9.0, VMM: yes\n"
BACKENDS = "load_backend: loaded CUDA backend from /app/libggml-cuda.so\n"
CPU_BACKEND = "load_backend: loaded CPU backend from /app/libggml-cpu-haswell.so\n"
OF_WHEEL = "llama.cpp's server of xllamacpp 2026.10.11549\n"


def offloaded(layers: int) -> str:
    return f"{FOUND}load_tensors: offloading output layer to GPU\nload_tensors: offloaded {layers}/33 layers to GPU\n"


@pytest.mark.parametrize(
    ("image", "log", "smi", "failure", "reason"),
    [
        ("", NO_DEVICE + BACKENDS + CPU_BACKEND + NO_GPU, "", FailureClass.INFRA_FATAL, "no_gpu_in_container"),
        # Before backends were loaded at run time, llama.cpp said that the layers were offloaded all the same.
        (
            "",
            NO_DEVICE + "load_tensors: offloaded 29/29 layers to GPU\n",
            "",
            FailureClass.INFRA_FATAL,
            "no_gpu_in_container",
        ),
        ("", OLD_DRIVER + BACKENDS + NO_GPU, SMI, FailureClass.INCOMPATIBLE, "cuda_804_forward_compatibility"),
        ("", CPU_BACKEND + NO_GPU, "", FailureClass.INFRA_FATAL, "no_gpu_in_container"),
        ("mine", BACKENDS + NO_GPU, "", FailureClass.INFRA_FATAL, "no_gpu_in_container"),
        ("mine", CPU_BACKEND + NO_GPU, SMI, FailureClass.WORKLOAD_FATAL, "built_without_gpu"),
        ("mine", NO_GPU_OLD, SMI, FailureClass.WORKLOAD_FATAL, "built_without_gpu"),
        ("", OF_WHEEL + NO_GPU, SMI, FailureClass.WORKLOAD_FATAL, "built_without_gpu"),
        ("mine", CPU_BACKEND + NO_GPU, "", FailureClass.UNKNOWN, "serves_without_gpu"),
        ("", offloaded(0), SMI, FailureClass.INCOMPATIBLE, "layers_on_cpu"),
        ("", offloaded(20), SMI, FailureClass.INCOMPATIBLE, "layers_on_cpu"),
    ],
)
@pytest.mark.parametrize("answers", ["", READY])
def test_a_server_that_does_not_use_the_rented_gpu_has_failed(
    image: str, log: str, smi: str, failure: FailureClass, reason: str, answers: str
) -> None:
    found = assess(llamacpp("/m", image=image), log, answers, smi=smi)
    assert isinstance(found, Failed)
    assert (found.verdict.failure_class, found.verdict.reason) == (failure, reason)
    assert found.verdict.evidence in (line.strip() for line in log.splitlines())
    assert found.verdict.remedy
    assert assess(llamacpp("/m", image=image, gpus=0), log, READY, smi=smi) == Ready()


def test_whether_the_host_has_its_gpu_is_awaited_before_a_build_is_blamed() -> None:
    seen = Observation({"answers": result("answers", READY)}, NO_GPU, None, 1.0)
    assert ADAPTER.assess(llamacpp("/m", image="mine"), seen) == Warming(Progress("starting"))
    state = ServerState(ADAPTER.probes(llamacpp("/m", image="mine")), 1000)
    state.take(LogPiece(0, NO_GPU.encode()))
    assert ADAPTER.assess(llamacpp("/m", image="mine"), state.observation(1.0, watched=True)) == Warming(
        Progress("starting")
    )


@pytest.mark.parametrize(("asked", "there"), [(None, 33), (99, 33), (20, 20), (20, 33), (0, 0)])
def test_whoever_asks_for_fewer_layers_gets_fewer(asked: int | None, there: int) -> None:
    assert assess(llamacpp("/m", gpu_layers=asked), BACKENDS + offloaded(there), READY, smi=SMI) == Ready()


def test_fewer_layers_than_asked_for_are_a_failure_with_a_remedy() -> None:
    found = assess(llamacpp("/m", gpu_layers=20), offloaded(12), READY)
    assert isinstance(found, Failed)
    assert "gpu_layers=12" in found.verdict.remedy


def test_too_little_memory_is_another_kind_of_machines_business() -> None:
    log = (
        BACKENDS + FOUND + "W common_fit_params: failed to fit params to free device memory: n_gpu_layers already set "
        "by user to 999, abort\nE ggml_backend_cuda_buffer_type_alloc_buffer: allocating 51748.72 MiB on device 0: "
        "cudaMalloc failed: out of memory\nE llama_model_load: error loading model: unable to allocate CUDA0 buffer\n"
        "E srv    load_model: failed to load model, '/m'\nE srv  init: exiting due to model loading error\n"
    )
    found = assess(llamacpp("/m"), log, exit_code=1)
    assert isinstance(found, Failed)
    assert (found.verdict.failure_class, found.verdict.reason) == (FailureClass.INCOMPATIBLE, "vram_too_small")

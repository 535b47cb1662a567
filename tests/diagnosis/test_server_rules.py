"""What was learned of single servers: when each is ready, and which lines after that still concern its start."""

from __future__ import annotations

import pytest

from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.diagnosis.verdicts import judge_log
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Progress

LISTENS = 'time=2026-01-01T00:00:00Z level=INFO source=routes.go:1 msg="Listening on 127.0.0.1:11434 (version 1)"\n'
FOUND = 'time=2026-01-01T00:00:01Z level=INFO source=types.go:1 msg="inference compute" id=GPU-1 library=CUDA\n'
STARTS = 'time=2026-01-01T00:00:02Z level=INFO source=server.go:1 msg="waiting for llama runner to start responding"\n'
STARTED = 'time=2026-01-01T00:00:09Z level=INFO source=server.go:1 msg="llama runner started in 7.00 seconds"\n'
UVICORN = (
    "INFO:     Started server process [7]\nINFO:     Waiting for application startup.\n"
    "INFO:     Application startup complete.\n"
)
TAKEN = "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use\n"


def of_ollama(log: str) -> FailureClass:
    return judge_log(log, server="ollama", context="gpus=1").verdict.failure_class


def test_ollama_is_ready_when_it_has_found_its_gpu_and_again_when_a_model_is_loaded() -> None:
    log, told = "", []
    for line in (LISTENS, FOUND, STARTS, STARTED):
        log += line
        told.append(of_ollama(log))
    assert told == [FailureClass.WARMUP, FailureClass.READY, FailureClass.WARMUP, FailureClass.READY]


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        ("Error: pull model manifest: file does not exist\n", FailureClass.WORKLOAD_FATAL),
        ("Error: write /root/.ollama/models/blobs/x-partial: input/output error\n", FailureClass.INFRA_FATAL),
        ("Error: 500 Internal Server Error: model requires more system memory (9 GiB)\n", FailureClass.INCOMPATIBLE),
    ],
)
def test_what_ollamas_command_line_reports_is_a_failed_start(line: str, failure: FailureClass) -> None:
    said = classify(LISTENS + FOUND + line, channel=Channel.SERVER_LOG, server="ollama", context="gpus=1")
    assert said.failure_class is failure


def test_uvicorn_calls_a_start_complete_before_it_binds() -> None:
    verdict = classify(UVICORN + TAKEN, channel=Channel.SERVER_LOG, server="transformers")
    assert (verdict.failure_class, verdict.reason) == (FailureClass.WORKLOAD_FATAL, "address_in_use")
    assert judge_log(UVICORN + TAKEN, exit_code=1).verdict.reason == "address_in_use"
    assert judge_log(UVICORN).verdict.failure_class is FailureClass.READY


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        ("Loading weights: 100%|####| 21/21 [00:00<00:00, 2104.12it/s]\n", Progress("weights", 21, 21)),
        ("Loading safetensors weights in parallel:  50%|##  | 2/4 [00:00<00:00]\n", Progress("weights", 2, 4)),
        ("Convert to turbomind format:  31%|###   | 10/32 [00:03<00:07,  3.0it/s]\n", Progress("weights", 10, 32)),
        ('level=INFO source=download.go:1 msg="downloading 667b0c in 43 1 GB part(s)"\n', Progress("downloading")),
        ("pulling 6a0746a1ec1a:  12% |#     | 563 MB/4.7 GB\n", Progress("downloading", 12, 100)),
        ("I1105 12:00:00.1 1 model_lifecycle.cc:472] loading: resnet:1\n", Progress("weights")),
        ("[2025-10-16 09:11:05 TP0] Load weight begin. avail mem=78.70 GB\n", Progress("weights")),
        ("Capturing batches (bs=1 avail_mem=8.8 GB): 100%|####| 23/23 [00:05<00:00]\n", Progress("graphs", 23, 23)),
        ("[2025-10-16 09:11:05 TP0] Init torch distributed begin.\n", Progress("engine")),
        ("[2025-10-16 09:11:21 TP0] Memory pool end. avail mem=9.50 GB\n", Progress("kv_cache")),
        ("[10/21/2025-08:12:40] [TRT-LLM] [I] Starting TensorRT LLM init.\n", Progress("engine")),
        (
            "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 9 GiB for max tokens in paged KV cache\n",
            Progress("kv_cache"),
        ),
        (
            "2025-05-01T01:17:02Z  INFO text_generation_launcher: Starting check and download process\n",
            Progress("downloading"),
        ),
        ("load_tensors: loading model tensors, this can take a while... (mmap = true)\n", Progress("weights")),
    ],
)
def test_how_far_each_server_is(line: str, progress: Progress) -> None:
    assert judge_log(line).progress == progress


def test_a_path_is_no_word_about_an_optional_plugin() -> None:
    line = "[TensorRT-LLM][ERROR] Assertion failed: a == b (/src/plugins/gptAttentionCommon.cpp:511)\n"
    assert classify(line, channel=Channel.SERVER_LOG).reason == "program_error"


@pytest.mark.parametrize(
    "line",
    [
        "[07/08/2025-19:47:15] [TRT-LLM] [RANK 1] [{}] Executor creation failed due to insufficient GPU memory.\n",
        "[TM][{}] CUDA runtime error: out of memory\n",
    ],
)
def test_levels_of_trtllm_and_turbomind_are_read(line: str) -> None:
    levels = ("E", "W") if "[TRT-LLM]" in line else ("ERROR", "WARNING")
    failed, warned = (judge_log(line.format(level) * 2, exit_code=None, still_s=400).verdict for level in levels)
    assert (failed.failure_class, warned.failure_class) == (FailureClass.INCOMPATIBLE, FailureClass.WARMUP)


@pytest.mark.parametrize(
    "line",
    [
        "/usr/bin/python3: Error while finding module specification for 'vllm.entrypoints.openai.api_server' "
        "(ModuleNotFoundError: No module named 'vllm')",
        "/usr/bin/python3: Error while finding module specification for 'sglang.launch_server' "
        "(ModuleNotFoundError: No module named 'sglang')",
        "/usr/bin/python3: No module named infinity_emb",
        "ModuleNotFoundError: No module named 'vllm'",
        "/root/.vastgpu/start.sh: line 9: exec: tritonserver: not found",
        "/root/.vastgpu/start.sh: line 9: ollama: command not found",
        "/root/.vastgpu/start.sh: 9: text-generation-launcher: not found",
    ],
)
def test_a_server_that_is_not_there_is_told_for_an_image_and_for_this_machine(line: str) -> None:
    told = judge_log(line + "\n", exit_code=1).verdict
    assert (told.failure_class, told.reason) == (FailureClass.WORKLOAD_FATAL, "entrypoint_missing_in_image")
    assert told.remedy.startswith("the image ")
    assert told.remedy.endswith("; the local market runs what this machine has: install it here")


@pytest.mark.parametrize(
    "line",
    [
        "/usr/bin/python3: Error while finding module specification for 'sglang.launch_server' "
        "(ModuleNotFoundError: No module named 'zmq')",
        "ModuleNotFoundError: No module named 'vllm._C'",
    ],
)
def test_a_server_that_lacks_a_package_is_there(line: str) -> None:
    assert judge_log(line + "\n", exit_code=1).verdict.reason == "import_error_in_image"


@pytest.mark.parametrize(
    "line",
    [
        "python3: can't open file '/root/.vastgpu/work/my servr.py': [Errno 2] No such file or directory",
        "bash: serve.sh: No such file or directory",
        "sh: 0: cannot open serve.sh: No such file",
    ],
)
def test_a_script_that_is_not_there_is_no_program_of_the_image(line: str) -> None:
    told = judge_log(line + "\n", exit_code=2).verdict
    assert (told.failure_class, told.reason) == (FailureClass.WORKLOAD_FATAL, "file_missing_in_container")
    assert told.remedy.endswith("bring it with files=")


@pytest.mark.parametrize(
    ("line", "reason", "failure"),
    [
        (
            "gguf_init_from_reader: invalid magic characters: '<!do', expected 'GGUF'",
            "not_a_model_file",
            FailureClass.WORKLOAD_FATAL,
        ),
        (
            "llama_model_load: error loading model: unknown model architecture: ''",
            "not_a_model_file",
            FailureClass.WORKLOAD_FATAL,
        ),
        (
            "llama_model_load: error loading model: unknown model architecture: 'foo3'",
            "unknown_architecture",
            FailureClass.WORKLOAD_FATAL,
        ),
        ("gguf_init_from_file: failed to read magic", "model_file_invalid", FailureClass.UNKNOWN),
        ("gguf_init_from_reader: failed to read magic", "model_file_invalid", FailureClass.UNKNOWN),
        ("gguf_init_from_file: failed to open GGUF file '/x'", "model_path_invalid", FailureClass.WORKLOAD_FATAL),
    ],
)
def test_a_file_that_is_no_model_is_not_a_missing_one(line: str, reason: str, failure: FailureClass) -> None:
    told = judge_log(line + "\n", server="llama.cpp", exit_code=1).verdict
    assert (told.reason, told.failure_class) == (reason, failure)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("error: invalid argument: --parallel 4", True),
        ("error: invalid argument: --parallel=4", True),
        ("error: unexpected argument '--port 3000' found", True),
        ("error: invalid argument: --paralel", False),
        ("error: unexpected argument '--prt' found", False),
    ],
)
def test_an_option_and_its_value_in_one_text_are_told_as_two_arguments(line: str, hint: bool) -> None:
    told = judge_log(line + "\n", exit_code=1).verdict
    assert (told.failure_class, told.reason) == (FailureClass.WORKLOAD_FATAL, "bad_cli_argument")
    assert ("two arguments: '--parallel', '4'" in told.remedy) is hint

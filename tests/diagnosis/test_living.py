"""Verdicts while a server lives, and on texts of which it is not known whether it does."""

from __future__ import annotations

import re

import pytest

from pytest_vastgpu.diagnosis.hangs import HANGS
from pytest_vastgpu.diagnosis.hangs import STILL_S
from pytest_vastgpu.diagnosis.hangs import hang_in
from pytest_vastgpu.diagnosis.verdicts import FINAL
from pytest_vastgpu.diagnosis.verdicts import LogReader
from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.diagnosis.verdicts import ends_start
from pytest_vastgpu.diagnosis.verdicts import judge_log
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from tests.diagnosis.samples import Sample
from tests.diagnosis.samples import healthy_lines
from tests.diagnosis.samples import samples
from tests.diagnosis.samples import servers
from tests.diagnosis.samples import started

LOGS = [sample for sample in (*samples(), *servers()) if sample.channel is Channel.SERVER_LOG]
HEALTHY = [*(sample for sample in LOGS if sample.is_healthy_start), *started()]
FAILED = [sample for sample in LOGS if sample.label in FINAL and not any(map(hang_in, sample.text.splitlines()))]
by_id = pytest.mark.parametrize("sample", HEALTHY, ids=lambda sample: sample.id)

MOVES = "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:02<00:02,  1.1s/it]\n"
READY = "INFO:     Application startup complete.\n"
ECHO = (
    "[2026-02-03 04:05:06] server_args=ServerArgs(model_path='x/y', trust_remote_code=True, chat_template=None, "
    "quantization='awq', nccl_port=None, reasoning_parser='none', tokenizer_path='not found')\n"
)


def pasted(text: str, server: str = "", context: str = "") -> FailureClass:
    """Of a text of which no more is known."""
    return classify(text, channel=Channel.SERVER_LOG, server=server, context=context).failure_class


# ------------------------------------------------------------------ the process, and time without progress


@pytest.mark.parametrize("sample", FAILED, ids=lambda sample: sample.id)
def test_a_failure_counts_when_the_process_ends_or_stands_still(sample: Sample) -> None:
    reader = LogReader(server=sample.server, context=sample.context)
    for line in sample.text.splitlines(keepends=True):
        reader.feed(line)
        assert reader.verdict().failure_class not in FINAL, line
    reader.finish()
    assert reader.verdict(still_s=STILL_S - 1).failure_class not in FINAL
    assert sample.right(reader.verdict(still_s=STILL_S).failure_class)
    assert sample.right(reader.verdict(exit_code=1).failure_class)


def test_what_is_told_of_a_living_server_is_kept_at_hand() -> None:
    verdict = judge_log("OSError: [Errno 98] Address already in use\n").verdict
    assert (verdict.failure_class, verdict.reason) == (FailureClass.WARMUP, "failure_told")
    assert "[Errno 98]" in verdict.evidence
    assert f"{STILL_S:.0f} s" in verdict.remedy


@by_id
def test_no_prefix_of_a_healthy_log_is_fatal(sample: Sample) -> None:
    reader = LogReader(server=sample.server, context=sample.context)
    for line in sample.text.splitlines(keepends=True):
        reader.feed(line)
        for still_s in (0.0, 30.0):
            assert reader.verdict(still_s=still_s).failure_class not in FINAL, line
    reader.finish()
    assert sample.right(reader.verdict().failure_class)


@pytest.mark.slow
def test_no_line_of_a_healthy_log_is_fatal_alone() -> None:
    cases = {  # each line once for each server and context
        (sample.server, repr(sample.context), line): sample
        for sample in HEALTHY
        for line in (*sample.text.splitlines(), *healthy_lines())
    }
    for (server, _, line), sample in cases.items():
        assert judge_log(f"{line}\n", server=server, context=sample.context).verdict.failure_class not in FINAL
        if not LAST_WORDS.search(line):
            assert pasted(line, server, sample.context) not in FINAL, line


LAST_WORDS = re.compile(r"(?:^|[\])] )(?:(?:[\w.]+\.)?\w*(?:Error|ERROR): |[\w.]+\.errors\.\w+: )")
"""With such a line programs end: pasted alone it is one."""


@pytest.mark.parametrize(
    "line",
    [
        "OSError: [Errno 98] Address already in use",
        "clang: unknown argument: '-ffast'",
        "ValueError: heads (2) must be divisible by tensor parallel size (3)",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "RuntimeError: CUDA error: uncorrectable ECC error encountered",
    ],
)
def test_progress_acquits_whoever_printed_it(line: str) -> None:
    assert pasted(f"{line}\n{MOVES}") is FailureClass.WARMUP
    assert pasted(f"(Worker_TP0 pid=7) {line}\n(Worker_TP0 pid=7) {MOVES}") is FailureClass.WARMUP
    alone = pasted(line)
    assert pasted(f"(Worker_TP0 pid=7) {line}\n(Worker_TP1 pid=8) {MOVES}") is alone
    assert pasted(f"{line}\n{MOVES.replace('2/4', '0/4')}") is alone, "a bar is drawn anew when it is closed"


# ------------------------------------------------------------------ known hangs

HANGING = {
    'time=2026 level=INFO msg="no compatible GPUs were discovered"': FailureClass.INFRA_FATAL,
    'level=INFO msg="inference compute" id=0 library=cpu name=""': FailureClass.INFRA_FATAL,
    "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected": FailureClass.INFRA_FATAL,
    "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version": (
        FailureClass.INCOMPATIBLE
    ),
    "ggml_cuda_init: failed to initialize CUDA: odd\nwarning: no usable GPU found": FailureClass.INFRA_FATAL,
    " WARN text_embeddings_backend: Could not find a compatible CUDA device on host: odd": FailureClass.INFRA_FATAL,
    "error loading model: unknown model architecture: 'x'\nlevel=ERROR error=\"llama runner process has terminated\"": (
        FailureClass.WORKLOAD_FATAL
    ),
    'level=INFO msg="NewLlamaServer failed" error="model requires more system memory (9 GiB) than is available"': (
        FailureClass.INCOMPATIBLE
    ),
    "CUDA error: the provided PTX was compiled with an unsupported toolchain\n"
    'level=INFO error="llama-server process has terminated: exit status 1"': FailureClass.INCOMPATIBLE,
    "WARNING 01-02 03:04:05 [ray_utils.py:1] The number of required GPUs exceeds the total number of available GPUs\n"
    "INFO 01-02 03:08:05 [ray_utils.py:2] Waiting for creating a placement group of specs for 150 seconds": (
        FailureClass.INCOMPATIBLE
    ),
    "I1129 02:57:47.680877 7406 pb_stub.cc:2105]  Failed to preinitialize Python stub: the stub's own words": (
        FailureClass.WORKLOAD_FATAL
    ),
    "[rank0]: Process group watchdog thread terminated with exception: CUDA error: uncorrectable ECC error": (
        FailureClass.INFRA_FATAL
    ),
}


@pytest.mark.parametrize("text", HANGING)
def test_a_known_hang_counts_at_once(text: str) -> None:
    assert judge_log(f"{text}\n", context=f"gpus=1 {text[:9]}").verdict.failure_class is HANGING[text]


def test_every_known_hang_has_a_source_and_a_test() -> None:
    told = [hang_in(line) for text in HANGING for line in text.splitlines()]
    for hang in HANGS:
        assert hang.source
        assert hang in told


# ------------------------------------------------------------------ after ready


@pytest.mark.parametrize(
    "line",
    [
        "ValueError: This model's maximum context length is 4096 tokens. However, you requested 9000 tokens.",
        "model 'other' not found",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "OSError: [Errno 28] No space left on device",
        "requests.exceptions.ConnectionError: huggingface.co: Max retries exceeded",
        "VLLMValidationError: invalid tool call parser",
    ],
)
def test_one_requests_error_is_no_verdict_on_a_server_that_is_ready(line: str) -> None:
    for text in (f"{READY}{line}\n", f"{READY}Traceback (most recent call last):\n{line}\n"):
        assert pasted(text) is FailureClass.READY
        assert judge_log(text).verdict.failure_class is FailureClass.READY
        assert judge_log(text, still_s=9 * STILL_S).verdict.failure_class is FailureClass.READY
        ended = judge_log(text, exit_code=0).verdict
        assert (ended.failure_class, ended.reason) == (FailureClass.RUNTIME_LOST, "server_died_after_ready")
    stopped = f"{READY}{line}\nINFO:     Shutting down\n"
    assert judge_log(stopped, exit_code=0).verdict.reason == "stopped_on_request"


def test_the_end_of_a_server_that_was_ready_has_a_cause() -> None:
    ecc = "RuntimeError: CUDA error: uncorrectable ECC error encountered\n"
    assert judge_log(READY + ecc, exit_code=1).verdict.reason == "uncorrectable_ecc"
    died = f"{READY}OSError: [Errno 28] No space left on device\nEngineDeadError: EngineCore encountered an issue\n"
    assert judge_log(died, exit_code=1).verdict.reason == "disk_too_small"


# ------------------------------------------------------------------ without the GPU that was rented

LISTENS = {
    "ollama": 'level=INFO source=routes.go:1 msg="Listening on [::]:11434 (version 9)"\n',
    "llama.cpp": "main: server is listening on http://0.0.0.0:8080 - starting the main loop\n",
}
ABSENT = {
    "ollama": 'level=INFO source=types.go:1 msg="inference compute" id=0 library=cpu variant="" compute=""\n',
    "llama.cpp": "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected\n",
}
PRESENT = {
    "ollama": 'level=INFO source=types.go:1 msg="inference compute" id=GPU-1 library=cuda compute=8.9\n',
    "llama.cpp": "ggml_cuda_init: found 1 CUDA devices:\n",
}


@pytest.mark.parametrize("server", LISTENS)
def test_no_gpu_outranks_listening(server: str) -> None:
    for text in (LISTENS[server] + ABSENT[server], ABSENT[server] + LISTENS[server]):
        for context in ("", "gpus=1", "gpus=10"):
            assert pasted(text, server, context) is FailureClass.INFRA_FATAL
        assert pasted(text, server, "gpus=0") is FailureClass.READY
        assert pasted(text + PRESENT[server], server) is FailureClass.READY


def test_a_build_that_may_have_no_gpu_support_blames_nobody() -> None:
    text = "warning: no usable GPU found, --gpu-layers option will be ignored\n" + LISTENS["llama.cpp"]
    verdict = judge_log(text, context="gpus=1").verdict
    assert (verdict.failure_class, verdict.reason) == (FailureClass.UNKNOWN, "serves_without_gpu")
    assert ends_start(verdict)
    assert pasted(text, context="gpus=0") is FailureClass.READY


def test_ollama_tries_libraries_before_it_says_that_there_is_no_gpu() -> None:
    tries = LISTENS["ollama"] + "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient\n"
    assert judge_log(tries).verdict.failure_class is FailureClass.WARMUP
    assert pasted(tries + PRESENT["ollama"]) is FailureClass.READY
    assert pasted(tries + ABSENT["ollama"]) is FailureClass.INCOMPATIBLE


def test_why_there_is_no_gpu_is_told_by_the_line_before() -> None:
    why = 'level=INFO msg="Unable to load cudart library libcuda.so: cuda driver library init failure: 35"\n'
    verdict = classify("cuInit err: 802\n" + ABSENT["ollama"], channel=Channel.SERVER_LOG)
    assert verdict.failure_class is FailureClass.INFRA_FATAL
    text = LISTENS["ollama"] + why.replace("INFO", "WARN") + ABSENT["ollama"]
    assert pasted(text, "ollama") is FailureClass.INCOMPATIBLE


# ------------------------------------------------------------------ several containers


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("Container vllm  Error\n Container db  Started\n", FailureClass.UNKNOWN),
        ("Error response from daemon: an odd thing\n Container web  Started\n", FailureClass.UNKNOWN),
        ("vllm Error an odd thing\nweb Pulling\nweb Pulled\n", FailureClass.UNKNOWN),
        ("vllm Error manifest for x/y:z not found\nweb Pulled\n Container web  Started\n", FailureClass.WORKLOAD_FATAL),
        (" Container vllm  Starting\n Container web  Starting\n Container vllm  Started\n", FailureClass.WARMUP),
    ],
)
def test_a_status_text_about_several_containers(text: str, failure: FailureClass) -> None:
    assert classify(text, channel=Channel.STATUS_MSG).failure_class is failure


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        ("ValueError: heads (2) must be divisible by tensor parallel size (3)", FailureClass.WORKLOAD_FATAL),
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", FailureClass.INFRA_FATAL),
        ("RuntimeError: an odd thing", FailureClass.UNKNOWN),
    ],
)
@pytest.mark.parametrize("other", [READY, MOVES])
def test_another_containers_progress_does_not_outrank_an_error(line: str, failure: FailureClass, other: str) -> None:
    failed, fine = f"vllm-1   | {line}\n", f"webui-1  | {other}"
    assert pasted(failed + fine) is failure
    assert pasted(fine + failed) is failure
    same = f"vllm-1   | {other}"
    assert pasted(failed + same) in {FailureClass.READY, FailureClass.WARMUP}


# ------------------------------------------------------------------ what comes later against the machine

ENDINGS = {
    "RuntimeError: CUDA error: uncorrectable ECC error encountered": FailureClass.INFRA_FATAL,
    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized": (
        FailureClass.INFRA_FATAL
    ),
    "torch.distributed.DistBackendError: NCCL error in: NCCLUtils.hpp:268, unhandled system error": (
        FailureClass.INCOMPATIBLE
    ),
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB": FailureClass.INCOMPATIBLE,
    "RuntimeError: CUDA error: no kernel image is available for execution on the device": FailureClass.INCOMPATIBLE,
    "Killed": FailureClass.INCOMPATIBLE,
    "OSError: [Errno 28] No space left on device": FailureClass.INCOMPATIBLE,
    "": FailureClass.UNKNOWN,
}
BEFORE = {
    "an echo": ECHO,
    "an echo and progress": f"{ECHO}[2026-02-03 04:05:09] Load weight begin. avail mem=9.1 GB\n",
    "a warning": f"{ECHO}[2026-02-03 04:05:07] Tokenizer of x/y not found, some of its attributes may be missing\n",
    "a complaint that it gets over": f"[2026-02-03 04:05:06] Tokenizer of x/y not found, using the slow one\n{MOVES}",
    "an error that it gets over": f"ValueError: heads (2) must be divisible by tensor parallel size (3)\n{MOVES}",
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("ending", ENDINGS)
def test_each_ending_gets_its_own_verdict(before: str, ending: str) -> None:
    log = f"{BEFORE[before]}{ending}\n"
    assert judge_log(log, server="sglang", exit_code=1).verdict.failure_class is ENDINGS[ending]
    assert pasted(log, "sglang") is not FailureClass.WORKLOAD_FATAL


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_a_healthy_start_has_printed_explains_no_end(ending: str) -> None:
    checked = 0
    for sample in HEALTHY:
        lines = sample.text.splitlines(keepends=True)
        before = "".join(lines[: len(lines) // 2])
        if judge_log(before, server=sample.server, exit_code=1).verdict.reason != "server_exited":
            continue  # it was ready already, or has warned of the machine
        found = judge_log(f"{before}\n{ending}\n", server=sample.server, exit_code=1).verdict
        assert found.failure_class is ENDINGS[ending], (sample.id, found)
        checked += 1
    assert checked >= 0.6 * len(HEALTHY)


def test_evidence_against_the_machine_outranks_an_earlier_line_against_the_workload() -> None:
    ours, machines = "ValueError: heads (2) must be divisible by tensor parallel size (3)\n", list(ENDINGS)[:2]
    for ending in machines:
        assert pasted(f"{ours}{ending}\n") is FailureClass.INFRA_FATAL
        assert pasted(f"{ending}\n{ours}") is FailureClass.INFRA_FATAL
    assert pasted(f"{ours}Killed\n") is FailureClass.WORKLOAD_FATAL, "servers kill what is left of them"


# ------------------------------------------------------------------ what is said of something else


@pytest.mark.parametrize(
    "line",
    [
        ECHO,
        "engine_config=EngineConfig(model='x', trust_remote_code=True, load_format='not found')",
        "Namespace(model='x', chat_template='missing', quantization='Unknown quantization')",
        'Args { model_id: "x", quantize: None, error: "unknown option" }',
        "+ exec server --trust-remote-code --chat-template does not exist",
        "Command: server --model x --requires --that",
        "cache: --reuse requires --unified, disabling",
        "float8 is not supported on compute capability 7.5, falling back to float16",
        "tokenizer file not found, skipping",
        "Unsupported model type for this kernel: it will be ignored",
        "Could not find kernel: retrying with another one",
        "Cannot import module /x/custom_nodes/y: No module named 'z'",
        "ERROR 01-02 03:04:05 [x.py:1] Failed to load plugin y: No module named 'z'",
        '[GIN] 2026/01/02 - 03:04:05 | 404 |  1ms |  10.0.0.1 | POST "/api/chat"',
        'INFO:     10.0.0.1:1234 - "GET /v1/models/other HTTP/1.1" 404 Not Found',
        '10.0.0.1 - - [02/Jan/2026 03:04:05] "GET /x HTTP/1.1" 401 -',
        "srv  log_server_r: request: GET /favicon.ico 10.0.0.1 404",
        "jq: error: writing output failed: Stale file handle",
        "grep: unknown option -- z",
        "clang (LLVM option parsing): Unknown command line argument '-x'.",
    ],
)
def test_lines_that_say_nothing_of_the_server(line: str) -> None:
    assert pasted(line) not in FINAL
    assert pasted(f"{line}\n{ECHO}") not in FINAL


@pytest.mark.parametrize(
    "part",
    [
        '  File "/x/custom_nodes/y/__init__.py", line 1, in <module>',
        '  File "/x/z.py", line 7, in load_plugins_by_group',
    ],
)
def test_a_part_that_the_server_does_without(part: str) -> None:
    failed = f"Traceback (most recent call last):\n{part}\n    import z\nModuleNotFoundError: No module named 'z'\n"
    assert pasted(failed) is FailureClass.WARMUP
    assert judge_log(failed + "Killed\n", exit_code=137).verdict.reason == "process_killed"
    own = failed.replace("custom_nodes", "main").replace("load_plugins_by_group", "main")
    assert pasted(own) is FailureClass.WORKLOAD_FATAL
    assert pasted(failed + own) is FailureClass.WORKLOAD_FATAL


def test_an_error_that_names_an_extension_is_an_error() -> None:
    for line in (
        "RuntimeError: Error building extension 'x_ext'",
        "ImportError: failed to load plugin x: No module named y",
    ):
        assert judge_log(f"{line}\n", exit_code=1).verdict.reason != "server_exited"

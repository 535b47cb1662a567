"""Complete logs of real vLLM starts, read as they grow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_vastgpu.diagnosis import log_reader as reader_module
from pytest_vastgpu.diagnosis.hangs import STILL_S
from pytest_vastgpu.diagnosis.lines import Line
from pytest_vastgpu.diagnosis.lines import read_line
from pytest_vastgpu.diagnosis.verdicts import FINAL
from pytest_vastgpu.diagnosis.verdicts import LogReader
from pytest_vastgpu.diagnosis.verdicts import judge_log
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Progress
from tests.diagnosis.samples import logs

LOGS = logs()


@pytest.mark.parametrize("name", [name for name in LOGS if name.startswith(("good-", "crash-"))])
def test_a_healthy_start_is_never_called_a_failure(name: str) -> None:
    reader = LogReader(server="vllm")
    was_ready = False
    for line in LOGS[name].splitlines(keepends=True):
        reader.feed(line)
        found = reader.verdict().failure_class
        assert found not in FINAL, line
        if found is FailureClass.READY:
            was_ready = True
        assert was_ready or found is FailureClass.WARMUP, line
    assert was_ready
    if name.startswith("crash-"):
        assert reader.verdict(exit_code=0).failure_class is FailureClass.RUNTIME_LOST
    else:
        assert reader.verdict(exit_code=0).reason == "stopped_on_request"


FAILURES = {
    "fail-bad-argument": (FailureClass.WORKLOAD_FATAL, "error: unrecognized arguments"),
    "fail-bad-argument-value": (FailureClass.WORKLOAD_FATAL, "invalid int value"),
    "fail-bad-chat-template": (FailureClass.WORKLOAD_FATAL, "appears path-like"),
    "fail-bind-address-not-local": (FailureClass.WORKLOAD_FATAL, "[Errno 99]"),
    "fail-default-memory-utilization-too-high": (FailureClass.INCOMPATIBLE, "Available memory on node 0"),
    "fail-dtype-invalid-choice": (FailureClass.WORKLOAD_FATAL, "invalid choice"),
    "fail-gpu-mem-util-too-high": (FailureClass.INCOMPATIBLE, "Available memory on node 0"),
    "fail-gpu-mem-util-too-low": (FailureClass.INCOMPATIBLE, "Available memory on node 0"),
    "fail-hub-model-offline": (FailureClass.WORKLOAD_FATAL, "outgoing traffic has been disabled"),
    "fail-kv-cache-space-env-4000GiB": (FailureClass.INCOMPATIBLE, "Available memory on node 0"),
    "fail-kv-cache-too-big-4TiB": (FailureClass.INCOMPATIBLE, "Available memory on node 0"),
    "fail-kv-cache-too-small": (FailureClass.INCOMPATIBLE, "No available memory for the cache blocks"),
    "fail-max-model-len-over-config": (FailureClass.WORKLOAD_FATAL, "User-specified max_model_len"),
    "fail-model-badarch": (FailureClass.WORKLOAD_FATAL, "does not recognize this architecture"),
    "fail-model-badjson": (FailureClass.WORKLOAD_FATAL, "Expecting value: line 2"),
    "fail-model-noconfig": (FailureClass.WORKLOAD_FATAL, "Invalid repository ID"),
    "fail-model-notok": (FailureClass.WORKLOAD_FATAL, "Couldn't instantiate the backend tokenizer"),
    "fail-model-noweights": (FailureClass.WORKLOAD_FATAL, "Cannot find any model weights"),
    "fail-model-path-missing": (FailureClass.WORKLOAD_FATAL, "Repo id must be in the form"),
    "fail-model-shape": (FailureClass.WORKLOAD_FATAL, "exceeds dimension size"),
    "fail-model-trunc": (FailureClass.UNKNOWN, "file not fully covered"),
    "fail-pipeline-parallel-8-numa-bind": (FailureClass.INCOMPATIBLE, "Not enough allowed NUMA nodes"),
    "fail-port-in-use": (FailureClass.WORKLOAD_FATAL, "[Errno 98]"),
    "fail-quantization-awq-on-plain-model": (FailureClass.WORKLOAD_FATAL, "Cannot find the config file for awq"),
    "fail-quantization-fp8-cpu": (FailureClass.INCOMPATIBLE, "expected at most 0 argument"),
    "fail-rlimit-data-1GiB": (FailureClass.INCOMPATIBLE, "Cannot allocate memory"),
    "fail-rlimit-nofile-40": (FailureClass.INCOMPATIBLE, "socket: Too many open files"),
    "fail-tensor-parallel-3-heads-not-divisible": (FailureClass.WORKLOAD_FATAL, "must be divisible by tensor parallel"),
    "fail-torchvision-abi-mismatch-plain-install": (FailureClass.WORKLOAD_FATAL, "operator torchvision::nms"),
    "fail-worker-sigkill-during-start": (FailureClass.UNKNOWN, "EngineCore failed to start"),
}


def test_every_failed_log_is_expected() -> None:
    assert set(FAILURES) == {name for name in LOGS if name.startswith("fail-")}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_start_is_called_at_the_line_that_decides(name: str) -> None:
    expected, words = FAILURES[name]
    reader = LogReader(server="vllm")
    for line in LOGS[name].splitlines(keepends=True):
        reader.feed(line)
        assert reader.verdict().failure_class not in FINAL, "its process lives"
        if words in line and not line.lstrip().startswith("raise"):
            assert reader.verdict(still_s=STILL_S).failure_class is expected, line
            break
    reader.feed(LOGS[name])
    reader.finish()
    verdict = reader.verdict(exit_code=1)
    assert verdict.failure_class is expected
    assert words in verdict.evidence


def test_a_growing_log_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counting(raw: str) -> Line:
        read.append(raw)
        return read_line(raw)

    monkeypatch.setattr(reader_module, "read_line", counting)
    log = LOGS["good-vllm-serve-quiet-1"]
    for end in range(0, len(log), 97):
        judge_log(log[:end], server="vllm", context="read once")
    judge_log(log, server="vllm", context="read once", exit_code=0)
    assert len(read) == sum(1 for line in log.replace("\r", "\n").splitlines() if line and not line.isspace())


def test_logs_of_two_servers_do_not_mix() -> None:
    first, second = LOGS["fail-port-in-use"], LOGS["good-vllm-serve-quiet-1"]
    for end in range(0, min(len(first), len(second)), 211):
        judge_log(first[:end], server="vllm")
        judge_log(second[:end], server="vllm")
    assert judge_log(first, server="vllm", exit_code=1).verdict.reason == "address_in_use"
    assert (
        judge_log(second[: second.index("shutdown triggered") - 200], server="vllm").verdict.failure_class
        is FailureClass.READY
    )


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(LOGS)), st.lists(st.integers(1, 4000), min_size=1, max_size=12))
def test_how_a_log_is_cut_does_not_matter(name: str, sizes: list[int]) -> None:
    text = LOGS[name][-12000:]
    whole, cut = LogReader(server="vllm"), LogReader(server="vllm")
    whole.feed(text)
    start = 0
    for size in sizes:
        cut.feed(text[start : start + size])
        start += size
    cut.feed(text[start:])
    for reader in (whole, cut):
        reader.finish()
    assert cut.verdict(1) == whole.verdict(1)
    assert cut.progress == whole.progress


def stages(log: str) -> list[str]:
    reader, told = LogReader(server="vllm"), ["starting"]
    for line in log.splitlines(keepends=True):
        reader.feed(line)
        if str(reader.progress) != told[-1]:
            told.append(str(reader.progress))
    return told


def test_stages_of_a_real_start() -> None:
    told = stages(LOGS["good-apiserver-spawn-kv1"])
    for stage in ("configuring", "engine", "weights 0/1", "weights 1/1", "compiling", "kv_cache", "serving"):
        assert stage in told
    assert told[-1] == "serving"


def test_stages_told_by_progress_bars() -> None:
    log = (
        "Fetching 14 files:  29%|##8       | 4/14 [00:02<00:06,  1.5it/s]\r"
        "model-00001-of-00004.safetensors:  42%|####2     | 2.10G/4.99G [00:21<00:29, 98.2MB/s]\r"
        "2024-05-01T01:17:02.6Z  INFO text_generation_launcher: Download: [3/8] -- ETA: 0:01:10\n"
        "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:03<00:03,  1.87s/it]\r\n"
        "Capturing CUDA graphs (decode, FULL):  57%|#####7    | 20/35 [00:01<00:00, 33.86it/s]\r"
    )
    assert stages(log.replace("\r", "\n")) == [
        "starting",
        "downloading 4/14",
        "downloading 42/100",
        "downloading 3/8",
        "weights 2/4",
        "graphs 20/35",
    ]
    reader = LogReader(server="vllm")
    reader.feed(log)
    assert reader.progress == Progress("graphs", 20, 35)

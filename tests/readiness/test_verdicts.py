from __future__ import annotations

import sys
from collections import Counter
from collections import defaultdict
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Progress
from pytest_vastgpu.readiness import verdicts
from pytest_vastgpu.readiness.lines import Line
from pytest_vastgpu.readiness.lines import read_line
from pytest_vastgpu.readiness.rules import Weight
from pytest_vastgpu.readiness.verdicts import FINAL
from pytest_vastgpu.readiness.verdicts import RULES
from pytest_vastgpu.readiness.verdicts import LogReader
from pytest_vastgpu.readiness.verdicts import classify
from pytest_vastgpu.readiness.verdicts import judge_log
from tests.readiness.samples import Message
from tests.readiness.samples import healthy_lines
from tests.readiness.samples import logs
from tests.readiness.samples import messages
from tests.readiness.samples import samples

LOGS = logs()


def test_labelled_outputs(record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]) -> None:
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    wrong, blamed = [], []
    for sample in samples():
        verdict = classify(sample.text, channel=sample.channel, server=sample.server, context=sample.context)
        total[sample.fidelity] += 1
        if verdict.failure_class is sample.label:
            right[sample.fidelity] += 1
        else:
            wrong.append(f"{sample.id}: {sample.label.value}, not {verdict.failure_class.value} ({verdict.reason})")
            if verdict.failure_class is FailureClass.INFRA_FATAL:
                blamed.append(sample.id)
    parts = ", ".join(f"{fidelity} {right[fidelity]}/{total[fidelity]}" for fidelity in sorted(total))
    record_property("verdicts_by_fidelity", parts)
    with capsys.disabled():
        sys.stdout.write(f"\nverdicts right: {right.total()}/{total.total()} ({parts})\n")
    assert blamed == []
    assert right.total() >= 0.97 * total.total(), wrong


@pytest.mark.parametrize("given", messages(), ids=lambda given: f"{given.channel.value}: {given.text[:40]}")
def test_messages_of_many_programs(given: Message) -> None:
    verdict = classify(given.text, channel=given.channel, server=given.server, context=given.context)
    assert verdict.failure_class is given.label, verdict


def test_what_healthy_starts_print_ends_none() -> None:
    whole = LogReader(server="vllm")
    for line in healthy_lines():
        alone = LogReader(server="vllm")
        for reader in (alone, whole):
            reader.feed(line + "\n")
            assert reader.verdict().failure_class in {FailureClass.WARMUP, FailureClass.UNKNOWN}, line
    whole.feed("INFO:     Application startup complete.\n")
    assert whole.verdict().failure_class is FailureClass.READY


DRESSES: dict[str, Callable[[str], str]] = {
    "colours": lambda line: f"\x1b[1;31m{line}\x1b[0m",
    "vLLM's process": lambda line: f"(EngineCore_DP0 pid=123) {line}",
    "torchrun's rank": lambda line: f"[rank3]: {line}",
    "docker compose": lambda line: f"vllm-1  | {line}",
    "a container's log": lambda line: f"2026-03-01T10:11:12.123456789Z stdout F {line}",
    "journal": lambda line: f"Mar 01 10:11:12 gpu-7 docker[991]: {line}",
    "a date": lambda line: f"[2026-03-01 10:11:12,123] {line}",
    "a carriage return": lambda line: f"{line}\r",
    "an empty line": lambda line: f"{line}\n",
}


@pytest.mark.parametrize("dress", DRESSES)
def test_what_others_put_around_a_line_does_not_matter(dress: str) -> None:
    for sample in samples():
        if sample.channel is Channel.SERVER_LOG:
            text = "\n".join(map(DRESSES[dress], sample.text.split("\n")))
            verdict = classify(text, channel=sample.channel, server=sample.server, context=sample.context)
            assert verdict.failure_class is sample.label, (sample.id, verdict)


def test_every_reason_has_one_class_a_remedy_and_a_source() -> None:
    classes = defaultdict(set)
    for rule in RULES:
        classes[rule.reason].add(rule.failure_class)
        assert rule.source
        assert rule.remedy or rule.failure_class is FailureClass.READY
        assert rule.reason.isidentifier()
        assert not rule.matches.search(""), rule
        assert ".*" not in rule.matches.pattern, "an expression without bounds takes seconds on a long line"
        assert rule.weight is not Weight.SIGN or rule.failure_class not in FINAL
    assert {reason: found for reason, found in classes.items() if len(found) > 1} == {}


def test_reasons_agree_with_the_labelled_ones() -> None:
    ours = {rule.reason: rule.failure_class for rule in RULES}
    for sample in samples():
        assert ours.get(sample.reason, sample.label) is sample.label, sample.reason


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
        found = reader.verdict()
        if found.failure_class in FINAL:
            assert words in line
            break
        if words in line and not line.lstrip().startswith("raise"):
            assert expected is FailureClass.UNKNOWN, line
    reader.feed(LOGS[name])
    reader.finish()
    verdict = reader.verdict(exit_code=1)
    assert verdict.failure_class is expected
    assert words in verdict.evidence


def test_the_consequence_decides_nothing() -> None:
    text = "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.\n"
    for verdict in (classify(text, channel=Channel.SERVER_LOG), judge_log(text, exit_code=1).verdict):
        assert verdict.failure_class is FailureClass.UNKNOWN
        assert verdict.reason == "server_exited"
        assert verdict.evidence == text.strip()


def test_a_warning_explains_an_end_and_is_none_itself() -> None:
    warning = "WARNING 03-01 10:00:00 [x.py:1] ImportError('libcuda.so.1: cannot open shared object file')\n"
    reader = LogReader(server="vllm")
    reader.feed(warning)
    assert reader.verdict().failure_class is FailureClass.WARMUP
    assert reader.verdict(exit_code=1).reason == "no_gpu_in_container"


def test_who_rented_no_gpu_blames_nobody_for_having_none() -> None:
    log = "RuntimeError: No CUDA GPUs are available\n"
    assert judge_log(log, context="gpus=1", exit_code=1).verdict.failure_class is FailureClass.INFRA_FATAL
    assert judge_log(log, context="gpus=0", exit_code=1).verdict.failure_class is FailureClass.UNKNOWN


def test_an_end_without_a_word() -> None:
    verdict = judge_log("", exit_code=137).verdict
    assert (verdict.failure_class, verdict.reason) == (FailureClass.UNKNOWN, "server_exited")
    assert "137" in verdict.evidence


def test_sglang_listens_before_it_is_ready() -> None:
    log = "[2025-10-16 09:11:02] INFO:     Application startup complete.\n"
    assert classify(log, channel=Channel.SERVER_LOG, server="sglang").failure_class is FailureClass.WARMUP
    assert classify(log, channel=Channel.SERVER_LOG).failure_class is FailureClass.READY


def test_what_was_printed_before_it_was_ready_was_no_failure() -> None:
    log = "OSError: [Errno 98] Address already in use\nINFO:     Application startup complete.\n"
    assert judge_log(log).verdict.failure_class is FailureClass.READY
    assert judge_log(log, exit_code=0).verdict.failure_class is FailureClass.RUNTIME_LOST


def test_secrets_do_not_reach_the_evidence() -> None:
    line = "vllm: error: unrecognized arguments: --t hf_abcdefghijklmnop --api-key=sk-1234567890abcdef token=t0psecret"
    evidence = classify(line, channel=Channel.SERVER_LOG).evidence
    for secret in ("hf_abcdefghijklmnop", "sk-1234567890abcdef", "t0psecret"):
        assert secret not in evidence
    assert "unrecognized arguments" in evidence


def test_long_lines_are_shown_with_their_start_and_their_end() -> None:
    evidence = classify("ValueError: start " + "x" * 2000 + " end", channel=Channel.SERVER_LOG).evidence
    assert evidence.startswith("ValueError: start")
    assert evidence.endswith("end")
    assert len(evidence) < 600


def test_a_growing_log_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counting(raw: str) -> Line:
        read.append(raw)
        return read_line(raw)

    monkeypatch.setattr(verdicts, "read_line", counting)
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


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400), st.sampled_from(list(Channel)), st.sampled_from(["", "phase=booting"]))
def test_any_text_gets_a_verdict(text: str, channel: Channel, context: str) -> None:
    assert classify(text, channel=channel, context=context).reason


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
        "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:03<00:03,  1.87s/it]\r\n"
        "Capturing CUDA graphs (decode, FULL):  57%|#####7    | 20/35 [00:01<00:00, 33.86it/s]\r"
    )
    assert stages(log.replace("\r", "\n")) == [
        "starting",
        "downloading 4/14",
        "downloading 42/100",
        "weights 2/4",
        "graphs 20/35",
    ]
    reader = LogReader(server="vllm")
    reader.feed(log)
    assert reader.progress == Progress("graphs", 20, 35)

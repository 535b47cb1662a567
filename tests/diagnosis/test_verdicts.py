from __future__ import annotations

import sys
from collections import Counter
from collections import defaultdict
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_vastgpu.diagnosis.rules.base import Weight
from pytest_vastgpu.diagnosis.rules.ruleset import RULES
from pytest_vastgpu.diagnosis.verdicts import FINAL
from pytest_vastgpu.diagnosis.verdicts import LogReader
from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.diagnosis.verdicts import judge_log
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from tests.diagnosis.samples import Message
from tests.diagnosis.samples import healthy_lines
from tests.diagnosis.samples import messages
from tests.diagnosis.samples import samples


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
    assert "foreground" not in verdict.remedy


@pytest.mark.parametrize("log", ["", "the server goes to the background\n"])
def test_a_command_that_ends_without_an_error_must_stay_in_the_foreground(log: str) -> None:
    verdict = judge_log(log, exit_code=0).verdict
    assert (verdict.failure_class, verdict.reason) == (FailureClass.UNKNOWN, "server_exited")
    assert "must stay in the foreground (no `&`; use exec)" in verdict.remedy


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


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400), st.sampled_from(list(Channel)), st.sampled_from(["", "phase=booting"]))
def test_any_text_gets_a_verdict(text: str, channel: Channel, context: str) -> None:
    assert classify(text, channel=channel, context=context).reason

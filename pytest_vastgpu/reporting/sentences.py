"""Builds sentences about offers, attempts and failures. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload

BLAME = {
    FailureClass.INFRA_FATAL: "the machine's; it is remembered and not rented again for a while",
    FailureClass.INCOMPATIBLE: "nobody's: this kind of machine cannot run this workload",
    FailureClass.WORKLOAD_FATAL: "the workload's: the next host would fail the same, so no other was tried",
    FailureClass.RUNTIME_LOST: "the machine's: it went away while it was in use",
    FailureClass.OWN_FAULT: "our own side's; nothing is recorded against any machine",
    FailureClass.WARMUP: "nobody's: it was still starting when its time ran out",
    FailureClass.UNKNOWN: "unknown; nobody is blamed",
}


def gpus(count: int, name: str) -> str:
    """``2x RTX 4090``, ``RTX 4090``, ``no GPU``."""
    if count < 1:
        return "no GPU"
    return name if count == 1 else f"{count}x {name}"


def offer_line(offer: Offer) -> str:
    """``machine 4242 (RTX 4090, 0.35 USD/h)``."""
    return f"machine {offer.machine_id} ({gpus(offer.num_gpus, offer.gpu_name)}, {offer.price_usd_h:.2f} USD/h)"


def workload_line(workload: Workload) -> str:
    """``vllm 'org/model'``."""
    what = workload.model or workload.command or workload.image
    return f"{workload.adapter} {what[:80]!r}" if what else workload.adapter


def verdict_line(verdict: Verdict) -> str:
    """``infra_fatal: nvml_driver_library_mismatch``."""
    return f"{verdict.failure_class.value}: {verdict.reason}"


def outcome(attempt: Attempt) -> str:
    """The result of an attempt: ``ready``, ``called off``, or its verdict."""
    if attempt.verdict is not None:
        return verdict_line(attempt.verdict)
    return "ready" if State.READY.value in attempt.seconds else "called off"


def failure(workload: Workload, attempts: Sequence[Attempt]) -> str:
    """All facts that explain a failed start to a person: step, fault, evidence, remedy."""
    count = "1 attempt" if len(attempts) == 1 else f"{len(attempts)} attempts"
    lines = [f"no instance became ready for {workload_line(workload)} ({count})"]
    for attempt in attempts:
        if attempt.verdict is None:
            continue
        where = attempt.failed_in.value if attempt.failed_in else "ready"
        lines.append(
            f"  {attempt.number}. {offer_line(attempt.offer)}: failed while {where}: {verdict_line(attempt.verdict)}"
        )
        if attempt.verdict.evidence:
            lines.append(f"     evidence: {attempt.verdict.evidence.strip()[:600]}")
        if attempt.artifacts:
            lines.append(f"     kept in: {attempt.artifacts}")
    last = attempts[-1] if attempts else None
    if last is not None and last.verdict is not None:
        lines.append(f"  whose fault: {BLAME.get(last.verdict.failure_class, 'unknown')}")
        if last.verdict.remedy:
            lines.append(f"  what to do: {last.verdict.remedy}")
        if last.log_tail.strip():
            lines.append("  the server's last lines:")
            lines.extend(f"    | {line}" for line in last.log_tail.strip().splitlines())
    return "\n".join(lines)

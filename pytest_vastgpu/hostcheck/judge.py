"""Judges a machine by its facts: compares them with the offer and with the workload's requirements. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_vastgpu.core.text.durations import DAY_S
from pytest_vastgpu.diagnosis.verdicts import FINAL
from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.hostcheck.facts import SCRIPT
from pytest_vastgpu.hostcheck.facts import SMI_LIMIT_S
from pytest_vastgpu.hostcheck.facts import TIMEOUT_S
from pytest_vastgpu.hostcheck.facts import HostFacts
from pytest_vastgpu.hostcheck.facts import parse
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload

__all__ = ["SCRIPT", "SMI_LIMIT_S", "TIMEOUT_S", "HostFacts", "judge", "parse"]

LEAST_SHARE = 0.8
"""A disk below this share of the rented size does not match the offer; a smaller difference is rounding."""
LEAST_COMPUTE_SHARE = 0.5
"""A machine's cores and RAM are divided along with its GPUs; the exact rule is not published. Less than half of the
offered amount is neither rounding nor a part reserved for the host."""
LEAST_VRAM_SHARE = 0.9
"""Cards report some hundred MB less than their name says."""
HELD_MB = 1024.0
"""A desktop and the driver itself use some hundred MB."""
HELD_SHARE = 0.05
LEAST_SHM_MB = 256.0
"""Processes of one server on several GPUs exchange data through shared memory; Docker's default is 64 MB."""
FRESH_S = DAY_S
"""An error in the kernel's log counts against a GPU for a day: a GPU that has worked for longer was repaired."""

_ANOTHER = "another host would do; nothing in the workload caused this"


def judge(offer: Offer, workload: Workload, facts: HostFacts) -> Verdict | None:
    """The first fault that prevents the workload from running here; None if there is none.

    Without a need for GPUs, GPUs are not checked. An unknown fact does not count against the machine.
    """
    checks = (
        _gpu_checks(offer, workload, facts) if workload.gpus else iter(()),
        _compute(offer, facts),
        _other_checks(workload, facts),
    )
    return next((verdict for check in checks for verdict in check), None)


def _gpu_checks(offer: Offer, workload: Workload, facts: HostFacts) -> Iterator[Verdict]:
    yield from _driver(facts)
    yield from _as_sold(offer, facts)
    yield from _ill(facts)
    if workload.cuda and 0 < facts.cuda < workload.cuda:
        yield Verdict(
            FailureClass.INCOMPATIBLE,
            "driver_too_old_for_image",
            f"the driver supports CUDA {facts.cuda}, the image needs {workload.cuda}",
            "a machine with a newer driver would do; an image for an older CUDA would run on more machines",
        )
    if facts.libcuda is False:
        yield _infra("libcuda_missing", "the driver's library libcuda.so is not in the container")
    yield from _held(facts)
    if workload.gpus > 1 and facts.shm_mb is not None and facts.shm_mb < LEAST_SHM_MB:
        yield Verdict(
            FailureClass.INCOMPATIBLE,
            "shm_too_small",
            f"{facts.shm_mb:.0f} MB of shared memory; {workload.gpus} GPUs need {LEAST_SHM_MB:.0f}",
            "a machine that gives more shared memory would do",
        )


def _driver(facts: HostFacts) -> Iterator[Verdict]:
    if facts.smi_exit_code == 124:
        yield _infra("nvidia_smi_hangs", f"nvidia-smi gave no answer within {SMI_LIMIT_S} s")
    elif facts.smi_exit_code:
        verdict = classify(facts.smi_text, channel=Channel.NVIDIA_SMI)
        if verdict.failure_class in FINAL:
            yield verdict
        else:
            yield _infra("nvidia_smi_failed", f"nvidia-smi exit code {facts.smi_exit_code}: {facts.smi_text[:300]}")


def _as_sold(offer: Offer, facts: HostFacts) -> Iterator[Verdict]:
    found = len(facts.gpus) if facts.smi_present else facts.device_nodes
    if facts.complete and found < offer.num_gpus:
        reason = "fewer_gpus_than_sold" if found else "no_gpu_in_container"
        yield _infra(reason, f"{offer.num_gpus} x {offer.gpu_name} sold, {found} found")
    for gpu in facts.gpus:
        if not _same_kind(offer.gpu_name, gpu.name):
            yield _infra("gpu_other_than_sold", f"{offer.gpu_name} sold, {gpu.name} found")
        if 0 < gpu.total_mb < offer.gpu_ram_mb * LEAST_VRAM_SHARE:
            yield _infra("vram_less_than_sold", f"{offer.gpu_ram_mb:.0f} MB sold, {gpu.name} has {gpu.total_mb:.0f} MB")


def _ill(facts: HostFacts) -> Iterator[Verdict]:
    """GPUs with recent faults, by their own counters and by the kernel's log."""
    for gpu in facts.gpus:
        if gpu.ecc_errors:
            counted = f"{gpu.name} counts {gpu.ecc_errors} uncorrected memory errors since its driver was loaded"
            yield _infra("uncorrectable_ecc", counted)
    ours = {_place(gpu.bus_id) for gpu in facts.gpus} - {None}
    for line in facts.kernel_lines:
        stamp = re.match(r"\[\s*(\d+\.\d+)\]", line)
        old = stamp and facts.uptime_s is not None and facts.uptime_s - float(stamp.group(1)) > FRESH_S
        if not old and _place(line) in ours:
            # The rules separate errors of the card from errors that programs cause.
            verdict = classify(line, channel=Channel.NVIDIA_SMI)
            if verdict.failure_class is FailureClass.INFRA_FATAL:
                yield verdict


def _place(text: str) -> tuple[int, ...] | None:
    """Domain, bus and device of the first PCI address in a text: the driver and the kernel format it differently."""
    found = re.search(r"\b([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\b", text, re.IGNORECASE)
    return tuple(int(part, 16) for part in found.groups()) if found else None


def _held(facts: HostFacts) -> Iterator[Verdict]:
    for gpu in facts.gpus:
        if gpu.used_mb > max(HELD_MB, gpu.total_mb * HELD_SHARE):
            names = ", ".join(f"{holder.name} (pid {holder.pid}, {holder.used_mb:.0f} MB)" for holder in facts.holders)
            who = names or "a process outside this container"
            yield _infra(
                "vram_held_by_stranger",
                f"{gpu.used_mb:.0f} of {gpu.total_mb:.0f} MB of {gpu.name} are in use before we start: {who}",
            )


def _compute(offer: Offer, facts: HostFacts) -> Iterator[Verdict]:
    if offer.simulated:
        return  # it has the cores and the RAM of the machine that simulates it
    if facts.cpu_cores is not None and facts.cpu_cores < offer.cpu_cores * LEAST_COMPUTE_SHARE:
        yield _infra("cpu_less_than_sold", f"{offer.cpu_cores:g} cores sold, {facts.cpu_cores:g} may be used")
    sold_mb = offer.cpu_ram_mb * offer.machine_share
    if facts.memory_mb is not None and facts.memory_mb < sold_mb * LEAST_COMPUTE_SHARE:
        yield _infra("ram_less_than_sold", f"{sold_mb:.0f} MB of RAM sold, {facts.memory_mb:.0f} MB may be used")


def _other_checks(workload: Workload, facts: HostFacts) -> Iterator[Verdict]:
    if facts.disk_free_gb is not None and facts.disk_free_gb < workload.disk_gb * LEAST_SHARE:
        yield _infra("disk_less_than_rented", f"{workload.disk_gb:.0f} GB rented, {facts.disk_free_gb:.1f} GB free")
    if workload.model_gb and facts.way_out in ("no_name", "refused"):
        what = "names do not resolve" if facts.way_out == "no_name" else "connections are refused"
        yield _infra("no_way_out", f"a model must be downloaded, and huggingface.co cannot be reached: {what}")


def _infra(reason: str, evidence: str) -> Verdict:
    return Verdict(FailureClass.INFRA_FATAL, reason, evidence, _ANOTHER)


def _same_kind(sold: str, found: str) -> bool:
    """Whether the found name contains the offered model number (``4090``, ``A100``): spellings of the rest vary."""
    number = re.search(r"[A-Z]{0,2}\d{2,4}", sold.upper())
    return number is None or number.group(0) in found.upper()

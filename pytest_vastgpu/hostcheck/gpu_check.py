"""The GPU check before something is measured: a script for one round trip, a parser of its output, a judgement. Pure.

A host that runs a workload may still be too hot, shared, badly plugged in or slower than it was sold. A measurement
there says something of the host, not of the code. Nothing may be asked of the server meanwhile.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.hostcheck import gpu_speed
from pytest_vastgpu.hostcheck.facts import NOTES
from pytest_vastgpu.hostcheck.facts import REPORT
from pytest_vastgpu.hostcheck.facts import Holder
from pytest_vastgpu.hostcheck.facts import holders
from pytest_vastgpu.hostcheck.facts import sections
from pytest_vastgpu.hostcheck.facts import smi_number
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import GpuCheck
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload

SPEED_LIMIT_S = 75
"""PyTorch is loaded within 10 s from a slow disk, and each of eight GPUs takes 3 s."""
TIMEOUT_S = SPEED_LIMIT_S + 25.0

BUSY_PERCENT = 10.0
"""A GPU of which nothing is asked is used for 0 %, or for a few where a desktop or a monitor is."""
LEAST_CLOCK_SHARE = 0.25
"""At their power limit even small cards keep more of their highest clock: a T4 0.4. Stuck ones have 0.1."""
LEAST_MEMORY_CLOCK_SHARE = 0.8
"""Consumer cards lower it by up to a seventh while they compute."""
LEAST_MEMORY_SHARE = 0.7
"""A copy reaches nine tenths of what is sold."""
LEAST_MATRIX_SHARE = 0.4
"""Single precision reaches 0.65 to 0.95 of what is sold, by the kind of GPU."""
MOST_SPREAD = 0.2
"""Between the quickest and the slowest repeat; a GPU at rest has 0.02, one that seeks its clock 0.08."""

THERMAL, HARDWARE = 0x20 | 0x40, 0x8
SLOWED = {
    0x20: "it is near its highest temperature",
    0x40: "its hardware is too hot",
    0x80: "the machine's power supply asks for less power",
    HARDWARE: "its hardware holds it back (heat or power)",
}
"""What slows a GPU down and is no property of its kind, by NVML's bit. A power limit (0x4) is: full load reaches it."""
AT_REST = THERMAL | 0x80
"""What counts while nothing runs; the hardware's own bit is also set while clocks change."""

_STATE = (
    "index,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,pcie.link.width.current,pcie.link.width.max,"
    "temperature.gpu"
)
_FORM = "--format=csv,noheader,nounits"
_ASK = " || ".join(
    f"nvidia-smi --query-gpu={_STATE},{reasons}.active {_FORM}"
    for reasons in ("clocks_event_reasons", "clocks_throttle_reasons")  # drivers before 535 know the second only
)
SCRIPT = f"""
{NOTES}
busy() {{ for turn in 1 2 3 4 5; do ask_gpu gpu index,utilization.gpu || return; sleep 0.3; done; }}
speed() {{
  command -v python3 >/dev/null 2>&1 || return 127
  CUDA_DEVICE_ORDER=PCI_BUS_ID limited {SPEED_LIMIT_S} python3 - sh -c '{_ASK}' <<'END_OF_PROGRAM'
{Path(gpu_speed.__file__).read_text(encoding="utf-8")}
END_OF_PROGRAM
}}
if command -v nvidia-smi >/dev/null 2>&1; then
  note busy busy &
  note state sh -c '{_ASK}' &
  note users ask_gpu compute-apps pid,process_name,used_memory &
  wait
  note speed speed
fi
{REPORT}
"""


@dataclass(frozen=True)
class GpuState:
    """What a GPU does at one moment, as its driver says; 0 where that is not known."""

    index: int
    sm_mhz: float
    max_sm_mhz: float
    memory_mhz: float
    max_memory_mhz: float
    lanes: float
    """PCIe lanes in use."""
    max_lanes: float
    celsius: float
    reasons: int
    """Why its clock is not higher: NVML's bits."""


@dataclass(frozen=True)
class GpuCheckFacts:
    """What the script has seen. What it could not see is absent, not wrong."""

    complete: bool = False
    at_rest: tuple[GpuState, ...] = ()
    busy: tuple[tuple[int, float], ...] = ()
    """For each GPU, by index, its least utilisation in a few looks while nothing was asked of it, in percent."""
    holders: tuple[Holder, ...] = ()
    loaded: tuple[GpuState, ...] = ()
    """While the check itself kept all GPUs busy."""
    memory_gb_s: tuple[tuple[float, ...], ...] = ()
    """For each GPU, the speed of each repeat."""
    tflops: tuple[tuple[float, ...], ...] = ()
    not_measured: str = ""
    """Why no speed could be measured."""


def parse(output: str) -> GpuCheckFacts:
    """Parse the output of :data:`SCRIPT`."""
    texts, codes = sections(output)
    speed = _json(texts.get("speed", ""))
    gpus = [each for each in speed.get("gpus", []) if isinstance(each, dict)]
    lowest: dict[int, float] = {}
    for index, percent in re.findall(r"^(\d{1,4}), *(\d{1,3})$", texts.get("busy", ""), re.MULTILINE):
        lowest[int(index)] = min(float(percent), lowest.get(int(index), 100.0))
    return GpuCheckFacts(
        complete="end" in codes,
        at_rest=_states(texts.get("state", "")),
        busy=tuple(sorted(lowest.items())),
        holders=holders(texts.get("users", "")) if codes.get("users") == 0 else (),
        loaded=_states(str(speed.get("loaded", {}).get("text", ""))) if gpus else (),
        memory_gb_s=tuple(_numbers(gpu.get("gb_s")) for gpu in gpus),
        tflops=tuple(_numbers(gpu.get("tflops")) for gpu in gpus),
        not_measured="" if gpus else _why(speed, codes.get("speed")),
    )


def judge(offer: Offer, workload: Workload, output: str) -> GpuCheck:
    """Whether a host passes the GPU check, from what :data:`SCRIPT` has printed there.

    Without a need for GPUs, GPUs are not looked at. An unknown fact does not count against the host.
    """
    if not workload.gpus:
        return GpuCheck(notes=("the workload needs no GPU, so nothing was checked",))
    facts = parse(output)
    notes = [] if facts.at_rest else ["nvidia-smi says nothing of clocks, throttling and PCIe here"]
    if facts.not_measured:
        notes.append(f"the GPU's speed was not measured: {facts.not_measured}")
    return GpuCheck(
        verdict=next(_faults(offer, facts), None),
        notes=tuple(notes),
        memory_gb_s=min((statistics.median(each) for each in facts.memory_gb_s if each), default=0.0),
        tflops=min((statistics.median(each) for each in facts.tflops if each), default=0.0),
    )


def _faults(offer: Offer, facts: GpuCheckFacts) -> Iterator[Verdict]:
    for gpu in facts.at_rest:
        yield from slowed(gpu, AT_REST)
    for gpu in facts.loaded:
        yield from slowed(gpu)
        yield from _clocks(gpu)
    for index, percent in facts.busy:
        if percent >= BUSY_PERCENT:
            who = ", ".join(f"{each.name} (pid {each.pid})" for each in facts.holders) or "a process outside"
            yield problem("gpu_shared", f"GPU {index} is used for {percent:.0f} % while nothing is asked of it: {who}")
    for gpu in facts.loaded or facts.at_rest:  # some boards give lanes up at rest
        sold = offer.pcie_lanes or gpu.max_lanes
        if 0 < gpu.lanes < sold:
            yield problem("pcie_narrow", f"GPU {gpu.index} has {gpu.lanes:.0f} PCIe lanes of {sold:.0f}")
    sold_tflops = offer.tflops / max(1, offer.num_gpus)
    for index, rates in enumerate(facts.memory_gb_s):
        yield from _slow(
            "memory_slow", f"the memory of GPU {index} moves", rates, "GB/s", offer.gpu_memory_gb_s, LEAST_MEMORY_SHARE
        )
    for index, rates in enumerate(facts.tflops):
        yield from _slow(
            "matrix_slow", f"GPU {index} multiplies matrices at", rates, "TFLOPS", sold_tflops, LEAST_MATRIX_SHARE
        )


def slowed(gpu: GpuState, counted: int = sum(SLOWED)) -> Iterator[Verdict]:
    """What slows a GPU down, and is no property of its kind.

    :param counted: The bits that count, of :data:`SLOWED`.
    """
    why = [words for bit, words in SLOWED.items() if gpu.reasons & counted & bit]
    if why:
        heat = f", {gpu.celsius:.0f} °C" if gpu.celsius else ""
        yield problem("gpu_throttled", f"GPU {gpu.index} is slowed down: {why[0]} ({gpu.sm_mhz:.0f} MHz{heat})")


def _clocks(gpu: GpuState) -> Iterator[Verdict]:
    """Clocks of a GPU that is busy."""
    for reason, what, now, most, least in (
        ("clock_low", "computes", gpu.sm_mhz, gpu.max_sm_mhz, LEAST_CLOCK_SHARE),
        ("memory_clock_low", "uses its memory", gpu.memory_mhz, gpu.max_memory_mhz, LEAST_MEMORY_CLOCK_SHARE),
    ):
        if 0 < now < most * least:
            yield problem(reason, f"GPU {gpu.index} {what} at {now:.0f} of {most:.0f} MHz while it is busy")


def _slow(reason: str, what: str, rates: Sequence[float], unit: str, sold: float, least: float) -> Iterator[Verdict]:
    if not rates:
        return
    middle, spread = statistics.median(rates), 1 - min(rates) / max(rates)
    if 0 < middle < sold * least:
        yield problem(reason, f"{what} {middle:.3g} {unit}, {sold:.3g} were sold")
    elif spread > MOST_SPREAD:
        yield problem(
            "speed_unsteady", f"{what} {min(rates):.3g} to {max(rates):.3g} {unit} from one moment to the next"
        )


def problem(reason: str, evidence: str) -> Verdict:
    """What speaks against a host: it proves no fault, since the host does what it is asked to."""
    remedy = "measure on another host; what is measured here says more of the host than of the code"
    return Verdict(FailureClass.UNKNOWN, reason, sanitize.line(evidence), remedy)


def _why(speed: dict[str, Any], code: int | None) -> str:
    if code is None:
        return "there is no nvidia-smi"
    if code == 127:
        return "there is no python3"
    if code == 124:
        return f"PyTorch gave no answer within {SPEED_LIMIT_S} s"
    return sanitize.line(str(speed.get("why") or f"the check ended with exit code {code}"), 300)


def _json(text: str) -> dict[str, Any]:
    """The last line that is an object; warnings may stand around it."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                found = json.loads(line)
            except ValueError:
                return {}
            return found if isinstance(found, dict) else {}
    return {}


def _states(text: str) -> tuple[GpuState, ...]:
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 9 and cells[0].isdecimal():
            sm, max_sm, memory, max_memory, lanes, max_lanes, celsius = (smi_number(cell) for cell in cells[1:8])
            bits = int(cells[8], 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,16}", cells[8]) else 0
            found.append(
                GpuState(int(cells[0]), sm, max_sm, memory, max_memory, lanes, max_lanes, celsius, reasons=bits)
            )
    return tuple(found)


def _numbers(found: object) -> tuple[float, ...]:
    return (
        tuple(float(each) for each in found if isinstance(each, int | float) and each > 0)
        if isinstance(found, list)
        else ()
    )

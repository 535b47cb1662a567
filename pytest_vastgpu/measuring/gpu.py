"""What the GPUs did while a server was measured: ``nvidia-smi`` beside the load, and what its lines say. Pure.

The driver starts :data:`COMMAND` before the warm-up, ends it after the load, and returns each line with the moment when
it came, on the clock of the requests' times.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.hostcheck.gpu_check import SLOWED
from pytest_vastgpu.measuring import intervals
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.figures import exact
from pytest_vastgpu.measuring.intervals import Blocks

EVERY_MS = 200
"""Milliseconds between two samples. The driver's own values are means over up to a second."""
_FIELDS = "index,memory.used,utilization.gpu,power.draw,clocks.sm"
COMMAND = f"""\
command -v nvidia-smi >/dev/null 2>&1 || exit 0
for why in clocks_event_reasons.active clocks_throttle_reasons.active pstate; do # the newer name, the older, neither
  nvidia-smi --query-gpu=$why --format=csv >/dev/null 2>&1 && break
done
lines=
command -v stdbuf >/dev/null 2>&1 && lines='stdbuf -oL' # into a pipe, it would keep its lines for a while
exec $lines nvidia-smi --query-gpu={_FIELDS},$why --format=csv,noheader,nounits -lms {EVERY_MS}
"""
"""Shell text that prints a line for each GPU again and again until it is ended; without ``nvidia-smi``, it ends."""
LASTS_S = 0.5
"""How long one value of the driver has to do with the next."""

REASONS: Mapping[int, str] = {0x4: "it is at its power limit", **SLOWED}
"""Why clocks were below what the load asked for, by NVML's bit. Idle and the owner's settings are no throttling."""
LEAST_SHARE = 0.05
LEAST_SAMPLES = 5
"""Of the samples, and so many: a slowdown by hardware also shows for a moment when clocks change."""


@dataclass(frozen=True)
class GpuSeen:
    """What one GPU did in the measured seconds. None: the driver does not tell."""

    index: int
    memory_peak_mib: float | None
    """The most that was in use at once, by all processes, as far as samples show."""
    utilisation: float | None
    """Percent of the time in which anything ran on it, on the mean."""
    power_w: float | None
    clock_mhz: float | None
    """The mean clock of its multiprocessors."""
    throttled: Mapping[str, float] = field(default_factory=dict)
    """The share of samples with it, by the reason in words: ``it is at its power limit``."""
    samples: int = 0
    """How many say whether it is throttled."""


@dataclass(frozen=True)
class GpusSeen:
    """What all GPUs did in the measured seconds."""

    figures: Mapping[str, Figure]
    missing: Mapping[str, str]
    """Why a number is not among them."""
    gpus: Sequence[GpuSeen] = ()


@dataclass(frozen=True)
class _Sample:
    moment: float
    index: int
    values: Mapping[str, float | None]
    reasons: int | None


_VALUES = ("memory", "utilisation", "power", "clock")
NAMES = ("gpu_memory_peak", "gpu_utilisation", "gpu_power", "energy", "gpu_clock", "gpu_throttled")


def seen(lines: Iterable[tuple[float, str]], seconds: float) -> GpusSeen:
    """What the GPUs did in the measured seconds.

    Memory is that of the fullest GPU, the clock that of the slowest; power and energy are those of all together.

    :param lines: Each line of :data:`COMMAND`, with its moment: seconds since the measured ones began.
    """
    lines = list(lines)
    every = _samples(lines)
    if not every:
        why = f"nvidia-smi says: {sanitize.line(lines[0][1], 200)}" if lines else ""
        return GpusSeen({}, dict.fromkeys(NAMES, why) if why else {})
    samples = [each for each in every if 0 <= each.moment < seconds]
    by_gpu = {index: [each for each in samples if each.index == index] for index in {each.index for each in samples}}
    gpus = tuple(_gpu(index, by_gpu[index]) for index in sorted(by_gpu))
    series = _Series(by_gpu, intervals.for_rates(seconds, LASTS_S))
    if not series.enough:
        answers = max(map(len, by_gpu.values()), default=0)
        return GpusSeen({}, dict.fromkeys(NAMES, f"nvidia-smi answered {answers} times in {seconds:g} s"))
    slowest = min(gpus, key=lambda gpu: gpu.clock_mhz or math.inf).index
    power = series.total(_value("power"), "W")
    used = series.total(_value("utilisation"), "%")
    peaks = [each.memory_peak_mib for each in gpus if each.memory_peak_mib is not None]
    made = {
        "gpu_memory_peak": exact(max(peaks), "MiB", -1) if peaks else None,
        "gpu_utilisation": used and used.times(1 / len(gpus), "%"),
        "gpu_power": power,
        "energy": power and power.times(seconds, "J"),
        "gpu_clock": series.total(_value("clock"), "MHz", only=slowest),
        "gpu_throttled": series.share(_throttled),
    }
    known = {name: figure for name, figure in made.items() if figure}
    return GpusSeen(
        known, dict.fromkeys((name for name in NAMES if name not in known), "the driver does not tell"), gpus
    )


def hardware_problem(gpus: Iterable[GpuSeen]) -> str:
    """What held the GPUs back while they were measured, and is a problem of the host, in a sentence; empty: nothing."""
    for gpu in gpus:
        for reason, share in gpu.throttled.items():
            if reason in SLOWED.values() and share >= LEAST_SHARE and share * gpu.samples >= LEAST_SAMPLES - 0.5:
                return f"GPU {gpu.index} was slowed down in {share:.0%} of the samples: {reason}"
    return ""


def together(several: Iterable[Iterable[GpuSeen]]) -> list[GpuSeen]:
    """How often each GPU was throttled in several measurements of a host. The other numbers are of each alone."""
    found: dict[int, Counter[str]] = {}
    samples = Counter[int]()
    for gpu in (gpu for measured in several for gpu in measured):
        samples[gpu.index] += gpu.samples
        counts = found.setdefault(gpu.index, Counter())
        for why, share in gpu.throttled.items():
            counts[why] += round(share * gpu.samples)
    return [
        GpuSeen(at, None, None, None, None, {why: count / samples[at] for why, count in found[at].items()}, samples[at])
        for at in sorted(found)
        if samples[at]
    ]


def _samples(lines: Iterable[tuple[float, str]]) -> list[_Sample]:
    """Samples of :data:`COMMAND`'s lines; those that are none, such as an error's text, are passed over."""
    samples = []
    for moment, line in lines:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 2 + len(_VALUES) and re.fullmatch(r"\d{1,4}", cells[0], re.ASCII):
            values = dict(zip(_VALUES, map(_number, cells[1:-1]), strict=True))
            reasons = int(cells[-1], 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,16}", cells[-1]) else None
            samples.append(_Sample(moment, int(cells[0]), values, reasons))
    return samples


def _number(cell: str) -> float | None:
    """A number of ``nvidia-smi``; None for ``[N/A]``, ``[Unknown Error]`` and whatever else is none."""
    return float(cell) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", cell, re.ASCII) else None


def _gpu(index: int, samples: Sequence[_Sample]) -> GpuSeen:
    known = {name: [value for each in samples if (value := each.values[name]) is not None] for name in _VALUES}
    means = {name: statistics.fmean(values) if values else None for name, values in known.items()}
    masks = [each.reasons for each in samples if each.reasons is not None]
    shares = {why: sum(bool(mask & bit) for mask in masks) / len(masks) for bit, why in REASONS.items() if masks}
    return GpuSeen(
        index,
        memory_peak_mib=max(known["memory"], default=None),
        utilisation=means["utilisation"],
        power_w=means["power"],
        clock_mhz=means["clock"],
        throttled={why: share for why, share in shares.items() if share},
        samples=len(masks),
    )


class _Series:
    """The samples of all GPUs, by block and GPU. A block in which one GPU was not seen does not count."""

    def __init__(self, by_gpu: Mapping[int, Sequence[_Sample]], blocks: Blocks) -> None:
        parts: list[dict[int, list[_Sample]]] = [{index: [] for index in by_gpu} for _ in range(blocks.count)]
        for index, samples in by_gpu.items():
            for each in samples:
                block = blocks.at(each.moment)
                if block is not None:
                    parts[block][index].append(each)
        self._parts = [part for part in parts if part and all(part.values())]

    @property
    def enough(self) -> bool:
        """Whether an interval can be given."""
        return len(self._parts) >= intervals.LEAST_BLOCKS

    def total(self, of: Callable[[_Sample], float | None], unit: str, only: int | None = None) -> Figure | None:
        """The mean over time of a value, summed over GPUs; None if the driver does not always tell it.

        :param only: One GPU instead of all.
        """
        totals = []
        for part in self._parts:
            chosen = [[of(each) for each in samples] for index, samples in part.items() if only in (None, index)]
            known = [[value for value in values if value is not None] for values in chosen]
            if not all(known):
                return None
            totals.append(math.fsum(map(statistics.fmean, known)))
        return intervals.mean(totals, unit)

    def share(self, of: Callable[[_Sample], float | None]) -> Figure | None:
        """The percentage of samples, of all GPUs, in which something was so."""
        total = self.total(of, "")
        if total is None:
            return None
        gpus = len(self._parts[0])
        found = total.times(100 / gpus, "%")
        # What is so in no sample may be so between them ("rule of three", for 97.5 %).
        most = 100 * (1 - 0.025 ** (1 / sum(len(samples) for part in self._parts for samples in part.values())))
        low, high = max(0.0, found.low), min(100.0, found.high)
        if low == high:
            low, high = max(0.0, low - most), min(100.0, high + most)
        return Figure(found.value, "%", low, high)


def _value(name: str) -> Callable[[_Sample], float | None]:
    return lambda sample: sample.values[name]


def _throttled(sample: _Sample) -> float | None:
    return None if sample.reasons is None else float(any(sample.reasons & bit for bit in REASONS))

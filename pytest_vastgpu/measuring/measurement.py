"""What a measurement has found: numbers with units and intervals. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import MeasurementFailed
from pytest_vastgpu.measuring import gpu as gpus
from pytest_vastgpu.measuring import latencies
from pytest_vastgpu.measuring import requests
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.figures import exact
from pytest_vastgpu.measuring.gpu import GpuSeen
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.requests import Seen

NAMES = (
    "requests",
    "errors",
    "throughput",
    "output_throughput",
    "goodput",
    *(f"{time}_{level}" for time in latencies.TIMES for level in latencies.LEVELS),
    *gpus.NAMES,
    "energy_per_token",
    "usd_per_million_tokens",
)
"""Every number that there can be. ``requests`` are those that were answered, ``errors`` the others."""
OF_ALL_SERVERS = ("gpu_memory_peak", "gpu_utilisation", "gpu_power", "energy", "energy_per_token")
"""Those of what all processes on the GPUs take together, whichever of them is measured."""
SEVERAL = 1.2
"""Tokens in a piece of a stream; a few come together from any server."""


@dataclass(frozen=True)
class Measurement:
    """One measurement of one server."""

    load: Load
    seconds: float
    figures: Mapping[str, Figure]
    """By the metric's name: ``throughput``, ``ttft_p50``, ``e2e_p99``, …"""
    errors: Mapping[str, int] = field(default_factory=dict)
    """How often a request failed, by reason."""
    quantiles: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Seconds by kind of time (``ttft``, ``e2e``, …): those that 0 %, 1 %, …, 100 % of all stay below."""
    unbounded: Mapping[str, Figure] = field(default_factory=dict)
    """Missing quantiles of which the upper end of the interval alone is not known: it is ``inf``, and so is the value
    where it lies among requests that failed. A comparison counts them, or a side would lose its worst windows."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a number is not among the figures, by the metric's name."""
    notes: Sequence[str] = ()
    """What must be known to read the numbers, in sentences."""
    gpus: Sequence[GpuSeen] = ()
    """Each GPU for itself; empty where none was seen."""
    driver_busy: bool = False
    """Whether the load's driver had so much to do that the numbers may be its own, and not the server's."""

    def __getitem__(self, metric: str) -> Figure:
        """The number of that name.

        :raises MeasurementFailed: if there is none, with the reason.
        """
        __tracebackhide__ = True
        if metric in self.figures:
            return self.figures[metric]
        why = self.missing.get(metric) or (absent(metric) if metric in NAMES else "no number is called so")
        raise MeasurementFailed(f"there is no {metric}: {why}. There are {', '.join(self.figures)}")

    def __str__(self) -> str:
        """A line for each number, and for each reason why others are missing."""
        width = max(map(len, self.figures), default=0)
        lines = [f"{name:<{width}}  {figure}" for name, figure in self.figures.items()]
        return "\n".join([*lines, *self.reasons, *self.notes])

    def without(self, names: Iterable[str], why: str) -> Measurement:
        """The same without some of the numbers.

        :param why: Why they are missing then.
        """
        dropped = dict.fromkeys((name for name in names if name in self.figures), why)
        figures = {name: figure for name, figure in self.figures.items() if name not in dropped}
        return replace(self, figures=figures, missing={**self.missing, **dropped})

    @property
    def reasons(self) -> Sequence[str]:
        """Why numbers are missing: a sentence for each reason."""
        named: dict[str, list[str]] = {}
        for name, why in self.missing.items():
            named.setdefault(why, []).append(name)
        return [f"no {', '.join(names)}: {why}" for why, names in named.items()]

    @property
    def hardware_problem(self) -> str:
        """What held the GPUs back meanwhile, and is a problem of the host, in a sentence; empty: nothing."""
        return gpus.hardware_problem(self.gpus)


def absent(metric: str) -> str:
    """Why a number that there can be is not there, where nothing else is known."""
    return "no GPU was seen" if metric in gpus.NAMES else "this load does not have it"


def of(
    load: Load,
    seconds: float,
    seen: Iterable[Seen],
    *,
    gpu: Iterable[tuple[float, str]] = (),
    usd_h: float = 0.0,
    notes: Sequence[str] = (),
    driver_busy: bool = False,
) -> Measurement:
    """The numbers of what the driver has seen.

    Latencies are those of the requests that began in the measured seconds; one that failed counts as one that never
    came to its end. Rates are what was done in those seconds, by whichever request.

    :param seen: All requests, those of the warm-up, too; :func:`pytest_vastgpu.measuring.seen.check` admits them.
    :param gpu: The lines of the GPUs' watch, each with its moment: seconds since the measured ones began.
    :param usd_h: The instance's price; 0: nothing is said of money.
    :param notes: What must be known to read the numbers.
    :param driver_busy: See :attr:`Measurement.driver_busy`.
    """
    every = list(seen)
    counted = requests.counted(every, seconds)
    done = [each for each in every if not each["error"]]
    failed = [sanitize.line(each["error"], 200) for each in counted if each["error"]]
    times = latencies.times(counted, done)
    quantiles, unbounded = latencies.figures(times, seconds)
    watched = gpus.seen(gpu, seconds)
    numbers: dict[str, Figure | str] = {
        "requests": exact(len(counted) - len(failed)),
        "errors": exact(len(failed)),
        **_rates(load, seconds, done),
        **quantiles,
        **watched.figures,
        **watched.missing,
    }
    tokens, power = numbers.get("output_throughput"), numbers.get("gpu_power")
    if isinstance(tokens, Figure) and isinstance(power, Figure):
        numbers["energy_per_token"] = _per(power, tokens, 1.0, "J")
    if isinstance(tokens, Figure) and usd_h:
        numbers["usd_per_million_tokens"] = _per(exact(usd_h), tokens, 1e6 / 3600, "USD")
    return Measurement(
        load,
        seconds,
        figures={name: each for name, each in numbers.items() if isinstance(each, Figure)},
        errors=dict(Counter(failed).most_common()),
        quantiles=latencies.pictures(times, seconds),
        unbounded=unbounded,
        missing={name: each for name, each in numbers.items() if isinstance(each, str)},
        notes=(*notes, *_notes(counted, done, failed)),
        gpus=watched.gpus,
        driver_busy=driver_busy,
    )


def _rates(load: Load, seconds: float, done: Sequence[Seen]) -> dict[str, Figure | str]:
    closed = not load.rate
    rates = {"throughput": requests.rate(done, seconds, closed=closed)}
    if any(each["first"] is not None for each in done):
        rates["output_throughput"] = requests.token_rate(done, seconds)
    elif any(each["tokens"] for each in done):
        tokens = requests.rate(done, seconds, closed=closed, unit="tokens/s", amount=lambda each: float(each["tokens"]))
        rates["output_throughput"] = tokens
    if load.slo:
        good = requests.rate(done, seconds, closed=closed, amount=lambda each: float(requests.keeps(each, load.slo)))
        rates["goodput"] = good
    return rates


def _per(amount: Figure, rate: Figure, factor: float, unit: str) -> Figure | str:
    """An amount per second for each of what is done a second."""
    if not rate.low:
        return "the token throughput is too unsure"
    return Figure(
        factor * amount.value / rate.value, unit, factor * amount.low / rate.high, factor * amount.high / rate.low, -1
    )


def _notes(counted: Sequence[Seen], done: Sequence[Seen], failed: Sequence[str]) -> Iterator[str]:
    if failed:
        yield (
            f"{len(failed)} of {len(counted)} requests failed ({failed[-1]}): latencies count them as never answered,"
            " rates leave them out"
        )
    pieces, tokens = (sum(each[what] for each in done) for what in ("pieces", "tokens"))
    if pieces and tokens > SEVERAL * pieces:
        yield f"a piece of the stream has {tokens / pieces:.1f} tokens: itl is between pieces, tpot between tokens"

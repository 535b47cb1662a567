"""Numbers, metrics and loads in words, for the terminal and the page alike. Pure."""

from __future__ import annotations

import math

from pytest_vastgpu.core.text.durations import spoken
from pytest_vastgpu.measuring.comparing.comparison import Judged
from pytest_vastgpu.measuring.figures import UNKNOWN
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.figures import amount
from pytest_vastgpu.measuring.figures import difference
from pytest_vastgpu.measuring.figures import number
from pytest_vastgpu.measuring.figures import percent
from pytest_vastgpu.measuring.load import Kind
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.record import Compared
from pytest_vastgpu.measuring.record import Measured
from pytest_vastgpu.reporting.sentences import count

RATES = ("1/s", "tokens/s")
_WORDS = {"ttft": "TTFT", "itl": "ITL", "tpot": "TPOT", "e2e": "end to end", "gpu": "GPU", "usd": "USD"}


def metric_name(metric: str) -> str:
    """``ttft_p50`` as people write it: ``TTFT p50``."""
    return " ".join(_WORDS.get(word, word) for word in metric.split("_"))


def tick(value: float) -> str:
    """A round number at an axis."""
    return f"{value:,.6g}"


def in_short(figure: Figure) -> str:
    """A figure in a table that names the units of rates: ``123 ±3 %``, ``12.3 ms ±4 %``."""
    value = number(figure.value) if figure.unit in RATES else amount(figure.value, figure.unit)
    half = max(figure.high - figure.value, figure.value - figure.low)
    if not half or not figure.value or not math.isfinite(half):
        return value
    share = 100 * half / abs(figure.value)
    return f"{value} ±{percent(share / 100, 0) if share >= 10 else f'{share:.2g} %'}"


def slowdown(judged: Judged) -> str:
    """``+6.2 % (+4.1 to +8.4)``."""
    if not judged.rounds:
        return UNKNOWN
    low, high = (difference(edge).removesuffix(" %") for edge in (judged.low, judged.high))
    return f"{difference(judged.slowdown)} ({low} to {high})"


def load_line(load: Load) -> str:
    """``completions, 4 at a time``; ``chat, 5 a second at random times``; ``shell 'make bench', 1 at a time``."""
    what = {
        Kind.COMMAND: f"shell {load.path!r:.60}",
        Kind.HTTP: f"HTTP {load.path:.60}",
        Kind.KSERVE: f"KServe {load.path:.60}",
    }.get(load.kind, str(load.kind))
    pace = f"{load.concurrency:,} at a time" if load.concurrency else f"{load.rate:g} a second at random times"
    slo = " and ".join(f"{metric_name(metric)} ≤ {amount(limit, 's')}" for metric, limit in load.slo.items())
    return f"{what}, {pace}{f', SLO {slo}' if slo else ''}"


def place(record: Measured) -> str:
    """Where it was measured: ``RTX 4090, machine 42``."""
    return ", ".join(filter(None, [record.gpu, f"machine {record.machine_id}" if record.machine_id else ""]))


def effort(compared: Compared) -> str:
    """``6 rounds on machine 12, 6 rounds on machine 14; 9 min 2 s, 0.1200 USD``."""
    hosts = ", ".join(f"{count(len(host.rounds), 'round')} on {host.place}" for host in compared.hosts)
    cost = f"{spoken(compared.seconds)}, {compared.usd:.4f} USD" if compared.seconds else ""
    return "; ".join(filter(None, [hosts, cost]))

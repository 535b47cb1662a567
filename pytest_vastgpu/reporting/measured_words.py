"""Numbers, metrics and loads in words, for the terminal and the page alike. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pytest_vastgpu.core.text.durations import spoken
from pytest_vastgpu.measuring.comparison import Judged
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.load import Kind
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.record import Compared
from pytest_vastgpu.measuring.record import Measured
from pytest_vastgpu.reporting.sentences import count

UNITS: Mapping[str, str] = {"1/s": "requests/s"}
"""Units in words, where the word is another."""
RATES = ("1/s", "tokens/s")
_SCALES = {"s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))}
_WORDS = {"ttft": "TTFT", "itl": "ITL", "tpot": "TPOT", "e2e": "end to end", "gpu": "GPU", "usd": "USD"}
_MORE = 4
"""Digits that a number has beyond those of others, at most."""
_MOST = 9
"""Digits behind the point, at most."""
UNKNOWN = "not known"


def metric_name(metric: str) -> str:
    """``ttft_p50`` as people write it: ``TTFT p50``."""
    return " ".join(_WORDS.get(word, word) for word in metric.split("_"))


def scale(largest: float, unit: str) -> tuple[float, str]:
    """What numbers up to that one are divided by, and the unit they have then: 0.02 s is shown in ms."""
    for factor, name in _SCALES.get(unit, ()):
        if abs(largest) >= factor:
            return factor, name
    return (1.0, UNITS.get(unit, unit)) if unit not in _SCALES or not largest else _SCALES[unit][-1]


def number(value: float, doubt: float = 0.0) -> str:
    """A number with about three digits that count: ``1,234``, ``12.3``, ``0.00123``.

    :param doubt: How far it may be off; one that is known better has more digits.
    """
    if not math.isfinite(value):
        return UNKNOWN if math.isnan(value) else "∞" if value > 0 else "-∞"
    size = abs(value)
    places = 0 if size >= 100 or not size else 1 if size >= 10 else 2 if size >= 1 else 2 - math.floor(math.log10(size))
    if 0 < doubt < math.inf:
        places = max(places, min(-math.floor(math.log10(doubt)), places + _MORE))
    return f"{value:,.{min(places, _MOST)}f}"


def tick(value: float) -> str:
    """A round number at an axis."""
    return f"{value:,.6g}"


def amount(value: float, unit: str, doubt: float = 0.0) -> str:
    """A number with its unit: ``12.3 ms``."""
    if math.isnan(value):
        return UNKNOWN
    factor, name = scale(value, unit)
    if not unit and float(value).is_integer():
        return f"{value:,.0f}"
    return f"{number(value / factor, doubt / factor)} {name}".rstrip()


def in_words(figure: Figure) -> str:
    """A figure with its interval: ``12.3 ms (12.0 to 12.7)``."""
    within = interval(figure)
    return f"{middle(figure)}{f' ({within})' if within else ''}"


def middle(figure: Figure) -> str:
    """Its value with its unit, in as many digits as its interval: ``12.3 ms``."""
    return amount(figure.value, figure.unit, _doubt(figure))


def interval(figure: Figure) -> str:
    """Its interval in the unit of its value: ``12.0 to 12.7``; empty where it is exact."""
    if figure.low == figure.high or math.isnan(figure.value):
        return ""
    factor, _ = scale(figure.value, figure.unit)
    low, high = (number(edge / factor, _doubt(figure) / factor) for edge in (figure.low, figure.high))
    return f"{low} to {high}"


def _doubt(figure: Figure) -> float:
    return (figure.high - figure.low) / 2


def in_short(figure: Figure) -> str:
    """A figure in a table that names the units of rates: ``123 ±3 %``, ``12.3 ms ±4 %``."""
    value = number(figure.value) if figure.unit in RATES else amount(figure.value, figure.unit)
    half = max(figure.high - figure.value, figure.value - figure.low)
    if not half or not figure.value or not math.isfinite(half):
        return value
    share = 100 * half / abs(figure.value)
    return f"{value} ±{f'{share:.0f}' if share >= 10 else f'{share:.2g}'} %"


def percent(ratio: float) -> str:
    """A difference: ``+6.2 %``."""
    return f"{100 * ratio:+.1f} %" if math.isfinite(ratio) else UNKNOWN


def slowdown(judged: Judged) -> str:
    """``+6.2 % (+4.1 to +8.4)``."""
    if not judged.rounds:
        return UNKNOWN
    return f"{percent(judged.slowdown)} ({100 * judged.low:+.1f} to {100 * judged.high:+.1f})"


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
    hosts = ", ".join(f"{count(len(host.rounds), 'round')} on machine {host.machine_id}" for host in compared.hosts)
    cost = f"{spoken(compared.seconds)}, {compared.usd:.4f} USD" if compared.seconds else ""
    return "; ".join(filter(None, [hosts, cost]))

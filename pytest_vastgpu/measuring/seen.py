"""Whether what the driver has seen means something, and what must be known to read it. Pure.

See :mod:`pytest_vastgpu.measuring.on_instance.driver` for what it has seen.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import MeasurementFailed
from pytest_vastgpu.measuring import requests
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.requests import Seen

LOST_SHARE = 0.1
"""Of a closed loop's time: a server that is gone refuses few requests, since the loop waits after each."""
LATE_SHARE = 0.1
"""Of a typical latency: if the driver itself is later than that, its own delay is in the numbers."""
BUSY_SHARE = 0.8
"""Of one core: a driver that uses more cannot ask any faster, whatever the server can do."""
SILENCE = 0.2
"""Of the measured seconds, at their end: a server that answers nothing for so long, and has failed, has stopped."""
AT_ONCE_S = 0.001
AT_ONCE_SHARE = 0.01
"""Of a request's time: a stream whose pieces all come within this, and within :data:`AT_ONCE_S`, is none."""


def check(load: Load, seconds: float, found: Mapping[str, Any]) -> None:
    """Refuse what would give numbers that mean nothing.

    :raises MeasurementFailed: with the reason, and what to do.
    """
    __tracebackhide__ = True
    if "too_much" in found:
        raise MeasurementFailed(
            f"{found['too_much'] or 'these'} requests are more than can be told of at once; measure for fewer seconds"
        )
    counted = requests.counted(found["seen"], seconds)
    if not counted:
        longest = max((each["end"] - each["start"] for each in found["seen"]), default=0.0)
        raise MeasurementFailed(
            f"no request began in {seconds:g} s: those of the warm-up took up to {longest:.1f} s, or the instance was "
            "too busy to send one; measure for longer"
        )
    failed = [each for each in counted if each["error"]]
    if len(failed) == len(counted) or len(failed) > load.most_errors * len(counted):
        raise MeasurementFailed(_many_errors(load, failed, len(counted), 0.0, found.get("details", {})))
    done = [each for each in found["seen"] if not each["error"]]
    if not any(0 <= each["end"] <= seconds for each in done):
        shortest = min(each["end"] - each["start"] for each in done)
        raise MeasurementFailed(
            f"no request was complete within {seconds:g} s: the shortest took {shortest:.1f} s; measure for longer"
        )
    stopped = max(each["end"] for each in done)
    usual_s = statistics.median(each["end"] - each["start"] for each in done)
    if failed and seconds - stopped > max(SILENCE * seconds, 5 * usual_s):
        reason = sanitize.line(found.get("details", {}).get(failed[-1]["error"], failed[-1]["error"]), 300)
        raise MeasurementFailed(
            f"the server stopped answering after {stopped:.1f} of {seconds:g} s: {reason}; its log may tell why"
        )
    if (lost := _lost(load, seconds, failed)) > load.most_errors:
        raise MeasurementFailed(_many_errors(load, failed, len(counted), lost, found.get("details", {})))
    if load.streams and not load.driver and come_at_once(done) and _p95(found.get("lag", ())) < AT_ONCE_S:
        raise MeasurementFailed(
            "streaming that is none: the tokens of an answer all came at once, so there are no times of tokens; "
            "have the server, or what is before it, pass each token on, or give the load stream=False"
        )


def come_at_once(done: Sequence[Seen]) -> bool:
    """Whether the tokens of most answers came all at once. A driver that is late itself sees them so."""
    return 2 * sum(map(is_at_once, done)) > len(done)


def _lost(load: Load, seconds: float, failed: Sequence[Seen]) -> float:
    """The share of a closed loop's time that went by with errors; 0 if that is little."""
    if not load.concurrency:
        return 0.0
    lost = sum(min(each["end"] + each.get("pause", 0.0), seconds) - each["start"] for each in failed)
    share = lost / (load.concurrency * seconds)
    return share if share > LOST_SHARE else 0.0


def _many_errors(load: Load, failed: Sequence[Seen], of: int, lost: float, details: Mapping[str, str]) -> str:
    reasons = Counter(each["error"] for each in failed).most_common()
    counts = ", ".join(f"{sanitize.line(reason, 80)}: {count}" for reason, count in reasons[:5])
    first = sanitize.line(" ".join(details.get(reasons[0][0], "").split()), 300)
    when = f", the first {min(map(requests.began, failed)):.1f} s after the warm-up"
    then = "" if len(failed) == of else f"; mend the server, or allow more than most_errors={load.most_errors:g}"
    time = f", and {lost:.0%} of the time went by with that" if lost and len(failed) < of else ""
    return f"{len(failed)} of {of} requests failed ({counts}){time}{when}: {first}{then}"


def is_at_once(seen: Seen) -> bool:
    """Whether a stream's text came all at once. A few pieces may come so from any server, unless they hold more tokens:
    one more is the token that ends an answer.
    """
    if seen["pieces"] <= 3 and seen["tokens"] <= seen["pieces"] + 1:
        return False
    return bool(seen["last"] - seen["first"] < min(AT_ONCE_S, AT_ONCE_SHARE * (seen["end"] - seen["start"])))


def notes(seconds: float, found: Mapping[str, Any]) -> Iterator[str]:
    """What must be known to read the numbers: sentences."""
    done = [each for each in requests.counted(found["seen"], seconds) if not each["error"]]
    typical = statistics.median((each["first"] or each["end"]) - each["start"] for each in done)
    sent_late = [each["start"] - each["due"] for each in done if "due" in each]
    late = max(_p95(found.get("lag", ())), _p95(sent_late))
    if late > LATE_SHARE * typical:
        yield (
            f"the load's driver was late itself, by {late * 1000:.1f} ms in one case of twenty, where a typical answer "
            f"began after {typical * 1000:.1f} ms: the instance's CPU was busy, and that is in the numbers"
        )
    if is_busy(seconds, found):
        yield (
            f"the load's driver used {found['cpu_s'] / seconds:.0%} of a CPU core, and can do with one: the server may "
            "be able to do more than was asked of it"
        )
    if any(each["counted"] == "pieces" for each in done):
        yield "the server does not tell how many tokens it made: each piece of a stream counts as one"
    if found.get("thinned", 1) > 1:
        yield f"one time between tokens of {found['thinned']} is counted: all of them are more than can be told of"


def is_busy(seconds: float, found: Mapping[str, Any]) -> bool:
    """Whether the driver had more to do than one CPU core can."""
    return bool(found.get("cpu_s", 0.0) > BUSY_SHARE * seconds)


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[int(0.95 * len(values))] if values else 0.0

"""What one request took, and how many were done in a time. Pure.

A request is what the driver has noted of it (see there). Times are seconds since the measured ones began.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from pytest_vastgpu.measuring import intervals
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.intervals import Blocks

Seen = Mapping[str, Any]
"""Of one request."""
LEAST = 3
"""Requests without which a rate says nothing."""


def began(request: Seen) -> float:
    """When it was sent; in an open loop when it should have been: one that had to wait for it waits, too."""
    due = request.get("due")
    return float(request["start"] if due is None else due)


def counted(seen: Iterable[Seen], seconds: float) -> list[Seen]:
    """Those that belong to the measured seconds. One that should have been sent in them does, if it was not, too."""
    return [each for each in seen if 0 <= began(each) < seconds]


def e2e(request: Seen) -> float:
    """From the start to the end of the answer."""
    return float(request["end"]) - began(request)


def ttft(request: Seen) -> float | None:
    """To the first token; None if there was none."""
    first = request["first"]
    return None if first is None else float(first) - began(request)


def tpot(request: Seen) -> float | None:
    """Time per token after the first one; None for fewer than two tokens, or pieces: it cannot be seen."""
    if request["first"] is None or min(request["tokens"], request["pieces"]) < 2:
        return None
    return float(request["last"] - request["first"]) / float(request["tokens"] - 1)


def gaps(request: Seen) -> Iterator[tuple[float, float]]:
    """The times between pieces of the stream, each with its moment.

    The driver may have left some gaps out, at random: those that are there are stretched over the time of all.
    """
    between = request["gaps"]
    if not between:
        return
    whole = math.fsum(between)
    stretch = (request["last"] - request["first"]) / whole if whole else 1.0
    for gap, until in zip(between, itertools.accumulate(between), strict=True):
        yield request["first"] + until * stretch, gap


def keeps(request: Seen, slo: Mapping[str, float]) -> bool:
    """Whether an answered request keeps all the limits. One that has no such time, such as ``tpot`` of one token,
    keeps that limit.
    """
    times = {"ttft": ttft(request), "tpot": tpot(request), "e2e": e2e(request)}
    return all((times[name] or 0.0) <= limit for name, limit in slo.items())


def _one(request: Seen) -> float:
    return 1.0


def rate(
    done: Iterable[Seen],
    seconds: float,
    *,
    closed: bool,
    unit: str = "1/s",
    amount: Callable[[Seen], float] = _one,
) -> Figure | str:
    """How much was done a second; or, in a sentence, why that is not known.

    In a closed loop a request counts by the share of its time that lies in these seconds: of long ones, whole numbers
    would be off by up to one for each that is under way. In an open loop, which may fall behind, it counts at its end.
    """
    moment = "start" if closed else "end"
    inside = [each for each in done if each["end"] > 0 and each[moment] < seconds]
    lasts = math.fsum(each["end"] - each["start"] for each in inside) / max(1, len(inside))
    blocks = intervals.for_rates(seconds, lasts)
    amounts, worth = [0.0] * blocks.count, [0.0] * blocks.count
    for each in inside:
        blocks.spread(each[moment], each["end"], amounts, amount(each))
        blocks.spread(each[moment], each["end"], worth)
    # Of requests that take longer than all of this, nothing here says how much they differ, however many are under way.
    makes = round(math.fsum(worth), 3)
    needed = max(seconds * LEAST / makes if makes else math.inf, lasts)
    if needed > seconds:
        return _too_little(makes, lasts, seconds, needed)
    return per_second(amounts, blocks, unit)


def _too_little(makes: float, lasts: float, seconds: float, needed: float) -> str:
    """Why a rate is not known.

    :param makes: So many requests' work was done.
    """
    if not makes:
        return f"no request was answered in {seconds:g} s: measure for longer"
    return (
        f"what was done in {seconds:g} s makes {makes:.3g} requests, of {lasts:.3g} s each: "
        f"measure for {math.ceil(needed)} s or longer"
    )


def token_rate(done: Iterable[Seen], seconds: float) -> Figure | str:
    """How many tokens came a second, each at its moment, whether or not its request ended in these seconds."""
    blocks = intervals.for_rates(seconds)
    amounts = [0.0] * blocks.count
    for each in done:
        if each["first"] is None:
            continue
        moments = [each["first"], *(moment for moment, _ in gaps(each))]
        for moment in moments:
            blocks.spread(moment, moment, amounts, each["tokens"] / len(moments))
    if sum(amounts) < blocks.count:
        return f"{sum(amounts):.0f} tokens came in {seconds:g} s: measure longer"
    return per_second(amounts, blocks, "tokens/s")


def per_second(amounts: Sequence[float], blocks: Blocks, unit: str) -> Figure:
    """What was done in each block, as a rate."""
    return intervals.mean([amount * blocks.count / blocks.seconds for amount in amounts], unit, 1)

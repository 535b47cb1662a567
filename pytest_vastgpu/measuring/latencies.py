"""How long requests took: quantiles of the time to the first token, between tokens, and to the end. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_vastgpu.measuring import intervals
from pytest_vastgpu.measuring import requests
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.intervals import TooFew
from pytest_vastgpu.measuring.requests import Seen
from pytest_vastgpu.measuring.seen import come_at_once
from pytest_vastgpu.measuring.seen import is_at_once

LEVELS = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
TOGETHER_S = 1e-5
"""Pieces of a stream that came so close together were read at once: there is no time between them."""
MOST_AT_ONCE = 0.1
"""Of the answers of several tokens: where more came all at once, the rest say nothing of the times between tokens."""
TIMES = ("ttft", "itl", "tpot", "e2e")

Points = Sequence[tuple[float, float]]
"""Values in seconds, each with its moment; ``inf`` for a request that failed."""


def times(counted: Sequence[Seen], done: Sequence[Seen]) -> dict[str, Points | str]:
    """Every time that there is, by its name; or, in a sentence, why there is none.

    :param counted: The requests that began in the measured seconds.
    :param done: Those that were answered, whenever they began.
    """
    found: dict[str, Points | str] = {}
    answered = [each for each in counted if not each["error"]]
    streamed = [each for each in answered if each["first"] is not None]
    if streamed and come_at_once(streamed):
        found |= dict.fromkeys(("ttft", "itl", "tpot"), "the load's driver was too late to see tokens one by one")
    elif streamed:
        found["ttft"] = [(requests.began(each), _or_never(each, requests.ttft(each))) for each in counted]
        several = [each for each in counted if each["error"] or requests.tpot(each) is not None]
        if any(not each["error"] for each in several):
            found["itl"] = between = [gap for each in done for gap in requests.gaps(each)]
            found["tpot"] = [(requests.began(each), _or_never(each, requests.tpot(each))) for each in several]
            found |= _unseen(between, [each for each in several if not each["error"]])
        else:
            found |= dict.fromkeys(("itl", "tpot"), "answers have one token, or come in one piece")
    found["e2e"] = [(requests.began(each), _or_never(each, requests.e2e(each))) for each in counted]
    return found


def _unseen(gaps: Points, several: Sequence[Seen]) -> dict[str, str]:
    """Which times between tokens say nothing, since too many tokens came together; and why, in a sentence."""
    at_once = sum(is_at_once(each) or each["last"] - each["first"] < TOGETHER_S for each in several)
    if at_once > MOST_AT_ONCE * len(several):
        why = f"the tokens of {at_once} of {len(several)} answers came all at once: the server or the driver was late"
        return dict.fromkeys(("itl", "tpot"), why)
    together = sum(gap < TOGETHER_S for _, gap in gaps)
    if 2 * together > len(gaps):
        return {"itl": f"{together} of {len(gaps)} pieces of streams came together with the one before"}
    return {}


def _or_never(request: Seen, value: float | None) -> float:
    return math.inf if request["error"] or value is None else value


def figures(found: dict[str, Points | str], seconds: float) -> tuple[dict[str, Figure | str], dict[str, Figure]]:
    """Each quantile of each time; or, in a sentence, why it is not known. And those whose interval alone is not."""
    known: dict[str, Figure | str] = {}
    unbounded: dict[str, Figure] = {}
    blocks = intervals.for_quantiles(seconds)
    for name, points in found.items():
        if isinstance(points, str):
            known |= {f"{name}_{level}": points for level in LEVELS}
            continue
        inside = [point for point in points if blocks.at(point[0]) is not None]
        for level, each in zip(LEVELS, intervals.quantiles(inside, list(LEVELS.values()), blocks), strict=True):
            metric = f"{name}_{level}"
            known[metric] = _too_few(inside, each.needed, seconds) if isinstance(each, TooFew) else each
            if isinstance(each, TooFew) and each.unbounded is not None:
                unbounded[metric] = each.unbounded
    return known, unbounded


def _too_few(points: Points, needed: int, seconds: float) -> str:
    """Why a quantile is not known."""
    if not needed:
        return f"{sum(math.isinf(value) for _, value in points)} of {len(points)} requests failed"
    longer_s = math.ceil(seconds * needed / max(1, len(points)))
    return f"{len(points)} are too few, about {needed} are needed: measure for {longer_s} s"


def percentiles(values: Sequence[float]) -> Sequence[float]:
    """The values that 0 %, 1 %, …, 100 % of them stay below, for a picture; empty for none.

    :param values: In ascending order.
    """
    return tuple(intervals.interpolated(values, percent / 100) for percent in range(101)) if values else ()


def pictures(found: dict[str, Points | str], seconds: float) -> dict[str, Sequence[float]]:
    """The :func:`percentiles` of each time, of what was answered: of the same values as :func:`figures`."""
    blocks = intervals.for_quantiles(seconds)
    known = {name: points for name, points in found.items() if not isinstance(points, str)}
    return {
        name: percentiles(
            sorted(value for moment, value in points if math.isfinite(value) and blocks.at(moment) is not None)
        )
        for name, points in known.items()
    }

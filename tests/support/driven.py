"""Requests as the driver of a load notes them."""

from __future__ import annotations

from typing import Any


def asked(
    start: float,
    takes: float = 0.1,
    *,
    ttft: float | None = None,
    gaps: tuple[float, ...] = (),
    tokens: int | None = None,
    error: str = "",
    **more: object,
) -> dict[str, Any]:
    """One request.

    :param start: Seconds since the measured ones began.
    :param takes: From start to end; with ``ttft``, the end comes with the last token.
    :param ttft: Until the first token; None: the answer is no stream.
    :param gaps: Between the pieces of the stream.
    :param tokens: As many as pieces, if not given.
    """
    pieces = 0 if ttft is None else 1 + len(gaps)
    first = None if ttft is None else start + ttft
    last = None if first is None else first + sum(gaps)
    return {
        "start": start,
        "first": first,
        "last": last,
        "end": start + takes if last is None else last,
        "gaps": list(gaps),
        "tokens": pieces if tokens is None else tokens,
        "counted": "usage",
        "pieces": pieces,
        "error": error,
        **more,
    }


def steady(
    seconds: float, takes: float = 0.1, *, at_a_time: int = 1, warmup_s: float = 2.0, **more: Any
) -> list[dict[str, Any]]:
    """A closed loop against a server that takes the same time for each request."""
    requests = []
    for _ in range(at_a_time):
        number = 0
        while (start := number * takes - warmup_s) < seconds:
            requests.append(asked(start, takes, **more))
            number += 1
    return requests

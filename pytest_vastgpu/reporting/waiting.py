"""Builds the sentences about what a run waits for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vastgpu.core.text.durations import spoken
from pytest_vastgpu.core.text.layout import columns_of
from pytest_vastgpu.core.text.layout import cut_end
from pytest_vastgpu.model import Progress

ROOM = 30
"""Columns for what goes on that the whole sentence leaves on a terminal that is wide enough for it."""

SHORTEST_NAME = 6
"""Fewest columns in which a workload's name says something."""

STAGES = {
    "weights": "loading weights",
    "graphs": "capturing graphs",
    "kv_cache": "allocating the KV cache",
    "engine": "starting the engine",
    "serving": "beginning to serve",
    "starting": "",
}
"""Stages of a start in words, where the word is another; empty: it says nothing."""


@dataclass(frozen=True)
class Waiting:
    """What tests of a run wait for: an instance of one workload. Its texts are safe to show."""

    workload: str
    """Its name."""
    seconds: float
    """How long the first of these tests has waited."""
    doing: str
    """What goes on: the newest meaningful line of market, container or server."""
    instance_id: int = 0
    """0: none is rented yet."""
    machine: str = ""
    """``RTX 4090, attempt 2``."""
    window: str = ""
    """Which time limit runs: ``warm-up window``; empty: none."""
    window_s: float = 0.0
    left_s: float = 0.0
    usd: float = 0.0
    """What the instance has cost so far."""


def stage(progress: Progress) -> str:
    """A stage of a server's start: ``loading weights 3/8``; empty for the first one, in which nothing is known."""
    name = STAGES.get(progress.stage, progress.stage)
    return f"{name} {progress.count}".rstrip()


def sentence(waiting: Waiting, more_s: float = 0.0) -> str:
    """What is waited for, in a sentence.

    :param more_s: Seconds that have passed since the value was made.
    """
    return "".join(_parts(waiting, more_s))


def status(waiting: Waiting, columns: int, more_s: float = 0.0) -> str:
    """What is waited for, in one line that is no wider than that.

    It is the sentence where that leaves room for what goes on; else the facts come first, since the end is cut. Where
    what goes on would be cut, the workload's name is left out, then the cost.
    """
    head, where, doing, end = _parts(waiting, more_s)
    room = columns - columns_of(head + where + end)
    if room >= min(columns_of(doing), ROOM):
        return head + where + cut_end(doing, room) + end
    left_s = max(0.0, waiting.left_s - more_s)
    left = f" ({spoken(left_s if left_s < 120 else left_s // 60 * 60)} left)" if waiting.window else ""
    usd = f", {waiting.usd:.4f} USD" if waiting.instance_id else ""
    times = f"{spoken(waiting.seconds + more_s)}{left}"
    for facts in (f"{times}{usd}, ", f"{times}, "):
        room = columns - columns_of(facts + doing)
        if room >= SHORTEST_NAME:
            return facts + cut_end(waiting.workload, room) + doing
        if doing and columns_of(facts + waiting.doing) <= columns:
            return facts + waiting.doing
    facts = f"{times}{usd}, "
    return cut_end(facts + cut_end(waiting.workload, (columns - columns_of(facts)) // 3) + doing, columns)


def _parts(waiting: Waiting, more_s: float) -> tuple[str, str, str, str]:
    head = f"waiting {spoken(waiting.seconds + more_s)} for {waiting.workload}"
    where = f" on instance {waiting.instance_id} ({waiting.machine})" if waiting.instance_id else ""
    left = spoken(max(0.0, waiting.left_s - more_s))
    window = f"; {waiting.window} {spoken(waiting.window_s)}, {left} left" if waiting.window else ""
    usd = f"; {waiting.usd:.4f} USD so far" if waiting.instance_id else ""
    return head, where, f": {waiting.doing}" if waiting.doing else "", window + usd

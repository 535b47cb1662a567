"""What ``vastgpu ls`` prints: a table of the instances that are alive, or a JSON document. Pure, but for its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Sequence

from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.instances import Ours
from pytest_vastgpu.cli.instances import find_all
from pytest_vastgpu.cli.markets import markets
from pytest_vastgpu.cli.output import say
from pytest_vastgpu.cli.output import say_json
from pytest_vastgpu.cli.output import say_table
from pytest_vastgpu.cli.output import tell
from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.core.text.durations import lasting
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.reporting.alive import Why
from pytest_vastgpu.reporting.alive import ends
from pytest_vastgpu.reporting.alive import left

VERSION = 1
"""Of the JSON document. Keys may be added to it without another version."""
HEADER = ("id", "state", "machine", "GPU", "age", "USD/h", "USD so far", "run", "ends")
EXPENDABLE = ("machine", "USD/h", "GPU", "state")
"""The columns that a narrow terminal does without, the least important first."""


def list_ours(timeouts: Timeouts, *, as_json: bool, check: bool) -> int:
    """Print every instance with one of this package's labels: its run, its age and its cost.

    :param check: Whether to look for instances: exit code 1 where there is one.
    :returns: The exit code.
    :raises pytest_vastgpu.errors.MarketError: if no market can be asked.
    """
    with markets(timeouts) as open_ones:
        found = find_all(open_ones)
    now = time.time()
    if as_json:
        instances = [document(ours, now) for ours in found.instances]
        unlooked = [found.no_account] if found.no_account else []
        say_json({"version": VERSION, "instances": instances, "problems": [*unlooked, *found.problems]})
    elif found.instances:
        say_table(HEADER, [row(ours, now) for ours in found.instances], EXPENDABLE)
        for note in notes(found.instances, now):
            say(note)
    elif not found.problems:
        say("no instance of pytest-vastgpu is alive")
    if found.no_account and not as_json:
        say(f"only this machine's own markets were looked at, since {found.no_account}")
    for problem in found.problems:
        tell(problem)
    if check and found.instances:
        return ExitCode.FAILED
    return ExitCode.MARKET if found.problems or (check and found.no_account) else ExitCode.OK


def row(ours: Ours, now: float) -> tuple[str, ...]:
    """The cells of one instance.

    :param now: Epoch seconds.
    """
    status = ours.status
    return (
        str(ours.id),
        status.state or "null",
        str(status.machine_id),
        status.gpu_name or "no GPU",
        lasting(_age_s(ours, now)) if status.start_date else "unknown",
        "unknown" if status.incredible else f"{status.price_usd_h:.3f}",
        "unknown" if status.incredible or not status.start_date else f"{_spent_usd(ours, now):.4f}",
        ours.label.run_id + ("" if ours.run and ours.run.alive else " (over)" if ours.run else " (not of here)"),
        ends(ours.why, ours.ends_at, now),
    )


def notes(instances: Sequence[Ours], now: float) -> list[str]:
    """What is to be said below the table, one line each."""
    lines = [
        f"instance {ours.id}: price unknown: {ours.status.incredible}" for ours in instances if ours.status.incredible
    ]
    for ours in instances:
        if ours.why is Why.LEFT or (ours.why is Why.KEPT and ours.kept_until <= now):
            usd_h = 0.0 if ours.status.incredible else ours.status.price_usd_h
            lines.append(left(ours.id, ours.label.run_id, now, usd_h, ours.ends_at).sentence())
    return lines


def document(ours: Ours, now: float) -> Mapping[str, object]:
    """One instance as JSON values."""
    status = ours.status
    known = bool(status.start_date)
    return {
        "id": ours.id,
        "label": status.label,
        "market": ours.market.url,
        "state": status.state,
        "machine": status.machine_id,
        "gpu": status.gpu_name,
        "since": round(status.start_date, 3) if known else None,
        "age_s": round(_age_s(ours, now), 1) if known else None,
        "usd_h": None if status.incredible else status.price_usd_h,
        "usd_so_far": None if status.incredible or not known else round(_spent_usd(ours, now), 9),
        "run": ours.label.run_id,
        "run_alive": ours.run.alive if ours.run else None,
        "ends_at": ours.ends_at,
        "overdue": ours.ends_at < now,
        "kept_until": ours.kept_until or None,
        "warm_until": ours.warm_until or None,
    }


def _age_s(ours: Ours, now: float) -> float:
    return max(0.0, now - ours.status.start_date)


def _spent_usd(ours: Ours, now: float) -> float:
    return ours.status.price_usd_h * _age_s(ours, now) / HOUR_S

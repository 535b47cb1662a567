"""What ``vastgpu runs`` prints: a table of the runs of this machine, or all of one of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.output import say
from pytest_vastgpu.cli.output import say_json
from pytest_vastgpu.cli.output import say_table
from pytest_vastgpu.cli.run_records import Rented
from pytest_vastgpu.cli.run_records import RunRecord
from pytest_vastgpu.cli.run_records import Step
from pytest_vastgpu.cli.run_records import all_runs
from pytest_vastgpu.cli.run_records import steps
from pytest_vastgpu.core.events import EVENTS
from pytest_vastgpu.core.text.layout import cut_middle
from pytest_vastgpu.core.text.nearest import did_you_mean
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.reporting.cost_file import NAME
from pytest_vastgpu.reporting.sentences import count

VERSION = 1
"""Of the JSON documents. Keys may be added to them without another version."""
HEADER = ("id", "started", "state", "instances", "tests", "USD", "directory", "market")
EXPENDABLE = ("market", "tests", "directory")
"""The columns that a narrow terminal does without, the least important first."""
_DIRECTORY_CHARS = 40


class NoSuchRun(VastGpuError):
    """No run, or more than one, is what the user has named."""


def list_runs(limit: int, *, as_json: bool) -> int:
    """Print the newest runs.

    :returns: The exit code.
    """
    runs, now = all_runs(), time.time()
    shown = runs[:limit]
    if as_json:
        say_json({"version": VERSION, "runs": [document(run, now) for run in shown]})
    elif not runs:
        say("no run of this machine has rented anything yet")
    else:
        if shown:
            say_table(HEADER, [row(run, now) for run in shown], EXPENDABLE)
        if len(shown) < len(runs):
            say(f"{count(len(runs) - len(shown), 'older run')} not shown: --limit {len(runs)}")
    return ExitCode.OK


def tell_run(word: str, *, as_json: bool) -> int:
    """Print what one run has done: its instances, their steps, costs and verdicts, and where its files are.

    :param word: Its id, or the start of it.
    :returns: The exit code.
    :raises NoSuchRun: if there is none, or more than one.
    """
    run, now = chosen(word), time.time()
    found = steps(run)
    if as_json:
        instances = [_instance(run, each, found.get(each.label, ())) for each in run.rented]
        files = {"events": str(run.directory / EVENTS), "costs": str(run.directory / NAME)}
        told = [{"time": step.time, "text": step.text} for step in found.get("", ())]
        say_json(
            {"version": VERSION, "run": {**document(run, now), **files, "events_of_run": told, "rented": instances}}
        )
        return ExitCode.OK
    for line in story(run, found, now):
        say(line)
    return ExitCode.OK


def chosen(word: str) -> RunRecord:
    """The run that is meant.

    :param word: Its id, or the start of it.
    :raises NoSuchRun: if there is none, or more than one.
    """
    runs = all_runs()
    matching = [run for run in runs if run.id == word] or [run for run in runs if run.id.startswith(word)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise NoSuchRun(f"{len(matching)} runs are meant: {', '.join(run.id for run in matching[:8])}")
    hint = did_you_mean(word, [run.id for run in runs])
    raise NoSuchRun(f"no run {word[:80]!r} is known on this machine{hint or '; `vastgpu runs` lists those that are'}")


def row(run: RunRecord, now: float) -> tuple[str, ...]:
    """The cells of one run."""
    created = [each for each in run.rented if each.id]
    failed = sum(each.failed for each in run.rented)
    return (
        run.id,
        _moment(run.started_at),
        run.state(now),
        f"{len(created)}" + (f" ({failed} failed)" if failed else ""),
        str(run.tests),
        f"{run.cost_usd:.4f}",
        cut_middle(_short(run.record.started_in), _DIRECTORY_CHARS, "…") or "-",
        "own, local" if run.record.embedded else run.record.url or "-",
    )


def document(run: RunRecord, now: float) -> dict[str, object]:
    """One run as JSON values."""
    return {
        "id": run.id,
        "started_at": run.started_at,
        "state": run.state(now),
        "alive": run.alive,
        "directory": run.record.started_in,
        "files": str(run.directory),
        "market": run.record.url,
        "own_market": run.record.embedded,
        "instances": sum(bool(each.id) for each in run.rented),
        "failed": sum(each.failed for each in run.rented),
        "tests": run.tests,
        "cost_usd": round(run.cost_usd, 9),
    }


def _instance(run: RunRecord, rented: Rented, events: Sequence[Step]) -> dict[str, object]:
    artifacts = run.artifacts(rented.label)
    return {
        "label": rented.label,
        "id": rented.id or None,
        "workload": rented.workload,
        "machine": rented.machine,
        "gpu": rented.gpu,
        "usd_h": rented.usd_h,
        "outcome": rented.outcome,
        "seconds": dict(rented.seconds),
        "cost_usd": rented.cost_usd,
        "gone": rented.gone,
        "kept_until": rented.kept_until or None,
        "warm_until": rented.warm_until or None,
        "tests": rented.tests,
        "artifacts": str(artifacts) if artifacts else None,
        "steps": [{"time": step.time, "state": step.state, "text": step.text} for step in events],
    }


def story(run: RunRecord, found: Mapping[str, Sequence[Step]], now: float) -> list[str]:
    """One run in words, line by line."""
    created = sum(bool(each.id) for each in run.rented)
    market = "its own local market" if run.record.embedded else run.record.url or "an unknown market"
    lines = [
        f"run {run.id}: {run.state(now)}",
        f"  started  {_moment(run.started_at)}"
        + (f" in {_short(run.record.started_in)}" if run.record.started_in else ""),
        f"  rented   {count(created, 'instance')} from {market} for {count(run.tests, 'test')}, {run.cost_usd:.4f} USD",
        f"  files    {_short(str(run.directory))}",
    ]
    lines += [f"  {_clock(step.time)}  {step.text}" for step in found.get("", ())]
    for each in run.rented:
        name = f"instance {each.id}" if each.id else f"attempt {each.label}"
        on = f" on machine {each.machine} ({each.gpu}, {each.usd_h:.3f} USD/h)" if each.machine else ""
        what = f": {each.workload}" if each.workload else ""
        lines += ["", f"{name}{what}{on}"]
        lines.append(f"  outcome  {each.outcome or 'unknown'}, {each.cost_usd:.4f} USD, {count(each.tests, 'test')}")
        lines += [f"  {line}" for alive in run.alive_of(each, now) for line in alive.lines()]
        if artifacts := run.artifacts(each.label):
            lines.append(f"  kept in  {_short(str(artifacts))}")
        lines += [f"  {_clock(step.time)}  {_after_name(step.text)}" for step in found.get(each.label, ())]
    return lines


def _after_name(text: str) -> str:
    """An event's text without the instance's name in front, which its heading has."""
    name, colon, rest = text.partition(": ")
    return rest if colon and name.startswith(("instance ", "attempt ")) else text


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at else "unknown"


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _short(path: str) -> str:
    """A path below the home directory with ``~``."""
    home = str(Path.home())
    return f"~{path[len(home) :]}" if path == home or path.startswith(f"{home}/") else path

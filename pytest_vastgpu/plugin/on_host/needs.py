"""What the hosts of a run must be like: from the options, and from the marks of the selected tests. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.plugin.on_host.at_home import CollectionError
from pytest_vastgpu.plugin.on_host.at_home import MarkSeen
from pytest_vastgpu.plugin.on_host.at_home import Seen
from pytest_vastgpu.reporting.sentences import count
from pytest_vastgpu.servers.workloads import shown
from pytest_vastgpu.settings import HOST_FIELDS
from pytest_vastgpu.settings import HOST_OPTIONS
from pytest_vastgpu.settings import HostSettings

_TAKEN = ("gpu_name", "gpus", "gpu_ram", "compute_cap", "cuda")
"""The options that say on which hosts the tests can run at all."""


@dataclass(frozen=True)
class Needs:
    """What is rented for each host."""

    fields: dict[str, Any]
    """Of the workload, from options and marks; without those that neither names."""
    notes: tuple[str, ...] = ()
    """What a person should know, one line each."""


def needs(settings: HostSettings, seen: Seen) -> Needs | None:
    """What to rent. An option wins over the same field of a mark.

    :param seen: What was collected at home.
    :returns: None if no test is selected, so that nothing is to be rented.
    :raises ConfigurationError: one line: tests do not say, or do not agree on, what they need.
    """
    given = {HOST_FIELDS[name]: getattr(settings, name) for name in HOST_FIELDS if settings.sources[name] != "default"}
    for problem in seen.problems:
        raise ConfigurationError(problem)
    notes = _not_collected(seen.errors, [name for name in _TAKEN if settings.sources[name] != "default"])
    if seen.crashed or (seen.exit_code not in _COLLECTED and not seen.errors):
        raise ConfigurationError(
            f"the tests cannot be collected here, before anything is rented: pytest ended with exit code "
            f"{seen.exit_code}: {sanitize.line(seen.said) or 'without a word'}"
        )
    if not seen.selected and not seen.errors:
        return None
    if seen.asks:
        raise ConfigurationError(
            f"{seen.asks} uses an instance with a server, which a test on a host has not: deselect it, or run it "
            "without --vast-hosts (--vast-hosts=0)"
        )
    return Needs({**_shared(seen.marks, given), **given}, notes)


def asks_for_gpu(fields: Mapping[str, Any]) -> bool:
    """Whether something is said of the hosts' GPUs.

    :param fields: Of :class:`Needs`.
    """
    return any(fields.get(HOST_FIELDS[name]) for name in _TAKEN)


_COLLECTED = (0, 1, 2, 5)
"""pytest's exit codes after a collection: it went well, has errors, or has found nothing."""


def _shared(marks: Sequence[MarkSeen], given: dict[str, Any]) -> dict[str, Any]:
    """The fields that all marks share.

    :param given: What options say, so that it does not matter where marks differ.
    """
    for mark in marks:
        if mark.server:
            raise ConfigurationError(
                f"{mark.test}: marker vast: it names a server, {mark.server}, and there is none on a host of "
                "--vast-hosts: name only what the host must be like, such as vast(gpu_name='RTX 4090')"
            )
    left = [{name: value for name, value in mark.fields.items() if name not in given} for mark in marks]
    for mark, fields in zip(marks, left, strict=True):
        if fields != left[0]:
            name = next(name for name in (*left[0], *fields) if left[0].get(name) != fields.get(name))
            option = next((option.flag for option in HOST_OPTIONS if HOST_FIELDS.get(option.field) == name), "")
            decide = f"say which by {option}" if option else "give them the same mark"
            raise ConfigurationError(
                f"{marks[0].test} and {mark.test} need different hosts ({_told(name, left[0])}; {_told(name, fields)}),"
                f" and all hosts of a run are alike: {decide}, or run them one after the other"
            )
    return left[0] if left else {}


def _told(name: str, fields: dict[str, Any]) -> str:
    return sanitize.line(shown(name, fields[name])) if name in fields else f"no {name}"


def _not_collected(errors: Sequence[CollectionError], given: Sequence[str]) -> tuple[str, ...]:
    """What to say of modules that cannot be imported here.

    :param given: The options that say what is needed, so that the marks in those modules are not missed.
    :raises ConfigurationError: if it must be known, or would be the same on a host.
    """
    if not errors:
        return ()
    wrong = next((each for each in errors if each.kind in _SAME_THERE), errors[0])
    what = f"{wrong.where}: {wrong.kind}: {sanitize.line(wrong.text)[:200]}"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if wrong.kind in _SAME_THERE:
        raise ConfigurationError(f"{what}{more}; it would be the same on a host, so nothing is rented")
    if not given:
        raise ConfigurationError(
            f"{what}{more}: it cannot be collected here, so what its tests need is not known; say it by --vast-gpus, "
            "--vast-gpu-name or --vast-gpu-ram, and it is collected on the hosts alone"
        )
    modules, whose = count(len(errors), "module"), "its" if len(errors) == 1 else "their"
    return (f"{modules} cannot be collected here, only on the hosts, and {whose} marks do not count: {what}{more}",)


_SAME_THERE = frozenset({"SyntaxError", "IndentationError", "TabError"})
"""Errors that have nothing to do with what is installed."""


def header(settings: HostSettings, fields: dict[str, Any], gpus: int, workers: int, why: str) -> str:
    """One line: what is rented, how many workers run there, and where values come from.

    :param fields: Of :class:`Needs`.
    :param gpus: On each host.
    :param why: Why it has this number of GPUs, where neither option nor mark says so.
    """
    several = settings.hosts > 1
    each = f"{count(gpus, 'GPU')}{' each' if several else ''}" if gpus else "no GPU"
    first = (
        f"tests run on {count(settings.hosts, 'host')}{settings.source('hosts')} with {each}"
        f"{f' ({why})' if why else ''}, {count(workers, 'worker')}{' on each' if several else ''}"
        f"{settings.source('workers_per_host')}"
    )
    marked = [
        f"{name} {'…' if name in _SECRET else value} (marks)"
        for name, value in fields.items()
        if _of_marks(settings, name)
    ]
    return sanitize.line("; ".join([first, *filter(None, [", ".join([*settings.given(), *marked])])]))


_SECRET = ("setup", "image_login")
"""Fields that may hold a secret."""


def _of_marks(settings: HostSettings, name: str) -> bool:
    option = next((option for option, field in HOST_FIELDS.items() if field == name), "")
    return not option or settings.sources[option] == "default"

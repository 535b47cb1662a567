"""What was measured, as it is kept in the repository: in pytest-benchmark's form, which other tools read. Pure.

Each entry of ``benchmarks`` has under ``extra_info.vastgpu`` all that a later run needs to compare with it. Its
``stats`` are there for others: of the whole duration of requests, in seconds, from their percentiles.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.record import from_json
from pytest_vastgpu.measuring.record import to_json

_UNVERSIONED = "unversioned"
"""What pytest-benchmark says where there is no commit."""
FORMAT = 1
"""Of the files. A file of a higher one is not read."""
OWN = "vastgpu"
"""Key of what is this package's own in a file."""


class Unreadable(ValueError):
    """A text is no baseline; why, and what to do, in half a sentence."""


@dataclass(frozen=True)
class Entry:
    """One measurement, and all by which a later one is compared with it. It holds nothing secret."""

    test: str
    """Its node id."""
    workload: Mapping[str, object]
    """What decides how quick the server is; see :func:`workload_facts`."""
    load: Load
    kind: str
    """Kind of GPU, and how many: ``2x RTX 4090``. Without one, the kind of CPU."""
    machine: str
    """Which machine of that kind; machines of different names differ."""
    figures: Mapping[str, Figure]
    name: str = ""
    """Which of the test's measurements; empty: its only one of this load."""
    seconds: float = 0.0
    errors: Mapping[str, int] = field(default_factory=dict)
    """How often a request failed, by reason."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """Of the machine, for people: driver, memory, country, …"""
    quantiles: Sequence[float] = ()
    """Seconds that 0 %, 1 %, …, 100 % of all requests took at most; empty: not known."""

    @property
    def title(self) -> str:
        """Unique among the measurements of a run, for tools that tell them apart by name."""
        pace = f"{self.load.rate:g}/s" if self.load.rate else f"concurrency {self.load.concurrency}"
        return f"{self.test} ({', '.join(filter(None, (self.name, self.load.kind, pace)))})"


@dataclass(frozen=True)
class Stored:
    """An entry of a file."""

    entry: Entry
    baseline: str
    """The name under which it was saved."""
    when: str
    """ISO 8601, in UTC."""
    commit: str = ""
    """The commit that was measured; empty: not known, or it was changed."""


def document(entries: Sequence[Entry], baseline: str, when: str, commit: Mapping[str, object]) -> str:
    """The text of a file.

    :param entries: Of one machine; at least one.
    :param commit: ``id``, ``dirty``, … as pytest-benchmark has them; an empty ``id``: no commit.
    """
    first = entries[0]
    found = {
        "machine_info": {"node": first.machine, "gpu": first.kind, **first.facts},
        "commit_info": {**commit, "id": commit["id"] or _UNVERSIONED},
        "benchmarks": [_benchmark(each) for each in entries],
        "datetime": when,
        "version": "5.1.0",  # of the form
        OWN: {"format": FORMAT, "baseline": baseline},
    }
    return json.dumps(found, indent=1, sort_keys=True, allow_nan=False) + "\n"


def read(text: str) -> list[Stored]:
    """The entries of a file.

    :raises Unreadable: where it is damaged, or from a newer version.
    """
    try:
        found = json.loads(text, parse_constant=_no_constant)
        newer = from_json(Baseline, found).vastgpu.format > FORMAT
        file = None if newer else from_json(BaselineFile, found)
    except RecursionError:
        raise Unreadable("it is damaged (nested too deeply)") from None
    except (ValueError, OverflowError, ConfigurationError) as error:  # such as a load that can be none
        conflict = any(line.startswith(("<<<<<<< ", ">>>>>>> ")) for line in text.splitlines())
        raise Unreadable(f"it is damaged ({'a merge was not finished' if conflict else error})") from None
    if file is None:
        raise Unreadable("a newer pytest-vastgpu wrote it, so this one cannot compare with it; install that")
    entries = [each.extra_info.vastgpu for each in file.benchmarks]
    if not all(is_number(figure) for entry in entries for figure in entry.figures.values()):
        raise Unreadable("it is damaged (a number in it is infinite)")
    commit = "" if file.commit_info.dirty or file.commit_info.id == _UNVERSIONED else file.commit_info.id
    return [Stored(entry, file.vastgpu.baseline, file.datetime, commit) for entry in entries]


@dataclass(frozen=True)
class _Own:
    format: int
    baseline: str = ""


@dataclass(frozen=True)
class Baseline:
    """What a file of any format has."""

    vastgpu: _Own


@dataclass(frozen=True)
class _Commit:
    id: str
    dirty: bool = False


@dataclass(frozen=True)
class _Extra:
    vastgpu: Entry


@dataclass(frozen=True)
class _Benchmark:
    extra_info: _Extra


@dataclass(frozen=True)
class BaselineFile(Baseline):
    """What is read of a file."""

    commit_info: _Commit
    datetime: str
    benchmarks: Sequence[_Benchmark]


def file_name(number: int, baseline: str, commit: Mapping[str, object], machine: str) -> str:
    """``0003_main_9f3c2a1_4711.json``: pytest-benchmark orders files by the number."""
    version = f"{str(commit['id'])[:9]}{'-changed' if commit.get('dirty') else ''}" if commit["id"] else ""
    return "_".join(filter(None, (f"{number:04}", baseline, version, slug(machine)))) + ".json"


def slug(text: str) -> str:
    """A text as a file's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("._")[:60] or "unknown"


def _benchmark(entry: Entry) -> dict[str, Any]:
    return {
        "group": None,
        "name": entry.title.rpartition("::")[2],
        "fullname": entry.title,
        "params": None,
        "param": None,
        "options": {"max_time": entry.seconds, "timer": "monotonic", "warmup": entry.load.warmup_s > 0},
        "extra_info": {OWN: to_json(replace(entry, quantiles=(), facts={}))},
        "stats": _stats(entry),
    }


def _stats(entry: Entry) -> dict[str, Any]:
    figures = entry.figures
    per_second = figures["throughput"].value if "throughput" in figures else 0.0
    middle = figures["e2e_p50"].value if "e2e_p50" in figures else 1 / per_second if per_second else 0.0
    took = entry.quantiles or (middle,)
    at = [took[round((len(took) - 1) * share)] for share in (0, 0.25, 0.5, 0.75, 1)]
    mean = statistics.fmean(took)
    return {
        **dict(zip(("min", "q1", "median", "q3", "max"), at, strict=True)),
        "iqr": at[3] - at[1],
        "mean": mean,
        "stddev": statistics.pstdev(took),
        "outliers": "",
        "rounds": int(figures["requests"].value) if "requests" in figures else 0,
        "iterations": 1,
        "ops": per_second or (1 / mean if mean else 0.0),
    }


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def is_number(figure: Figure) -> bool:
    """Whether a figure can be kept: JSON has no infinity."""
    return all(map(math.isfinite, (figure.value, figure.low, figure.high)))

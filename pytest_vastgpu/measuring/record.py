"""What a run keeps of what it has measured: values that travel from the test to the report, as JSON. Pure.

``measurements.json`` of the run has the same form.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from typing import TypeVar

from pytest_vastgpu.measuring.comparing.comparison import HostRounds
from pytest_vastgpu.measuring.comparing.comparison import Judged
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.measurement import Measurement

_T = TypeVar("_T")


@dataclass(frozen=True)
class Past:
    """What was measured earlier, with the same load on the same kind of GPU."""

    commit: str
    """Empty: not known."""
    when: str
    """ISO 8601, in UTC."""
    figures: Mapping[str, Figure]
    machine_id: int = 0


@dataclass(frozen=True)
class Measured:
    """A measurement, and of what it is."""

    measurement: Measurement
    workload: str = ""
    """Its name in words: ``vllm 'org/model'``."""
    gpu: str = ""
    """``2x RTX 4090``, ``no GPU``."""
    machine_id: int = 0
    name: str = ""
    """Where a test measures several times: which one; empty: its only one."""
    notes: Sequence[str] = ()
    """Sentences for people, such as what a stored baseline makes us suspect."""
    history: Sequence[Past] = ()
    """What was measured before, the oldest first; without this one."""


@dataclass(frozen=True)
class Compared:
    """A comparison of two sides, and of what it is."""

    baseline: str
    """Its workload's name in words; where both have the same, with what differs."""
    candidate: str
    load: Load
    judged: Sequence[Judged]
    """One for each gated metric."""
    hosts: Sequence[HostRounds] = ()
    gpu: str = ""
    """As in :attr:`Measured.gpu`."""
    seconds: float = 0.0
    """How long all of it took, starts included."""
    usd: float = 0.0
    """What that has cost."""
    name: str = ""
    notes: Sequence[str] = ()
    """Sentences for people, such as what would settle an inconclusive comparison."""


def to_text(record: Measured | Compared) -> str:
    """A record as JSON, on one line."""
    return json.dumps(to_json(record))


def measured_of(text: str) -> Measured:
    """The record that :func:`to_text` has written.

    :raises ValueError: if it is none.
    """
    return from_json(Measured, json.loads(text))


def compared_of(text: str) -> Compared:
    """The record that :func:`to_text` has written.

    :raises ValueError: if it is none.
    """
    return from_json(Compared, json.loads(text))


def to_json(value: object) -> Any:
    """A value of this package's dataclasses in the types of JSON: an object with a key for each field.

    JSON has no numbers without end: they are the texts ``inf``, ``-inf`` and ``nan``. Headers of a load are there by
    name alone: what they hold may be secret, whatever they are called.
    """
    if isinstance(value, Load):
        value = dataclasses.replace(value, headers=dict.fromkeys(value.headers, "-"))
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return {each.name: to_json(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(each) for each in value]
    return value


def from_json(declared: type[_T], data: object) -> _T:
    """The value that :func:`to_json` has made. Keys that are unknown are passed over; absent ones have their default.

    :param declared: Its class.
    :raises ValueError: where it does not fit; the text names the field.
    """
    value: _T = _read(declared, data, declared.__name__)
    return value


def _read(declared: Any, data: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if dataclasses.is_dataclass(declared) and isinstance(declared, type) and isinstance(data, dict):
        hints = _hints(declared)
        known = {name: _read(hints[name], each, f"{where}.{name}") for name, each in data.items() if name in hints}
        try:
            return declared(**known)
        except TypeError as missing:
            raise ValueError(f"{where}: {missing}") from None
    if origin is not None and issubclass(origin, Mapping) and isinstance(data, dict):
        own = int if arguments[0] is int else str
        return {own(key): _read(arguments[1], each, f"{where}[{key!r}]") for key, each in data.items()}
    if origin is not None and issubclass(origin, Sequence) and isinstance(data, list):
        return tuple(_read(arguments[0], each, f"{where}[{at}]") for at, each in enumerate(data))
    if declared is object:
        return data
    if origin in (typing.Union, types.UnionType):
        return None if data is None else _read(next(each for each in arguments if each is not type(None)), data, where)
    if declared is float and (type(data) is int or data in ("inf", "-inf", "nan")):
        return float(data)
    if origin is None and isinstance(declared, type):
        if issubclass(declared, Enum) and data in [each.value for each in declared]:
            return declared(data)
        if type(data) is declared:
            return data
    raise ValueError(f"{where} is {data!r:.80}, which is no {getattr(declared, '__name__', declared)}")


@functools.cache
def _hints(declared: type) -> Mapping[str, Any]:
    return typing.get_type_hints(declared)

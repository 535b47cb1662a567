"""Converts records of a host cache to YAML mappings and back, derived from the dataclasses that declare them. Pure.

A field is declared once, in its dataclass: its key and its form follow from its name and type, and from its
``Annotated`` metadata. A field with its default value is not written, and unknown keys are kept in ``extra``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from typing import NamedTuple
from typing import Protocol
from typing import TypeVar
from typing import get_args
from typing import get_type_hints

from pytest_vastgpu.reputation import fields

_ALWAYS = object()
"""A marker that equals no field's value."""


class _Record(Protocol):
    """A dataclass whose instances are records."""

    def __init__(self, *, extra: Mapping[str, object], **values: Any) -> None: ...

    @property
    def extra(self) -> Mapping[str, object]:
        """Keys that belong to no field."""


_RecordT = TypeVar("_RecordT", bound=_Record)


@dataclass(frozen=True)
class Form:
    """How a field's values are represented in the file."""

    read: Callable[[Any], Any]
    """Converts a YAML value; raises ValueError with the error in words."""
    write: Callable[[Any], object] = lambda value: value


@dataclass(frozen=True)
class Key:
    """How a field is stored, beyond what its name and type say."""

    name: str = ""
    """The key; empty: the field's name."""
    first: bool = False
    """Whether it is written before the others."""
    last: bool = False
    """Whether it is written after the others, including those in ``extra``."""
    always: bool = False
    """Whether it is written even with its default value."""
    elsewhere: bool = False
    """Whether it is not in the mapping, because the key of the mapping holds it."""


class OnOneLine(dict[str, object]):
    """A mapping that is written as ``{booting: 12.5, warming: 30.1}``."""


TIME = Form(fields.time_in, fields.time_out)
"""Epoch seconds."""
TIME_OR_UNKNOWN = Form(lambda value: fields.time_in(value) if value else 0.0, fields.time_out)
"""Epoch seconds; 0: unknown."""
ID_OR_UNKNOWN = Form(lambda value: fields.machine_id(value) if value else 0)
"""An id; 0: unknown."""
SECONDS = Form(
    lambda value: {key: fields.seconds(each) for key, each in fields.mapping(value).items()},
    OnOneLine,
)
"""Seconds by name."""


class _Field(NamedTuple):
    name: str
    key: str
    read: Callable[[Any], Any]
    write: Callable[[Any], object]
    required: bool
    default: object
    """Only other values are written."""
    last: bool


@functools.cache
def _fields(declared: Any) -> tuple[_Field, ...]:
    """The fields of a dataclass that its mapping contains, in the order in which they are written."""
    types = get_type_hints(declared, include_extras=True)
    found: list[tuple[bool, bool, int, _Field]] = []
    for each in dataclasses.fields(declared):
        kind, *added = get_args(types[each.name]) if hasattr(types[each.name], "__metadata__") else [types[each.name]]
        key = next((one for one in added if isinstance(one, Key)), Key())
        if key.elsewhere or each.name == "extra":
            continue
        name = key.name or each.name
        form = next((one for one in added if isinstance(one, Form)), None) or _form(kind, name)
        default = each.default if each.default_factory is dataclasses.MISSING else each.default_factory()
        required = default is dataclasses.MISSING
        field = _Field(each.name, name, form.read, form.write, required, _ALWAYS if key.always else default, key.last)
        found.append((key.last, not key.first, len(found), field))
    return tuple(field for *_, field in sorted(found))


def _form(kind: Any, key: str) -> Form:
    if kind is bool:
        return Form(functools.partial(_flag, key))
    if issubclass(kind, Enum):
        return Form(lambda value: kind(str(value)), lambda value: value.value)
    return Form(fields.text)


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key} is true or false, not {value!r}")  # noqa: TRY004 - a user's typing error is a ValueError
    return value


def read_record(declared: type[_RecordT], given: Mapping[str, object], **elsewhere: object) -> _RecordT:
    """A record from its mapping; keys that belong to no field are kept in ``extra``.

    :param elsewhere: The fields that are not in the mapping.
    :raises ValueError: with the error in words.
    """
    extra = dict(given)
    values = elsewhere
    for name, key, read, _, required, _, _ in _fields(declared):
        if key in extra:
            values[name] = read(extra.pop(key))
        if required and values.get(name, "") == "":
            raise ValueError(f"{key} is missing")
    return declared(**values, extra=extra)


def write_record(record: _Record) -> dict[str, object]:
    """The mapping of a record."""
    out: dict[str, object] = {}
    last: dict[str, object] = {}
    for name, key, _, write, _, default, is_last in _fields(type(record)):
        value = getattr(record, name)
        if value != default:
            (last if is_last else out)[key] = write(value)
    return {**out, **record.extra, **last}

"""Converts declared values to JSON and back, for the messages between processes of one run.

The declaration is the class: a dataclass, or another class whose annotations are its fields and whose constructor
takes them by name. Each received value is checked against it, so that a wrong value is reported where it arrives.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

_NAMES = {**vars(typing), **vars(collections.abc)}
"""For annotations with names that a module imports only for type checkers."""
_KIND = ""
"""The key that holds the name of a record's class."""
_Decode = Callable[[Any], Any]


class NotDeclared(ValueError):
    """A value does not match its declaration. The text names the field, the value and the expected type."""


def encode(value: Any) -> Any:
    """A value in the types of JSON.

    :raises NotDeclared: for a value of a type that cannot be encoded.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (Decimal, Path)):
        return str(value)
    if isinstance(value, Mapping):
        return [[encode(key), encode(each)] for key, each in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)) and not hasattr(value, "_fields"):
        return [encode(each) for each in value]
    names = _fields(type(value))  # type: ignore[arg-type] # classes are hashable
    if names is not None:
        return {_KIND: type(value).__name__, **{name: encode(getattr(value, name)) for name in names}}
    raise NotDeclared(f"{value!r:.80} is a {type(value).__name__}, which cannot be handed to another process")


def decode(declared: Any, data: Any) -> Any:
    """The value that was encoded.

    :param declared: The value's type, as annotated.
    :raises NotDeclared: if the value does not match the type.
    """
    return _decoder(declared)(data)


@functools.cache
def hints(declared: Any) -> dict[str, Any]:
    """The annotations of a class or function, with every name resolved."""
    return typing.get_type_hints(declared, localns=_NAMES)


@functools.cache
def _fields(kind: Any) -> tuple[str, ...] | None:
    """The names of a class's fields; None if it is no record."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind) if field.init)
    if issubclass(kind, tuple):
        return getattr(kind, "_fields", None)
    try:
        return tuple(hints(kind)) or None
    except (NameError, TypeError):  # a class of other code, with annotations that cannot be resolved
        return None


@functools.cache
def _decoder(declared: Any) -> _Decode:
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if declared in (Any, object):
        return lambda data: data
    if declared is None or declared is type(None):
        return functools.partial(_plain, type(None))
    if origin in (typing.Union, types.UnionType):
        return _union(arguments)
    if origin is not None:
        return _collection(origin, arguments)
    if issubclass(declared, (Enum, Decimal, Path)):
        return functools.partial(_converted, declared)
    if declared in (bool, int, float, str):
        return functools.partial(_plain, declared)
    return _record(declared)


def _plain(declared: type, data: Any) -> Any:
    if type(data) is declared:
        return data
    if declared is float and type(data) is int:
        return _converted(float, data)  # an int may be too large for a float
    raise _wrong(declared, data)


def _converted(declared: Callable[[Any], Any], data: Any) -> Any:
    try:
        return declared(data)
    except (ValueError, TypeError, ArithmeticError):
        raise _wrong(declared, data) from None


def _wrong(declared: Any, data: Any) -> NotDeclared:
    return NotDeclared(f"{data!r:.80} is not {getattr(declared, '__name__', declared)}")


def _collection(origin: Any, arguments: tuple[Any, ...]) -> _Decode:
    if issubclass(origin, Mapping):
        pair = _collection(tuple, arguments)
        return lambda data: dict(pair(each) for each in _items(data))
    if origin is tuple and arguments[-1] is not ...:
        parts = [_decoder(each) for each in arguments]

        def fixed(data: Any) -> tuple[Any, ...]:
            if len(_items(data)) != len(parts):
                raise NotDeclared(f"{data!r:.80} has not {len(parts)} parts")
            return tuple(part(each) for part, each in zip(parts, data, strict=True))

        return fixed
    build = {frozenset: frozenset, tuple: tuple, set: set}.get(origin, list)
    item = _decoder(arguments[0])
    return lambda data: build(item(each) for each in _items(data))


def _items(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise _wrong(list, data)
    return data


def _union(arguments: tuple[Any, ...]) -> _Decode:
    """A decoder for a union: it recognises records by their class and other values by their type."""
    kinds = {kind.__name__: _decoder(kind) for kind in arguments if isinstance(kind, type)}
    others = [_decoder(each) for each in arguments]

    def decide(data: Any) -> Any:
        if isinstance(data, dict) and data.get(_KIND) in kinds:
            return kinds[data[_KIND]](data)
        for other in others:
            try:
                return other(data)
            except NotDeclared:
                continue
        raise _wrong(" or ".join(str(getattr(each, "__name__", each)) for each in arguments), data)

    return decide


def _record(declared: type) -> _Decode:
    @functools.cache
    def parts() -> dict[str, _Decode]:  # computed late, because a class may refer to itself
        found = hints(declared)
        return {name: _decoder(found[name]) for name in _fields(declared) or ()}

    def build(data: Any) -> Any:
        if not isinstance(data, dict) or data.get(_KIND) != declared.__name__:
            raise _wrong(declared, data)
        values = {}
        for name, part in parts().items():
            try:
                values[name] = part(data[name])
            except KeyError:
                raise NotDeclared(f"{declared.__name__}.{name} is missing") from None
            except NotDeclared as wrong:
                raise NotDeclared(f"{declared.__name__}.{name}: {wrong}") from None
        return declared(**values)

    return build

"""YAML with the line of every value, for error messages."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import TypeVar

import yaml

from pytest_vastgpu.core.files import read_file
from pytest_vastgpu.core.text.nearest import nearest_first
from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.short_repr import short_repr

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML was built without libyaml: the same, slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment] # another class, used in the same way

MOST_BYTES = 2 << 20
"""The largest size of a file: ten thousand separate machines fit in."""

_UNREADABLE = (ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""What PyYAML raises, besides its own exceptions, for values that do not fit their tags, lone surrogates and deep
nesting."""
_T = TypeVar("_T")


class Value:
    """A value in a file.

    :param what: Its name in messages: ``machines[2].gpu_ram_mb``.
    """

    def __init__(self, node: yaml.Node, file: str, what: str) -> None:
        self._node = node
        self._file = file
        self.what = what

    def bad(self, problem: str) -> LocalMarketError:
        """Make an exception with the place of the value and a problem."""
        return LocalMarketError(f"{self._file}:{self._node.start_mark.line + 1}: {self.what or 'the file'} {problem}")

    def plain(self) -> Any:
        """Convert to a Python value."""
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(self._node, deep=True)
        except yaml.MarkedYAMLError as error:
            raise self.bad(f"cannot be read: {error.problem}") from error
        except _UNREADABLE as error:
            raise self.bad(f"cannot be read: {_on_one_line(error)}") from error
        finally:
            loader.dispose()

    def items(self) -> Iterator[Value]:
        """Iterate over the items of a list."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.bad("must be a list")
        for number, node in enumerate(self._node.value):
            yield Value(node, self._file, f"{self.what}[{number}]")

    def fields(self, known: Mapping[str, object] | None = None) -> dict[str, Value]:
        """Return the values of a mapping by key.

        :param known: The allowed keys; None for any.
        """
        if not isinstance(self._node, yaml.MappingNode):
            raise self.bad("must be a mapping")
        found: dict[str, Value] = {}
        for key, node in self._node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise Value(key, self._file, self.what).bad("has a key that is no text")
            name = key.value
            here = Value(key, self._file, f"{self.what}.{name}" if self.what else name)
            if known is not None and name not in known:
                raise here.bad(f"is unknown; there are: {', '.join(nearest_first(name, known))}")
            if name in found:
                raise here.bad("is given twice")
            found[name] = Value(node, self._file, here.what)
        return found

    def is_mapping(self) -> bool:
        return isinstance(self._node, yaml.MappingNode)

    def of_type(self, kind: type[_T]) -> _T:
        """Convert to a type; for float a whole number will do."""
        value = self.plain()
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            names = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}
            raise self.bad(f"must be {names[kind]}, not {short_repr(value)}")
        return value

    def checked(self, make: Callable[[], _T]) -> _T:
        """Call ``make``; a ValueError becomes an error message about this value."""
        try:
            return make()
        except ValueError as error:
            raise self.bad(f"is wrong: {error}") from error


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def read(file: Path) -> str:
    """Read the text of a file.

    :raises LocalMarketError: if it is not a regular file, not text in UTF-8, or too large.
    """
    try:
        return read_file(file, MOST_BYTES).decode()
    except OSError as error:
        way_out = "; count and generate describe many machines in one line" if error.errno == errno.EFBIG else ""
        raise LocalMarketError(f"the fleet file {file} cannot be read: {error.strerror or error}{way_out}") from error
    except ValueError as error:  # not UTF-8, or a name with a NUL
        raise LocalMarketError(f"the fleet file {file} cannot be read: {error}") from error


def load(text: str, file: str | Path) -> Value | None:
    """Parse the only document of a text; None if it is empty.

    :raises LocalMarketError: with the line, if it is not YAML.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise LocalMarketError(f"{file}:{line}: this is not YAML: {error.problem}") from error
    except (yaml.YAMLError, *_UNREADABLE) as error:
        raise LocalMarketError(f"{file}: this is not YAML: {_on_one_line(error)}") from error
    return None if node is None else Value(node, str(file), "")


def typed_fields(value: Mapping[str, Value], cls: type[Any], leave: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Convert values for the fields of a dataclass that are texts, numbers or flags; others are left out.

    :param leave: The names of further fields to leave out.
    """
    kinds = {"int": int, "float": float, "str": str, "bool": bool}
    wanted = {field.name: kinds[str(field.type)] for field in dataclasses.fields(cls) if str(field.type) in kinds}
    return {name: each.of_type(wanted[name]) for name, each in value.items() if name in wanted and name not in leave}

"""YAML with the line of every value, so that a complaint can say where."""

from __future__ import annotations

import dataclasses
import errno
import reprlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import TypeVar

import yaml

from pytest_vastgpu.core.files import read_file
from pytest_vastgpu.errors import LocalMarketError

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML was built without libyaml: the same, slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment] # another class, used in the same way

MOST_BYTES = 2 << 20
"""Of a file: ten thousand machines that are described one by one fit in."""

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_UNREADABLE = (ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""What PyYAML raises, beside its own exceptions, for values that do not fit their tags, lone surrogates and depth."""
_T = TypeVar("_T")


class Value:
    """A value in a file.

    :param what: What it is called in messages: ``machines[2].gpu_ram_mb``.
    """

    def __init__(self, node: yaml.Node, file: str, what: str) -> None:
        self._node = node
        self._file = file
        self.what = what

    def bad(self, problem: str) -> LocalMarketError:
        """The exception that says where and what."""
        return LocalMarketError(f"{self._file}:{self._node.start_mark.line + 1}: {self.what or 'the file'} {problem}")

    def plain(self) -> Any:
        """The value as Python sees it."""
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
        """The items of a list."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.bad("must be a list")
        for number, node in enumerate(self._node.value):
            yield Value(node, self._file, f"{self.what}[{number}]")

    def fields(self, known: Mapping[str, object] | None = None) -> dict[str, Value]:
        """The values of a mapping by key.

        :param known: The keys there may be; None for any.
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
                raise here.bad(f"is unknown; there are: {', '.join(known)}")
            if name in found:
                raise here.bad("is given twice")
            found[name] = Value(node, self._file, here.what)
        return found

    def is_mapping(self) -> bool:
        return isinstance(self._node, yaml.MappingNode)

    def of_type(self, kind: type[_T]) -> _T:
        """The value, which must be of that type; a whole number is a float too."""
        value = self.plain()
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            names = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}
            raise self.bad(f"must be {names[kind]}, not {shown(value)}")
        return value

    def checked(self, make: Callable[[], _T]) -> _T:
        """What ``make`` gives; its ValueError is a complaint about this value."""
        try:
            return make()
        except ValueError as error:
            raise self.bad(f"is wrong: {error}") from error


def shown(value: object) -> str:
    """A value for a message: what was written there may be of any size, and with aliases of any size times itself."""
    return _SHORT.repr(value)


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def read(file: Path) -> str:
    """The text of a file that a person named.

    :raises LocalMarketError: if it is no readable text, no regular file, or too large.
    """
    try:
        return read_file(file, MOST_BYTES).decode()
    except OSError as error:
        way_out = "; count and generate describe many machines in one line" if error.errno == errno.EFBIG else ""
        raise LocalMarketError(f"the fleet file {file} cannot be read: {error.strerror or error}{way_out}") from error
    except ValueError as error:  # not UTF-8, or a name that no file can have
        raise LocalMarketError(f"the fleet file {file} cannot be read: {error}") from error


def load(text: str, file: str | Path) -> Value | None:
    """The only document of a text; None where it is empty.

    :raises LocalMarketError: with the line, if it is no YAML.
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
    """Values for a dataclass of plain fields (texts, numbers, flags), each of the type of its default.

    :param leave: Names of fields that are read elsewhere.
    """
    kinds = {"int": int, "float": float, "str": str, "bool": bool}
    wanted = {field.name: kinds[str(field.type)] for field in dataclasses.fields(cls) if str(field.type) in kinds}
    return {name: each.of_type(wanted[name]) for name, each in value.items() if name in wanted and name not in leave}

"""Parses one YAML document of a host cache: a person or any program may have written it. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _BaseLoader
except ImportError:  # PyYAML was built without libyaml: the Python version is slower
    from yaml import SafeLoader as _BaseLoader  # type: ignore[assignment] # another class with the same interface

_UNREADABLE = (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""Errors of PyYAML's safe loader for foreign text; the last ones come from known tags on unsuitable values."""
_MERGE = "tag:yaml.org,2002:merge"
MOST_DEPTH = 50
"""Deepest nesting of values; this package's own files have seven levels."""


class Unreadable(ValueError):
    """A document that is not YAML, or that no cache would contain.

    :param error: The error that was found.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error

    def where(self, lines_before: int) -> str:
        """The error and its place.

        :param lines_before: Lines of the file before this document.
        """
        error = self.error
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            return f"line {lines_before + error.problem_mark.line + 1}: {error.problem}"
        if isinstance(error, UnicodeDecodeError):
            return "it is not text in UTF-8"
        return f"after line {lines_before}: {' '.join(str(error).split()) or type(error).__name__}"


def load(text: bytes) -> object:
    """The content of a document.

    :raises Unreadable: if it cannot be read, or if aliases make it larger than its text.
    """
    try:
        content = yaml.load(text.decode("utf-8-sig"), Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
        _require_bounded(content, len(text))
    except _UNREADABLE as error:
        raise Unreadable(error) from error
    return content


class _Loader(_BaseLoader):
    """Joins the values of a repeated key, as when a person adds a second entry for a machine.

    YAML forbids repeated keys and PyYAML keeps the last one: then a rewrite would lose the first entry.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        pairs: dict[Any, tuple[Any, Any]] = {}
        for key, value in node.value:
            name = _name(key)
            known = pairs.get(name)
            if known and type(known[1]) is type(value) and isinstance(value, yaml.CollectionNode):
                if known[1] is not value:  # otherwise an alias of it
                    known[1].value.extend(value.value)
            else:
                pairs[name] = (key, value)
        node.value = list(pairs.values())
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: Any) -> None:
        """Apply merge keys (``<<``), each key once: repeated merges would grow without end."""
        merging = any(key.tag == _MERGE for key, _ in node.value)
        super().flatten_mapping(node)
        if merging:
            pairs = {_name(key): (key, value) for key, value in node.value}
            node.value = list(pairs.values())


def _name(key: Any) -> object:
    return key.value if isinstance(key, yaml.ScalarNode) else id(key)


def _require_bounded(content: object, size: int) -> None:
    """Check that a document is not larger than its text: aliases can make it larger than any memory, or endless.

    :param size: Size of its text in bytes.
    :raises ValueError: if it is larger, or nested too deeply to be written again.
    """
    most = max(size, 10_000)
    waiting: list[tuple[object, int]] = [(content, 0)]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple, set)) else ()
        seen += len(inner)
        if seen > most:
            raise ValueError("its aliases repeat more than a file can hold")
        if inner and depth > MOST_DEPTH:
            raise ValueError(f"it is nested more than {MOST_DEPTH} levels deep")
        waiting += [(item, depth + 1) for item in inner if isinstance(item, (dict, list, tuple, set))]

"""Builds and checks workloads: the arguments of the builders, and the rules for each field. Pure.

Both follow from the fields that :class:`~pytest_vastgpu.model.Workload` declares.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from typing import TypeVar
from typing import cast
from typing import get_type_hints

from pytest_vastgpu.core.image_login import wrong_login
from pytest_vastgpu.core.text.nearest import nearest_first
from pytest_vastgpu.core.text.shell import NAME_RULE
from pytest_vastgpu.core.text.shell import wrong_name
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import Workload
from pytest_vastgpu.model import WorkloadFields

_T = TypeVar("_T")
_Builder = TypeVar("_Builder", bound=Callable[..., Workload])
_FIELDS = {declared.name: declared for declared in dataclasses.fields(Workload)}
TYPES: Mapping[str, Any] = get_type_hints(Workload)
"""The type of each field."""
MEANINGS: Mapping[str, str] = {name: declared.metadata.get("meaning", "") for name, declared in _FIELDS.items()}
"""What each field means, for people, with its unit."""
BY_NAME = tuple(WorkloadFields.__annotations__)
"""The fields that builders and the marker take by name."""
_IN_DOCSTRING = "    :param fields:"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PATH = re.compile(r"/[!-~]*")
"""The path of a request: what a URL may hold without being encoded."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def builder(**defaults: Any) -> Callable[[_Builder], _Builder]:
    """Make a function with ``**fields`` take the fields that there are, and no other names.

    Each is in its signature and docstring, so that ``help()`` shows it; any other name is a
    :class:`~pytest_vastgpu.errors.WorkloadInvalid`, and a ``TypeError`` too.

    An error that it raises for what a user gave ends the traceback at the user's line: how it was found is no news.

    :param defaults: The function's defaults that differ from the workload's.
    """

    def complete(function: _Builder) -> _Builder:
        signature = inspect.signature(function)
        *own, _ = signature.parameters.values()
        named = tuple(each.name for each in own if each.kind is not each.VAR_POSITIONAL)

        @functools.wraps(function)
        def build(*args: Any, **given: Any) -> Workload:
            __tracebackhide__ = True
            try:
                require_known(function.__name__, (name for name in given if name not in named), named)
                return function(*args, **given)
            except ConfigurationError as error:
                raise error.with_traceback(None) from None

        shown = {name: defaults.get(name, _FIELDS[name].default) for name in BY_NAME}
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=TYPES[name].__name__)
            for name, value in shown.items()
        ]
        build.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined] # inspect reads it
        lines = (function.__doc__ or "").splitlines(keepends=True)  # None under python -OO
        build.__doc__ = "".join(
            "".join(_documented(shown)) if line.startswith(_IN_DOCSTRING) else line for line in lines
        )
        return cast("_Builder", build)

    return complete


def _documented(defaults: Mapping[str, object]) -> Iterator[str]:
    for name, default in defaults.items():
        yield f"    :param {name}: {_FIELDS[name].metadata['meaning']} Default: {default!r}.\n"


def shown(name: str, value: object) -> str:
    """A field and its value, for messages; without the value of one that is never shown."""
    return f"{name}={value!r}" if name not in _FIELDS or _FIELDS[name].repr else f"{name} (a {type(value).__name__})"


class UnknownKeyword(WorkloadInvalid, TypeError):
    """A builder or the marker was given a keyword that it does not have; Python calls that a TypeError."""


def require_known(function: str, names: Iterable[str], own: Iterable[str] = ()) -> None:
    """Check that names are names of fields.

    :param function: The function that was called with these names.
    :param own: The parameters that only this function has; the message lists them, too.
    :raises UnknownKeyword: for any other name, with all that there are, the nearest first.
    """
    for name in names:
        if name not in BY_NAME:
            known = ", ".join(nearest_first(name, (*own, *BY_NAME)))
            raise UnknownKeyword(f"{function}() got an unexpected keyword argument {name!r}; it has {known}")


def refuse_own(args: Iterable[object], own: Mapping[str, str]) -> None:
    """Check that arguments of a server hold none that its adapter gives itself: the later one would win there.

    :param own: Such arguments, and what to give instead.
    :raises WorkloadInvalid: for one of them, also as ``--name=value`` and with underscores, with what to give instead.
    """
    for argument in args:
        name = argument.split("=")[0] if isinstance(argument, str) else ""  # its value may be secret
        plain = name.replace("_", "-")
        if plain in own:
            raise WorkloadInvalid(f"args of the workload hold {name!r}; give {own[plain]}")


def require_workload(value: object, source: str) -> Workload:
    """The value, if it is a workload that can run.

    :param source: Where it comes from, for the message.
    :raises WorkloadInvalid: one line.
    """
    if isinstance(value, Workload):
        return checked(value)
    shown = f"{value!r:.60}, " if isinstance(value, str) else ""
    raise WorkloadInvalid(
        f"{source} is {shown}of type {_type(value)} and no workload; vllm('org/model') and command('…') make one"
    )


def text(name: str, value: object, example: str) -> str:
    """The value of the argument ``name``.

    :raises WorkloadInvalid: if it is not text, or is empty.
    """
    if not isinstance(value, str):
        raise WorkloadInvalid(f"{name} of the workload is of type {_type(value)}; give text, such as {example}")
    if not value.strip():
        raise WorkloadInvalid(f"{name} of the workload is empty; give text, such as {example}")
    return value


def checked(workload: Workload) -> Workload:
    """The workload, after a check that it can run.

    :raises WorkloadInvalid: one line: which field, its value, what is expected.
    """
    for problem in _problems(workload):
        raise WorkloadInvalid(problem)
    return workload


def mapping(name: str, value: Mapping[str, _T] | None, example: str) -> Mapping[str, _T]:
    """The value of the argument ``name``, empty for None. An error does not show the value: it can hold secrets.

    :raises WorkloadInvalid: if the value is no mapping but, for example, a list.
    """
    if value is not None and not isinstance(value, Mapping):
        raise WorkloadInvalid(f"{name} of the workload is a {_type(value)}; give a mapping, such as {example}")
    return value or {}


def _type(value: object) -> str:
    return type(value).__name__


def _problems(workload: Workload) -> Iterator[str]:
    # Names and numbers become part of shell text on the instance; those that are not quoted there must be checked here.
    for name, kind in TYPES.items():
        value = getattr(workload, name)
        if kind is str and not isinstance(value, str):
            yield f"{shown(name, value)} of the workload is not text"
        elif kind is int and (isinstance(value, bool) or not isinstance(value, int) or value < 0) and name != "port":
            yield f"{name}={value!r} of the workload is not a whole number from 0 on"
        elif kind is float and (
            isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf
        ):
            yield f"{name}={value!r} of the workload is not a number from 0 on"
    serves = workload.port != 0 or workload.adapter != HOST
    if isinstance(workload.port, bool) or not isinstance(workload.port, int) or not serves <= workload.port < 65536:
        yield f"port={workload.port!r} of the workload is not a TCP port: a whole number from 1 to 65535"
    yield from _of_tuples(workload)
    yield from _of_texts(workload)
    yield from _of_environment(workload)
    for name, _ in workload.files:
        if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            yield f"files: {name!r} must be a path below the server's working directory"
    if not _PATH.fullmatch(workload.ready_path):
        yield (
            f"ready_path of the workload must start with '/' and be part of a URL, without blanks; "
            f"it is {workload.ready_path!r}"
        )


def _of_tuples(workload: Workload) -> Iterator[str]:
    """Wrong forms of the fields that hold several values; the builders make them right."""
    if not isinstance(workload.args, tuple):
        yield f"args of the workload is of type {_type(workload.args)}; give a tuple of texts, one for each argument"
    if not isinstance(workload.setup_uses, tuple) or not all(isinstance(each, str) for each in workload.setup_uses):
        yield f"setup_uses={workload.setup_uses!r} of the workload is not a tuple of patterns"
    for name in ("env", "files", "details"):
        pairs = getattr(workload, name)
        if not isinstance(pairs, tuple):
            yield f"{name} of the workload is of type {_type(pairs)}; give a tuple of pairs"
        elif not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
            yield f"{name} of the workload is not a tuple of pairs"  # its values may be secret
    for pair in workload.files:
        for path in pair:
            if not isinstance(path, str):
                yield f"files of the workload: {path!r} is of type {_type(path)}, not a path as text"
    for name, value in workload.details:
        if not isinstance(name, str):
            yield f"details of the workload: {name!r} is of type {_type(name)}, not a name as text"
        elif not isinstance(value, str):
            yield f"{name}={value!r} of the workload is of type {_type(value)}, not text"


def _of_texts(workload: Workload) -> Iterator[str]:
    for name, declared in _FIELDS.items():
        if TYPES[name] is str:
            one_line = declared.metadata.get("one_line", False)
            yield from _of_text(f"{name} of the workload", getattr(workload, name), one_line=one_line)
    if workload.image_login and (wrong := wrong_login(workload.image_login)):
        yield f"image_login of the workload: {wrong}"
    for argument in workload.args:
        if not isinstance(argument, str):
            yield f"args of the workload hold {argument!r}, which is not text: give each argument as a text of its own"
        else:
            yield from _of_text("an argument of the workload", argument)
    for pair in workload.files:
        for path in pair:
            yield from _of_text("files of the workload: a path", path, one_line=True)
    for name, value in workload.details:
        yield from _of_text(f"{name} of the workload", value)


def _of_text(what: str, value: str, *, one_line: bool = False) -> Iterator[str]:
    if found := _SURROGATE.search(value):
        yield f"{what} holds {found[0]!r} at character {found.start()}, half a character: remove it"
    elif found := (_CONTROL.search(value) if one_line else re.search("\0", value)):
        yield f"{what} holds the control character {found[0]!r} at character {found.start()}: remove it"


def _of_environment(workload: Workload) -> Iterator[str]:
    for name, value in workload.env:
        if wrong := wrong_name(name, most_chars=80):
            yield f"env of the workload: {wrong}: {NAME_RULE}"
        elif not isinstance(value, str):
            yield f"env of the workload: the value of {name} is of type {_type(value)}, not text: put it in quotes"
        else:
            yield from _of_text(f"env of the workload: the value of {name}", value)

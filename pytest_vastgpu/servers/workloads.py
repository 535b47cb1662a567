"""Whether a workload can be carried out as it is written, asked before anything is rented. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TypeVar

from pytest_vastgpu.core.shell import is_variable_name
from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.model import Workload

_T = TypeVar("_T")
_TEXTS = ("adapter", "model", "image", "command", "ready_path", "gpu_name")
_ONE_LINE = ("image", "ready_path")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NUMBERS = (
    "gpu_ram_gb",
    "compute_cap",
    "cuda",
    "disk_gb",
    "image_gb",
    "model_gb",
    "warmup_s",
    "expected_use_s",
)


def checked(workload: Workload) -> Workload:
    """The workload, if it can be carried out.

    :raises WorkloadInvalid: one line: which field, its value, what is expected.
    """
    for problem in _problems(workload):
        raise WorkloadInvalid(problem)
    return workload


def mapping(name: str, value: Mapping[str, _T] | None, example: str) -> Mapping[str, _T]:
    """What was given as ``name``, empty for None. The value is not shown: it can hold secrets.

    :raises WorkloadInvalid: if it is something else, such as a list.
    """
    if value is not None and not isinstance(value, Mapping):
        raise WorkloadInvalid(f"{name} of the workload is a {type(value).__name__}; give a mapping, such as {example}")
    return value or {}


def _problems(workload: Workload) -> Iterator[str]:
    # Names and numbers end up in shell text on the instance; whatever is not quoted there must be what it says it is.
    yield from _of_texts(workload)
    yield from _of_environment(workload)
    if isinstance(workload.port, bool) or not isinstance(workload.port, int) or not 0 < workload.port < 65536:
        yield f"port={workload.port!r} of the workload is not a TCP port: a whole number from 1 to 65535"
    if isinstance(workload.gpus, bool) or not isinstance(workload.gpus, int) or workload.gpus < 0:
        yield f"gpus={workload.gpus!r} of the workload is not a number of GPUs: a whole number from 0 on"
    for name in _NUMBERS:
        value = getattr(workload, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            yield f"{name}={value!r} of the workload is not a number from 0 on"
    for name, _ in workload.files:
        if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            yield f"files: {name!r} must be a path below the server's working directory"


def _of_texts(workload: Workload) -> Iterator[str]:
    for name in _TEXTS:
        value = getattr(workload, name)
        if not isinstance(value, str):
            yield f"{name}={value!r} of the workload is not text"
        else:
            yield from _of_text(f"{name} of the workload", value, one_line=name in _ONE_LINE)
    for argument in workload.args:
        if not isinstance(argument, str):
            yield f"args of the workload hold {argument!r}, which is not text"
        else:
            yield from _of_text("an argument of the workload", argument)
    for pair in workload.files:
        for path in pair:
            yield from _of_text("files of the workload: a path", path, one_line=True)


def _of_text(what: str, value: str, *, one_line: bool = False) -> Iterator[str]:
    if found := _SURROGATE.search(value):
        yield f"{what} holds {found[0]!r} at character {found.start()}, half a character: remove it"
    elif found := (_CONTROL.search(value) if one_line else re.search("\0", value)):
        yield f"{what} holds the control character {found[0]!r} at character {found.start()}: remove it"


def _of_environment(workload: Workload) -> Iterator[str]:
    for name, value in workload.env:
        if not is_variable_name(name):
            shown = repr(name)[:80]
            yield f"env of the workload: {shown} is no name for an environment variable: letters, digits and _ only"
        elif not isinstance(value, str):
            yield f"env of the workload: the value of {name} is a {type(value).__name__}, not text: put it in quotes"
        else:
            yield from _of_text(f"env of the workload: the value of {name}", value)

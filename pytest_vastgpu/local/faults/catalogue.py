"""The catalogue of all faults.

Each fault was seen on real hosts or follows from Vast's documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_vastgpu.core.text.nearest import nearest_first
from pytest_vastgpu.local.faults.api import API_FAULTS
from pytest_vastgpu.local.faults.base import Fault
from pytest_vastgpu.local.faults.base import FaultKind
from pytest_vastgpu.local.faults.base import Layer
from pytest_vastgpu.local.faults.instance import INSTANCE_FAULTS
from pytest_vastgpu.local.faults.money import MONEY_FAULTS
from pytest_vastgpu.local.faults.server import SERVER_FAULTS
from pytest_vastgpu.local.faults.status import STATUS_FAULTS
from pytest_vastgpu.local.short_repr import short_repr


class FaultInvalid(ValueError):
    """The name of a fault or one of its parameters is not valid."""


def make_fault(name: str, given: Mapping[str, Any]) -> Fault:
    """Make a fault from its name and parameters.

    :raises FaultInvalid: with the names or values that are valid.
    """
    kinds = catalogue()
    if name not in kinds:
        raise FaultInvalid(
            f"unknown fault {short_repr(name)}; there are: {', '.join(nearest_first(name, sorted(kinds)))}"
        )
    kind = kinds[name]
    for parameter, value in given.items():
        if parameter not in kind.parameters:
            takes = ", ".join(nearest_first(parameter, kind.parameters)) or "none"
            raise FaultInvalid(f"fault {name!r} has no parameter {parameter!r}; it takes: {takes}")
        wanted = str if isinstance(kind.parameters[parameter], str) else (int, float)
        if not isinstance(value, wanted) or isinstance(value, bool) or (not isinstance(value, str) and not value >= 0):
            what = "a text" if wanted is str else "a number that is not negative"
            raise FaultInvalid(f"parameter {parameter!r} of fault {name!r} must be {what}, not {short_repr(value)}")
        if parameter in kind.choices and value not in kind.choices[parameter]:
            there_are = ", ".join(nearest_first(value, sorted(kind.choices[parameter])))
            raise FaultInvalid(
                f"parameter {parameter!r} of fault {name!r} is {short_repr(value)}; there are: {there_are}"
            )
    return Fault(kind, {**kind.parameters, **given})


def catalogue() -> Mapping[str, FaultKind]:
    """Return all faults by name."""
    kinds = (*API_FAULTS, *STATUS_FAULTS, *INSTANCE_FAULTS, *SERVER_FAULTS, *MONEY_FAULTS)
    return {kind.name: kind for kind in kinds}


def described() -> str:
    """Describe every fault for people, by layer: name, description, and the parameters with their defaults."""
    lines = []
    for layer in Layer:
        lines.append(f"{layer.value}:")
        for kind in sorted(catalogue().values(), key=lambda kind: kind.name):
            if kind.layer is layer:
                given = ", ".join(f"{name}: {value}" for name, value in kind.parameters.items())
                lines.append(f"  {kind.name}  {kind.description}" + (f"  {{{given}}}" if given else ""))
    return "\n".join(lines) + "\n"

"""Every fault that the local market can have: what it is called, what it takes, where to find what it does.

Each one was seen on real hosts or follows from Vast's documentation.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from enum import StrEnum
from typing import Any

from pytest_vastgpu.local.faults.effects import Answers
from pytest_vastgpu.local.faults.effects import Effect
from pytest_vastgpu.local.faults.effects import NeverBoots
from pytest_vastgpu.local.faults.effects import Reply
from pytest_vastgpu.local.fleet.yaml_file import shown

FOR_EVER = math.inf


class Layer(StrEnum):
    """Where a fault shows."""

    API = "API"
    STATUS = "status"
    SSH = "SSH"
    GPU = "GPU"
    MACHINE = "machine"
    SERVER = "server"
    MID_TEST = "mid-test"


class FaultInvalid(ValueError):
    """A fault that does not exist, or a parameter that it does not take."""


@dataclass(frozen=True)
class FaultKind:
    """One entry of the catalogue."""

    name: str
    description: str
    layer: Layer
    effect: Effect
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    """Names and defaults; numbers of calls or, with ``_s`` at the end, seconds. ``inf`` is for ever."""
    choices: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The values of those parameters that take only certain ones."""


@dataclass
class Fault:
    """A fault that a market or a machine has.

    :param parameters: Complete: defaults are filled in.
    """

    kind: FaultKind
    parameters: Mapping[str, Any]
    seen: int = 0
    """Calls so far that it could have spoilt."""

    @property
    def effect(self) -> Effect:
        return self.kind.effect

    def reply_to(self, endpoint: str, caller: str) -> Reply | None:
        """The wrong answer to this call of the API; None where this one is answered truthfully."""
        if not isinstance(self.kind.effect, Answers):
            return None
        if self.parameters["endpoint"] not in {endpoint, "any"} or self.parameters["caller"] not in {caller, "any"}:
            return None
        self.seen += 1
        nth = self.seen - self.parameters["after"]
        return self.kind.effect.reply(self.parameters) if 0 < nth <= self.parameters["times"] else None


def make_fault(name: str, given: Mapping[str, Any]) -> Fault:
    """A fault from its name and parameters.

    :raises FaultInvalid: with what there is instead.
    """
    kinds = catalogue()
    if name not in kinds:
        raise FaultInvalid(f"unknown fault {shown(name)}; there are: {', '.join(sorted(kinds))}")
    kind = kinds[name]
    for parameter, value in given.items():
        if parameter not in kind.parameters:
            takes = ", ".join(kind.parameters) or "none"
            raise FaultInvalid(f"fault {name!r} has no parameter {parameter!r}; it takes: {takes}")
        wanted = str if isinstance(kind.parameters[parameter], str) else (int, float)
        if not isinstance(value, wanted) or isinstance(value, bool) or (not isinstance(value, str) and not value >= 0):
            what = "a text" if wanted is str else "a number that is not negative"
            raise FaultInvalid(f"parameter {parameter!r} of fault {name!r} must be {what}, not {shown(value)}")
        if parameter in kind.choices and value not in kind.choices[parameter]:
            there_are = ", ".join(sorted(kind.choices[parameter]))
            raise FaultInvalid(f"parameter {parameter!r} of fault {name!r} is {shown(value)}; there are: {there_are}")
    return Fault(kind, {**kind.parameters, **given})


def catalogue() -> Mapping[str, FaultKind]:
    """All kinds by name."""
    from pytest_vastgpu.local.faults.api import API_FAULTS
    from pytest_vastgpu.local.faults.instance import INSTANCE_FAULTS
    from pytest_vastgpu.local.faults.money import MONEY_FAULTS
    from pytest_vastgpu.local.faults.server import SERVER_FAULTS
    from pytest_vastgpu.local.faults.status import STATUS_FAULTS

    kinds = (*API_FAULTS, *STATUS_FAULTS, *INSTANCE_FAULTS, *SERVER_FAULTS, *MONEY_FAULTS)
    return {kind.name: kind for kind in kinds}


def described() -> str:
    """Every kind in words, by layer: name, description, and the parameters with their defaults."""
    lines = []
    for layer in Layer:
        lines.append(f"{layer.value}:")
        for kind in sorted(catalogue().values(), key=lambda kind: kind.name):
            if kind.layer is layer:
                given = ", ".join(f"{name}: {value}" for name, value in kind.parameters.items())
                lines.append(f"  {kind.name}  {kind.description}" + (f"  {{{given}}}" if given else ""))
    return "\n".join(lines) + "\n"


def stuck(name: str, description: str, text: str, actual: str | None = "loading", *, stops: bool = False) -> FaultKind:
    """An instance that never runs, and what its status says."""
    return FaultKind(
        name,
        description,
        Layer.STATUS,
        NeverBoots(actual, text),
        {"stops_after_s": 420.0 if stops else FOR_EVER},
    )

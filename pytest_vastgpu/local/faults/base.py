"""Faults: an entry of the catalogue, and a fault of a market or a machine."""

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
from pytest_vastgpu.local.faults.effects import Reply

FOR_EVER = math.inf


class Layer(StrEnum):
    """The part of a rental where a fault shows."""

    API = "API"
    STATUS = "status"
    SSH = "SSH"
    GPU = "GPU"
    MACHINE = "machine"
    SERVER = "server"
    MID_TEST = "mid-test"


@dataclass(frozen=True)
class FaultKind:
    """An entry of the catalogue."""

    name: str
    description: str
    layer: Layer
    effect: Effect
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    """Names and defaults. A name that ends in ``_s`` means seconds; ``inf`` means for ever."""
    choices: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The allowed values of the parameters that take only some."""


@dataclass
class Fault:
    """A fault of a market or a machine.

    :param parameters: All of them, defaults included.
    """

    kind: FaultKind
    parameters: Mapping[str, Any]
    seen: int = 0
    """The number of calls, or of looks at the instance, so far that it may concern."""

    @property
    def effect(self) -> Effect:
        return self.kind.effect

    def reply_to(self, endpoint: str, caller: str) -> Reply | None:
        """Return the fault's reply to a call of the API; None if the call is to be answered normally."""
        if not isinstance(self.kind.effect, Answers):
            return None
        if self.parameters["endpoint"] not in {endpoint, "any"} or self.parameters["caller"] not in {caller, "any"}:
            return None
        return self.kind.effect.reply(self.parameters) if self._counts("times") else None

    def concerns_look(self) -> bool:
        """Count one more look at the instance; whether the fault concerns it."""
        return self._counts("looks")

    def _counts(self, most: str) -> bool:
        self.seen += 1
        nth = self.seen - self.parameters.get("after", 0)
        return bool(0 < nth <= self.parameters.get(most, FOR_EVER))

"""What a fault of the local market is made of: its kind, and one that a market or a machine has."""

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
    """Where a fault shows."""

    API = "API"
    STATUS = "status"
    SSH = "SSH"
    GPU = "GPU"
    MACHINE = "machine"
    SERVER = "server"
    MID_TEST = "mid-test"


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

"""A line in which a rule was found: what it is worth, who printed it, and the verdict that it gives."""

from __future__ import annotations

from typing import NamedTuple

from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.diagnosis.hangs import STILL_S
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.base import Weight
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict

_AGAINST_MACHINE = frozenset({FailureClass.INFRA_FATAL, FailureClass.INCOMPATIBLE})


class Finding(NamedTuple):
    """A line and its rule."""

    number: int
    """Of the line."""
    rule: Rule
    weight: Weight
    """Of the rule, or less where the line does not say that anything failed."""
    printed: str
    container: str
    process: str

    @property
    def against_machine(self) -> bool:
        """Whether another machine may do."""
        return self.rule.failure_class in _AGAINST_MACHINE

    def verdict(self) -> Verdict:
        """What it says once it counts."""
        return Verdict(self.rule.failure_class, self.rule.reason, shown(self.printed), self.rule.remedy)

    def not_yet(self) -> Verdict:
        """What is said while it does not count."""
        return Verdict(
            FailureClass.WARMUP,
            "failure_told",
            shown(self.printed),
            f"wait: its process lives; the line counts when that ends, or after {STILL_S:.0f} s without news",
        )

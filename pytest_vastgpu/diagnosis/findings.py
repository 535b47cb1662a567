"""A log line that matches a rule, with its weight, the process that printed it, and its verdict."""

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
    """A log line and the rule that it matches."""

    number: int
    """Number of the line."""
    rule: Rule
    weight: Weight
    """The rule's weight, or a smaller one if the line does not say that anything failed."""
    printed: str
    container: str
    process: str

    @property
    def against_machine(self) -> bool:
        """Whether another machine may work."""
        return self.rule.failure_class in _AGAINST_MACHINE

    def verdict(self) -> Verdict:
        """The verdict once the finding counts."""
        return Verdict(self.rule.failure_class, self.rule.reason, shown(self.printed), self.rule.remedy)

    def not_yet(self) -> Verdict:
        """The verdict while the finding does not count."""
        return Verdict(
            FailureClass.WARMUP,
            "failure_told",
            shown(self.printed),
            f"wait: its process lives; the line counts when that ends, or after {STILL_S:.0f} s without news",
        )

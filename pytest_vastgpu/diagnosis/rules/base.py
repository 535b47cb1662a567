"""The declaration of a rule. Rules are data: the other modules of this folder list them, ``log_reader`` applies them.

A rule describes one cause that one family of programs reports in one line. It has no code of its own, so a reader can
see, count and test what decides a verdict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from pytest_vastgpu.diagnosis.literals import required_literals
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass

REACH = 250
"""Most characters between the words of one cause. Without this bound a long line of the same words takes seconds."""


class Weight(IntEnum):
    """How much a matching line counts. Among lines of equal weight the first one decides, because causes come first."""

    SIGN = 1
    """Reports the progress of the start (warm-up, ready); decides only while nothing has failed."""
    END = 2
    """Reports that the start has ended, without a reason."""
    SYMPTOM = 3
    """Reports a failure in general words: explains an end only if nothing better is known."""
    HINT = 4
    """A cause that a running server may survive; decides once the start has ended."""
    CAUSE = 5
    """Decides by itself."""


LOG = frozenset({Channel.SERVER_LOG})
STATUS = frozenset({Channel.STATUS_MSG})
CONTAINER = frozenset({Channel.STATUS_MSG, Channel.SERVER_LOG})
"""Container runtimes report in status texts, and in a log if a person started the server with them."""
ON_LOCAL_MARKET = "the local market runs what this machine has: install it here"
"""What to do where there is no image that could have the program."""


@dataclass(frozen=True)
class Rule:
    """One cause or one sign, and the patterns that recognise it."""

    reason: str
    failure_class: FailureClass
    patterns: tuple[str, ...]
    """Regular expressions, searched in one line in any case; ``.*`` in them matches up to :data:`REACH` characters."""
    remedy: str
    """What the reader should do now."""
    source: str
    """The program that prints the line, or whose source code shows it."""
    weight: Weight = Weight.CAUSE
    channels: frozenset[Channel] = LOG
    servers: frozenset[str] = frozenset()
    """The kinds of server that print it, names of :data:`~pytest_vastgpu.diagnosis.kinds.KINDS`; empty: any."""
    unless: str = ""
    """Regular expression: the rule does not apply to lines in which it is found."""
    context: str = ""
    """Regular expression that must be found in the context, e.g. ``phase=booting``; empty: any context."""
    of_start: bool = False
    """Whether no request can cause it: it counts after a line, too, that called the start complete."""
    chatty: bool = False
    """Also read in lines that their program marks as information, or, against the workload, as a warning. In such a
    line the rule is a hint at most."""

    # Compiled when first needed: hardly any log has lines for more than a few rules, and to compile all takes longer
    # than to import everything else that a test process needs.

    @cached_property
    def matches(self) -> re.Pattern[str]:
        """Finds a line of this rule."""
        return re.compile(self._bounded, re.IGNORECASE)

    @cached_property
    def required_literals(self) -> frozenset[str] | None:
        """Every matching line, in lower case, contains at least one of these texts; None: unknown."""
        return required_literals(self._bounded)

    @cached_property
    def excludes(self) -> re.Pattern[str] | None:
        """Finds a line that is none of this rule all the same."""
        return re.compile(self.unless, re.IGNORECASE) if self.unless else None

    @cached_property
    def belongs(self) -> re.Pattern[str] | None:
        """Finds a context in which the rule applies."""
        return re.compile(self.context, re.IGNORECASE) if self.context else None

    @property
    def _bounded(self) -> str:
        return "|".join(self.patterns).replace(".*", f".{{0,{REACH}}}")

"""What a rule is. Rules are data: the modules beside this one list them, :mod:`verdicts` reads them.

A rule is about a cause, told in one line by one family of programs. It has no code of its own, so what decides a
verdict can be read, counted and tested.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from dataclasses import field
from enum import IntEnum

from pytest_vastgpu.diagnosis.literals import required_literals
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass

REACH = 250
"""How far apart the words of one cause may stand. Without a bound, a long line of the same words takes seconds."""


class Weight(IntEnum):
    """What a line that matches is worth. Among lines of equal weight the first one wins: causes come first."""

    SIGN = 1
    """Says how far the start is (warm-up, ready); decides only while nothing has failed."""
    END = 2
    """Says that the start is over, and nothing of why."""
    SYMPTOM = 3
    """Says that something failed, in general words: explains an end only if nothing better is there."""
    HINT = 4
    """A cause that a living server may get over; decides once the start is over."""
    CAUSE = 5
    """Decides by itself."""


LOG = frozenset({Channel.SERVER_LOG})
STATUS = frozenset({Channel.STATUS_MSG})
CONTAINER = frozenset({Channel.STATUS_MSG, Channel.SERVER_LOG})
"""Container runtimes speak in status texts, and in a log where somebody started the server with them."""


@dataclass(frozen=True)
class Rule:
    """One cause, or one sign, and how it is recognised."""

    reason: str
    failure_class: FailureClass
    patterns: tuple[str, ...]
    """Regular expressions, searched in one line, whatever its case; ``.*`` in them reaches :data:`REACH` characters."""
    remedy: str
    """What the reader should do now."""
    source: str
    """The program that prints it, or whose source says so."""
    weight: Weight = Weight.CAUSE
    channels: frozenset[Channel] = LOG
    servers: frozenset[str] = frozenset()
    """Kinds of server that are meant; empty: any."""
    unless: str = ""
    """Regular expression: a line in which it is found is not meant."""
    context: str = ""
    """Regular expression that must be found in the context, e.g. ``phase=booting``; empty: any context."""
    chatty: bool = False
    """Also read in lines that their program marks as information, or against the workload as a warning: there it is a
    hint at most."""
    matches: re.Pattern[str] = field(init=False, repr=False, compare=False)
    required_literals: frozenset[str] | None = field(init=False, repr=False, compare=False)
    """Of which one stands in every line that matches, once that is in lower case; None: not known."""
    excludes: re.Pattern[str] | None = field(init=False, repr=False, compare=False)
    belongs: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the expressions once."""
        bounded = "|".join(self.patterns).replace(".*", f".{{0,{REACH}}}")
        object.__setattr__(self, "matches", re.compile(bounded, re.IGNORECASE))
        object.__setattr__(self, "required_literals", required_literals(bounded))
        object.__setattr__(self, "excludes", re.compile(self.unless, re.IGNORECASE) if self.unless else None)
        object.__setattr__(self, "belongs", re.compile(self.context, re.IGNORECASE) if self.context else None)

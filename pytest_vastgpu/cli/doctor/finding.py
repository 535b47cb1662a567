"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """Something that a run can do without."""
    PROBLEM = "problem"
    """Runs fail, or some of them."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    """The subject, in a word or two."""
    level: Level
    text: str
    """What was found."""
    remedy: str = ""
    """What to do, as a sentence; empty where nothing need be done."""
    command: str = ""
    """The command that does it, or the setting, to be copied; empty where there is none."""


def ok(name: str, text: str) -> Finding:
    """A finding that needs nothing."""
    return Finding(name, Level.OK, text)


def warning(name: str, text: str, remedy: str, command: str = "") -> Finding:
    """A finding that a run can do without."""
    return Finding(name, Level.WARNING, text, remedy, command)


def problem(name: str, text: str, remedy: str, command: str = "") -> Finding:
    """A finding that makes runs fail."""
    return Finding(name, Level.PROBLEM, text, remedy, command)

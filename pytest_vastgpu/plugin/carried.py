"""What a test has found travels to the controller with the report of its teardown, beside what a JUnit file shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from pytest_vastgpu.core.text.redaction import KNOWN

CARRIED = "vastgpu_carried"
"""Attribute of a report. pytest-xdist sends it; a JUnit file does not have it."""
SHOWN = 10
"""A JUnit file shows properties of so many findings of a test."""


@dataclass(frozen=True)
class Carried:
    """Something that a test has found."""

    name: str
    text: str
    properties: Sequence[tuple[str, object]] = ()
    """What a JUnit file shows of it."""


_carried = pytest.StashKey[list[Carried]]()


def carry(item: pytest.Item, found: Carried) -> None:
    """Have something travel."""
    item.stash.setdefault(_carried, []).append(found)


def drop_carried(item: pytest.Item) -> None:
    """Take back all of it: the test is tried again."""
    item.stash[_carried] = []


def properties_of(item: pytest.Item) -> list[tuple[str, object]]:
    """What a JUnit file shows of what a test has found."""
    shown = [each.properties for each in item.stash.get(_carried, ()) if each.properties]
    return [own for properties in shown[:SHOWN] for own in properties]


def load(report: pytest.TestReport, item: pytest.Item) -> None:
    """Give a report what its test has found."""
    if found := item.stash.get(_carried, ()):
        setattr(report, CARRIED, [(each.name, KNOWN(each.text)) for each in found])


def carried(report: pytest.TestReport, name: str) -> list[str]:
    """The texts of that name that have come with a report."""
    return [text for each, text in getattr(report, CARRIED, ()) if each == name]

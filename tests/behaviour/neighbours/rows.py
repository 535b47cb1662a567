"""Other people's plugins and constructs beside ours: each row is a run, and what has to come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

from tests.behaviour.conftest import LOSE
from tests.behaviour.test_hostile import COMES_AND_GOES

PLAIN = """
def test_1(vast_instance): ask(vast_instance)
def test_2(vast_instance): assert vast_instance.run("echo 2").stdout == "2\\n"
"""
COMES = """
def test_it(vast_instance_factory, vast_workload):
    comes_and_goes(vast_instance_factory, vast_workload)
"""


@dataclass(frozen=True)
class Row:
    """A run of pytest, with these plugins and no others."""

    source: str = PLAIN
    plugins: tuple[str, ...] = ()
    """Names of their entry points."""
    options: tuple[str, ...] = ()
    passed: int = 2
    failed: int = 0
    errors: int = 0
    rents: int = 1
    says: tuple[str, ...] = ()
    """Lines of its output, in order."""
    never: tuple[str, ...] = ()
    """What its output does not hold."""
    python: tuple[str, ...] = ()
    """Options of the interpreter."""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    within: tuple[str, ...] = ()
    """A command that runs the run. If it cannot run ``true``, the row is skipped."""
    stdin: bytes = b""
    count: bool = True
    """Whether pytest's last line is in its usual form."""


def with_plugin(name: str, *options: str, source: str = PLAIN, **more: object) -> Row:
    """A row of one plugin."""
    return Row(source, (name,), options, **more)  # type: ignore[arg-type] # its own fields


SUITE = (
    """
import os

def ask(instance):
    assert httpx.get(instance.endpoint, timeout=60).text == "here I am"
"""
    + COMES_AND_GOES
)
"""What the source of every row may use."""

LOST = (
    LOSE
    + """
def test_1_loses_it(vast_instance): lose(vast_instance, "instance_vanishes")
def test_2_gets_another(vast_instance): ask(vast_instance)
"""
)

"""Implements ``vastgpu down``: ends what is kept warm, and sees that it is gone."""

from __future__ import annotations

import argparse

from pytest_vastgpu.cli.parsers import Commands


def add_down_parser(commands: Commands) -> None:
    """Add ``down``."""
    text = "give back what `pytest --vast-reuse` keeps warm, and see that it is gone"
    parser = commands.add_parser("down", help=text, description=text)
    parser.set_defaults(handler=_down)


def _down(_: argparse.Namespace) -> int:
    """End every supervisor of this user that keeps instances warm, in whatever project.

    :returns: 0; 1 if a run uses one of them, or if something could not be destroyed, which this prints.
    """
    from pytest_vastgpu.cli.output import say
    from pytest_vastgpu.cli.output import tell
    from pytest_vastgpu.client import warm

    found = warm.all_warm()
    if not found:
        say("nothing is kept warm")
    failed = False
    for known in found:
        try:
            problems = warm.stop(known)
        except warm.NotJoined as refused:
            tell(f"what is warm for {known.project} since {warm.age(known)} goes on: {refused}")
            failed = True
        else:
            for problem in problems:
                tell(problem)
                failed = True
            if not problems:
                say(f"what was warm for {known.project} since {warm.age(known)} is gone")
    return int(failed)

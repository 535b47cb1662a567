"""Adds ``vastgpu doctor`` to the command line."""

from __future__ import annotations

import argparse

from pytest_vastgpu.cli.parsers import Commands


def add_doctor_parser(commands: Commands) -> None:
    """Add ``doctor``; it sets ``handler``, which takes the arguments and returns the exit code."""
    text = "what a run needs: is it there, and if not, what mends it"
    parser = commands.add_parser(
        "doctor",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Rents nothing and changes nothing at the market.",
        epilog="exit code: 0 without a problem (there may be warnings), 1 with one",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    parser.set_defaults(handler=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.cli.doctor.command import doctor

    return doctor(arguments)

"""Implements ``vastgpu destroy``."""

from __future__ import annotations

import argparse

from pytest_vastgpu.cli.parsers import Commands


def add_destroy_parser(commands: Commands) -> None:
    """Add ``destroy``."""
    parser = commands.add_parser("destroy", help="destroy an instance, or all of a run, and see that they are gone")
    parser.add_argument(
        "instance", metavar="ID", nargs="?", help="the instance's id, or its label where the id is not known"
    )
    parser.add_argument("--run", metavar="ID", help="every instance of this run")
    parser.set_defaults(handler=_destroy)


def _destroy(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.cli.instances import destroy_some

    return destroy_some(arguments)

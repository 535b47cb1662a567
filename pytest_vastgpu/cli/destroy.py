"""Implements ``vastgpu destroy``."""

from __future__ import annotations

import argparse

from pytest_vastgpu.cli.parsers import Commands


def add_destroy_parser(commands: Commands) -> None:
    """Add ``destroy``."""
    text = "destroy an instance, or all of a run, and see that they are gone"
    parser = commands.add_parser("destroy", help=text, description=text)
    parser.add_argument(
        "instance", metavar="ID", nargs="?", help="the instance's id, or its label where the id is not known"
    )
    parser.add_argument("--run", metavar="ID", help="every instance of this run")
    parser.add_argument("--force", action="store_true", help="also one that is not of pytest-vastgpu")
    parser.set_defaults(handler=_destroy)


def _destroy(arguments: argparse.Namespace) -> int:
    if (arguments.instance is None) == (arguments.run is None):
        arguments.parser.error("say what: either an instance's ID, or --run ID")
    from pytest_vastgpu.cli.destroying import destroy_one
    from pytest_vastgpu.cli.destroying import destroy_run

    if arguments.run is not None:
        return destroy_run(arguments.run, arguments.timeouts)
    return destroy_one(arguments.instance, arguments.timeouts, force=arguments.force)

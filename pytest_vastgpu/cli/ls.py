"""Implements ``vastgpu ls``: what of ours is alive."""

from __future__ import annotations

import argparse

from pytest_vastgpu.cli.parsers import Commands


def add_ls_parser(commands: Commands) -> None:
    """Add ``ls``."""
    text = "what of ours is alive, since when, and what it costs"
    parser = commands.add_parser("ls", help=text, description=text)
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if anything is alive: for the last step of a CI job"
    )
    parser.set_defaults(handler=_ls)


def _ls(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.cli.instance_list import list_ours

    return list_ours(arguments.timeouts, as_json=arguments.json, check=arguments.check)

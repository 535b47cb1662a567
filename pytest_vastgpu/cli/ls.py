"""Implements ``vastgpu ls``: what of ours is alive."""

from __future__ import annotations

import argparse

from pytest_vastgpu.cli.parsers import Commands


def add_ls_parser(commands: Commands) -> None:
    """Add ``ls``."""
    parser = commands.add_parser("ls", help="what of ours is alive, since when, and what it costs")
    parser.set_defaults(handler=_ls)


def _ls(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.cli.instances import list_ours

    return list_ours(arguments)

"""Implements ``vastgpu reap``: destroys what runs that are over have left."""

from __future__ import annotations

import argparse

from pytest_vastgpu.cli.parsers import Commands


def add_reap_parser(commands: Commands) -> None:
    """Add ``reap``."""
    parser = commands.add_parser("reap", help="destroy what runs that are over have left")
    parser.add_argument(
        "--dry-run",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="only say what would be destroyed, and why (this is the default)",
    )
    parser.set_defaults(handler=_reap)


def _reap(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.cli.destroying import reap

    return reap(arguments.timeouts, dry_run=arguments.dry_run)

"""Implements ``vastgpu runs``: the runs of this machine, or one of them."""

from __future__ import annotations

import argparse

from pytest_vastgpu.cli.parsers import Commands
from pytest_vastgpu.cli.parsers import whole_number

LIMIT = 20


def add_runs_parser(commands: Commands) -> None:
    """Add ``runs``."""
    text = "the runs of this machine, the newest first, or what one of them has done"
    parser = commands.add_parser("runs", help=text, description=text)
    parser.add_argument("run", metavar="ID", nargs="?", help="tell of this run; the start of its id is enough")
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    parser.add_argument(
        "--limit", type=whole_number, default=LIMIT, metavar="N", help=f"list at most N runs (default: {LIMIT})"
    )
    parser.set_defaults(handler=_runs)


def _runs(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.cli.run_list import list_runs
    from pytest_vastgpu.cli.run_list import tell_run

    if arguments.run is None:
        return list_runs(arguments.limit, as_json=arguments.json)
    return tell_run(arguments.run, as_json=arguments.json)

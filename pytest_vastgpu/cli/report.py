"""Implements ``vastgpu report``: makes the reports of a run once more, from what its directory has."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_vastgpu.cli.parsers import LAST
from pytest_vastgpu.cli.parsers import Commands
from pytest_vastgpu.reporting.schemas import NAMES


def add_report_parser(commands: Commands) -> None:
    """Add ``report``."""
    text = "tell of a run once more: what failed, whose fault it was, what to do, what it cost"
    parser = commands.add_parser("report", help=text, description=text)
    parser.add_argument(
        "run",
        metavar="RUN",
        nargs="?",
        default=LAST,
        help=f"its id, the start of it, or a directory with its files (default: {LAST}, the newest run here)",
    )
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--html", type=Path, metavar="FILE", help="write its page into this file instead")
    forms.add_argument("--markdown", action="store_true", help="print it as on GitHub's page of a job instead")
    forms.add_argument(
        "--schema", choices=NAMES, help="print the JSON Schema of cost.json, events.jsonl or tests.json instead"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="leave nothing out")
    parser.set_defaults(handler=_report)


def _report(arguments: argparse.Namespace) -> int:
    import sys

    from pytest_vastgpu.cli.run_reports import print_run
    from pytest_vastgpu.cli.run_reports import write_page
    from pytest_vastgpu.reporting.schemas import schema

    if arguments.schema:
        sys.stdout.write(schema(arguments.schema))
        return 0
    if arguments.html:
        return write_page(arguments.run, arguments.html)
    return print_run(arguments.run, markdown=arguments.markdown, verbose=arguments.verbose)

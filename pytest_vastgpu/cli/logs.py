"""Implements ``vastgpu logs``: what the server of an instance prints."""

from __future__ import annotations

import argparse

from pytest_vastgpu.cli.parsers import Commands
from pytest_vastgpu.cli.parsers import whole_number


def add_logs_parser(commands: Commands) -> None:
    """Add ``logs``."""
    text = "what the server on an instance has printed"
    parser = commands.add_parser("logs", help=text, description=text)
    parser.add_argument(
        "instance", metavar="ID", nargs="?", help="id, label or run, or the start of it (default: the only one)"
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on until the instance is gone, or until Ctrl-C (exit code 130)"
    )
    parser.add_argument("-n", "--lines", type=whole_number, metavar="N", help="only the last N lines (default: all)")
    parser.set_defaults(handler=_logs)


def _logs(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.cli.server_log import show_log

    return show_log(arguments.instance, arguments.timeouts, follow=arguments.follow, lines=arguments.lines)

"""Implements ``vastgpu local``: serves the local market, and shows one that runs."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pytest_vastgpu.cli.parsers import Commands
from pytest_vastgpu.core import environment


def add_local_parser(commands: Commands) -> None:
    """Add ``local`` and its commands."""
    parser = commands.add_parser("local", help="serve the local market, which rents out this machine")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--fleet", type=Path, metavar="FILE", help="YAML file of machines, timings and faults")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="PATTERN=COMMAND",
        help="what an image's entrypoint is here (args run type)",
    )
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help="where instances keep their disks")
    parser.add_argument(
        "--rate-limits",
        action=argparse.BooleanOptionalAction,
        help="refuse calls that come too early, or not, whatever the fleet says",
    )
    parser.add_argument("--lifeline", type=int, metavar="FD", help=argparse.SUPPRESS)
    parser.set_defaults(handler=_local)
    _add_local_commands(parser)


def _add_local_commands(local: argparse.ArgumentParser) -> None:
    """Add the commands of ``local``. They are optional: without one, the market is served."""
    commands = local.add_subparsers(metavar="[status|faults]")
    faults = commands.add_parser("faults", help="what can go wrong on a local market, for the fleet file")
    faults.set_defaults(handler=_local_faults)
    parser = commands.add_parser(
        "status",
        help="what of a running local market is alive, what it cost, and how it was called (key: VAST_API_KEY)",
    )
    parser.add_argument("--url", default=environment.market_url(os.environ), help="of the market (default: VAST_URL)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(handler=_local_status)


def _local_faults(_: argparse.Namespace) -> int:
    from pytest_vastgpu.local.faults.catalogue import described

    sys.stdout.write(described())
    return 0


def _local_status(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.local.client import show_status

    return show_status(arguments.url, environment.api_key(os.environ), sys.stdout, as_json=arguments.json)


def _local(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.local.embed import require_extra

    require_extra()
    from pytest_vastgpu.local.server import serve

    return serve(
        port=arguments.port,
        fleet=arguments.fleet,
        images=arguments.image,
        state_dir=arguments.state_dir,
        rate_limits=arguments.rate_limits,
        lifeline=arguments.lifeline,
    )

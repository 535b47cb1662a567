"""Implements ``vastgpu hosts``: shows what the host cache knows of machines, and lets the user change it."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from pytest_vastgpu.cli.parsers import Commands


def add_hosts_parser(commands: Commands) -> None:
    """Add ``hosts`` and its commands; each sets ``handler``, which takes the arguments and returns the exit code."""
    hosts = commands.add_parser("hosts", help="what is remembered of machines: list, show, ban, allow, clear, merge")
    actions = hosts.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, text: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=text, description=text)
        parser.add_argument(
            "--host-cache",
            type=Path,
            metavar="PATH",
            help="the YAML file (default: VAST_HOST_CACHE, else hosts.yaml in the user's cache directory)",
        )
        parser.add_argument(
            "--market",
            type=_market,
            metavar="URL",
            help="the market whose machines are meant (default: VAST_URL, else vast.ai)",
        )
        parser.set_defaults(handler=_act, action=name)
        return parser

    def on_id(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", type=_id, metavar="ID", help="machine_id, or with --host the host_id of an operator")
        parser.add_argument("--host", action="store_true", help="ID is an operator: all of its machines")

    action("list", "all machines, banned ones first")
    on_id(action("show", "everything that is known of one machine"))
    ban = action("ban", "never rent a machine, or for a time")
    on_id(ban)
    ban.add_argument("--for", type=_duration, default=math.inf, dest="for_s", metavar="DURATION", help="e.g. 36h, 7d")
    ban.add_argument("--reason", default="", metavar="TEXT", help="why, for whoever reads it later")
    on_id(action("allow", "lift a ban, and never ban it whatever it does"))
    clear = action("clear", "forget what is known of one machine, or of all")
    what = clear.add_mutually_exclusive_group(required=True)
    what.add_argument("id", type=_id, nargs="?", metavar="ID", help="machine_id, or with --host the host_id")
    what.add_argument("--all", action="store_true", help="everything of the market; a copy of the file is kept")
    clear.add_argument("--host", action="store_true", help="ID is an operator: all of its machines")
    merge = action("merge", "add what the caches of others know of the market; what is known counts once")
    merge.add_argument("files", type=Path, nargs="+", metavar="FILE")


def _act(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.cli.hosts_actions import ACTIONS

    return ACTIONS[arguments.action](arguments)


def _id(text: str) -> int:
    from pytest_vastgpu.reputation.fields import machine_id

    try:
        return machine_id(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}: it is a whole number such as 4242") from error


def _market(text: str) -> str:
    from pytest_vastgpu.providers.market_name import market_name

    try:
        return market_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _duration(text: str) -> float:
    from pytest_vastgpu.core.text.durations import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error

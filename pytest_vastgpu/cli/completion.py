"""Implements ``vastgpu completion``: prints the script that has a shell complete this command."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from pytest_vastgpu.cli.parsers import Commands

SHELLS = ("bash", "zsh", "fish")


def add_completion_parser(commands: Commands) -> None:
    """Add ``completion``."""
    text = "print the script that has a shell complete commands and options"
    parser = commands.add_parser("completion", help=text, description=text)
    parser.add_argument("shell", choices=SHELLS, help="which shell")
    parser.set_defaults(handler=_completion)


def _completion(arguments: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from pytest_vastgpu.errors import VastGpuError

    try:
        import shtab
    except ImportError as error:
        raise VastGpuError(
            "the script is written by the package shtab: install it with pip install 'pytest-vastgpu[completion]'"
        ) from error
    for action in _actions(arguments.root):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    sys.stdout.write(shtab.complete(arguments.root, shell=arguments.shell).rstrip("\n") + "\n")
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every option and argument of a parser, and of the commands below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)

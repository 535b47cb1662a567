"""Implements ``vastgpu ssh``: logs in to an instance."""

from __future__ import annotations

import argparse

from pytest_vastgpu.cli.parsers import Commands


def add_ssh_parser(commands: Commands) -> None:
    """Add ``ssh``."""
    text = "log in to an instance, or run a command there, with the system's ssh"
    usage = "vastgpu ssh [-h] [-t] [ID] [COMMAND ...]"
    parser = commands.add_parser("ssh", help=text, description=text, usage=usage)
    parser.add_argument("-t", action="store_true", dest="terminal", help="give the command a terminal, too")
    parser.add_argument(
        "words",
        metavar="ID COMMAND",
        nargs=argparse.REMAINDER,
        help="the instance: its id, label or run, or the start of it (default: the only one); and a command, whose "
        "exit code becomes that of this one (default: a shell); where ID is left out, -- stands before the command",
    )
    parser.set_defaults(handler=_ssh)


def _ssh(arguments: argparse.Namespace) -> int:
    import os
    import shutil
    import sys

    from pytest_vastgpu.cli.instances import NoSuchInstance
    from pytest_vastgpu.cli.instances import absent
    from pytest_vastgpu.cli.instances import choose
    from pytest_vastgpu.cli.instances import is_gone
    from pytest_vastgpu.cli.logins import NoLogin
    from pytest_vastgpu.cli.logins import login
    from pytest_vastgpu.cli.markets import markets
    from pytest_vastgpu.core.directories import private_directory
    from pytest_vastgpu.ssh.connector import speaks_ssh

    if shutil.which("ssh") is None:
        raise NoLogin("no program ssh is found in PATH: install it, for example with apt-get install openssh-client")
    instance, words = _parts(arguments.words)
    if instance and is_gone(instance):
        raise NoSuchInstance(absent(instance))
    with markets(arguments.timeouts) as open_ones:
        way = login(choose(open_ones, instance))
    address = next(filter(speaks_ssh, way.addresses), None)
    if address is None:
        tried = " and ".join(map(str, way.addresses))
        raise NoLogin(f"no SSH server answers at {tried}: it may be booting still, `vastgpu ls` says")
    if way.alias:
        try:
            private_directory(way.hosts.parent)
        except OSError as error:
            raise NoLogin(f"{way.hosts.parent} cannot hold known host keys: {error.strerror}") from error
    sys.stdout.flush()
    command = way.command(address, words, terminal=arguments.terminal)
    os.execvp(command[0], command)  # noqa: S606 -- it is this command's whole purpose


def _parts(words: list[str]) -> tuple[str | None, list[str]]:
    """The instance and the command. Two hyphens may stand before the command."""
    if words[:1] == ["--"]:
        return None, words[1:]
    instance, command = next(iter(words), None), words[1:]
    return instance, command[1:] if command[:1] == ["--"] else command

"""The entry point of the command ``vastgpu``: parses the arguments and calls the handler of the command.

Each command has a module of its own. Here they are only listed.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_vastgpu.cli.classify import add_classify_parser
from pytest_vastgpu.cli.completion import add_completion_parser
from pytest_vastgpu.cli.destroy import add_destroy_parser
from pytest_vastgpu.cli.doctor.parser import add_doctor_parser
from pytest_vastgpu.cli.down import add_down_parser
from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.hosts import add_hosts_parser
from pytest_vastgpu.cli.local import add_local_parser
from pytest_vastgpu.cli.logs import add_logs_parser
from pytest_vastgpu.cli.ls import add_ls_parser
from pytest_vastgpu.cli.offers import add_offers_parser
from pytest_vastgpu.cli.parsers import Commands
from pytest_vastgpu.cli.parsers import Parser
from pytest_vastgpu.cli.reap import add_reap_parser
from pytest_vastgpu.cli.report import add_report_parser
from pytest_vastgpu.cli.runs import add_runs_parser
from pytest_vastgpu.cli.ssh import add_ssh_parser
from pytest_vastgpu.cli.version import Version

if TYPE_CHECKING:
    from pytest_vastgpu.core.timeouts import Timeouts

_COMMANDS: Sequence[Callable[[Commands], None]] = (
    # before anything is rented
    add_doctor_parser,
    add_offers_parser,
    # what is rented now
    add_ls_parser,
    add_logs_parser,
    add_ssh_parser,
    # the end of it
    add_down_parser,
    add_destroy_parser,
    add_reap_parser,
    # what was rented
    add_runs_parser,
    add_report_parser,
    add_hosts_parser,
    # when something is wrong
    add_classify_parser,
    # the rest
    add_local_parser,
    add_completion_parser,
)
"""Every command, in the order of ``vastgpu --help``."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def main(argv: Sequence[str] | None = None, timeouts: Timeouts | None = None) -> int:
    """Run the command.

    :param argv: Arguments without the program's name; None: the process's own.
    :param timeouts: Time limits of calls to a market; None: those of production.
    :returns: One of :class:`~pytest_vastgpu.cli.exit_codes.ExitCode`, or a code of the command's own.
    """
    try:
        try:
            return _run(argv, timeouts)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Python flushes once more at its end, and would print that this failed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.CLOSED
    except OSError as error:
        if error.errno not in _FULL:
            raise
        sys.stderr.write(f"vastgpu: the output cannot be written: {error.strerror}\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED


def _run(argv: Sequence[str] | None, timeouts: Timeouts | None) -> int:
    arguments = parser().parse_args(argv)
    from pytest_vastgpu.core import environment
    from pytest_vastgpu.core.text.redaction import KNOWN
    from pytest_vastgpu.core.timeouts import DEFAULTS
    from pytest_vastgpu.errors import ConfigurationError
    from pytest_vastgpu.errors import MarketError
    from pytest_vastgpu.errors import VastGpuError

    arguments.timeouts = timeouts or DEFAULTS
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be undecodable; stderr already allows it
    KNOWN.add(environment.API_KEY, environment.api_key(os.environ))
    KNOWN.add_login(environment.IMAGE_LOGIN, environment.image_login(os.environ))
    try:
        return int(arguments.handler(arguments))
    except VastGpuError as error:
        sys.stderr.write(f"vastgpu: {error}\n")
        if isinstance(error, MarketError):
            return ExitCode.MARKET
        return ExitCode.USAGE if isinstance(error, ConfigurationError) else ExitCode.FAILED


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    whole: argparse.ArgumentParser = Parser(
        prog="vastgpu",
        description="GPU hosts for tests: look, remember, clean up.",
        epilog="exit codes:\n"
        + "".join(f"  {code:<4} {code.meaning}\n" for code in ExitCode)
        + "  `classify --exit-code` and `ssh ID COMMAND` end with others, too.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action=Version, help="print the versions of this package, Python and pytest")
    whole.set_defaults(root=whole)
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(commands)
    return whole

"""Implements ``vastgpu classify``: reads text from standard input and prints whose fault it reports."""

from __future__ import annotations

import argparse
import io
import sys

from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.parsers import READS
from pytest_vastgpu.cli.parsers import Commands
from pytest_vastgpu.diagnosis.kinds import ANY
from pytest_vastgpu.diagnosis.kinds import KINDS
from pytest_vastgpu.diagnosis.kinds import kind_of


def add_classify_parser(commands: Commands) -> None:
    """Add ``classify``."""
    parser = commands.add_parser("classify", help="whose fault a log on standard input tells of")
    parser.add_argument(
        "--server",
        default=ANY,
        type=_kind,
        choices=tuple(KINDS),
        metavar="KIND",
        help="the server that printed it: %(choices)s (default: any); other spellings are known, such as tensorrt-llm",
    )
    parser.add_argument(
        "--channel",
        default="server_log",
        choices=["server_log", "status_msg", "ssh", "nvidia_smi", "curl"],
        help="where the text was read (default: server_log)",
    )
    parser.add_argument("--context", default="", help="what else is known, such as phase=booting")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON object")
    form.add_argument("--jsonl", action="store_true", help="read and print one JSON object a line")
    parser.add_argument(
        "--exit-code",
        action="store_true",
        help="exit with 0 for ready and warmup, 10 for infra_fatal, 11 for incompatible, 12 for workload_fatal, 13 for "
        "runtime_lost, 14 for own_fault, 15 for unknown (not with --jsonl)",
    )
    parser.set_defaults(handler=_classify, **{READS: "it reads standard input: give a file as `< FILE`"})


def _kind(name: str) -> str:
    """The kind that a name means. An empty one is wrong here: a variable of a script may be unset."""
    return kind_of(name) if name else name


def _classify(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.cli.classify_stream import classify_stream

    if arguments.exit_code and arguments.jsonl:
        sys.stderr.write("vastgpu classify: --exit-code is for one text: it cannot be used with --jsonl\n")
        return ExitCode.USAGE
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # a log may contain any bytes
    return classify_stream(
        sys.stdin,
        sys.stdout,
        server=arguments.server,
        channel=arguments.channel,
        context=arguments.context,
        as_json=arguments.json,
        jsonl=arguments.jsonl,
        exit_code=arguments.exit_code,
    )

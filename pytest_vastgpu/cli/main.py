"""The entry point of the command ``vastgpu``: parses the arguments and calls the module of each subcommand."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_vastgpu.cli.down import add_down_parser
from pytest_vastgpu.core import environment
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import VastGpuError


def main(argv: Sequence[str] | None = None, timeouts: Timeouts = DEFAULTS) -> int:
    """Run the command.

    :param argv: Arguments without the program's name; None: the process's own.
    :param timeouts: Time limits of calls to a market.
    :returns: 0 for success, 1 for a failure that was reported in one line, 2 for wrong usage.
    """
    parser = argparse.ArgumentParser(prog="vastgpu", description="GPU hosts for tests: look, remember, clean up.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_classify(commands)
    _add_doctor(commands)
    _add_hosts(commands)
    _add_offers(commands)
    _add_ls(commands)
    _add_destroy(commands)
    _add_reap(commands)
    add_down_parser(commands)
    _add_local(commands)
    arguments = parser.parse_args(argv, argparse.Namespace(timeouts=timeouts))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be undecodable; stderr already allows it
    KNOWN.add(environment.API_KEY, environment.api_key(os.environ))
    KNOWN.add_login(environment.IMAGE_LOGIN, environment.image_login(os.environ))
    try:
        return int(arguments.handler(arguments))
    except VastGpuError as error:
        print(f"vastgpu: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1


def _add_classify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("classify", help="whose fault a log on standard input tells of")
    parser.add_argument("--server", default="", metavar="KIND", help="kind of server, such as vllm (default: any)")
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
    parser.set_defaults(handler=_classify)


def _classify(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.cli.classify import classify_stream

    if arguments.exit_code and arguments.jsonl:
        print("vastgpu classify: --exit-code is for one text: it cannot be used with --jsonl", file=sys.stderr)
        return 2
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


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from pytest_vastgpu.cli.doctor.command import add_doctor_parser

    add_doctor_parser(commands)


def _add_hosts(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from pytest_vastgpu.cli.hosts import add_hosts_parser

    add_hosts_parser(commands)


def _add_offers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from pytest_vastgpu.cli.offers import add_offers_parser

    add_offers_parser(commands)


def _add_ls(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("ls", help="what of ours is alive, since when, and what it costs")
    parser.set_defaults(handler=_ls)


def _ls(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.cli.instances import list_ours

    return list_ours(arguments)


def _add_destroy(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("destroy", help="destroy an instance, or all of a run, and see that they are gone")
    parser.add_argument(
        "instance", metavar="ID", nargs="?", help="the instance's id, or its label where the id is not known"
    )
    parser.add_argument("--run", metavar="ID", help="every instance of this run")
    parser.set_defaults(handler=_destroy)


def _destroy(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.cli.instances import destroy_some

    return destroy_some(arguments)


def _add_reap(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("reap", help="destroy what runs that are over have left")
    parser.add_argument(
        "--dry-run",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="only say what would be destroyed, and why (this is the default)",
    )
    parser.set_defaults(handler=_reap)


def _reap(arguments: argparse.Namespace) -> int:
    from pytest_vastgpu.cli.instances import reap

    return reap(arguments)


def _add_local(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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

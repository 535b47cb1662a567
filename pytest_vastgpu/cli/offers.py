"""Implements ``vastgpu offers``: what would be rented for one workload, and why, without renting it.

Every command loads this module for its options, so it imports late what only the answer needs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_vastgpu.cli.output import tell
from pytest_vastgpu.cli.parsers import Commands
from pytest_vastgpu.core import environment
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.option_values import count
from pytest_vastgpu.selection.requirements import NEEDS
from pytest_vastgpu.servers.workloads import MEANINGS
from pytest_vastgpu.servers.workloads import TYPES
from pytest_vastgpu.servers.workloads import checked
from pytest_vastgpu.settings import DEFAULT_URL
from pytest_vastgpu.settings import OPTIONS
from pytest_vastgpu.settings import Option
from pytest_vastgpu.settings import Settings

_SETTINGS = frozenset(
    ("strictness", "backend", "max_price", "budget", "attempts", "max_lifetime", "host_cache", "exclude_countries")
)
"""Those options of a run that decide what is rented, or what it may cost."""
_LIMIT = 10
_TEST = "the test"


def add_offers_parser(commands: Commands) -> None:
    """Add ``offers``. Its options are the fields of a workload that decide, and those options of a run that do."""
    text = "what would be rented for a workload, in which order, why, and what to change; nothing is rented"
    parser = commands.add_parser("offers", help=text, description=text)
    needs = parser.add_argument_group("the workload", "what the marker vast and the builders of workloads take")
    needs.add_argument(
        "--model", default="", help="a model that vLLM serves: what is not given is as for vllm(MODEL) (default: none)"
    )
    for name in NEEDS:
        needs.add_argument(
            f"--{name.replace('_', '-')}",
            type=TYPES[name],
            dest=name,
            metavar={int: "N", float: "X"}.get(TYPES[name], "TEXT"),
            help=MEANINGS[name].replace("``", "").replace("%", "%%"),
        )
    given = parser.add_argument_group("the run", "as --vast-… of pytest, with the same environment variables")
    for option in _options():
        default = "" if "default" in option.help else f" (default: {option.show(option.default)})"
        given.add_argument(
            f"--{option.name}",
            dest=option.ini,
            metavar=option.metavar,
            help=f"{option.help}{default}".replace("%", "%%"),
        )
    parser.add_argument("--limit", type=_limit, default=_LIMIT, metavar="N", help=f"most offers (default: {_LIMIT})")
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    parser.set_defaults(handler=_offers)


def _limit(text: str) -> int:
    try:
        return count(text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(f"{text!r} is not {wrong}") from None


def _options() -> list[Option]:
    return [option for option in OPTIONS if option.field in _SETTINGS]


def _offers(arguments: argparse.Namespace) -> int:
    """Look, and print.

    :returns: 0; 1 if nothing can be rented; 2 for a wrong value.
    :raises VastGpuError: one line: such as a market that does not answer.
    """
    from pytest_vastgpu.client.calls import Expected
    from pytest_vastgpu.planning.document import as_json
    from pytest_vastgpu.planning.market import look
    from pytest_vastgpu.planning.plan import Found
    from pytest_vastgpu.planning.plan import make_plan
    from pytest_vastgpu.planning.report import Wording
    from pytest_vastgpu.planning.report import lines

    try:
        settings, workload = _settings(vars(arguments), os.environ), _workload(vars(arguments))
    except ConfigurationError as wrong:
        tell(str(wrong))
        return 2
    answer = look(settings, (workload,), os.environ, Path.cwd(), arguments.timeouts)
    for note in answer.notes:
        tell(note)
    (survey,) = answer.surveys
    plan = make_plan(
        {_TEST: Expected(workload)}, {workload: Found(survey, survey.ranked)}, settings, credit_usd=answer.credit_usd
    )
    wording = Wording(
        _title(vars(arguments)), "--", lambda name, value: f"--{name.replace('_', '-')}={value}", of_arguments=""
    )
    if arguments.json:
        sys.stdout.write(json.dumps(as_json(plan, arguments.limit, wording), indent=2) + "\n")
    else:
        width = shutil.get_terminal_size().columns
        sys.stdout.writelines(f"{line}\n" for line in lines(plan, width, arguments.limit, wording))
    return 1 if plan.problems else 0


def _title(given: Mapping[str, Any]) -> str:
    """What was asked for, in words."""
    model = [f"model={given['model']}"] if given["model"] else []
    fields = [f"{name}={given[name]}" for name in NEEDS if given[name] is not None]
    return f"offers for {', '.join(model + fields) or 'any GPU'}"


def _workload(given: Mapping[str, Any]) -> Workload:
    fields = {name: given[name] for name in NEEDS if given[name] is not None}
    if given["model"]:
        from pytest_vastgpu.servers.vllm import vllm  # with it come all rules for verdicts

        return vllm(given["model"], **fields)
    return checked(Workload("command", **fields))


def _settings(given: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The settings: command line over environment over default.

    :raises ConfigurationError: one line: where the value comes from, the value, and what is expected.
    """
    values: dict[str, Any] = {option.field: option.default for option in OPTIONS}
    sources = dict.fromkeys(values, "default")
    for option in _options():
        text, source = given[option.ini], f"--{option.name}"
        if text is None:
            text, source = environ.get(option.variable), option.variable
        if text:
            try:
                values[option.field], sources[option.field] = option.parse(text.strip()), source
            except ValueError as wrong:
                raise ConfigurationError(f"{source}: {text!r} is not {wrong}") from None
    url = ""
    if values["backend"] != "local":
        if not environment.api_key(environ):
            raise ConfigurationError(
                f"{environment.missing_key(environ)}: set it to your Vast.ai API key, or use --backend=local to see "
                "what the local market would rent out of this machine"
            )
        values["backend"] = "vast"
        url = (environment.market_url(environ) or DEFAULT_URL).rstrip("/")
    return Settings(**values, backend_reason="", url=url, sources=sources)

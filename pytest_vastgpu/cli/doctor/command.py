"""Implements ``vastgpu doctor``: makes all checks at the same time and prints what they find."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterable
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TextIO

from pytest_vastgpu.cli.doctor import account
from pytest_vastgpu.cli.doctor import files
from pytest_vastgpu.cli.doctor import key
from pytest_vastgpu.cli.doctor import machine
from pytest_vastgpu.cli.doctor import market
from pytest_vastgpu.cli.doctor import network
from pytest_vastgpu.cli.doctor import packages
from pytest_vastgpu.cli.doctor import report
from pytest_vastgpu.cli.doctor import ssh
from pytest_vastgpu.cli.doctor import surroundings
from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.doctor.finding import problem
from pytest_vastgpu.cli.doctor.limits import Limits
from pytest_vastgpu.cli.doctor.pending import NoAnswer
from pytest_vastgpu.cli.doctor.pending import Pending
from pytest_vastgpu.cli.doctor.situation import Check
from pytest_vastgpu.cli.doctor.situation import Situation
from pytest_vastgpu.cli.doctor.situation import rents_at_market
from pytest_vastgpu.core import environment
from pytest_vastgpu.core.secret import Environment
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.settings import DEFAULT_URL

_DISK = "a file system that does not answer? Use another one"
_NETWORK = "see that this machine reaches the market"
_DRIVER = "a driver that hangs? Look at the kernel's log"

CHECKS = (
    Check("versions", packages.check_versions, _DISK),
    Check("pytest", surroundings.check_pytest, _DISK),
    Check("key", key.check_key, _NETWORK),
    Check("scopes", key.check_scopes, _NETWORK),
    Check("credit", account.check_credit, _NETWORK),
    Check("market", network.check_market, _NETWORK),
    Check("left over", account.check_left, _DISK),
    Check("warm", account.check_warm, "vastgpu down"),
    Check("ssh key", ssh.check_key, f"{_DISK} with VAST_SSH_KEY_PATH"),
    Check("ssh way out", ssh.check_way_out, "let connections to all TCP ports out"),
    Check("ssh program", ssh.check_program, _DISK),
    Check(
        "host cache", files.check_cache, f"{_DISK} with VAST_HOST_CACHE; or a stopped process holds its lock: see fuser"
    ),
    Check("state", files.check_state, f"{_DISK} with XDG_STATE_HOME"),
    Check("sockets", files.check_sockets, f"{_DISK} with TMPDIR"),
    Check("namespaces", machine.check_namespaces, "run one instance at a time, each on a port of its own"),
    Check("gpu", machine.check_gpus, _DRIVER),
    Check("proxies", surroundings.check_proxies, _DISK),
    Check("variables", surroundings.check_variables, _DISK),
)
"""All checks, in the order of the report."""


def doctor(arguments: argparse.Namespace) -> int:
    """Make all checks and print what they find.

    :returns: 0 without a problem, 1 with one.
    """
    findings = diagnose(look_around(arguments.timeouts))
    if arguments.json:
        sys.stdout.write(report.as_json(findings))
    else:
        width = shutil.get_terminal_size((report.WIDTH, 24)).columns
        sys.stdout.write(report.as_text(findings, width=width, colour=takes_colour(sys.stdout)))
    sys.stdout.flush()
    return report.exit_code(findings)


def look_around(timeouts: Timeouts) -> Situation:
    """The situation of this process. The market, where a run would rent at one, is being asked from now on."""
    environ = Environment(dict(os.environ))
    limits = Limits.of(timeouts)
    asked = None
    if rents_at_market(environ):
        url = (environment.market_url(environ) or DEFAULT_URL).rstrip("/")
        asked = market.ask(url, Secret(environment.api_key(environ)), limits, timeouts)
    return Situation(environ, Path.home(), Path(), limits, asked)


def diagnose(situation: Situation, checks: Iterable[Check] = CHECKS) -> list[Finding]:
    """Make all checks, at the same time; what gives no answer in time is a problem, too."""
    within_s = situation.limits.whole_s
    started = [(check, Pending(partial(check.look, situation), within_s)) for check in checks]
    findings: list[Finding] = []
    for check, pending in started:
        try:
            findings += pending.result()
        except NoAnswer as silent:
            findings.append(check.silent(silent))
        except ImportError as missing:
            findings.append(problem(check.name, f"cannot be looked at: {missing}", "see versions"))
        except Exception as error:  # noqa: BLE001 - the other checks are to be told
            said = f"cannot be looked at ({type(error).__name__}: {error})"
            findings.append(problem(check.name, said, "please report this, with the output of --json"))
    return findings


def takes_colour(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream shows colours, and the user has not asked for none (https://no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"

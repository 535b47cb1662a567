"""What cannot be combined with ``--vast-hosts``: said in one line each, before anything is rented."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version

import pytest

from pytest_vastgpu.settings import HostSettings
from pytest_vastgpu.settings import Settings

NOTES: pytest.StashKey[list[str]] = pytest.StashKey()
"""What is said of the run before it rents, one line each."""
LEAST_XDIST = (3, 8)
"""The oldest version whose workers and schedulers this package knows."""
INSTALL = "pip install 'pytest-vastgpu[hosts]'"


def refuse(config: pytest.Config, hosts: HostSettings, settings: Settings) -> list[str]:
    """Check that a run can be one on hosts, and make it one without workers here.

    :returns: What of its options does not apply, one line each.
    :raises pytest.UsageError: one line: what excludes what, and what to do.
    """
    _require_xdist(config)
    notes = _no_workers_here(config, hosts)
    asked = _asked(hosts)
    from pytest_vastgpu.plugin.on_host.schedules import may_distribute  # which imports xdist

    may_distribute(config.option.dist)
    if settings.max_instances is not None and hosts.hosts > settings.max_instances:
        raise pytest.UsageError(
            f"{asked} is more than --vast-max-instances {settings.max_instances} "
            f"({settings.sources['max_instances']}) allows: raise that, or ask for at most {settings.max_instances}"
        )
    return notes


def refuse_debugger(config: pytest.Config, hosts: HostSettings) -> None:
    """Check that no debugger is asked for.

    :raises pytest.UsageError: one is.
    """
    for debugger in ("pdb", "trace"):
        if config.getoption({"pdb": "usepdb"}.get(debugger, debugger), False):
            raise pytest.UsageError(
                f"--{debugger} and {_asked(hosts)} exclude each other: there is no terminal on a host; leave one of "
                "them out (--vast-hosts=0 runs the tests here)"
            )


def _asked(hosts: HostSettings) -> str:
    """``--vast-hosts=2``, with its source where that is not the command line."""
    source = hosts.sources["hosts"]
    return f"--vast-hosts={hosts.hosts}" + ("" if source == "command line" else f" ({source})")


def _require_xdist(config: pytest.Config) -> None:
    try:
        installed = version("pytest-xdist")
    except PackageNotFoundError:
        raise pytest.UsageError(f"--vast-hosts needs pytest-xdist, which is not installed: {INSTALL}") from None
    if not config.pluginmanager.has_plugin("xdist"):
        raise pytest.UsageError(
            "--vast-hosts needs pytest-xdist, which is installed and not active: take -p no:xdist out, or, with "
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD, say -p xdist"
        )
    if too_old(installed):
        least = ".".join(map(str, LEAST_XDIST))
        raise pytest.UsageError(f"--vast-hosts needs pytest-xdist {least} or newer, not {installed}: {INSTALL}")


def too_old(installed: str) -> bool:
    """Whether a version is older than :data:`LEAST_XDIST`."""
    numbers = tuple(int(part) if part.isdecimal() else 0 for part in installed.split(".")[: len(LEAST_XDIST)])
    return numbers < LEAST_XDIST


def _no_workers_here(config: pytest.Config, hosts: HostSettings) -> list[str]:
    """Leave out the workers that ``-n``, ``--tx`` or ``--px`` of an ini file or of ``PYTEST_ADDOPTS`` ask for.

    On the command line such an option excludes hosts; ``-n 0`` does so only where the hosts stand somewhere else:
    then it may mean to run the tests here.
    """
    option = config.option
    typed = on_command_line(config.invocation_params.args)
    if typed and not (option.numprocesses == 0 and hosts.sources["hosts"] == "command line"):
        raise pytest.UsageError(
            f"{typed} and {_asked(hosts)} exclude each other: tests run in workers on the hosts, see "
            "--vast-workers-per-host; leave one of them out (--vast-hosts=0 runs the tests here)"
        )
    left_out = not typed and (option.numprocesses or option.tx or option.px)
    option.numprocesses, option.tx, option.px = None, [], []
    return ["-n (or --tx, --px) of addopts does not apply: tests run in workers on the hosts"] if left_out else []


def on_command_line(args: Sequence[str]) -> str:
    """The option for workers that stands in these arguments: ``-n``, ``--tx``, ``--px``; empty if there is none."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-n", "--numprocesses", dest="-n")
    parser.add_argument("--tx", dest="--tx")
    parser.add_argument("--px", dest="--px")
    try:
        found, _ = parser.parse_known_args(args)
    except argparse.ArgumentError as incomplete:  # it is the value of another option
        return incomplete.argument_name.partition("/")[0] if incomplete.argument_name else ""
    return next((name for name, value in vars(found).items() if value is not None), "")

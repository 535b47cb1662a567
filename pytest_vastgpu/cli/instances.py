"""Implements ``vastgpu ls``, ``vastgpu destroy`` and ``vastgpu reap``: managing instances outside of a run."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_vastgpu.cli.output import say
from pytest_vastgpu.cli.output import tell
from pytest_vastgpu.core import environment
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.open import account_identity
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.settings import DEFAULT_URL
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from pytest_vastgpu.supervisor.cleanup.destroy import destroy
from pytest_vastgpu.supervisor.cleanup.sweep import sweep
from pytest_vastgpu.supervisor.cleanup.sweep import would
from pytest_vastgpu.supervisor.ledger.ledger import FILE
from pytest_vastgpu.supervisor.ledger.ledger import Label
from pytest_vastgpu.supervisor.ledger.ledger import Record
from pytest_vastgpu.supervisor.ledger.ledger import read_ledger
from pytest_vastgpu.supervisor.ledger.ownership import is_owned
from pytest_vastgpu.supervisor.ledger.run_directory import runs_dir


@contextmanager
def _market(timeouts: Timeouts) -> Iterator[tuple[Provider, str]]:
    """A market client, and the identity of the account."""
    key = Secret(environment.api_key(os.environ))
    if not key:
        raise ConfigurationError(f"{environment.missing_key(os.environ)}: set it to the key of the account to look at")
    url = environment.market_url(os.environ) or DEFAULT_URL
    with open_provider(url, key, timeouts=timeouts) as client:
        yield client, account_identity(url, key)


# --- ls ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whose:
    """Facts that this machine has about an instance's run."""

    record: Record | None
    """None if another machine made the run, or its record is gone."""
    alive: bool = False

    def __str__(self) -> str:
        if self.record is None:
            return "not known on this machine"
        return f"process {self.record.pid}, {'alive' if self.alive else 'dead'}"


def list_ours(arguments: argparse.Namespace) -> int:
    """Print every instance with one of this package's labels: its run, its age and its cost.

    :returns: 0
    :raises VastGpuError: if the market cannot be asked.
    """
    with _market(arguments.timeouts) as (client, _):
        ours = [(label, status) for status in client.list_instances() if (label := Label.parse(status.label))]
    if not ours:
        say("no instance of pytest-vastgpu is alive")
    for label, status in ours:
        say(line(label, status, _whose(label), time.time()))
    return 0


def _whose(label: Label) -> Whose:
    directory = runs_dir() / label.run_id
    try:
        return Whose(read_ledger(directory / FILE), is_owned(directory))
    except OSError:
        return Whose(None)


def line(label: Label, status: InstanceStatus, whose: Whose, now: float) -> str:
    """One instance as one line. Pure.

    :param now: Epoch seconds.
    """
    age_s = max(0.0, now - status.start_date) if status.start_date else 0.0
    clock = time.strftime("%H:%M", time.localtime(status.start_date))
    since = f"since {clock} ({age_s / 60:.0f} min)" if status.start_date else "age unknown"
    spent_usd = status.price_usd_h * age_s / HOUR_S
    left = (label.ends_at - now) / 60
    entry = whose.record.entries.get(status.label) if whose.record else None
    end = f"must be gone in {left:.0f} min" if left > 0 else f"OVERDUE by {-left:.0f} min"
    if entry and entry.kept_until > now:
        end = time.strftime("kept until %H:%M", time.localtime(entry.kept_until))
    elif whose.record and not whose.alive:
        end += "  `vastgpu reap` destroys it"
    return "  ".join(
        (
            str(status.id),
            status.state or "null",
            f"machine {status.machine_id}",
            status.gpu_name or "no GPU",
            since,
            f"price unknown: {status.incredible}"
            if status.incredible
            else f"{status.price_usd_h:.3f} USD/h, {spent_usd:.4f} USD so far without traffic",
            f"run {label.run_id} ({whose})",
            end,
        )
    )


# --- destroy ----------------------------------------------------------------------------------------------------------


def destroy_some(arguments: argparse.Namespace) -> int:
    """Destroy an instance by its id or label, or all instances of a run, and check that they are gone.

    :returns: 0; 1 if something is left, which this prints; 2 for wrong usage.
    :raises VastGpuError: if the market cannot be asked.
    """
    wanted, run = arguments.instance, arguments.run
    if (wanted is None) == (run is None):
        sys.stderr.write("vastgpu destroy: say what: either an instance's ID, or --run ID\n")
        return 2
    with _market(arguments.timeouts) as (client, _):
        if run is not None:
            ids = [status.id for status in client.list_instances() if _run_of(status) == run]
            none = f"no instance of run {run} is alive"
        elif wanted.isdecimal():
            client.account()  # a wrong key is told now, since a destroy is tried for minutes
            ids, none = [int(wanted)], ""
        elif Label.parse(wanted):
            ids = [status.id for status in client.list_instances(wanted)]
            none = f"no instance carries the label {wanted}"
        else:
            raise ConfigurationError(f"{wanted!r} is neither an instance's id nor a label of pytest-vastgpu")
        if not ids:
            say(none)
        return max([_destroy(client, instance_id, arguments.timeouts) for instance_id in ids], default=0)


def _run_of(status: InstanceStatus) -> str:
    label = Label.parse(status.label)
    return label.run_id if label else ""


def _destroy(client: Provider, instance_id: int, timeouts: Timeouts) -> int:
    try:
        destroy(client, instance_id, time.sleep, timeouts)
    except NotDestroyed as problem:
        tell(str(problem))
        return 1
    say(f"instance {instance_id} is gone")
    return 0


# --- reap -------------------------------------------------------------------------------------------------------------


def reap(arguments: argparse.Namespace) -> int:
    """Destroy what ended runs have left; as a dry run, only print what that would be, and why.

    :returns: 0; 1 if something could not be destroyed.
    :raises VastGpuError: if the market cannot be asked.
    """
    with _market(arguments.timeouts) as (client, market):
        reasons = would(client.list_instances(), runs_dir(), market)
        for reason in reasons:
            say(f"would destroy {reason}" if arguments.dry_run else f"destroying {reason}")
        if not reasons:
            say("runs that are over have left nothing")
        elif arguments.dry_run:
            say("nothing was done: `vastgpu reap --no-dry-run` does it")
        else:
            swept = sweep(client, runs_dir(), market, by="reap", timeouts=arguments.timeouts)
            for instance_id in swept.destroyed:
                say(f"instance {instance_id} is gone")
            for problem in swept.problems:
                tell(str(problem))
            return 1 if swept.problems else 0
    return 0

"""What the actions of ``vastgpu hosts`` do: print and change what the host cache knows of machines."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping

from pytest_vastgpu.cli.output import say
from pytest_vastgpu.cli.output import tell
from pytest_vastgpu.core import environment
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.durations import measured
from pytest_vastgpu.model import MachineRecord
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.providers.market_name import VAST
from pytest_vastgpu.reputation.cache_path import default_path
from pytest_vastgpu.reputation.cache_path import market_at
from pytest_vastgpu.reputation.host_cache import HostCache
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.selection.bans import ban_in_force
from pytest_vastgpu.selection.bans import operator_ban


def machine_table(known: Reputation, now: float) -> list[str]:
    """A line for each machine: banned ones first, then the least successful."""

    def order(record: MachineRecord) -> tuple[bool, float, int]:
        ban = ban_in_force(known, record.machine_id, record.host_id, now)
        return ban is None, record.successes, record.machine_id

    return sanitize.table(
        ("machine", "host", "ready", "failed", "start", "last reason", "standing"),
        [
            (
                str(record.machine_id),
                str(record.host_id or "-"),
                f"{record.successes:.0f}",
                f"{record.infra_failures:.1f}",
                measured(record.ready_s),
                record.last_reason or "-",
                _standing(known, record, now),
            )
            for record in sorted(known.machines.values(), key=order)
        ],
    )


def evidence_table(items: Iterable[Outcome]) -> list[str]:
    """A line for each piece of evidence, the newest first."""
    return sanitize.table(
        ("time (UTC)", "machine", "GPU", "outcome", "reason", "seconds", "workload"),
        [
            (
                _moment(item.time),
                str(item.machine_id),
                item.gpu_name or "-",
                item.outcome.value,
                item.reason or "-",
                f"{math.fsum(item.seconds.values()):.0f}",
                item.workload or "-",
            )
            for item in sorted(items, key=lambda item: (item.time, item.id), reverse=True)
        ],
    )


def _standing(known: Reputation, record: MachineRecord, now: float) -> str:
    if ban := ban_in_force(known, record.machine_id, record.host_id, now):
        return f"banned {_until(ban.until)} ({ban.of}: {ban.reason})"
    return "allowed" if record.allowed else "-"


def _until(until: float) -> str:
    return "for good" if until == math.inf else f"until {_moment(until)}"


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))


def _cache(arguments: argparse.Namespace) -> HostCache:
    market = arguments.market or market_at(environment.market_url(os.environ) or VAST)
    return HostCache(arguments.host_cache or default_path(os.environ), tell, market)


def _on(cache: HostCache) -> str:
    """The market as a suffix, if it is not Vast.ai."""
    return "" if cache.market == VAST else f" on {cache.market}"


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _name(arguments: argparse.Namespace) -> str:
    return f"{'host' if arguments.host else 'machine'} {arguments.id}"


def _list(arguments: argparse.Namespace) -> int:
    cache = _cache(arguments)
    now = time.time()
    known = cache.read(now)
    others = [market for market in cache.contents().markets if market != cache.market]
    if others:
        tell(f"machines of other markets are not shown: --market {' or '.join(sorted(others))}")
    if not (known.machines or known.hosts):
        say(f"nothing is known yet{_on(cache)} ({cache.path})")
        return 0
    _print(machine_table(known, now))
    for host in known.hosts.values():
        if ban := operator_ban(known, host.host_id, now):
            say(f"host {host.host_id}: banned {_until(ban.until)} ({ban.reason})")
        elif host.allowed:
            say(f"host {host.host_id}: allowed")
    for gpu, workload in sorted(known.incompatible_kinds):
        say(f"{gpu} cannot run {workload}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    cache = _cache(arguments)
    now = time.time()
    known = cache.read(now)
    machines = {
        number: record
        for number, record in known.machines.items()
        if arguments.id == (record.host_id if arguments.host else number)
    }
    if not machines and not (arguments.host and arguments.id in known.hosts):
        tell(f"nothing is known of {_name(arguments)}{_on(cache)} ({cache.path})")
        return 1
    _print(machine_table(Reputation(machines, known.hosts), now))
    for record in machines.values():
        for workload in sorted(record.incompatible):
            say(f"machine {record.machine_id} cannot run {workload}")
    if items := [item for item in cache.book().evidence.values() if item.machine_id in machines]:
        _print(["", *evidence_table(items)])
    return 0


def _ban(arguments: argparse.Namespace) -> int:
    now = round(time.time())
    until = now + arguments.for_s
    cache = _cache(arguments)
    cache.ban(arguments.id, host=arguments.host, until=until, reason=arguments.reason, since=now)
    say(f"{_name(arguments)}{_on(cache)} is banned {_until(until)}")
    return 0


def _allow(arguments: argparse.Namespace) -> int:
    cache = _cache(arguments)
    cache.allow(arguments.id, host=arguments.host)
    say(f"{_name(arguments)}{_on(cache)} is allowed, whatever it does")
    return 0


def _clear(arguments: argparse.Namespace) -> int:
    cache = _cache(arguments)
    if arguments.all:
        backup = cache.clear_all()
        what = f"all is forgotten of {cache.market}; what was known is in {backup}"
        say(what if backup else f"nothing was known ({cache.path})")
        return 0
    forgotten = cache.clear(arguments.id, host=arguments.host)
    say(f"{_name(arguments)}{_on(cache)} is forgotten ({forgotten} records)")
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    cache = _cache(arguments)
    new = cache.merge(arguments.files)
    say(f"{new} new records{_on(cache)} from {len(arguments.files)} files in {cache.path}")
    return 0


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "show": _show,
    "ban": _ban,
    "allow": _allow,
    "clear": _clear,
    "merge": _merge,
}
"""What each action of ``vastgpu hosts`` does; it takes the arguments and returns the exit code."""

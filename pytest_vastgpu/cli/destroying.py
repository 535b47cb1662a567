"""What ``vastgpu destroy`` and ``vastgpu reap`` do: give back outside of a run, and see that it is gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import closing
from contextlib import contextmanager
from contextlib import nullcontext
from contextlib import suppress
from dataclasses import dataclass

from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.instances import LocalRun
from pytest_vastgpu.cli.instances import absent
from pytest_vastgpu.cli.instances import entry_of
from pytest_vastgpu.cli.instances import find_all
from pytest_vastgpu.cli.instances import is_gone
from pytest_vastgpu.cli.instances import local_runs
from pytest_vastgpu.cli.markets import Market
from pytest_vastgpu.cli.markets import Markets
from pytest_vastgpu.cli.markets import NothingToAsk
from pytest_vastgpu.cli.markets import account
from pytest_vastgpu.cli.markets import markets
from pytest_vastgpu.cli.output import say
from pytest_vastgpu.cli.output import tell
from pytest_vastgpu.core.directories import runs_dir
from pytest_vastgpu.core.ledger_record import Label
from pytest_vastgpu.core.ownership import ownership
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.supervisor.cleanup.destroy import NotDestroyed
from pytest_vastgpu.supervisor.cleanup.destroy import destroy
from pytest_vastgpu.supervisor.cleanup.sweep import sweep
from pytest_vastgpu.supervisor.cleanup.sweep import would
from pytest_vastgpu.supervisor.ledger.by_user import destroying
from pytest_vastgpu.supervisor.ledger.ledger import Ledger


class Refused(VastGpuError):
    """Nothing was destroyed; the message says why."""


def destroy_one(word: str, timeouts: Timeouts, *, force: bool) -> int:
    """Destroy an instance, and check that it is gone. Success also where it was gone already.

    :param word: Its id or label. The start of one is not enough here.
    :param force: Whether an instance without one of our labels is destroyed, too.
    :returns: The exit code.
    :raises ConfigurationError: if the word is neither an id nor a label.
    :raises Refused: if it is not ours, or there has never been one.
    :raises MarketError: if the market cannot be asked.
    """
    if not (word.isdecimal() and word.isascii()) and Label.parse(word) is None:
        raise ConfigurationError(
            f"{word!r} is neither an instance's id nor a label of pytest-vastgpu: `vastgpu ls` lists both"
        )
    with _markets_unless_gone(word, timeouts) as open_ones:
        found = find_all(open_ones)
        named = [each for each in found.instances if word in (str(each.id), each.status.label)]
        matching = [_Target(each.market, each.id, each.status.label) for each in named]
        if len(matching) > 1 and word.isdecimal():
            labels = ", ".join(each.status.label for each in found.instances if str(each.id) == word)
            raise Refused(f"instance {word} is on several markets: name its label, one of {labels}")
        if not matching:
            matching = _unlisted(open_ones, word, force=force)
        if not matching:
            if not is_gone(word):
                found.require_all()
            return _was_gone(word)
        return max(_destroy(target, timeouts) for target in matching)


@contextmanager
def _markets_unless_gone(word: str, timeouts: Timeouts) -> Iterator[Markets]:
    """All markets; none where none can be asked and none need be, since the instance is known here to be gone.

    :raises NothingToAsk: if there is none, and the instance may be alive.
    """
    with ExitStack() as stack:
        try:
            found = stack.enter_context(markets(timeouts))
        except NothingToAsk:
            if not is_gone(word):
                raise
            found = Markets(())
        yield found


@dataclass(frozen=True)
class _Target:
    """What is to be destroyed."""

    market: Market
    id: int
    label: str
    seen: bool = True
    """False: its market knows it no more. It is destroyed all the same, since one answer may be a gap."""


def _unlisted(open_ones: Markets, word: str, *, force: bool) -> list[_Target]:
    """An instance that no market lists as ours: a market's list may lag, and it may be somebody else's.

    :raises Refused: if it is not ours.
    """
    known = entry_of(word)
    if known and not known[1].gone and known[1].instance_id:  # whatever its market says of it now
        number, label = known[1].instance_id, known[1].label
        own = [market for market in open_ones.all if market.identity == known[0].record.market]
        return [_Target(market, number, label, _is_seen(market, number)) for market in own]
    if not word.isdecimal():
        return []
    for market in open_ones.all:
        status = market.client.show(int(word))
        if status is not None:
            if Label.parse(status.label) is None and not force:
                raise Refused(
                    f"instance {word} is not of pytest-vastgpu (its label is {status.label!r}): nothing was destroyed; "
                    "add --force if it is the one that you mean"
                )
            return [_Target(market, status.id, status.label)]
    return []


def _is_seen(market: Market, instance_id: int) -> bool:
    with suppress(MarketError):  # destroying asks again, and for longer
        return market.client.show(instance_id) is not None
    return True


def _was_gone(word: str) -> int:
    known = entry_of(word)
    if known is None:
        raise Refused(absent(word))
    run, entry = known
    if not entry.instance_id:
        say(f"no instance carries the label {word}")
    elif entry.gone or run.record.embedded:
        say(_gone_already(entry.instance_id, run))
    else:
        raise MarketError(
            f"instance {entry.instance_id} of run {run.id} was rented at {run.record.url} and not seen to be gone: set "
            "VAST_URL and VAST_API_KEY to that market and account"
        )
    return ExitCode.OK


def destroy_run(run_id: str, timeouts: Timeouts) -> int:
    """Destroy all instances of a run, and check that they are gone.

    :returns: The exit code.
    :raises Refused: if there has never been such a run here, nor has it an instance.
    :raises MarketError: if the market cannot be asked.
    """
    with markets(timeouts) as open_ones:
        found = find_all(open_ones)
        matching = [ours for ours in found.instances if ours.label.run_id == run_id]
        if not matching:
            found.require_all()
        if not matching and all(run.id != run_id for run in local_runs()):
            raise Refused(f"no instance of run {run_id} is alive, and no run here has that name")
        if not matching:
            say(f"no instance of run {run_id} is alive")
        targets = [_Target(ours.market, ours.id, ours.status.label) for ours in matching]
        return max((_destroy(target, timeouts) for target in targets), default=ExitCode.OK)


def _destroy(target: _Target, timeouts: Timeouts) -> int:
    label = Label.parse(target.label)
    run = next((each for each in local_runs() if label and each.id == label.run_id), None)
    try:
        # A living run that misses it must not blame the machine.
        with destroying(run.directory, target.label) if run and run.alive else nullcontext():
            destroy(target.market.client, target.id, time.sleep, timeouts)
    except NotDestroyed as problem:
        tell(str(problem))
        return ExitCode.FAILED
    say(f"instance {target.id} is gone" if target.seen or not run else _gone_already(target.id, run))
    _note(target.market, target.id)
    return ExitCode.OK


def _gone_already(instance_id: int, run: LocalRun) -> str:
    return f"instance {instance_id} of run {run.id} was gone already"


def _note(market: Market, instance_id: int) -> None:
    """Write into the ledger of a run that is over that its instance is gone; a living run sees it for itself."""
    known = entry_of(str(instance_id))
    if known is None or known[0].record.market != market.identity:
        return
    run, entry = known
    with suppress(OSError, ConfigurationError), ownership(run.directory) as over:  # a later sweep would find out, too
        if over:
            with closing(Ledger(run.directory)) as ledger:
                ledger.write(entry.label, "gone", by="destroy")


def reap(timeouts: Timeouts, *, dry_run: bool) -> int:
    """Destroy what ended runs have left; as a dry run, only print what that would be, and why.

    :returns: The exit code.
    :raises MarketError: if the market cannot be asked.
    """
    with account(timeouts) as market:
        reasons = would(market.client.list_instances(), runs_dir(), market.identity) if market else []
        for reason in reasons:
            say(f"would destroy {reason}" if dry_run else f"destroying {reason}")
        if market is None or not reasons:
            say("runs that are over have left nothing")
        elif dry_run:
            say("nothing was done: `vastgpu reap --no-dry-run` does it")
        else:
            swept = sweep(market.client, runs_dir(), market.identity, by="reap", timeouts=timeouts)
            for instance_id in swept.destroyed:
                say(f"instance {instance_id} is gone")
            for problem in swept.problems:
                tell(str(problem))
            return ExitCode.FAILED if swept.problems else ExitCode.OK
    return ExitCode.OK

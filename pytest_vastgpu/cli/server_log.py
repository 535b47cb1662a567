"""What ``vastgpu logs`` does: prints the log of an instance's server, and follows it.

Over SSH the log is that of the setup command and the server. Where nobody can log in (yet), it is the container's log,
which the market has. Of an instance that is gone it is what the run has kept, if its start or a test had failed.
"""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable
from contextlib import closing
from contextlib import suppress
from pathlib import Path

from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.instances import Ours
from pytest_vastgpu.cli.instances import absent
from pytest_vastgpu.cli.instances import choose
from pytest_vastgpu.cli.instances import entry_of
from pytest_vastgpu.cli.instances import is_gone
from pytest_vastgpu.cli.logins import NoLogin
from pytest_vastgpu.cli.logins import login
from pytest_vastgpu.cli.markets import markets
from pytest_vastgpu.cli.output import tell
from pytest_vastgpu.core.files import read_file
from pytest_vastgpu.core.ledger_record import Label
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.core.text.redaction import secret_variables
from pytest_vastgpu.core.text.shell import exported
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import SshKeyError
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.reporting.artifacts import FOLDER
from pytest_vastgpu.ssh import known_hosts
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.connection import SshConnection
from pytest_vastgpu.ssh.connection import connect
from pytest_vastgpu.ssh.login import HostKeyPin
from pytest_vastgpu.supervisor.ledger.run_directory import is_alive
from pytest_vastgpu.supervisor.rental.server import job

LOOK_S = 5.0
"""Pause between two looks of ``-f`` whether the instance is still there, and at a container's log."""
MOST_LINES = 10_000
"""Of the container's log: the market is asked for a number of lines."""
_READ_S = 60.0
_LOGS = f"{job.HOME}/setup.log {job.HOME}/server.log {job.BESIDE}/server.log"
_TWO = f"[ -e {job.BESIDE}/server.log ]"
"""Where a second server was started beside the first, each log has a line above it that names it, as ``tail`` does."""
_MOST_BYTES = 8 << 20


class NoLog(VastGpuError):
    """There is no log; the message says why."""


def show_log(
    word: str | None,
    timeouts: Timeouts,
    *,
    follow: bool,
    lines: int | None,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Print the log of an instance.

    :param word: See :func:`~pytest_vastgpu.cli.instances.choose`.
    :param lines: How many of its last lines; None: all.
    :param wait: Waits for a number of seconds, before another look at the container's log.
    :returns: The exit code.
    :raises NoLog: if the instance is gone, and no log of it was kept.
    """
    if word and is_gone(word):
        return _show_kept(word, lines)
    with markets(timeouts) as open_ones:
        ours = choose(open_ones, word)
        if follow:
            return _follow(ours, timeouts, lines, wait)
        connection, why = _connected(ours, timeouts)
        if connection is not None:
            with closing(connection):
                one = f"cat {_LOGS} | tail -n {_first(lines)}"
                command = f"{{ if {_TWO}; then tail -n {_first(lines)} {_LOGS}; else {one}; fi; }} 2>/dev/null"
                text = connection.run(command, timeout_s=_READ_S).stdout
            if text:
                _print(text)
                return ExitCode.OK
            why = "its server has printed nothing yet"
        tell(f"instance {ours.id}: {why}; this is the container's log")
        _print(ours.market.client.logs(ours.id, MOST_LINES if lines is None else lines))
        return ExitCode.OK


def _show_kept(word: str, lines: int | None) -> int:
    known = entry_of(word)
    assert known is not None  # noqa: S101 -- the caller has looked
    run, entry = known
    label = Label.parse(entry.label)
    folder = Path(run.record.started_in) / FOLDER / run.id / str(label.number if label else 0)
    path = folder / "server.log"
    try:
        text = read_file(path, _MOST_BYTES).decode(errors="replace")
    except FileNotFoundError as missing:
        raise NoLog(
            f"{absent(word)}; logs are kept where a start or a test fails, and {path} is not there"
        ) from missing
    except OSError as error:
        raise NoLog(f"{absent(word)}; its log {path} cannot be read: {error.strerror}") from error
    tell(f"{absent(word)}; this is from {path}")
    _print(text if lines is None else "".join(text.splitlines(keepends=True)[-lines:] if lines else []))
    return ExitCode.OK


def _connected(ours: Ours, timeouts: Timeouts) -> tuple[SshConnection | None, str]:
    """A connection to an instance; None where nobody can log in, and why."""
    try:
        way = login(ours)
        pin = HostKeyPin()
        if (key := known_hosts.noted(way.hosts, way.addresses)) is not None:
            pin.pin(key)
        connection = connect(way.addresses, way.key, pin, timeout_s=timeouts.connect_s)
    except (NoLogin, SshKeyError, ConnectFailed) as problem:
        return None, str(problem)
    _learn_secrets(connection)
    return connection, ""


def _learn_secrets(connection: SshConnection) -> None:
    """Hide the secrets of the servers' environments in what is printed from now on, if it repeats them."""
    for folder in (job.HOME, job.BESIDE):  # each by itself: both may have a variable, and one may be cut short
        variables = exported(connection.run(f"cat {folder}/env.sh 2>/dev/null", timeout_s=_READ_S).stdout)
        variables.pop(job.HOST, None)  # an address, by which a log is understood
        for name, value in secret_variables(variables.items()):
            KNOWN.add(name, value)


def _follow(ours: Ours, timeouts: Timeouts, lines: int | None, wait: Callable[[float], None]) -> int:
    """Print what there is and what comes, until the instance is gone."""
    printed, told = "", False
    first = _first(lines)
    while True:
        connection, why = _connected(ours, timeouts)
        if connection is not None:
            with closing(connection):
                problem = _follow_on(ours, connection, first)
            if _is_gone(ours):
                break
            tell(f"instance {ours.id}: the log broke off ({problem}); lines may be missing here")
            first = "0"
        else:
            if not told:
                tell(f"instance {ours.id}: {why}; this is the container's log, until that changes")
                told = True
            with suppress(MarketError):  # it may have none yet; whether the instance is there is asked below
                text = ours.market.client.logs(ours.id, MOST_LINES if lines is None else lines)
                _print(news(printed, text))
                printed = text
            if _is_gone(ours):
                break
            wait(LOOK_S)
            status = ours.market.client.show(ours.id)
            if status is not None:
                ours = Ours(status, ours.label, ours.market, ours.run)
    tell(f"instance {ours.id} is gone")
    return ExitCode.OK


def _follow_on(ours: Ours, connection: SshConnection, first: str) -> str:
    """Print the log as it comes, as long as the connection and the instance live; returns why it ended."""
    arriving: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    command = f"names=; {_TWO} || names=-q; exec tail $names -n {first} -F {_LOGS} 2>/dev/null"
    stream = connection.stream(command, arriving.put, lambda _: arriving.put(None))
    look_at = time.monotonic() + LOOK_S
    while True:
        with suppress(queue.Empty):
            line = arriving.get(timeout=max(0.0, look_at - time.monotonic()))
            if line is None:
                return stream.problem or "its end was read"
            _print(line or "\n")
        if time.monotonic() >= look_at:
            if _is_gone(ours):
                return "it is gone"
            look_at = time.monotonic() + LOOK_S


def _first(lines: int | None) -> str:
    """What ``tail -n`` takes for the last lines; None: all."""
    return "+1" if lines is None else str(lines)


def _is_gone(ours: Ours) -> bool:
    """Whether the market knows it neither by its id nor in its list; or the market itself has ended, with its run."""
    market = ours.market
    try:
        if market.client.show(ours.id) is not None:
            return False
        return all(status.id != ours.id for status in market.client.list_instances())
    except MarketError:
        if market.run_id and ours.run and not is_alive(ours.run.directory):
            return True
        raise


def news(before: str, now: str) -> str:
    """The new part of a log's end, which is read again and again. Pure."""
    if now.startswith(before):
        return now[len(before) :]
    last = before[-400:]
    at = now.rfind(last)
    return now[at + len(last) :] if at >= 0 else now


def _print(text: str) -> None:
    """Print text of others: without colours, and safe to show."""
    text = sanitize.block(sanitize.COLOUR.sub("", text))
    for line in text.splitlines(keepends=True):  # a large piece at once would not tell that the reader has left
        sys.stdout.write(line if line.endswith("\n") else f"{line}\n")
    sys.stdout.flush()

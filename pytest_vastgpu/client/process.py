"""Starts the supervisor process, receives its events, and ends it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import ExitStack
from contextlib import suppress
from pathlib import Path
from typing import IO

from pytest_vastgpu.client.callbacks import HookCalls
from pytest_vastgpu.client.callbacks import HookServer
from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.client.calls import RunControl
from pytest_vastgpu.client.calls import Summary
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.client.rpc_client import RpcClient
from pytest_vastgpu.core import child
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.environment import API_KEY
from pytest_vastgpu.core.environment import IMAGE_LOGIN
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import SupervisorGone
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.reporting.waiting import Waiting
from pytest_vastgpu.servers.base import Adapter

SECRET_VARIABLES = (API_KEY, IMAGE_LOGIN)
"""Environment variables that are sent through the pipe instead."""
LEAVES_WITHIN_S = 10.0
"""Seconds that the end of the run waits for the process after it has given everything back."""
UNOPENED_WITHIN_S = 3.0
"""Seconds that the process is waited for where the run was not opened. It ends by itself, also later."""
EVENTS_WITHIN_S = 0.5
"""Seconds that an answer waits for the events sent before it, so that these are shown first."""
_LOG_LINES = 5
_getpid = os.getpid  # bound now: a test may replace it later


class SupervisorProcess:
    """The supervisor, seen from the process that started it.

    :param listener: The supervisor's socket; a process that has connected already waits for the supervisor.
    :param collected: What this process has collected; None: a worker will report it.
    :param hooks: Answers the supervisor's calls to hooks, in this process.
    :param adapters: Adapters of conftest files and plugins, by name.
    :param listen: Called with every event, in a thread of its own.
    :param idle: Called repeatedly while the thread that made this object waits.
    :param insist: Called with what must be told also in a quiet run.
    :param show: Called with what tests wait for, about once a second, in the same thread as ``listen``.
    :param late: Whether tests run already: why nothing can be rented is then the answer to each of them.
    :raises VastGpuError: if the supervisor cannot be started, or cannot rent; one line, and nothing was rented.
    """

    def __init__(
        self,
        opening: Opening,
        listener: Listener,
        collected: Collected | None,
        hooks: HookCalls,
        adapters: Mapping[str, Adapter],
        listen: Callable[[Event], None],
        idle: Callable[[], None],
        *,
        insist: Callable[[str], None] = lambda _: None,
        show: Callable[[list[Waiting]], None] = lambda _: None,
        late: bool = False,
    ) -> None:
        self._listener = listener
        self._show = show
        self._pid = _getpid()
        self._process: subprocess.Popen[bytes] | None = None
        """None where an earlier run has started it."""
        try:
            self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - until the supervisor has a log
        except OSError as error:
            listener.remove()
            raise ConfigurationError(f"the supervisor process cannot be started ({error})") from error
        self._stays = opening.settings.reuse > 0
        """Whether it may outlive this run."""
        # Connect before it starts: if this process dies a moment later, the supervisor sees the connection end.
        self.line = RpcClient(listener.address, "control", idle, opening.timeouts.answers_s)
        turn = ExitStack()
        try:
            if self._stays:
                self._take_turn(turn, opening)
            if not (self._stays and self._joined(opening, insist)):
                self._process = self._start(opening if self._stays else opening.for_one_run())
            listener.close()
            self.line.told_of_its_end(self._end)
            self.calls = self.line.calls(RunControl)  # type: ignore[type-abstract] # derives calls from it
            self._arrived = threading.Condition()
            self._newest = 0
            self.line.await_events = self._await_events
            self._events = threading.Thread(
                target=self._listen, args=(self.line.connect("events"), listen), name="vastgpu-events", daemon=True
            )
            self._events.start()
            if adapters or opening.hooks:
                HookServer(self.line.connect("hooks"), hooks, adapters).start()
            if collected is not None:
                self.calls.collected(collected)
            try:
                self.calls.opened()
            except VastGpuError:
                if not late:
                    raise
        except BaseException:
            self.hang_up(UNOPENED_WITHIN_S)
            raise
        finally:
            turn.close()

    def _take_turn(self, turn: ExitStack, opening: Opening) -> None:
        """Have one run at a time look for a supervisor and start one: the next run then finds it."""
        from pytest_vastgpu.client import warm

        try:
            turn.enter_context(warm.turn(opening.project, opening.settings.url))
        except OSError as error:
            raise ConfigurationError(f"nothing can be kept warm ({error}): leave out --vast-reuse") from error

    def _joined(self, opening: Opening, insist: Callable[[str], None]) -> bool:
        """Have a supervisor serve this run that an earlier one has started; returns whether there is one that does."""
        from pytest_vastgpu.client import warm

        known = warm.find(opening.project, opening.settings.url)
        if known is None:
            return False
        try:
            warm.join(known, opening, self._listener)
        except warm.NotJoined as refused:
            text = (
                f"the instances that run {known.run} keeps warm since {warm.age(known)} are left alone: {refused}; "
                "nothing of this run is kept warm (`vastgpu down` ends them)"
            )
            insist(text)
            self._stays = False
            return False
        return True

    def _start(self, opening: Opening) -> subprocess.Popen[bytes]:
        # A copy: where Python starts processes by forking (gevent), the child closes this process's private original.
        descriptor = os.dup(self._listener.socket.fileno())
        try:
            process = subprocess.Popen(
                child.command("pytest_vastgpu.supervisor.start", str(descriptor), opening.settings.backend),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                cwd="/",  # the supervisor must not keep a directory in use, nor import from one
                env=child.environment(without=SECRET_VARIABLES),
                pass_fds=[descriptor],
                start_new_session=True,  # Ctrl-C must not reach it
            )
        except OSError as error:
            raise ConfigurationError(f"the supervisor process cannot be started ({error})") from error
        finally:
            os.close(descriptor)
        assert process.stdin is not None  # noqa: S101 - Popen was called with a pipe
        with suppress(BrokenPipeError), process.stdin as pipe:  # if it died, connecting to it will report that
            pipe.write(json.dumps(encode(opening)).encode() + b"\n")
            # Not in a variable: a traceback that shows variables must not show a key.
            pipe.write(json.dumps({n: os.environ[n] for n in SECRET_VARIABLES if n in os.environ}).encode())
        return process

    def _listen(self, sock: socket.socket, listen: Callable[[Event], None]) -> None:
        try:
            with suppress(EOFError, OSError):
                while True:
                    message = messages.receive(sock)
                    if "waits" in message:
                        self._show(decode(list[Waiting], message["waits"]))
                        continue
                    listen(decode(Event, message["event"]))
                    with self._arrived:
                        self._newest = message["number"]
                        self._arrived.notify_all()
        finally:
            self.line.hang_up(sock)  # if a reader of events has failed, the end must not wait for it

    def _await_events(self, number: int) -> None:
        with self._arrived:
            self._arrived.wait_for(lambda: self._newest >= number or not self._events.is_alive(), EVENTS_WITHIN_S)

    @property
    def owned(self) -> bool:
        """Whether this is the process that started the supervisor, and not a forked child."""
        return _getpid() == self._pid

    def close(self, waits_for: Callable[[list[str]], None], every_s: float) -> Summary:
        """Make the supervisor give everything back, show its last events, and let it exit.

        :param waits_for: Called with what is waited for, again and again.
        :param every_s: How often what is waited for is shown.
        :raises SupervisorGone: if it ended before that was done, or does not answer; it has ended in any case then.
        """
        self.line.move_home()  # a thread that has ended may have started the supervisor
        try:
            while True:
                told = self.calls.close(every_s / 4)
                if told.summary is not None:
                    break
                waits_for(told.waits_for)
        except SupervisorGone:
            self._kill()
            raise
        self._events.join(LEAVES_WITHIN_S)
        self.hang_up()
        return told.summary

    def _kill(self) -> None:
        """End a supervisor that does not answer: as long as it lives, its guard gives nothing back."""
        if self._process is None:
            return  # other runs may use it
        with suppress(OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait(LEAVES_WITHIN_S)

    def hang_up(self, within_s: float = LEAVES_WITHIN_S) -> None:
        """Close the connections, which tells the supervisor that the run has ended, and wait for its exit."""
        if not self.owned:
            return
        self.line.close()
        if self._process is not None:
            if self._stays:
                if self._process.poll() is None:
                    self._process.returncode = 0  # it outlives this process, which Popen would complain of
            else:
                with suppress(subprocess.TimeoutExpired):  # it takes longer
                    child.await_end(self._process, within_s)
        self._listener.remove()
        self._complaints.close()

    def _end(self) -> str:
        """How the supervisor ended, with the last lines of its log, as text for people."""
        if self._process is None:
            return ""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVES_WITHIN_S)  # its connections close before it exits
        code = self._process.poll()
        if code is None:
            return ""
        how = f" (killed by {signal.Signals(-code).name})" if code < 0 else f" (exit code {code})"
        known = self.line.supervisor
        return how + _last_lines(known.log if known else "", self._complaints)


def _last_lines(log: str, complaints: IO[bytes]) -> str:
    try:
        if log:
            data = Path(log).read_bytes()
        else:
            complaints.seek(0)
            data = complaints.read()
    except (OSError, ValueError):
        return ""
    lines = data.decode(errors="replace").splitlines()[-_LOG_LINES:]
    return "".join(f"\n    | {line}" for line in lines) + ("\n " if lines else "")

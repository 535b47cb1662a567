"""Starting the supervisor, hearing from it, and its end."""

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
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.servers.base import Adapter

SECRET_VARIABLES = (API_KEY,)
"""Environment variables that go through the pipe instead."""
LEAVES_WITHIN_S = 10.0
"""How long the end waits for a process that has given everything back."""
EVENTS_WITHIN_S = 0.5
"""How long an answer is held back for the events that came before it: they are shown first."""
_LOG_LINES = 5
_getpid = os.getpid  # not what a test puts there later


class SupervisorProcess:
    """A supervisor, seen from the process that started it.

    :param listener: Where it will listen; a process that has connected already waits for it.
    :param collected: What this process has collected; None: a worker will say so.
    :param hooks: Answers what it asks of hooks, in this process.
    :param adapters: Adapters of conftest files and plugins, by name.
    :param listen: Told of every event, in a thread of its own.
    :param idle: Called again and again while the thread that made this waits.
    :raises VastGpuError: if it cannot be started, or cannot rent; one line, and nothing was rented.
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
    ) -> None:
        self._listener = listener
        self._pid = _getpid()
        try:
            self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - until it has a log
        except OSError as error:
            listener.remove()
            raise ConfigurationError(f"the supervisor process cannot be started ({error})") from error
        # Before it starts: should this process die a moment later, the supervisor finds that the line has ended.
        self.line = RpcClient(listener.address, "control", idle)
        try:
            self._process = self._start(opening)
            listener.close()
            self.line.told_of_its_end(self._end)
            self.calls = self.line.calls(RunControl)  # type: ignore[type-abstract] # a protocol, from which calls are made
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
            self.calls.opened()
        except BaseException:
            self.hang_up()
            raise

    def _start(self, opening: Opening) -> subprocess.Popen[bytes]:
        # A copy: where processes are started by forking in Python (gevent), the child closes what is private of ours.
        descriptor = os.dup(self._listener.socket.fileno())
        try:
            process = subprocess.Popen(
                child.command("pytest_vastgpu.supervisor.process", str(descriptor)),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                cwd="/",  # it must not keep a directory in use, nor import from one
                env=child.environment(without=SECRET_VARIABLES),
                pass_fds=[descriptor],
                start_new_session=True,  # Ctrl-C is for us
            )
        except OSError as error:
            raise ConfigurationError(f"the supervisor process cannot be started ({error})") from error
        finally:
            os.close(descriptor)
        assert process.stdin is not None  # noqa: S101 - it was asked for just above
        with suppress(BrokenPipeError), process.stdin as pipe:  # it died: connecting to it says so
            pipe.write(json.dumps(encode(opening)).encode() + b"\n")
            # In no variable: a traceback that shows variables must not show a key.
            pipe.write(json.dumps({n: os.environ[n] for n in SECRET_VARIABLES if n in os.environ}).encode())
        return process

    def _listen(self, sock: socket.socket, listen: Callable[[Event], None]) -> None:
        try:
            with suppress(EOFError, OSError):
                while True:
                    message = messages.receive(sock)
                    listen(decode(Event, message["event"]))
                    with self._arrived:
                        self._newest = message["number"]
                        self._arrived.notify_all()
        finally:
            self.line.hang_up(sock)  # where a reader of events has failed, the end need not wait for it

    def _await_events(self, number: int) -> None:
        with self._arrived:
            self._arrived.wait_for(lambda: self._newest >= number or not self._events.is_alive(), EVENTS_WITHIN_S)

    @property
    def owned(self) -> bool:
        """Whether this is the process that started it, and not a child that was forked off."""
        return _getpid() == self._pid

    def close(self) -> Summary:
        """Have everything given back, see the last events, and let it go.

        :raises SupervisorGone: if it has ended before that was done.
        """
        summary = self.calls.close()
        self._events.join(LEAVES_WITHIN_S)
        self.hang_up()
        return summary

    def hang_up(self) -> None:
        """The end of the run, as it sees it."""
        if not self.owned:
            return
        self.line.close()
        with suppress(subprocess.TimeoutExpired, AttributeError):  # it takes longer, or was never started
            self._process.wait(LEAVES_WITHIN_S)
        self._listener.remove()
        self._complaints.close()

    def _end(self) -> str:
        """How it ended, with the last lines of its log: in this process's words."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)  # its connections are closed a moment before
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

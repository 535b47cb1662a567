"""An SSH connection to an instance: commands, probes, files, streams and forwarded ports."""

from __future__ import annotations

import logging
import shlex
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import paramiko

from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.ssh import execution
from pytest_vastgpu.ssh.base import Conversed
from pytest_vastgpu.ssh.base import TransferFailed
from pytest_vastgpu.ssh.command import BoundedText
from pytest_vastgpu.ssh.command import MarkedOutput
from pytest_vastgpu.ssh.command import kill_line
from pytest_vastgpu.ssh.command import shell_line
from pytest_vastgpu.ssh.execution import BROKEN
from pytest_vastgpu.ssh.login import close_transport
from pytest_vastgpu.ssh.login import log_in
from pytest_vastgpu.ssh.ordering import ordered
from pytest_vastgpu.ssh.pipe import converse
from pytest_vastgpu.ssh.stream import SshStream

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Mapping
    from collections.abc import Sequence

    from pytest_vastgpu.model import Probe
    from pytest_vastgpu.ssh.address import SshAddress
    from pytest_vastgpu.ssh.keys import KeyPair
    from pytest_vastgpu.ssh.login import HostKeyPin

OUTPUT_LIMIT = 8 << 20
"""Bytes kept of each of stdout and stderr; the middle of a longer output is left out."""
_SESSIONS = 8
"""Commands at once over one connection. OpenSSH's default ``MaxSessions`` is 10; one is spare, one for killing."""
_OPEN_LIMIT_S = 10.0
"""A server that neither opens nor refuses a session is asked again after this time."""
_RETRY_S = 0.02
_NOT_RUN_PAUSE_S = 0.5
"""Before a command is sent again that the login shell has not started."""
_KILL_LIMIT_S = 2.0
_LAST_WORDS_S = 0.1
"""A connection that breaks ends its channels first, and reports that it is broken a moment later."""
_CLOCK_SLACK_S = 0.05
"""paramiko's limits use the wall clock, ours the monotonic one."""

_log = logging.getLogger(__name__)


def connect(
    addresses: Sequence[SshAddress], key: KeyPair, pin: HostKeyPin, *, timeout_s: float, user: str = "root"
) -> SshConnection:
    """Log in at the first address that works: direct ones first, then the proxy.

    :param timeout_s: Limit for each address, from the first packet to being logged in.
    :raises ConnectFailed: if all addresses fail; it has the reason for each.
    """
    transport, address, sock = log_in(addresses, key, pin, timeout_s=timeout_s, user=user)
    return SshConnection(transport, address, sock)


class SshConnection:
    """An SSH connection that is logged in. Implements :class:`~pytest_vastgpu.ssh.base.Connection`.

    ``sh`` runs the commands, whatever the user's login shell is; see :mod:`pytest_vastgpu.ssh.command`.
    """

    def __init__(self, transport: paramiko.Transport, address: SshAddress, sock: socket.socket) -> None:
        self._transport = transport
        self._socket = sock
        self._sessions = threading.Condition()
        self._free = _SESSIONS
        self._streams: set[SshStream] = set()
        self.address = address
        """The address at which we are logged in."""

    @property
    def alive(self) -> bool:
        """False once the connection is closed or known to be broken."""
        return self._transport.is_active()

    def run(
        self,
        command: str,
        *,
        timeout_s: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        name: str = "command",
        spare: bool = False,
    ) -> ProbeResult:
        """Run a command and wait for its end. The result holds any failure; none is raised.

        A command killed by a signal has exit code 128 + its number. One that exceeds ``timeout_s`` is killed with all
        its children; the result holds what it had printed. A session that ends without having started the command
        does no harm, and is followed by another one until ``timeout_s`` is over: while an image sets itself up, its
        login may run something else.

        :param env: Environment of the command; sent through stdin, so that no process list shows it.
        :param spare: Use the session that is reserved for the heartbeat, which cannot wait for other commands.
        :raises ValueError: ``command`` or ``env`` cannot be written for a shell.
        """
        line, preface = shell_line(command, env or {})
        began = time.monotonic()
        deadline = began + timeout_s
        while True:
            result = self._run_once(line, preface + stdin, deadline, spare=spare)
            again = result.failure is ProbeFailure.NOT_RUN and time.monotonic() + _NOT_RUN_PAUSE_S < deadline
            if not again:
                return replace(result, name=name, elapsed_s=time.monotonic() - began)
            time.sleep(_NOT_RUN_PAUSE_S)

    def send(
        self,
        command: str,
        data: Callable[[], Iterable[bytes]],
        *,
        still_s: float,
        watch: Callable[[], None] = lambda: None,
        name: str = "send",
    ) -> ProbeResult:
        """Run a command that reads more than fits into memory, and wait for its end; as :meth:`run` but for the limit.

        :param data: Gives its input, from the start at each call; the parts are made while they are sent. What it
            raises is passed on once the command has ended.
        :param still_s: Time limit without progress: for the session to open, for each part to be taken, and for the
            command to end after the last one.
        :param watch: Called several times a second; what it raises ends the command and is passed on.
        :raises ValueError: as for :meth:`run`.
        """
        line, _ = shell_line(command, {})
        began = time.monotonic()
        while True:
            sent = execution.Outgoing(data(), still_s)
            result = self._run_once(line, sent, sent.ends, spare=False, watch=watch)
            if sent.error is not None:
                raise sent.error
            again = result.failure is ProbeFailure.NOT_RUN and time.monotonic() + _NOT_RUN_PAUSE_S < began + still_s
            if not again:
                return replace(result, name=name, elapsed_s=time.monotonic() - began)
            time.sleep(_NOT_RUN_PAUSE_S)

    def _run_once(
        self,
        line: str,
        stdin: bytes | Iterable[bytes],
        ends: float | Callable[[], float],
        *,
        spare: bool,
        watch: Callable[[], None] = lambda: None,
    ) -> ProbeResult:
        deadline = ends() if callable(ends) else ends
        marked, out, err = MarkedOutput(), BoundedText(OUTPUT_LIMIT), BoundedText(OUTPUT_LIMIT)

        def on_stdout(data: bytes) -> None:
            out.feed(marked.feed(data))

        end, why = execution.End(None), ""
        try:
            with self._open_session(deadline) if spare else self.session(deadline) as channel:
                execution.start(channel, line, max(0.001, deadline - time.monotonic()))
                end = execution.pump(channel, on_stdout, err.feed, stdin=stdin, deadline=ends, watch=watch)
                if end.timed_out:
                    self.kill(marked.pid)
        except BROKEN as error:
            end, why = (
                execution.End(None, timed_out=self.alive and time.monotonic() >= deadline - _CLOCK_SLACK_S),
                str(error),
            )
        failure = _failure(end, started=bool(marked.pid))
        stderr = err.text()
        if failure is ProbeFailure.TRANSPORT:
            stderr += self._explain(marked, why)
            if not (marked.pid or why) and self.alive:
                failure = ProbeFailure.NOT_RUN
        exit_code = end.exit_code if marked.pid else None
        return ProbeResult("", failure, exit_code, out.text(), stderr, 0.0)

    def _explain(self, marked: MarkedOutput, why: str) -> str:
        self._transport.join(_LAST_WORDS_S)
        if not self.alive or self._is_breaking():
            what = "the SSH connection broke"
        elif marked.pid:
            what = "the SSH server ended the command without an exit code"
        else:
            instead = marked.preamble.decode(errors="replace").strip()[-500:]
            what = "the command was not run" + (f"; the login shell said: {instead}" if instead else "")
        return f"[{what}{': ' + why if why else ''}]\n"

    def _is_breaking(self) -> bool:
        """Whether paramiko's thread has met the end of the connection, which it notes before it ends the channels."""
        met = self._transport.saved_exception
        return met is not None and not isinstance(met, paramiko.ChannelException)

    def probe(self, probe: Probe, env: Mapping[str, str] | None = None) -> ProbeResult:
        """Run one probe."""
        return self.run(probe.command, timeout_s=probe.timeout_s, env=env, name=probe.name)

    def probe_all(self, probes: Iterable[Probe], env: Mapping[str, str] | None = None) -> dict[str, ProbeResult]:
        """Run several probes at the same time; returns their results by name."""
        wanted = list(probes)
        if not wanted:
            return {}
        with ThreadPoolExecutor(min(len(wanted), _SESSIONS), thread_name_prefix="vastgpu-probe") as pool:
            return {result.name: result for result in pool.map(lambda probe: self.probe(probe, env), wanted)}

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600, timeout_s: float = 60.0) -> None:
        """Write a file on the instance. It appears whole or not at all, and never with a wider mode.

        :raises TransferFailed: it could not be written.
        """
        # Check the size, because `cat` takes a broken connection for the end of the file.
        script = (
            f'umask 077; p={shlex.quote(path)}; t="$p.$$"; trap \'rm -f -- "$t"\' EXIT; cat > "$t" && '
            f'[ "$(wc -c < "$t")" -eq {len(data)} ] && chmod {mode:o} "$t" && mv -f -- "$t" "$p"'
        )
        result = self.run(script, timeout_s=timeout_s, stdin=data, name="write_file")
        if not result.ok:
            what = result.stderr.strip() or result.failure.value
            raise TransferFailed(f"cannot write {path} on the instance at {self.address}: {what}", result)

    def stream(
        self,
        command: str,
        on_line: Callable[[str], None],
        on_end: Callable[[int | None], None] | None = None,
        *,
        env: Mapping[str, str] | None = None,
    ) -> SshStream:
        """Start a long-running command, and pass each line of its stdout to a callback as it arrives.

        The stream calls both functions in a thread of its own. Each stream takes one of the connection's few sessions
        while it runs, so one stream for several purposes is better than several streams. The command's stdin stays open
        as long as the stream: the command can read its end, and then end too.

        :param on_end: Called once, after the last line, with the exit code, or None where the command was not run, was
            stopped by us, or the connection broke.
        :raises ValueError: as for :meth:`run`.
        """
        line, preface = shell_line(command, env or {})
        stream = SshStream(self, line, preface, on_line, on_end)
        with self._sessions:
            self._streams.add(stream)
        stream.start()
        return stream

    def converse(self, command: str, local: socket.socket, on_stderr: Callable[[bytes], None]) -> Conversed:
        """Run a command, and join its input and output to a socket, until either side ends. No failure is raised.

        :param on_stderr: Called with what the command prints there, as it comes.
        :raises ValueError: as for :meth:`run`.
        """
        line = shell_line(command, {})
        deadline = time.monotonic() + _OPEN_LIMIT_S
        while True:
            done = converse(self.session(deadline), *line, local, on_stderr, _OPEN_LIMIT_S)
            if done.pid or not self.alive or time.monotonic() + _NOT_RUN_PAUSE_S > deadline:
                return done
            time.sleep(_NOT_RUN_PAUSE_S)

    def forward(self, port: int, timeout_s: float) -> paramiko.Channel:
        """A channel to a port on the instance's own loopback.

        :raises paramiko.SSHException: nothing listens there, or the connection is broken.
        """
        here = "127.0.0.1"
        return ordered(self._transport.open_channel("direct-tcpip", (here, port), (here, 0), timeout=timeout_s))

    @contextmanager
    def session(self, deadline: float | None, wanted: Callable[[], bool] = lambda: True) -> Iterator[paramiko.Channel]:
        """A channel for one command; waits while too many are open.

        :param deadline: On the clock of ``time.monotonic``; None: no limit.
        :param wanted: The wait ends when this returns False.
        :raises OSError, EOFError, paramiko.SSHException: if no channel can be opened.
        """
        with self._sessions:
            while not self._free and self.alive and wanted():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError("all sessions of the SSH connection are taken")
                self._sessions.wait(1.0 if left is None else min(left, 1.0))  # nothing wakes us at a break
            if not (self.alive and wanted()):
                raise paramiko.SSHException("not connected, or no longer wanted")
            self._free -= 1
        try:
            with self._open_session(deadline, wanted) as channel:
                yield channel
        finally:
            with self._sessions:
                self._free += 1
                self._sessions.notify()

    def _open_session(self, deadline: float | None, wanted: Callable[[], bool] = lambda: True) -> paramiko.Channel:
        while True:
            left = _OPEN_LIMIT_S if deadline is None else max(0.001, deadline - time.monotonic())
            try:
                return ordered(self._transport.open_session(timeout=left))
            except paramiko.SSHException:
                # The server has no free session: it may allow fewer than we assume, and OpenSSH still counts one for a
                # moment after its close. (The exception's type does not help: of two threads refused at once, paramiko
                # raises ChannelException in only one.)
                late = deadline is not None and time.monotonic() + _RETRY_S >= deadline
                if late or not (self.alive and wanted()):
                    raise
                time.sleep(_RETRY_S)

    def kill(self, pid: int) -> None:
        """Kill the command ``pid`` with its children. It does not count as a session, and so never waits for one."""
        if not pid or not self.alive:
            return
        try:
            deadline = time.monotonic() + _KILL_LIMIT_S
            with self._open_session(deadline) as channel:
                execution.start(channel, f"sh -c {shlex.quote(kill_line(pid))}", _KILL_LIMIT_S)
                execution.pump(channel, lambda _: None, lambda _: None, deadline=deadline)
        except BROKEN as error:
            _log.warning("could not kill process %d on the instance at %s: %s", pid, self.address, error)

    def close(self) -> None:
        """Close the connection, end all calls that wait on it, and wait for the threads of its streams."""
        with self._sessions:
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        close_transport(self._transport, self._socket)
        with self._sessions:
            self._sessions.notify_all()

    def forget(self, stream: SshStream) -> None:
        with self._sessions:
            self._streams.discard(stream)


def _failure(end: execution.End, *, started: bool) -> ProbeFailure:
    if end.timed_out:
        return ProbeFailure.TIMEOUT
    if not started or end.exit_code is None:
        return ProbeFailure.TRANSPORT
    return ProbeFailure.COMMAND if end.exit_code else ProbeFailure.NONE

"""Runs the commands of SSH clients, and carries their input and output."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
import pty
import signal
import struct
import subprocess
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import cast

from pytest_vastgpu.local.container.network.relay import CHUNK_BYTES
from pytest_vastgpu.local.container.ssh_library import asyncssh

QUIET_S = 0.1
"""The output of a command that ended is complete once its pipes were silent for this time: a background child may keep
them open for ever."""
NOT_STARTED = 255
"""The exit status if no process could be started; OpenSSH has it for its own errors."""


class Children:
    """Collects the child processes of this process; without threads, which a container init cannot have."""

    def __init__(self) -> None:
        self._exits: dict[int, asyncio.Future[int]] = {}
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._collect)

    def watch(self, pid: int) -> asyncio.Future[int]:
        """Return a future for the exit code, negative for a signal. Call it before the event loop runs again."""
        self._exits[pid] = asyncio.get_running_loop().create_future()
        return self._exits[pid]

    def _collect(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            waiting = self._exits.pop(pid, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(os.waitstatus_to_exitcode(status))


@dataclass(frozen=True)
class CommandContext:
    """The settings with which commands run."""

    home: Path
    shell: str
    environment: dict[str, str]
    children: Children
    settings: Path | None
    """The instance's own ``/etc/environment``, which each login reads; None if it has none."""


class _Output(asyncio.Protocol):
    """Copies one output of a command to the client, only as fast as the client reads."""

    def __init__(self, target: asyncssh.SSHWriter[bytes]) -> None:
        self._target = target
        self._writing: asyncio.Task[None] | None = None
        self.copied = 0
        self.ended = asyncio.get_running_loop().create_future()

    @property
    def waiting_for_more(self) -> bool:
        """Whether the client has been sent everything that was read from the command."""
        return self._writing is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.pause_reading()
        self._writing = asyncio.ensure_future(self._write(data))

    async def _write(self, data: bytes) -> None:
        try:
            self._target.write(data)
            await self._target.drain()
        except OSError:  # the client disconnected
            self._transport.close()
            return
        self.copied += len(data)
        self._writing = None
        self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
        self._transport.close()


async def run_command(process: asyncssh.SSHServerProcess[bytes], context: CommandContext) -> None:
    """Run a client's command or a login shell, with or without a terminal."""
    command = process.command
    arguments = [context.shell, "-c", command] if command is not None else [f"-{Path(context.shell).name}"]
    environment = context.environment | _session_variables(process) | _settings(context.settings)
    terminal = None
    if process.term_type is None:
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        ours_err, theirs_err = os.pipe()
        theirs = [theirs_in, theirs_out, theirs_err]
        outputs = [(ours_out, process.stdout), (ours_err, process.stderr)]
    else:
        terminal, slave = pty.openpty()
        _resize(terminal, process.term_size)
        environment |= {"TERM": process.term_type, "SSH_TTY": os.ttyname(slave)}
        ours_in = os.dup(terminal)
        theirs = [slave, slave, slave]
        outputs = [(terminal, process.stdout)]
    try:
        popen = subprocess.Popen(
            arguments,
            executable=context.shell,
            stdin=theirs[0],
            stdout=theirs[1],
            stderr=theirs[2],
            cwd=context.home if context.home.is_dir() else "/",
            env=environment,
            start_new_session=True,
            preexec_fn=_take_terminal if terminal is not None else None,
        )
    except OSError as error:  # too many processes, or too little memory
        for descriptor in (ours_in, *(source for source, _ in outputs)):
            os.close(descriptor)
        process.stderr.write(f"cannot start a process: {error}\n".encode())
        process.exit(NOT_STARTED)
        return
    finally:
        for descriptor in set(theirs):
            os.close(descriptor)
    popen.returncode = 0  # Children collects it; with an exit code set, Popen does not try to
    exit_code = context.children.watch(popen.pid)
    await _RunningCommand(process, popen.pid, exit_code, terminal).run(ours_in, outputs)


class _RunningCommand:
    """A command and its client, until the command has ended and the client has been sent all output."""

    def __init__(
        self,
        process: asyncssh.SSHServerProcess[bytes],
        pid: int,
        exit_code: asyncio.Future[int],
        terminal: int | None,
    ) -> None:
        self._process = process
        self._pid = pid
        self._exit_code = exit_code
        self._terminal = terminal

    async def run(self, stdin: int, sources: list[tuple[int, asyncssh.SSHWriter[bytes]]]) -> None:
        loop = asyncio.get_running_loop()
        outputs: list[_Output] = []
        for descriptor, target in sources:
            _, output = await loop.connect_read_pipe(functools.partial(_Output, target), os.fdopen(descriptor, "rb", 0))
            outputs.append(output)
        feeding = asyncio.ensure_future(self._feed(stdin))
        gone = asyncio.ensure_future(self._process.wait_closed())
        try:
            either: set[asyncio.Future[Any]] = {self._exit_code, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                await self._settle(outputs, gone)
                self._finish(self._exit_code.result())
        finally:
            feeding.cancel()
            gone.cancel()
            await asyncio.gather(feeding, gone, return_exceptions=True)
            for output in outputs:
                output.close()

    async def _settle(self, outputs: list[_Output], gone: asyncio.Future[None]) -> None:
        """Wait for the end of the output, or for silence."""
        copied = -1
        while open_still := [output for output in outputs if not output.ended.done()]:
            before, copied = copied, sum(output.copied for output in outputs)
            silent = copied == before and all(output.waiting_for_more for output in open_still)
            if silent or gone.done():
                return
            waited_for = [*(output.ended for output in open_still), gone]
            await asyncio.wait(waited_for, timeout=QUIET_S, return_when=asyncio.FIRST_COMPLETED)

    def _finish(self, code: int) -> None:
        with contextlib.suppress(OSError):  # the client closed the channel in the meantime
            if code < 0:
                self._process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
            else:
                self._process.exit(code)

    async def _feed(self, stdin: int) -> None:
        """Carry the client's input to the command, until its end of file."""
        loop = asyncio.get_running_loop()
        unread = asyncio.StreamReader()
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(unread), os.fdopen(stdin, "wb", 0)
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        try:
            while data := await self._next_input():
                writer.write(data)
                await writer.drain()
            if self._terminal is not None:
                writer.write(b"\x04")
            writer.close()
        except OSError:  # the command closed its input
            pass
        finally:
            if not transport.is_closing():
                transport.abort()

    async def _next_input(self) -> bytes:
        while True:
            try:
                return await self._process.stdin.read(CHUNK_BYTES)
            except asyncssh.TerminalSizeChanged as change:
                if self._terminal is not None:
                    _resize(self._terminal, change.term_size)
            except asyncssh.SignalReceived as received:
                self._signal(received.signal)
            except asyncssh.BreakReceived:
                pass

    def _signal(self, name: str) -> None:
        number = getattr(signal, f"SIG{name}", None)
        if number is not None and not self._exit_code.done():
            os.killpg(self._pid, number)


def _session_variables(process: asyncssh.SSHServerProcess[bytes]) -> dict[str, str]:
    peer, own = process.get_extra_info("peername"), process.get_extra_info("sockname")
    requested = {name: value for name, value in process.env.items() if name == "LANG" or name.startswith("LC_")}
    return requested | {
        "SSH_CLIENT": f"{peer[0]} {peer[1]} {own[1]}",
        "SSH_CONNECTION": f"{peer[0]} {peer[1]} {own[0]} {own[1]}",
    }


def _settings(file: Path | None) -> dict[str, str]:
    """Read an ``/etc/environment`` as pam_env does: no expansion, one pair of quotes around a value."""
    if file is None:
        return {}
    variables = {}
    for line in file.read_text(errors="replace").splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and name.isidentifier():
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            variables[name] = value[1:-1] if quoted else value
    return variables


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _resize(terminal: int, size: tuple[int, int, int, int]) -> None:
    columns, rows, width, height = size
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, width, height))

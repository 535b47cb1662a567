"""The SSH server of an instance: asyncssh on an inherited listening socket."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from pytest_vastgpu.local.container.commands import CommandContext
from pytest_vastgpu.local.container.commands import run_command
from pytest_vastgpu.local.container.spec import ContainerFaults
from pytest_vastgpu.local.container.ssh_library import asyncssh

BANNER = (
    "Welcome to vast.ai. If authentication fails, try again after a few seconds, and double check your ssh key.\n"
    "Have fun!\n"
)
"""The text that Vast's SSH servers send before authentication; clients must ignore it."""


class _Files(asyncssh.SFTPServer):
    """Serves the files of the instance. To OpenSSH's ``scp`` a transfer without an exit status is a failure."""

    def exit(self) -> None:
        with contextlib.suppress(OSError):  # the channel is closed already
            self.channel.exit(0)


class _Login(asyncssh.SSHServer):
    """Authenticates a connection, and allows all forwarding."""

    def __init__(self, ssh_server: SshServer) -> None:
        self._ssh_server = ssh_server
        self._tunnels_end: asyncio.TimerHandle | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        self._connection.send_auth_banner(BANNER)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return self._ssh_server.admits(key)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        after = self._ssh_server.faults.tunnels_die_after_s
        if after is not None and self._tunnels_end is None:
            self._tunnels_end = asyncio.get_running_loop().call_later(after, self._connection.abort)
        return True

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        return True


class SshServer:
    """Accepts SSH connections, with the faults of the instance."""

    def __init__(
        self, context: CommandContext, host_keys: Callable[[bool], asyncssh.SSHKey], keys: Path, faults: ContainerFaults
    ) -> None:
        self.faults = faults
        self._context = context
        self._host_keys = host_keys
        self._keys = keys
        self._started = asyncio.get_running_loop().time()
        self._accepted = 0
        self._connections: set[asyncio.Task[None]] = set()

    def _age(self) -> float:
        return asyncio.get_running_loop().time() - self._started

    def admits(self, key: asyncssh.SSHKey) -> bool:
        """Whether the key is in the file of authorized keys now."""
        if self._age() < self.faults.key_refused_s:
            return False
        try:
            lines = self._keys.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        blob = key.export_public_key().split()[1].decode()
        return any(blob in line.split() for line in lines if not line.lstrip().startswith("#"))

    async def serve(self, listener: socket.socket) -> None:
        """Accept connections as long as the instance runs.

        :param listener: A bound socket; with the fault ``ssh_refused`` it does not listen yet.
        """
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        if self.faults.ssh_refused_s:
            await asyncio.sleep(self.faults.ssh_refused_s)
            listener.listen()
        while True:
            connection, _ = await loop.sock_accept(listener)
            self._accepted += 1
            if self._accepted <= self.faults.ssh_reset_first_n:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
                continue
            task = asyncio.ensure_future(self._talk(connection))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _run_command(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        if self.faults.login_hijacked_s and not (self._context.home / ".no_auto_tmux").exists():
            process.stderr.write(b"no sessions\n")
            process.exit(1)
            return
        await run_command(process, self._context)

    async def _talk(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.sleep(self.faults.ssh_slow_s)
        changes = self.faults.host_key_changes_after_s
        other_key = changes is not None and self._age() >= changes
        try:
            await asyncssh.run_server(
                connection,
                server_factory=lambda: _Login(self),
                server_host_keys=[self._host_keys(other_key)],
                process_factory=self._run_command,
                sftp_factory=_Files,
                allow_scp=shutil.which("scp") is None,  # a real scp runs in the shell, as on a host
                encoding=None,
                line_editor=False,
                password_auth=False,
                kbdint_auth=False,
                agent_forwarding=False,
            )
        except (OSError, asyncssh.Error):  # it disconnected or was not authenticated: asyncssh logs which
            return

"""An SSH server for the tests, in a process of its own: ``python -m tests.ssh.server HOST_KEY AUTHORIZED_KEYS [MODE]``.

Prints its port, and ends when its stdin does. MODE says what stands for the login shell: ``plain``; ``noisy`` prints
before each command; ``tmux`` prints its complaint and runs nothing, ``tmux-once`` in
its first session only. ``drop``: the connection is cut during the login.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

from pytest_vastgpu.local.container.ssh_library import asyncssh

_PREFIX = {
    "plain": "",
    "drop": "",
    "noisy": "echo Welcome; printf 'no end of line'; ",
    "tmux": "echo no sessions; : ",
    "tmux-once": "mkdir settled-$PPID 2>/dev/null && { echo no sessions; exit 0; }; ",
}


class _Server(asyncssh.SSHServer):
    def __init__(self, mode: str) -> None:
        self._mode = mode

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        if self._mode == "drop":
            self._connection.abort()
        return True

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True


async def _copy_in(source: asyncssh.SSHReader[bytes], target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    target.close()


class _CopyOut:
    """Copies output to the client, only as fast as the client reads."""

    def __init__(self, source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
        self._source = source
        self._target = target
        self.copied = 0
        self.busy = False

    async def run(self) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            while data := await self._source.read(1 << 16):
                self.busy = True
                self._target.write(data)
                await self._target.drain()
                self.copied += len(data)
                self.busy = False
        self.busy = False


async def _handle(process: asyncssh.SSHServerProcess[bytes], prefix: str) -> None:
    pipe = asyncio.subprocess.PIPE
    command = prefix + (process.command or "")
    home = os.environ["HOME"]
    shell = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=home
    )
    assert shell.stdin is not None
    assert shell.stdout is not None
    assert shell.stderr is not None
    feeding = asyncio.create_task(_copy_in(process.stdin, shell.stdin))
    outputs = _CopyOut(shell.stdout, process.stdout), _CopyOut(shell.stderr, process.stderr)
    copying = asyncio.gather(*(each.run() for each in outputs))
    # asyncio's own wait() lasts until all pipes are closed, and a process in the background may never close them.
    while shell.returncode is None:
        await asyncio.wait([copying], timeout=0.01)
        await asyncio.sleep(0)
    before, copied = -2, -1
    while before != copied or any(each.busy for each in outputs):
        await asyncio.wait([copying], timeout=0.2)
        if copying.done():
            break
        before, copied = copied, sum(each.copied for each in outputs)
    copying.cancel()
    feeding.cancel()
    process.exit(shell.returncode)


async def _serve(host_key: str, authorized_keys: str, mode: str) -> None:
    async def handle(process: asyncssh.SSHServerProcess[bytes]) -> None:
        await _handle(process, _PREFIX[mode])

    server = await asyncssh.create_server(
        lambda: _Server(mode),
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=authorized_keys,
        process_factory=handle,
        encoding=None,
    )
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - how the test learns the port
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    os._exit(0)  # nothing to tidy up, and no client may keep us


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2], sys.argv[3]))

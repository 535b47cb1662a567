"""The program of the fork server, which forks a container init for each instance.

The market starts the fork server once; it has all modules imported. For each instance it receives open sockets and
forks. The container init enters the namespaces of its instance: it is inside the network and mounts, but outside the
process ids, so that no process of the instance sees it or can kill it. It serves SSH, forwards published ports, and
starts the first process. When the market's end of the control socket closes, it kills all processes and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pytest_vastgpu.local.container import disk
from pytest_vastgpu.local.container import isolation
from pytest_vastgpu.local.container import mounts
from pytest_vastgpu.local.container.commands import Children
from pytest_vastgpu.local.container.commands import CommandContext
from pytest_vastgpu.local.container.network.datagrams import Forwarding
from pytest_vastgpu.local.container.network.relay import relay_to
from pytest_vastgpu.local.container.network.relay import splice
from pytest_vastgpu.local.container.processes import descendants
from pytest_vastgpu.local.container.spec import InitConfig
from pytest_vastgpu.local.container.ssh_library import asyncssh
from pytest_vastgpu.local.container.sshd import SshServer

MOST_SOCKETS = 253
"""The most descriptors that Linux passes in one message."""


class InlineExecutor(ThreadPoolExecutor):
    """Runs functions in the calling thread: a container init cannot have threads, see :func:`isolation.enter`."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - the future raises it, as with any executor
            done.set_exception(error)
        return done


class ContainerInit:
    """The process that runs an instance, from outside its process ids."""

    def __init__(self, config: InitConfig, control: socket.socket, sockets: list[socket.socket]) -> None:
        self._config = config
        self._control = control
        self._ssh_listeners = sockets[: config.ssh_listeners]
        self._published = sockets[config.ssh_listeners : config.ssh_listeners + len(config.published)]
        self._egress = sockets[-1] if config.egress else None
        self._directory = Path(config.directory)
        self._home = self._directory / "home"
        self._isolated = config.how != "none"
        self._first_process = 0
        self._exited: asyncio.Future[int] | None = None
        self._settings: Path | None = None
        self._system_variables: dict[str, str] = {}
        """Variables of every process of the instance that depend on this system."""

    def prepare(self) -> None:
        """Enter the namespaces and make the mounts. Call it before there is an event loop."""
        isolation.enter(self._config.how)
        if self._isolated:
            config = self._config
            mounts.hide(config.hides, [config.directory, config.market_socket, *config.keeps], self._directory)
            self._settings = mounts.own_settings(self._directory)
            self._system_variables |= mounts.own_temporary_files(self._directory)
            if self._config.host_name:
                mounts.own_host_name(self._directory, self._config.host_name)
        else:
            isolation.adopt_orphans()
        if self._config.faults.disk_full:
            mounts.fill_disk(self._directory, self._home)
        os.chdir(self._home)

    async def run(self) -> None:
        """Run the instance until the market stops it or ends, or the first process ends."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(InlineExecutor(1))
        children = Children()
        self._system_variables |= await self._listen()
        context = CommandContext(
            self._home, _shell(), self._session_environment() | self._system_variables, children, self._settings
        )
        self._first_process = self._start_first_process(self._system_variables | self._config.environment)
        if not self._isolated:  # process id 1 is not that of the instance
            context.environment["VASTGPU_INIT"] = str(self._first_process)
        self._exited = exited = children.watch(self._first_process)
        faults = self._config.faults
        keys = (self._home / ".ssh" if faults.attached_keys_ignored else self._directory) / "authorized_keys"
        ssh_server = SshServer(context, self._host_key, keys, faults)
        serving = [asyncio.ensure_future(ssh_server.serve(listener)) for listener in self._ssh_listeners]
        self._control.setblocking(False)
        await self._say({"ready": os.getpid()})
        stopped = asyncio.ensure_future(loop.sock_recv(self._control, 1))
        ends: list[asyncio.Future[Any]] = [exited, stopped, *serving]
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if exited in done:
            with contextlib.suppress(OSError):  # the market may have ended at the same moment
                await self._say({"exited": exited.result()})

    def kill_everything(self) -> None:
        """Kill and collect all processes of the instance; returns when none is left.

        With process ids of its own, the end of its first process ends all others. Without, orphans become children of
        this process, so that none is left once it has no child.
        """
        while True:
            for pid in self._processes_to_kill():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            try:
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
            except ChildProcessError:
                return
            time.sleep(0.001)

    def _processes_to_kill(self) -> list[int]:
        if not self._isolated:
            return descendants(os.getpid())
        if self._exited is None or self._exited.done():  # another process may have its process id by now
            return []
        return [self._first_process]

    async def _say(self, message: dict[str, object]) -> None:
        await asyncio.get_running_loop().sock_sendall(self._control, json.dumps(message).encode() + b"\n")

    def _session_environment(self) -> dict[str, str]:
        user = self._config.user
        return {
            "HOME": str(self._home),
            "PATH": self._config.path,
            "USER": user,
            "LOGNAME": user,
            "SHELL": _shell(),
            "LANG": "C.UTF-8",
        }

    async def _listen(self) -> dict[str, str]:
        """Serve published ports, the market's URL and the egress. Returns the variables for the egress."""
        for port, opened in zip(self._config.published, self._published, strict=True):
            if opened.type == socket.SOCK_DGRAM:
                forwarding = functools.partial(Forwarding, port)
                await asyncio.get_running_loop().create_datagram_endpoint(forwarding, sock=opened)
                continue
            connect = functools.partial(asyncio.open_connection, "127.0.0.1", port)
            await asyncio.start_server(relay_to(connect), sock=opened)
        egress_port = 0
        if self._isolated:
            to_market: Callable[[], Any] = functools.partial(asyncio.open_unix_connection, self._config.market_socket)
            await asyncio.start_server(relay_to(to_market), "127.0.0.1", self._config.market_port)
        if self._egress is not None:
            to_egress = functools.partial(_pass_to_market, self._egress)
            server = await asyncio.start_server(to_egress, "127.0.0.1", 0)
            egress_port = server.sockets[0].getsockname()[1]
        return {
            name: value.replace("{port}", str(egress_port)) for name, value in self._config.egress_variables.items()
        }

    def _host_key(self, other: bool) -> asyncssh.SSHKey:
        path = self._directory / ("other_host_key" if other else "host_key")
        if not path.exists():
            asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
            path.chmod(0o600)
        return asyncssh.read_private_key(path)

    def _start_first_process(self, environment: dict[str, str]) -> int:
        """Fork and execute the first process of the instance, which has process id 1 inside."""
        log = os.open(disk.log_file(self._directory), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        reading, writing = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_first_process(environment, log, writing, parent)
        os.close(writing)
        os.close(log)
        with os.fdopen(reading) as errors:
            error = errors.read()
        if error:
            raise OSError(error)
        return pid

    def _become_first_process(self, environment: dict[str, str], log: int, errors: int, parent: int) -> None:
        try:
            isolation.die_with_parent(0 if self._isolated else parent)
            if self._isolated:
                isolation.mount_proc()
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            for number in (signal.SIGCHLD, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            os.execvpe(self._config.init[0], self._config.init, environment)  # noqa: S606 - it is a command line already
        except OSError as error:
            os.write(errors, f"the first process cannot start: {error}".encode())
        finally:
            os._exit(127)


async def _pass_to_market(egress: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass an outgoing connection to the market, which has a network."""
    ours, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(egress, [b"!"], [theirs.fileno()])
    await splice((reader, writer), await asyncio.open_unix_connection(sock=ours))


def _shell() -> str:
    return shutil.which("bash", path="/bin:/usr/bin") or "/bin/sh"


def _run_container_init(control: socket.socket, sockets: list[socket.socket], parent: int) -> None:
    """Run in the process of a container init; does not return."""
    try:
        with control.makefile("rb") as lines:
            config = InitConfig.from_line(lines.readline())
        log = os.open(Path(config.directory) / "init.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
        container_init = ContainerInit(config, control, sockets)
        if config.how != "none":  # without isolation it must survive, to kill its processes one by one
            isolation.die_with_parent(parent)
        container_init.prepare()
        try:
            asyncio.new_event_loop().run_until_complete(container_init.run())
        finally:
            container_init.kill_everything()
    except BaseException as error:
        logging.exception("the instance cannot run")
        with contextlib.suppress(OSError):
            control.setblocking(True)
            control.sendall(json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode() + b"\n")
    finally:
        os._exit(0)


def _open_sockets(command: socket.socket) -> Iterator[list[socket.socket]]:
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(command, 1, MOST_SOCKETS)
        except ConnectionResetError:  # the market has ended, and had not read what this process said
            return
        if not message:
            return
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        yield [socket.socket(fileno=descriptor) for descriptor in descriptors]


def main(descriptor: int) -> None:
    """Run the fork server: report the isolation, then fork a container init for each message with sockets."""
    command = socket.socket(fileno=descriptor)
    command.set_inheritable(False)
    found = isolation.probe()
    with contextlib.suppress(BrokenPipeError):  # the market has ended while this process started
        command.sendall(json.dumps({"how": found.how, "reason": found.reason}).encode() + b"\n")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects the container inits
    gc.collect()
    gc.freeze()  # keeps the memory of imported modules shared between all container inits
    own = os.getpid()
    for sockets in _open_sockets(command):
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            command.close()
            _run_container_init(sockets[0], sockets[1:], own)
        for each in sockets:
            each.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))

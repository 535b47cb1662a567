"""An instance: a real process tree behind a real SSH server. This module is the side of the market."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.container import disk
from pytest_vastgpu.local.container import tools
from pytest_vastgpu.local.container.fork_server import running_fork_server
from pytest_vastgpu.local.container.isolation import Isolation
from pytest_vastgpu.local.container.network.egress import Egress
from pytest_vastgpu.local.container.network.egress import egress_variables
from pytest_vastgpu.local.container.network.ports import ADDRESS
from pytest_vastgpu.local.container.network.ports import BACKLOG
from pytest_vastgpu.local.container.network.ports import FIRST_IDENTITY_PORT
from pytest_vastgpu.local.container.network.ports import Port
from pytest_vastgpu.local.container.network.ports import Published
from pytest_vastgpu.local.container.network.ports import publish
from pytest_vastgpu.local.container.network.relay import Streams
from pytest_vastgpu.local.container.spec import ContainerFaults
from pytest_vastgpu.local.container.spec import ContainerSpec
from pytest_vastgpu.local.container.spec import InitConfig

__all__ = ["Container", "ContainerFaults", "ContainerSpec"]

LOG_BYTES = 1 << 20
"""The size of the end of a container's log that is shown."""
SSH_PORT = 22
ATTEMPTS = 100
STOP_S = 10.0
"""A container init that has not ended this long after it was told to is killed."""
START_S = 60.0
"""The longest wait for a container init, which usually takes some hundredths of a second to start."""
INIT = 'if [ $# -gt 0 ]; then "$@" & fi; while :; do sleep 86400; done'
"""The first process of an instance with SSH: runs the start script in the background, and collects orphans."""


class Container:
    """An instance that runs or has run."""

    def __init__(self, spec: ContainerSpec, isolation: Isolation, control: Streams) -> None:
        self.spec = spec
        self.isolation = isolation
        """How it is isolated from others and, if it is not, why."""
        self.ssh_host = ADDRESS
        self.ssh_port = 0
        """The port of the proxy; 0 without SSH."""
        self.direct_ports: Mapping[str, int] = {}
        """The published ports: Docker's name, such as ``22/tcp``, and the port on 127.0.0.1."""
        self._exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._egress: Egress | None = None
        self._reader, self._writer = control
        self._black_hole = contextlib.ExitStack()
        """The open sockets of the fault ``ssh_black_hole``, which no process serves."""

    @classmethod
    async def start(cls, spec: ContainerSpec) -> Container:
        """Start an instance on its disk, which is made at the first start.

        :raises LocalMarketError: if it cannot be started, with the system's message.
        """
        parent = await running_fork_server()
        isolation = parent.isolation()
        if not isolation.isolated and (spec.faults.disk_full or spec.hides):
            what = "the fault disk_full" if spec.faults.disk_full else "hides"
            raise LocalMarketError(f"{what} needs isolated instances: {isolation.reason}")
        with contextlib.ExitStack() as handed_over:
            ours, theirs = socket.socketpair()
            handed_over.enter_context(theirs)
            container = cls(spec, isolation, await asyncio.open_connection(sock=ours))
            try:
                container._claim_ports()
                disk.prepare(spec)
                config, sockets = container._arrange(handed_over)
                parent.fork([theirs, *sockets])
                handed_over.close()
                await container._send_config(config)
            except BaseException as error:
                container._release()
                if isinstance(error, OSError):
                    raise LocalMarketError(f"instance {spec.instance_id} cannot start: {error}") from error
                raise
        return container

    def _claim_ports(self) -> None:
        """Reserve the container ports if instances are not isolated: they then share this machine's ports.

        :raises LocalMarketError: if another instance has one of them.
        """
        if self.isolation.isolated:
            return
        for number, protocol in self.spec.ports:
            if number >= FIRST_IDENTITY_PORT:
                continue
            holder = _holders.setdefault((number, protocol), self)
            if holder is not self:
                raise LocalMarketError(
                    f"port {number}/{protocol} is already allocated to instance {holder.spec.instance_id}: "
                    f"{self.isolation.reason}"
                )

    def _arrange(self, handed_over: contextlib.ExitStack) -> tuple[InitConfig, list[socket.socket]]:
        """Open the instance's ports. Returns the configuration of its container init, and the sockets for it."""
        spec = self.spec
        proxies = self._proxies(handed_over) if spec.ssh else []
        direct = [self._ssh_listener(handed_over)] if spec.ssh and spec.direct else []
        published = [
            *(Published(SSH_PORT, "tcp", each.getsockname()[1]) for each in direct),
            *(
                publish(port, protocol, handed_over, isolated=self.isolation.isolated)
                for port, protocol in spec.ports
                if not (spec.ssh and (port, protocol) == (SSH_PORT, "tcp"))
            ),
        ]
        self.direct_ports = {each.name: each.outside for each in published}
        forwarded = [(each.inside, each.listener) for each in published if each.listener is not None]
        self.ssh_port = proxies[0].getsockname()[1] if proxies else 0
        served = [] if spec.faults.ssh_black_hole else [*proxies, *direct]
        if spec.faults.proxy_broken:
            served = direct  # the proxies are not passed on, and so they are closed
            disk.note(spec.directory, f"Error: remote port forwarding failed for listen port {self.ssh_port}")
        outward: list[socket.socket] = []
        if spec.network and self.isolation.isolated:
            self._egress = Egress(os.environ)
            outward.append(handed_over.enter_context(self._egress.inner))
        own = {"HOME": str(spec.directory / "home"), "PATH": tools.image_path(spec), "USER": _user()}
        port_variables = {each.variable: str(each.outside) for each in published}
        config = InitConfig(
            instance_id=spec.instance_id,
            directory=str(spec.directory),
            environment={**own, **spec.environment, **port_variables},
            init=_init(spec),
            path=tools.session_path(spec),
            user=_user(),
            how=self.isolation.how,
            ssh_listeners=len(served),
            published=[port for port, _ in forwarded],
            egress=bool(outward),
            egress_variables=egress_variables(os.environ, isolated=self.isolation.isolated) if spec.network else {},
            market_port=urlsplit(spec.market_url).port or 80,
            market_socket=str(spec.market_socket),
            hides=list(spec.hides),
            keeps=[sys.base_prefix],
            host_name=spec.host_name,
            faults=spec.faults,
        )
        return config, [*served, *(each for _, each in forwarded), *outward]

    def _proxies(self, handed_over: contextlib.ExitStack) -> list[socket.socket]:
        """Open the port of the proxy; with Jupyter also the next one, where the official client then expects SSH."""
        for _ in range(ATTEMPTS):
            first = self._ssh_listener(handed_over)
            if not self.spec.jupyter:
                return [first]
            try:
                return [first, self._ssh_listener(handed_over, first.getsockname()[1] + 1)]
            except (OSError, OverflowError):  # another program has it
                continue
        raise LocalMarketError("no two neighbouring ports are free")

    def _ssh_listener(self, handed_over: contextlib.ExitStack, port: int = 0) -> socket.socket:
        """Bind a port on this machine's loopback, where clients connect; the container init serves it."""
        faults = self.spec.faults
        listener = socket.socket()
        (self._black_hole if faults.ssh_black_hole else handed_over).enter_context(listener)
        listener.bind((ADDRESS, port))
        if faults.ssh_black_hole:
            # Linux drops connection requests to a listener whose queue is full, so the client gets no answer at all.
            listener.listen(0)
            for _ in range(2):
                filler = self._black_hole.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
        elif not faults.ssh_refused_s:  # a bound socket that does not listen refuses connections
            listener.listen(BACKLOG)
        return listener

    async def _send_config(self, config: InitConfig) -> None:
        self._writer.write(config.line())
        try:
            first = await asyncio.wait_for(self._reader.readline(), START_S)
        except TimeoutError:
            first = b""
        message: dict[str, Any] = json.loads(first) if first else {"failed": "it said nothing"}
        if "ready" not in message:
            raise LocalMarketError(
                f"instance {self.spec.instance_id} cannot start: {message['failed']}; see {config.directory}/init.log"
            )
        self._init_pid = int(message["ready"])
        self._listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        with contextlib.suppress(ConnectionError):  # it ended just before it was told to stop
            while line := await self._reader.readline():
                message = json.loads(line)
                if "exited" in message:
                    self._exit_code.set_result(message["exited"])
        # The socket closes when the container init ends, which it does once it has collected all other processes.
        self._release()
        if not self._exit_code.done():
            self._exit_code.set_result(-signal.SIGKILL)
        self._ended.set()

    def _release(self) -> None:
        for port in [port for port, holder in _holders.items() if holder is self]:
            del _holders[port]
        self._black_hole.close()
        self._writer.close()
        if self._egress is not None:
            self._egress.close()

    def add_key(self, line: str) -> None:
        """Allow a public key, from the next login on."""
        disk.write_keys(self.spec.directory, [*disk.read_keys(self.spec.directory), line.strip()])

    def remove_key(self, line: str) -> None:
        """Remove a public key; its open connections stay."""
        kept = [key for key in disk.read_keys(self.spec.directory) if key != line.strip()]
        disk.write_keys(self.spec.directory, kept)

    async def wait(self) -> int:
        """Wait for the end of its first process; return its exit code, negative for a signal (-9 also after a stop)."""
        return await asyncio.shield(self._exit_code)

    async def stop(self) -> None:
        """End all its processes; the disk stays. Does nothing if none is left."""
        if self._ended.is_set():
            return
        self._writer.write(b"!")
        try:
            await asyncio.wait_for(self._ended.wait(), STOP_S)
        except TimeoutError:
            # Its end of the control socket is open, so it is alive and still has this process id.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init_pid, signal.SIGKILL)
            await self._ended.wait()

    async def destroy(self) -> None:
        """End all its processes and remove its disk. Does nothing if neither is left."""
        await self.stop()
        if self.spec.directory.exists():
            await asyncio.to_thread(shutil.rmtree, self.spec.directory)

    def log(self) -> str:
        """Return the end of the output of its first process and the start script."""
        try:
            with disk.log_file(self.spec.directory).open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(0, size - LOG_BYTES))
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def disk_usage_gb(self) -> float:
        """Return the size of the files on its disk, in GB of 10⁹ bytes."""
        return disk.usage_gb(self.spec.directory)


_holders: dict[Port, Container] = {}
"""The instance that has each container port, on a system without isolation."""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some CI containers
        return str(os.getuid())


def _init(spec: ContainerSpec) -> list[str]:
    if not spec.ssh:
        return ["/bin/sh", "-c", spec.command]
    script = str(disk.start_script(spec))
    if not spec.onstart or spec.faults.onstart_never_runs:
        start = []
    elif spec.onstart.startswith("#!"):
        start = [script]
    else:
        start = [shutil.which("bash") or "/bin/sh", script]
    if spec.faults.login_hijacked_s and start:
        start = ["/bin/sh", "-c", 'sleep "$0"; exec "$@"', str(spec.faults.login_hijacked_s), *start]
    return ["/bin/sh", "-c", INIT, "init", *start]

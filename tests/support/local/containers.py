"""Real containers for tests, with blocking calls."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import threading
from collections.abc import Coroutine
from collections.abc import Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from types import TracebackType
from typing import Any
from typing import TypeVar

import paramiko

from pytest_vastgpu.local.container.container import Container
from pytest_vastgpu.local.container.container import ContainerSpec

T = TypeVar("T")
LIMIT_S = 60.0

SERVE = "exec python3 -m http.server 8000 --bind 127.0.0.1"


class ContainerRunner:
    """Runs the containers of a test in an event loop in a thread; destroys them at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "key"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self.key)]
        subprocess.run(command, check=True)
        self.public_key = self.key.with_suffix(".pub").read_text().strip()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._containers: dict[Path, Container] = {}
        """The newest container on each disk."""

    def __enter__(self) -> ContainerRunner:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.run(self._destroy_all())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _destroy_all(self) -> None:
        await asyncio.gather(*(each.destroy() for each in self._containers.values()))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(LIMIT_S)
        except FutureTimeoutError:
            future.cancel()
            raise

    def spec(self, instance_id: int = 1, **changes: Any) -> ContainerSpec:
        values: dict[str, Any] = {
            "instance_id": instance_id,
            "directory": self.folder / str(instance_id),
            "environment": {"CONTAINER_ID": str(instance_id), "CONTAINER_API_KEY": "restricted"},
            "authorized_keys": (self.public_key,),
            "onstart": "",
            "command": "",
            "ssh": True,
            "direct": False,
            "jupyter": False,
            "ports": (),
            "market_url": "http://127.0.0.1:39999",
            "market_socket": self.folder / "market.sock",
            "gpus": (),
            "network": False,
        }
        return ContainerSpec(**{**values, **changes})

    def start(self, *specs: ContainerSpec) -> list[Container]:
        async def all_of_them() -> list[Container]:
            return await asyncio.gather(*(Container.start(spec) for spec in specs))

        started = self.run(all_of_them())
        self._containers.update({each.spec.directory: each for each in started})
        return started

    def start_one(self, instance_id: int = 1, **changes: Any) -> Container:
        return self.start(self.spec(instance_id, **changes))[0]

    def options(self, container: Container, *, port_flag: str = "-p") -> list[str]:
        return [
            *("-F", "none", "-i", str(self.key), port_flag, str(container.ssh_port)),
            *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}"),
            *("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
        ]

    def ssh(
        self, container: Container, *command: str, stdin: bytes = b"", flags: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command with OpenSSH's own client."""
        line = ["ssh", *flags, *self.options(container), "-o", "LogLevel=ERROR", "root@127.0.0.1", *command]
        return subprocess.run(line, input=stdin, capture_output=True, timeout=LIMIT_S, check=False)

    def connect(self, container: Container, port: int | None = None) -> paramiko.SSHClient:
        """Connect with paramiko, on a socket without Nagle's delay."""
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # noqa: S507 - a fresh key on our own loopback
        raw = socket.create_connection((container.ssh_host, port or container.ssh_port), LIMIT_S)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            client.connect(
                container.ssh_host,
                username="root",
                key_filename=str(self.key),
                sock=raw,
                allow_agent=False,
                look_for_keys=False,
            )
        except BaseException:
            client.close()
            raw.close()
            raise
        return client


def execute(client: paramiko.SSHClient, command: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run a command and close its input after ``stdin``; return its exit status, output and error output."""
    to_command, output, errors = client.exec_command(command, timeout=LIMIT_S)
    to_command.write(stdin)
    to_command.channel.shutdown_write()
    return output.channel.recv_exit_status(), output.read(), errors.read()


def get(port: int) -> bytes:
    """Ask an HTTP server that may be starting, again and again within a bound, and return its answer."""
    for _ in range(600):
        try:
            with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
                connection.sendall(b"GET /who HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except (ConnectionResetError, ConnectionRefusedError):
            answer = b""
        if answer:
            return answer
        threading.Event().wait(0.02)
    raise AssertionError(f"nothing serves port {port}")


def wait_gone(pids: Sequence[int]) -> None:
    """Wait until all these processes have ended; the kernel reports it by their pidfds."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ready, _, _ = select.select([descriptor], [], [], LIMIT_S)
            assert ready, f"process {pid} is still there"
        finally:
            os.close(descriptor)

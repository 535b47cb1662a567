"""The socket on which a supervisor will listen. A run with workers that rents nothing loads only this small module."""

from __future__ import annotations

import os
import socket
import sys
from typing import NamedTuple

from pytest_vastgpu.core import messages
from pytest_vastgpu.core.fork_safety import keep_private_socket


class RpcAddress(NamedTuple):
    """The socket's path, and the secret with which a client must begin."""

    path: str
    """Begins with NUL in Linux' abstract namespace, which has no files."""
    secret: str

    def __repr__(self) -> str:
        return f"<Address {self.path!r}>"


class Listener:
    """A socket that is bound before the supervisor runs: a process that connects waits until the supervisor answers.

    In Linux' abstract namespace nothing is left behind, however the processes end. Elsewhere the socket lies in a
    directory of this package that no other user can enter.
    """

    def __init__(self, *, abstract: bool = sys.platform == "linux") -> None:
        self._folder = ""
        path = f"\0vastgpu-{os.urandom(16).hex()}"
        if not abstract:
            from pytest_vastgpu.core.directories import socket_directory

            self._folder = str(socket_directory())
            path = f"{self._folder}/line"
        self.address = RpcAddress(path, os.urandom(16).hex())
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(None)  # despite socket.setdefaulttimeout(): the supervisor inherits the socket
        self.socket.bind(path)
        self.socket.listen(128)
        keep_private_socket(self.socket)

    @property
    def wanted(self) -> bool:
        """Whether a process has connected."""
        return messages.readable(self.socket, 0)

    def close(self) -> None:
        """Close this process's copy; the supervisor keeps the socket."""
        self.socket.close()

    def remove(self) -> None:
        """Remove the socket's file and directory."""
        self.close()
        if self._folder:
            import shutil

            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

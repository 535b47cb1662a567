"""A file of host keys, in the format of ``~/.ssh/known_hosts``: what instances have shown at their first login.

A run writes one in its directory, so that ``vastgpu ssh`` gets to the same machine as the run did.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable
from pathlib import Path

import paramiko
from paramiko.pkey import UnknownKeyType

from pytest_vastgpu.ssh.address import SshAddress

FILE = "known_hosts"


def note(path: Path, addresses: Iterable[SshAddress], key: paramiko.PKey) -> None:
    """Add a line for each address of an instance.

    :raises OSError: if the file cannot be written.
    """
    lines = "".join(f"{_host(address)} {key.get_name()} {key.get_base64()}\n" for address in addresses)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(lines)


def noted(path: Path, addresses: Iterable[SshAddress]) -> paramiko.PKey | None:
    """The host key that was noted last for any of these addresses; None where none was, or it cannot be read."""
    hosts = {_host(address) for address in addresses}
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        host, _, key = line.partition(" ")
        kind, _, blob = key.partition(" ")
        if host in hosts:
            try:
                return paramiko.PKey.from_type_string(kind, base64.b64decode(blob))
            except (binascii.Error, ValueError, paramiko.SSHException, UnknownKeyType):
                return None
    return None


def _host(address: SshAddress) -> str:
    """An address as ssh looks it up: with the port, unless it is 22."""
    return address.host if address.port == 22 else f"[{address.host}]:{address.port}"

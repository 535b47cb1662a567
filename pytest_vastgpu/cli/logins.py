"""How this user gets into an instance over SSH: its addresses, the key, and the host key that it has shown before."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pytest_vastgpu.cli.instances import Ours
from pytest_vastgpu.core.directories import state_directory
from pytest_vastgpu.core.environment import SSH_KEY_PATH
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.ssh import known_hosts
from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.keys import DEFAULT_KEY
from pytest_vastgpu.ssh.keys import KeyPair
from pytest_vastgpu.ssh.keys import load_key
from pytest_vastgpu.supervisor.rental.keep import KEY_FILE


class NoLogin(VastGpuError):
    """Nobody can log in from here; the message says why."""


@dataclass(frozen=True)
class Login:
    """What a login needs."""

    addresses: tuple[SshAddress, ...]
    """At least one, the best first."""
    key: KeyPair
    key_path: Path
    hosts: Path
    """File of known host keys: the run's, where it is one of this machine."""
    alias: str = ""
    """The instance's name in that file; empty where it is there by its addresses."""

    def command(self, address: SshAddress, words: list[str], *, terminal: bool) -> list[str]:
        """The command line of the program ``ssh``.

        :param words: A command to run there; none: a shell.
        :param terminal: Whether a command gets a terminal, too; a shell always does.
        """
        options = {
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": f'"{self.hosts}"',
            "GlobalKnownHostsFile": "/dev/null",
            "HashKnownHosts": "no",  # it is read by this package, too
            "StrictHostKeyChecking": "accept-new",  # refuses another key than the one that is known
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "LogLevel": "ERROR",
            **({"HostKeyAlias": self.alias} if self.alias else {}),
        }
        given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        tty = ["-t"] if terminal else []
        return [
            *("ssh", "-i", str(self.key_path), "-p", str(address.port)),
            *(*given, *tty, f"root@{address.host}", *(["--", *words] if words else [])),
        ]


def login(ours: Ours) -> Login:
    """How to log in to an instance.

    :raises NoLogin: if it has no address yet, or no key of this user opens it.
    :raises pytest_vastgpu.errors.SshKeyError: if the user's key cannot be used.
    """
    if not ours.status.ssh:
        raise NoLogin(f"instance {ours.id} has no SSH address yet (it is {ours.status.state or 'being made'})")
    made = ours.run.directory / KEY_FILE if ours.run else None
    if made is not None and made.exists():
        key = load_key({SSH_KEY_PATH: str(made)}, Path.home())
    else:
        key = load_key(os.environ, Path.home(), Path.cwd())
    if key.path is None:
        raise NoLogin(
            f"there is no key to instance {ours.id}: run {ours.label.run_id} "
            + ("has made one for itself" if ours.run else "is not of this machine")
            + f"; point {SSH_KEY_PATH} at a key that was there when the run started (default: ~/{DEFAULT_KEY})"
        )
    if ours.run:
        return Login(ours.status.ssh, key, key.path, ours.run.directory / known_hosts.FILE)
    return Login(ours.status.ssh, key, key.path, state_directory() / known_hosts.FILE, ours.status.label)

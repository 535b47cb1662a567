"""Checks of SSH: the key, the program, and whether connections leave this network."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterable
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.doctor.finding import ok
from pytest_vastgpu.cli.doctor.finding import problem
from pytest_vastgpu.cli.doctor.finding import warning
from pytest_vastgpu.cli.doctor.situation import Situation
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import SshKeyError

if TYPE_CHECKING:
    from pytest_vastgpu.providers.base import InstanceStatus
    from pytest_vastgpu.ssh.address import SshAddress

_NEW_KEY = "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/vast && export VAST_SSH_KEY_PATH=~/.ssh/vast"
_MOST_TRIED = 3
"""Addresses that are tried; one that answers is enough."""


def check_key(now: Situation) -> Sequence[Finding]:
    """Whether the SSH key of a run can be used."""
    from pytest_vastgpu.ssh.keys import load_key

    try:
        pair = load_key(now.environ, now.home, now.directory)
    except SshKeyError as error:
        return [problem("ssh key", str(error), "for example", _NEW_KEY)]
    if pair.path is None:
        return [ok("ssh key", "each run makes its own, since you have named none (VAST_SSH_KEY_PATH)")]
    known = _known_to_account(now, pair.public_line)
    text = f"{pair.path} ({pair.pkey.get_name()}){known}"
    return [judge_mode(stat.S_IMODE(pair.path.stat().st_mode), text, str(pair.path))]


def _known_to_account(now: Situation, public_line: str) -> str:
    keys = now.market.keys.outcome() if now.market else ()
    if now.market is None or isinstance(keys, Exception):
        return ""
    same = any(key.public_line.split()[:2] == public_line.split()[:2] for key in keys)
    return ", in the account" if same else ", not in the account: runs put it on each instance"


def judge_mode(mode: int, text: str, path: str) -> Finding:
    """Judge the permissions of a usable key. Pure."""
    if mode & 0o077:
        text = f"{text}, but others may read it (mode {mode:04o}): ssh refuses such a key"
        return warning("ssh key", text, "close it", f"chmod 600 {path}")
    return ok("ssh key", text)


def check_program(now: Situation) -> Sequence[Finding]:
    """Whether there is an SSH program. Runs have their own; people use it to look inside an instance."""
    return [judge_program(shutil.which("ssh", path=now.environ.get("PATH")))]


def judge_program(found: str | None) -> Finding:
    """Judge whether there is an SSH program. Pure."""
    if found:
        return ok("ssh program", found)
    text = "there is no ssh here; runs need none, but a look inside a kept instance does"
    return warning("ssh program", text, "install OpenSSH's client", "sudo apt-get install openssh-client")


def check_way_out(now: Situation) -> Sequence[Finding]:
    """Whether SSH leaves this network: it goes to any port of any host."""
    if now.market is None or isinstance(now.market.account.outcome(), ConfigurationError):
        return []
    from pytest_vastgpu.providers.open import ssh_proxy
    from pytest_vastgpu.ssh.connector import answers

    listed = now.market.instances.outcome()
    usual = ssh_proxy(now.url)
    addresses = to_try([] if isinstance(listed, Exception) else listed, usual)
    silent: list[SshAddress] = []
    for address in addresses:
        if answers(address.host, address.port, now.limits.answer_s / len(addresses)):
            return [judge_way_out(address, silent, certain=False)]
        silent.append(address)
    return [judge_way_out(None, silent, certain=isinstance(now.market.greeting.outcome(), Exception))]


def to_try(listed: Iterable[InstanceStatus], usual: SshAddress | None) -> list[SshAddress]:
    """The addresses to try: those of living instances, the market's proxy first, then the usual one. Pure."""
    living = [address for status in listed for address in status.ssh]
    living.sort(key=lambda address: address.kind != "proxy")
    return [*living[: _MOST_TRIED - 1], *([usual] if usual else living[_MOST_TRIED - 1 : _MOST_TRIED])]


def judge_way_out(answered: SshAddress | None, silent: Sequence[SshAddress], *, certain: bool) -> Finding:
    """Judge whether SSH leaves this network. Pure.

    :param certain: Whether nothing else leaves it either.
    """
    if answered:
        return ok("ssh way out", f"{answered.host} answers at port {answered.port}")
    if not silent:
        return ok("ssh way out", "not tried: this market has no proxy for SSH, and no instance of yours is alive")
    tried = " and ".join(f"{address.host}:{address.port}" for address in silent)
    if certain:
        return warning("ssh way out", f"no answer from {tried}", "see market")
    return warning(
        "ssh way out",
        f"no answer from {tried}: this network may keep SSH in (it goes to high ports, and past HTTP proxies)",
        "let connections to all TCP ports out, or try this from another network",
        f"nc -vz {silent[-1].host} {silent[-1].port}",
    )

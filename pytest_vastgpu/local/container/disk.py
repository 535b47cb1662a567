"""The disk of an instance: its home, tools, log and authorized keys."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vastgpu.local.container import tools

if TYPE_CHECKING:
    from pytest_vastgpu.local.container.spec import ContainerSpec


def prepare(spec: ContainerSpec) -> None:
    """Make the disk, or add what a later start needs."""
    home = spec.directory / "home"
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    spec.directory.chmod(0o700)
    known = read_keys(spec.directory)
    write_keys(spec.directory, [*known, *(key for key in spec.authorized_keys if key not in known)])
    link = home / ".ssh" / "authorized_keys"
    apart = spec.faults.attached_keys_ignored or spec.faults.written_keys_ignored
    if not (apart or link.is_symlink() or link.exists()):
        link.symlink_to("../../authorized_keys")
    profile = home / ".profile"
    if not profile.exists():
        profile.write_text(f'PATH="{tools.login_path(spec)}"\n')
    if spec.ssh and spec.onstart:
        script = start_script(spec)
        script.write_text(spec.onstart)
        script.chmod(0o700)
    tools.install(spec)


def start_script(spec: ContainerSpec) -> Path:
    """Return the path of the stored ``onstart``."""
    return spec.directory / "home" / "onstart.sh"


def log_file(disk: Path) -> Path:
    """Return the path of the log of the first process and the start script."""
    return disk / "container.log"


def note(disk: Path, line: str) -> None:
    """Add a line to the log."""
    with log_file(disk).open("a") as log:
        log.write(f"{line}\n")


def read_keys(disk: Path) -> list[str]:
    """Return the lines of the keys that may log in."""
    try:
        return [line.strip() for line in (disk / "authorized_keys").read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        return []


def write_keys(disk: Path, lines: Sequence[str]) -> None:
    """Replace the file of keys in one step, because a login may be reading it."""
    fresh = disk / "authorized_keys.new"
    fresh.write_text("".join(f"{line}\n" for line in dict.fromkeys(lines)))
    fresh.chmod(0o600)
    fresh.replace(disk / "authorized_keys")


def usage_gb(disk: Path) -> float:
    """Return the size of the files on the disk, in GB of 10⁹ bytes."""
    total = 0
    for folder, _, files in os.walk(disk):
        for name in files:
            try:
                total += (Path(folder) / name).lstat().st_blocks * 512
            except FileNotFoundError:  # it was removed after it was listed
                continue
    return total / 1e9

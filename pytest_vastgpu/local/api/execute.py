"""Runs commands of the API on the disk of a stopped instance."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

from pytest_vastgpu.local.market.errors import invalid

_ALLOWED = ("ls", "rm", "du")
_LONGEST = 512
_TIMEOUT_S = 20.0


async def run_command(line: str, disk: Path) -> str:
    """Run a command and return its output.

    :param line: The command line. Its paths are relative to the instance's home and may not leave it.
    :param disk: The instance's disk, with its home directory in ``home``.
    :raises ApiError: if the command is not an allowed one, or a path leaves the disk.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise invalid(f"command: {error}") from error
    if not words or words[0] not in _ALLOWED or len(line) > _LONGEST:
        raise invalid(
            f"Invalid command: it must be one of {', '.join(_ALLOWED)} and at most {_LONGEST} characters long"
        )
    home = (disk / "home").resolve()
    flags = [word for word in words[1:] if word.startswith("-")]
    paths = [_inside(word, home) for word in words[1:] if not word.startswith("-")]
    if not home.is_dir():
        return ""
    process = await asyncio.create_subprocess_exec(
        words[0],
        *flags,
        "--",
        *paths,
        cwd=home,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"{words[0]}: it took longer than {_TIMEOUT_S:g} s\n"
    return output.decode(errors="replace")


def _inside(path: str, home: Path) -> str:
    """Resolve a path in the home directory, for which ``/`` and ``/root`` stand too."""
    below = path.removeprefix("/root").lstrip("/") if path.startswith("/") else path
    target = (home / below).resolve()
    if target != home and home not in target.parents:
        raise invalid(f"command: {path!r} is not on the instance's disk")
    return str(home / below)

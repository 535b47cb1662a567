"""The few commands that the API runs on a stopped instance's disk."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

from pytest_vastgpu.local.api.errors import invalid

_ALLOWED = ("ls", "rm", "du")
_LONGEST = 512
_TIMEOUT_S = 20.0


async def run_command(line: str, disk: Path) -> str:
    """What the command prints. Paths are those of the instance's disk, and lead nowhere else.

    :param disk: The instance's disk; its home directory is ``home`` in it.
    :raises ApiError: if it is none of the allowed ones, or would leave the disk.
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
    """A path below the home directory, which is also what ``/`` and ``/root`` mean."""
    below = path.removeprefix("/root").lstrip("/") if path.startswith("/") else path
    target = (home / below).resolve()
    if target != home and home not in target.parents:
        raise invalid(f"command: {path!r} is not on the instance's disk")
    return str(home / below)

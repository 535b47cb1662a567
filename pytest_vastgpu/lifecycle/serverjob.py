"""Starting a server on an instance, and seeing what became of it. Pure text in, typed values out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vastgpu.readiness.adapter import Launch

HOME = ".vastgpu"
"""Where our files live on an instance, below the home directory, in which every SSH session starts."""
WORK = f"{HOME}/work"
"""The server's working directory."""
LOG_CHUNK_BYTES = 1 << 20
"""Most of the log that is fetched at once."""
KILLED_EXIT_CODE = 137
"""What is reported for a server that ended without leaving an exit code: something killed it and its shell."""

START = f"""\
cd {WORK} || exit 1
rm -f ../exit_code ../pid ../server.log
: > ../server.log
setsid nohup sh ../run.sh > /dev/null 2>&1 < /dev/null &
"""
"""Starts ``run.sh`` so that it outlives the SSH session."""

RUN_SCRIPT = """\
echo $$ > "$HOME/.vastgpu/pid"
. "$HOME/.vastgpu/env.sh"
sh "$HOME/.vastgpu/start.sh" > "$HOME/.vastgpu/server.log" 2>&1
code=$?
echo $code > "$HOME/.vastgpu/exit_code.new" && mv "$HOME/.vastgpu/exit_code.new" "$HOME/.vastgpu/exit_code"
"""
"""Runs the server in the foreground and leaves its exit code."""


def env_script(env: Mapping[str, str]) -> str:
    """Shell text that exports an environment, every value quoted."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())


def make_folders(folders: Iterable[str]) -> str:
    """Makes our folders on the instance, readable by nobody else."""
    return "umask 077; mkdir -p " + " ".join(shlex.quote(folder) for folder in sorted({WORK, *folders}))


def files_of(launch: Launch, api_key: str, host: str, workload_env: Mapping[str, str]) -> dict[str, str]:
    """Our files on the instance, by path below :data:`HOME`.

    :param host: Address on which the server should listen.
    """
    ours = {"VASTGPU_API_KEY": api_key, "VASTGPU_HOST": host}
    return {
        "env.sh": env_script({**launch.env, **workload_env, **ours}),
        "start.sh": launch.script,
        "run.sh": RUN_SCRIPT,
    }


def look_command(offset: int) -> str:
    """Asks for the process state, the log's size, and the log from an offset in bytes."""
    return (
        f"cd {HOME} || exit 1; "
        "if [ -f exit_code ]; then state=$(cat exit_code); "
        'elif [ -f pid ] && ! kill -0 "$(cat pid)" 2>/dev/null && [ ! -f exit_code ]; then state=killed; '
        "else state=alive; fi; "
        'size=$(($(wc -c < server.log))); echo "$state $size"; '
        f"[ $size -le {offset} ] || tail -c +{offset + 1} server.log | head -c {LOG_CHUNK_BYTES}"
    )


@dataclass(frozen=True)
class ServerState:
    """What :func:`look_command` saw."""

    exit_code: int | None
    """None while the server runs."""
    log: str
    """The part of the log that was asked for."""
    next_offset: int
    """Offset in bytes to ask from next."""


_HEADER = re.compile(r"(alive|killed|\d+) (\d+)\n")


def parse_look(output: str, offset: int) -> ServerState | None:
    """What the command's output says; None where it is not the command's output."""
    header = _HEADER.match(output)
    if header is None:
        return None
    state, size = header.group(1), int(header.group(2))
    code = None if state == "alive" else KILLED_EXIT_CODE if state == "killed" else int(state)
    more = size - offset > LOG_CHUNK_BYTES
    next_offset = offset + LOG_CHUNK_BYTES if more else max(size, offset)
    return ServerState(None if more else code, output[header.end() :], next_offset)

"""The files and commands that start a server on an instance. Pure: values in, text out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_vastgpu.core.text.shell import NAME_RULE
from pytest_vastgpu.core.text.shell import exports
from pytest_vastgpu.core.text.shell import wrong_name
from pytest_vastgpu.errors import ConfigurationError

if TYPE_CHECKING:
    from pytest_vastgpu.servers.base import Launch

HOME = ".vastgpu"
"""Directory of our files on an instance, relative to the home directory, where every SSH session starts."""
WORK = f"{HOME}/work"
"""The server's working directory."""
KILLED_EXIT_CODE = 137
"""Exit code reported for a server that ended without leaving one: something killed it and its shell."""

START = f"""\
cd {WORK} || exit 1
rm -f ../exit_code ../pid ../server.log
: > ../server.log
setsid nohup sh ../run.sh > /dev/null 2>&1 < /dev/null &
"""
"""Starts ``run.sh`` so that it outlives the SSH session."""

UNPACK = f"umask 077; tar -xpof - -C {WORK}"
"""Unpacks the archive of the workload's files from its input."""

SETUP = f"""\
cd {WORK} || exit 1
sent=@
if mkdir ../setup.begun 2> /dev/null; then
    : > ../setup.log
    setsid nohup sh -c '. ../env.sh; sh ../setup.sh; echo $? > ../setup.new; mv ../setup.new ../setup.code' \
        > ../setup.log 2>&1 < /dev/null &
elif [ "$sent" = 0 ] && [ "$(cat ../setup.code 2> /dev/null)" = 0 ]; then
    exit 0
fi
while :; do
    code=$(cat ../setup.code 2> /dev/null)
    [ -z "$code" ] || [ -z "$(tail -c 1 ../setup.log)" ] || echo >> ../setup.log
    lines=$(($(wc -l < ../setup.log)))
    [ "$lines" -le "$sent" ] || sed -n "$((sent + 1)),${{lines}}p" ../setup.log
    sent=$lines
    [ -z "$code" ] || exit "$code"
    sleep 0.5 2> /dev/null || sleep 1
done
"""
"""Runs the setup command so that it outlives the SSH session, once on an instance; prints what it prints, and ends as
it ends. ``@`` is the number of lines that were received before the session broke."""

RUN_SCRIPT = """\
echo $$ > "$HOME/.vastgpu/pid"
. "$HOME/.vastgpu/env.sh"
sh "$HOME/.vastgpu/start.sh" > "$HOME/.vastgpu/server.log" 2>&1
code=$?
echo $code > "$HOME/.vastgpu/exit_code.new" && mv "$HOME/.vastgpu/exit_code.new" "$HOME/.vastgpu/exit_code"
"""
"""Runs the server in the foreground and leaves its exit code."""


def env_script(env: Mapping[str, str]) -> str:
    """Shell text that exports an environment, every value quoted.

    :raises ConfigurationError: for a name that is no valid shell variable.
    """
    for name in env:
        if wrong := wrong_name(name):
            raise ConfigurationError(f"{wrong}: {NAME_RULE}")
    return exports(env)


MAKE_FOLDERS = f"umask 077; mkdir -p {WORK}"
"""Makes our folders on the instance, readable only by their owner."""


def setup_command(sent: int) -> str:
    """The command that runs :data:`SETUP`.

    :param sent: How many lines of its output were received before.
    """
    return SETUP.replace("@", str(sent), 1)


def files_of(
    launch: Launch, api_key: str, host: str, workload_env: Mapping[str, str], setup: str = ""
) -> dict[str, str]:
    """The text of our files on the instance, by path below :data:`HOME`.

    :param host: Address on which the server should listen.
    :param setup: The workload's setup command.
    """
    ours = {"VASTGPU_API_KEY": api_key, "VASTGPU_HOST": host}
    return {
        "env.sh": env_script({**launch.env, **workload_env, **ours}),
        "setup.sh": f"{setup}\n",
        "start.sh": launch.script,
        "run.sh": RUN_SCRIPT,
    }

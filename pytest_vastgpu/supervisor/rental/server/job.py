"""The files and commands that start a server on an instance. Pure: values in, text out."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vastgpu.core.text.shell import NAME_RULE
from pytest_vastgpu.core.text.shell import exports
from pytest_vastgpu.core.text.shell import wrong_name
from pytest_vastgpu.errors import ConfigurationError

if TYPE_CHECKING:
    from pytest_vastgpu.servers.base import Launch


@dataclass(frozen=True)
class Launched:
    """How a server was started."""

    start: Launch
    headers: Mapping[str, str]
    """HTTP headers that a client of the endpoint must send."""


HOME = ".vastgpu"
"""Directory of our files on an instance, relative to the home directory, where every SSH session starts."""
WORK = f"{HOME}/work"
"""The server's working directory."""
BESIDE = f"{HOME}/beside"
"""Directory of what a second server has for itself: its log, its process, its environment. All else both share."""
API_KEY = "VASTGPU_API_KEY"
"""The variable in which the server and every probe have the instance's random key."""
HOST = "VASTGPU_HOST"
"""The variable with the address on which the server should listen."""
KILLED_EXIT_CODE = 137
"""Exit code reported for a server that ended without leaving one: something killed it and its shell."""

LISTENING, ENDED, DEAF = "listening", "ended", "deaf"
"""The answers of :func:`look`; what :func:`~pytest_vastgpu.supervisor.rental.server.state.parse` takes for the end of a
server follows after ``ended``."""
_LOOKS = 20
_LOOK_S = 0.1

LEFT = "left"
_STOP_LOOK_S = 0.05
_KILL_LOOKS = 100

# Where it has left its exit code, its id may be another process's by now. The key is read from the input: each process
# that has it in its environment is ended.
_STOP = f"""\
cd {HOME} || exit 1
read -r key
sessions=' '
for each in . beside; do
  [ -e $each/exit_code ] || ! read -r session < $each/pid || sessions="$sessions$session "
done 2>/dev/null
all() {{
  for stat in /proc/[0-9]*/stat; do
    read -r line < "$stat" || continue
    set -- ${{line##*) }}
    case $sessions in *" $4 "*) [ "$1" = Z ] || echo "${{line%% *}}" ;; esac
  done
  printf '{API_KEY}=%s\n' "$key" | grep -slFf - /proc/[0-9]*/environ | tr -cd '0-9\n'
}}
rest() {{ sleep {_STOP_LOOK_S} || {{ sleep 1; n=$((n + {round(1 / _STOP_LOOK_S)})); }}; n=$((n + 1)); }}
n=0
pids=$(all)
[ -z "$pids" ] || kill $pids
while [ -n "$pids" ] && [ "$n" -lt @ ]; do rest; pids=$(all); done
n=0
while [ -n "$pids" ] && [ "$n" -lt {_KILL_LOOKS} ]; do kill -9 $pids; rest; pids=$(all); done
[ -z "$pids" ] || echo {LEFT} $pids
"""

UNPACK = f"umask 077; tar -xzpof - -C {WORK} && : > {HOME}/brought"
"""Unpacks a compressed archive of the workload's files from its input, and notes when that was."""
UNTOUCHED = f"""\
cd {WORK} || exit 1
while IFS= read -r name && IFS= read -r link; do
  if [ -n "$link" ]; then [ -L "$name" ] && [ "$(readlink "$name")" = "$link" ]
  else [ -f "$name" ] && [ ! -L "$name" ] && [ ../brought -nt "$name" ]; fi && echo same || echo other
done
"""
"""Says of each file whether nothing has written to it since files were brought. Its input has two lines for each: the
name, and where it leads if it is a symbolic link."""
REMOVE = f"cd {WORK} && xargs -0 rm -rf --"
"""Removes files and directories whose names come from its input, a NUL after each."""

SETUP = f"""\
cd {WORK} || exit 1
sent=@
key='%'
if [ "$(cat ../setup.key 2> /dev/null)" != "$key" ]; then
    rm -rf ../setup.begun ../setup.code
    echo "$key" > ../setup.key
fi
if mkdir ../setup.begun 2> /dev/null; then
    : > ../setup.log
    setsid nohup sh -c '. ../image_env.sh; . ../env.sh; sh ../setup.sh
        echo $? > ../setup.new; mv ../setup.new ../setup.code' > ../setup.log 2>&1 < /dev/null &
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
it ends. ``@`` is the number of lines that were received before the session broke. ``%`` is a key of all that the setup
command depends on: another key runs it once more."""

_START = f"""\
cd {WORK} || exit 1
if read -r pid < @/pid; then kill -9 "-$pid"; fi 2>/dev/null
rm -rf @/exit_code @/pid @/server.log @/alive @/beside/*
mkfifo @/alive
: > @/server.log
setsid nohup sh @/run.sh > /dev/null 2>&1 < /dev/null &
"""

_RUN = f"""\
[ ! -p "$HOME/@/alive" ] || exec 9<>"$HOME/@/alive"
echo $$ > "$HOME/@/pid"
. "$HOME/{HOME}/image_env.sh"
. "$HOME/@/env.sh"
sh "$HOME/@/start.sh" > "$HOME/@/server.log" 2>&1 9>&-
code=$?
read -r up _ < /proc/uptime
echo "$code ${{up:-}}" > "$HOME/@/exit_code.new" && mv "$HOME/@/exit_code.new" "$HOME/@/exit_code"
"""
"""Runs the server in the foreground and leaves its exit code, and when that was. It holds a pipe open: a reader
learns of the end at once."""


# - The image's environment is that of the container's first process. Sessions over SSH do not have it.
# - Its file has a NUL after each variable, and line feeds within values. A shell cannot hold a NUL, and reads lines.
# - A process cannot be told which variables are its session's own, and no shell may assign to some of its variables.
# - Nothing but the dead man's switch needs the container's key.
# - The local market names the first process where its instances share process ids with this machine.
IMAGE_ENV_SCRIPT = r"""
VASTGPU_LF=$(printf '\001')
while IFS= read -r VASTGPU_PAIR; do
  case ${VASTGPU_PAIR%%=*} in
    ''|[0-9]*|*[!A-Za-z0-9_]*|VASTGPU_*|CONTAINER_API_KEY) continue ;;
    HOME|PWD|OLDPWD|SHLVL|_|IFS|UID|EUID|PPID|SHELLOPTS|BASHOPTS|BASH_VERSINFO) continue ;;
  esac
  case $VASTGPU_PAIR in
    *"$VASTGPU_LF"*)
      VASTGPU_PAIR=$(printf '%s.' "$VASTGPU_PAIR" | tr '\001' '\012')
      VASTGPU_PAIR=${VASTGPU_PAIR%.} ;;
  esac
  export "$VASTGPU_PAIR"
done <<VASTGPU_ENVIRONMENT
$({ tr '\012\000' '\001\012' </proc/${VASTGPU_INIT:-1}/environ; } 2>/dev/null)
VASTGPU_ENVIRONMENT
unset VASTGPU_LF VASTGPU_PAIR
""".lstrip()
"""Gives a shell the image's environment, as far as it can be read; POSIX shell, and ``tr``."""

IN_IMAGE_ENV = f"[ ! -r ~/{HOME}/image_env.sh ] || . ~/{HOME}/image_env.sh\n"
"""Goes before a command that needs the image's environment, from the launch of the server on."""


def env_script(env: Mapping[str, str]) -> str:
    """Shell text that exports an environment, every value quoted.

    :raises ConfigurationError: for a name that is no valid shell variable.
    """
    for name in env:
        if wrong := wrong_name(name):
            raise ConfigurationError(f"{wrong}: {NAME_RULE}")
    return exports(env)


def lists(port: int) -> str:
    """The command that succeeds where the system lists that something listens on a port; 0: nothing has to."""
    if not port:
        return "true"
    return f"grep -qs ':{port:04X} [0-9A-F]*:0000 0A ' /proc/net/tcp /proc/net/tcp6"


BEGUN_BESIDE = f"[ -e {BESIDE}/pid ]"
"""Succeeds where a second server was started beside the present first one."""


def start(folder: str = HOME) -> str:
    """The command that starts ``run.sh`` so that it outlives the SSH session.

    What is left of an earlier start is ended. The first server comes before the one beside it, of which nothing is left
    then: :func:`stop` ends both.

    :param folder: :data:`HOME`, or :data:`BESIDE` for a second server.
    """
    return _START.replace("@", posixpath.relpath(folder, WORK))


def look(port: int, settle_s: float = 0.0, folder: str = HOME) -> str:
    """The command that says what has become of the server: :data:`LISTENING`, :data:`ENDED` or :data:`DEAF`.

    A process that lives and does not listen gets two seconds. Only where :func:`lists` has succeeded before, its end
    means that.

    :param settle_s: Seconds that a server that listens gets, too: it may be about to end.
    :param folder: As for :func:`start`.
    """
    return f"""\
cd {folder} || exit 1
listens() {{ {lists(port)}; }}
n=0
while :; do
  if read -r ended < exit_code; then read -r now _ < /proc/uptime; echo "{ENDED} $ended ${{now:-}}"; exit; fi
  if read -r pid < pid && ! kill -0 "$pid" && [ ! -e exit_code ]; then echo "{ENDED} killed"; exit; fi
  if [ "$n" -ge {round(settle_s / _LOOK_S)} ] && listens; then echo {LISTENING}; exit; fi
  if [ "$n" -ge {_LOOKS} ]; then echo {DEAF}; exit; fi
  sleep {_LOOK_S} || {{ sleep 1; n=$((n + 9)); }}
  n=$((n + 1))
done 2>/dev/null
"""


MAKE_FOLDERS = f"umask 077; mkdir -p {WORK} {BESIDE}"
"""Makes our folders on the instance, readable only by their owner."""


def setup_command(sent: int, key: str = "") -> str:
    """The command that runs :data:`SETUP`.

    :param sent: How many lines of its output were received before.
    :param key: Letters and digits that differ where it must run once more.
    """
    return SETUP.replace("@", str(sent), 1).replace("%", key, 1)


def stop(within_s: float) -> str:
    """The command that ends the server, and the one beside it: all processes of their sessions, and all that have the
    instance's key, wherever they are.

    It prints :data:`LEFT` and the ids of those that live on even after SIGKILL. Its input is the instance's key.

    :param within_s: Seconds from SIGTERM to SIGKILL.
    """
    return _STOP.replace("@", str(round(within_s / _STOP_LOOK_S)), 1)


def files_of(
    launch: Launch, api_key: str, host: str, workload_env: Mapping[str, str], setup: str = "", folder: str = HOME
) -> dict[str, str]:
    """The text of our files on the instance, by path below the folder.

    :param host: Address on which the server should listen.
    :param setup: The workload's setup command.
    :param folder: As for :func:`start`. What a second server shares with the first one is there already.
    """
    ours = {API_KEY: api_key, HOST: host}
    own = {
        "env.sh": env_script({**launch.env, **workload_env, **ours}),
        "start.sh": launch.script,
        "run.sh": _RUN.replace("@", folder),
    }
    return own if folder == BESIDE else {**own, "image_env.sh": IMAGE_ENV_SCRIPT, "setup.sh": f"{setup}\n"}

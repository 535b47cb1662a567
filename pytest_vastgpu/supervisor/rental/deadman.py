"""The dead man's switch: a process on the instance that destroys the instance when the supervisor is gone. Pure.

The instance's start script starts this process before anything else. The process destroys the instance with the
container's own API key, which permits nothing else, at the earlier of two times: the *lease*, which the supervisor
extends repeatedly over SSH, and the *end*, which the supervisor extends only to keep the instance on purpose
(``--vast-keep``). Both are files of one line, in epoch seconds on the instance's own clock. The supervisor sends
durations only, so its own clock does not matter. The files are on disk: a restart of the container starts the process
again, but extends neither time.

The process needs a POSIX shell, and curl, python3 or GNU wget. The key is never an argument of a process; only wget
needs it in a file, which is removed before wget is called.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass

from pytest_vastgpu.providers.base import SelfDestruct
from pytest_vastgpu.supervisor.rental.server.job import HOME

NAME = "vastgpu-switch"
"""The process's name in the instance's process list."""
LONGEST_TICK_S = 5
"""Longest pause between two checks of the clock."""

_LINE = 'line() { V= X=; until read -r V X <"$1" || return; read -r Y Z <"$1"; [ "$V $X" = "$Y $Z" ]; do :; done; }'
"""Shell: reads a file's first word into V and the rest of its line into X.

Shells read byte by byte, and the other side may write meanwhile: the line could be half the old and half the new one,
and a lease then look long over. So it counts once it is read twice alike."""

_ARM = f"""\
S=
command -v setsid >/dev/null 2>&1 && S=setsid
export VASTGPU_SWITCH
$S sh -c 'eval "$VASTGPU_SWITCH"' {NAME} </dev/null >/dev/null 2>&1 &
unset VASTGPU_SWITCH
"""
"""Starts the process in a session of its own. The script is passed in the environment: it needs no space on the disk,
which may be full, and does not fill the process lists, which are kept as evidence."""

# - The market gives the container's key to the container's first process. What the start script does not inherit, it
#   reads from that process's environment.
# - A start script may be run twice; of two such processes, the newer one stays.
# - The script uses the first program that gets an answer: a curl without certificates gets none.
# - An image may set HOME to another directory than the one in which root's SSH sessions start. The supervisor then
#   writes its files in the latter.
# - A heartbeat may write and read the same files at any time: they are written in place and never emptied first. A read
#   takes the first line only, so what is left of a longer one does not matter.
# - After a failed destroy the script waits for longer than the minimum interval that Vast publishes for it (3 s).
_SWITCH = r"""
unset VASTGPU_SWITCH
trap "" HUP
umask 077
mkdir -p "$D"
of() { tr "\0" "\n" </proc/1/environ | sed -n "s/^$1=//p"; }
K=${@KEY:-$(of @KEY)}
I=${@ID:-$(of @ID)}
P="import os,sys,urllib.request as r
h=dict(Authorization=\"Bearer \"+os.environ[\"K\"])
h[\"User-Agent\"]=\"pytest-vastgpu\"
try:s=r.urlopen(r.Request(sys.argv[2],method=sys.argv[1],headers=h),timeout=20).status
except r.HTTPError as e:s=e.code
print(s)"
get() { line "$D/$1" && case $V in ""|*[!0-9]*) false; esac; }
say() { echo "$$ $1" 1<>"$D/switch"; }
ask() {
case $T in
curl) printf "header = \"Authorization: Bearer %s\"\n" "$K" |
 curl -sK - -m 20 -o /dev/null -w "%{http_code}" -X $1 "$A$I/";;
python3) K=$K python3 -c "$P" $1 "$A$I/";;
wget) printf "header = Authorization: Bearer %s\n" "$K" >"$D/wget"
 { rm "$D/wget"
 wget -SO /dev/null -T 20 -t 1 --config=/dev/fd/3 --method=$1 "$A$I/" 2>&1 |
 sed -n "s/^ *HTTP\/[^ ]* \([0-9]*\).*/\1/p" | tail -n 1; } 3<"$D/wget";;
esac
}
try() {
C=none
for T in curl python3 wget; do
 command -v $T >/dev/null || continue
 C=$T
 S=$(ask GET)
 case $S in [1-4]??) break;; *) S=0; esac
done
say "$C $S"
}
N=$(date +%s)
L=$((N+FIRST))
E=$((N+LIFE))
S=0
get lease || echo $L 1<>"$D/lease"
get end || echo $E 1<>"$D/end"
[ -n "$K" ] && [ -n "$I" ] || { say "no-key 0"; exit; }
say "starting 0"
while :; do
 [ $S != 0 ] || try
 [ $C != none ] || exit
 [ "$D" = "$R" ] || [ ! -f "$R/lease" ] || { D=$R; say "$C $S"; }
 get lease && L=$V
 get end && E=$V
 N=$(date +%s)
 if [ $S != 0 ] && { [ $N -ge $L ] || [ $N -ge $E ]; }; then
  ask DELETE
  sleep 4
 fi
 sleep $TICK
 get switch && [ $V != $$ ] && exit
done
"""


# A key that is attached through the API is not honoured by every image, nor is one that is only written here.
_AUTHORIZE = r"""
grep -qsF "$VASTGPU_KEY" ~/.ssh/authorized_keys || printf "\n%s\n" "$VASTGPU_KEY" >>~/.ssh/authorized_keys
unset VASTGPU_KEY
"""


def onstart(
    end: SelfDestruct, *, lease_s: float, boot_timeout_s: float, lifetime_s: float, public_key: str = ""
) -> str:
    """The script that the container runs at each start; it arms the dead man's switch before anything else.

    Then it prepares the image for SSH, and lets a key log in.

    :param end: How the provider lets a container destroy its own instance.
    :param lease_s: How long the instance lives after the last heartbeat.
    :param boot_timeout_s: How long it may take until the first heartbeat.
    :param lifetime_s: Its hard end of life, counted from the container's first start. The supervisor counts from
        create, and so sets an earlier end as soon as it connects by SSH.
    :param public_key: One line as in ``authorized_keys``; empty: none.
    """
    values = (
        f"A={shlex.quote(end.url)}",
        f"D=${{HOME:-/root}}/{HOME}",
        f"R=/root/{HOME}",
        f"FIRST={math.ceil(boot_timeout_s + lease_s)}",
        f"LIFE={math.ceil(lifetime_s)}",
        f"TICK={max(1, min(LONGEST_TICK_S, int(lease_s / 10)))}",
    )
    switch = f"\n{_LINE}{_SWITCH}".replace("@KEY", end.key_variable).replace("@ID", end.id_variable)
    script = "\n".join(values) + switch
    authorize = f"VASTGPU_KEY={shlex.quote(public_key)}{_AUTHORIZE}" if public_key else ""
    return f"VASTGPU_SWITCH={shlex.quote(script)}\n{_ARM}{end.prepare}{authorize}"


def heartbeat_command(lease_s: float, end_s: float | None = None) -> str:
    """The command that extends the lease and prints the state that :func:`parse_heartbeat_reply` reads.

    It writes files in place without emptying them first: the dead man's switch may be reading them, and the disk may be
    full. It goes to the home directory first, because a login shell's start file may have left it.

    :param lease_s: Seconds from now for which the instance may live without another heartbeat.
    :param end_s: Seconds from now to its hard end of life; None leaves that as it is.
    """
    other = f"'[{NAME[0]}]{NAME[1:]}'"  # this command's own shell has what it looks for in its arguments
    end = "" if end_s is None else f"echo $((n+{math.ceil(end_s)})) 1<>end; "
    return (
        f"cd; umask 077; mkdir -p {HOME} && cd {HOME} || exit 1; n=$(date +%s); "
        f"echo $((n+{math.ceil(lease_s)})) 1<>lease; {end}"
        f"{_LINE}; line lease; l=$V; line end; e=$V; line switch; a=gone; "
        f'[ -n "$V" ] && kill -0 "$V" && {{ [ ! -e /proc/self ] || grep -q {other} /proc/$V/cmdline; }} && a=alive; '
        "[ $a = alive ] || line switch; "  # it may have said why, and ended, since it was read
        'echo "$n $l $e $a $X"'
    )


@dataclass(frozen=True)
class DeadmanState:
    """State of an instance's dead man's switch."""

    armed: bool
    settled: bool
    """Whether a short wait cannot change :attr:`armed`."""
    text: str
    """For people: the program that it uses, or why it is not armed."""


@dataclass(frozen=True)
class HeartbeatReply:
    """What the instance answered to a heartbeat."""

    lease_s: int
    """Seconds to the end of the lease, as the file has it."""
    end_s: int
    """Seconds to the hard end of life; 0 where none is set yet."""
    switch: DeadmanState


_BEAT = re.compile(r"(\d{1,18}) (\d{1,18}) (\d{0,18}) (alive|gone) ?(?:(\S{1,40}) (\d{1,9}))?\s*")


def parse_heartbeat_reply(output: str) -> HeartbeatReply | None:
    """Parse the output of :func:`heartbeat_command`; None where it is invalid, as when the disk is full."""
    found = _BEAT.fullmatch(output)
    if found is None:
        return None
    now, lease, end = (int(found[number] or 0) for number in (1, 2, 3))
    return HeartbeatReply(
        lease - now, max(0, end - now), _switch(found[4] == "alive", found[5] or "", int(found[6] or 0))
    )


def _switch(alive: bool, program: str, status: int) -> DeadmanState:
    if not program:
        return DeadmanState(False, False, "its start script has not been run")
    if program == "no-key":
        return DeadmanState(False, True, "the container has no key of its own (CONTAINER_API_KEY)")
    if program == "none":
        return DeadmanState(False, True, "the image has neither curl nor python3 nor wget")
    if not alive:
        return DeadmanState(False, True, "its process is gone")
    if program == "starting":
        return DeadmanState(False, False, "the market has not answered from inside yet")
    if not status:
        return DeadmanState(False, False, f"the market does not answer from inside ({program})")
    if status == 403:
        # Vast documents that this key may start, stop and destroy the instance; reading its state is not promised.
        return DeadmanState(
            True, True, f"{program}; the container's key is known, though it may not look at the instance"
        )
    if not (200 <= status < 300 or status == 429):
        return DeadmanState(False, True, f"the market answers HTTP {status} to the container's own key ({program})")
    return DeadmanState(True, True, program)

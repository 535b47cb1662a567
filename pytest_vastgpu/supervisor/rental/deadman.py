"""The dead man's switch: what an instance runs to end itself when nobody is left to end it. Pure text in, values out.

Its start script leaves one small process behind, before anything else. That process ends the instance through the
container's own key, which can do nothing else, as soon as one of two moments has come: the *lease*, which the owner
moves on again and again over SSH, or the *end*, which nobody moves on but an owner who keeps the instance on purpose.
Both are files of one line, epoch seconds on the instance's own clock. Only durations are ever told, so that nobody
else's clock matters. The files are on the disk, so that a restart of the container arms the switch anew and prolongs
nothing.

It needs a POSIX shell, and curl, python3 or GNU wget. The key is never an argument of a process; only wget needs it in
a file, which is removed before the call is made.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass

from pytest_vastgpu.providers.base import SelfDestruct
from pytest_vastgpu.supervisor.rental.server_job import HOME

NAME = "vastgpu-switch"
"""What the process is called in the instance's process list."""
LONGEST_TICK_S = 5
"""At least so often it looks at the clock."""

_ARM = f"""\
S=
command -v setsid >/dev/null 2>&1 && S=setsid
export VASTGPU_SWITCH
$S sh -c 'eval "$VASTGPU_SWITCH"' {NAME} </dev/null >/dev/null 2>&1 &
unset VASTGPU_SWITCH
"""
"""Starts it in a session of its own. Its text is in the environment: it needs no disk, which may be full, and does not
fill process lists, which are kept as evidence."""

# The market gives the container's key to its first process; what a start script does not inherit is read from there.
# Of two switches the newer one stays: a start script may be run twice. The program that gets an answer is the one to
# use: a curl without certificates gets none. An image may set HOME to something else than where root's SSH sessions
# start, and the owner then writes there. After a destroy that did not work it waits for longer than the minimum
# interval that Vast publishes for it (3 s).
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
get() { read -r V _ <"$D/$1" && case $V in ""|*[!0-9]*) false; esac; }
say() { echo "$$ $1" >"$D/switch"; }
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
get lease || echo $L >"$D/lease"
get end || echo $E >"$D/end"
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


def onstart(end: SelfDestruct, *, lease_s: float, boot_timeout_s: float, lifetime_s: float) -> str:
    """The script that the container runs at each start: it arms the switch before anything else.

    :param end: How the provider lets a container end its own instance.
    :param lease_s: How long the instance outlives its owner.
    :param boot_timeout_s: How long it may take until the owner is heard of for the first time.
    :param lifetime_s: Its hard end, counted from the container's first start; the owner, who knows how long that took,
        brings it forward as soon as SSH lets it in.
    """
    values = (
        f"A={shlex.quote(end.url)}",
        f"D=${{HOME:-/root}}/{HOME}",
        f"R=/root/{HOME}",
        f"FIRST={math.ceil(boot_timeout_s + lease_s)}",
        f"LIFE={math.ceil(lifetime_s)}",
        f"TICK={max(1, min(LONGEST_TICK_S, int(lease_s / 10)))}",
    )
    switch = _SWITCH.replace("@KEY", end.key_variable).replace("@ID", end.id_variable)
    script = "\n".join(values) + switch
    return f"VASTGPU_SWITCH={shlex.quote(script)}\n{_ARM}{end.prepare}"


def heartbeat_command(lease_s: float, end_s: float | None = None) -> str:
    """Moves the lease on, and says how the switch is; for :func:`parse_heartbeat_reply`.

    Files are written in place, without emptying them first: the switch may be reading, and the disk may be full. A
    login shell's start file may have gone to another directory than the home.

    :param lease_s: Seconds from now until which the instance may live without hearing more.
    :param end_s: Seconds from now to its hard end, where that is to be set.
    """
    end = "" if end_s is None else f"echo $((n+{math.ceil(end_s)})) 1<>end; "
    return (
        f"cd; umask 077; mkdir -p {HOME} && cd {HOME} || exit 1; n=$(date +%s); "
        f"echo $((n+{math.ceil(lease_s)})) 1<>lease; {end}"
        "read -r l <lease; read -r e <end; read -r p s <switch; a=gone; "
        f'[ -n "$p" ] && kill -0 "$p" && {{ [ ! -e /proc/self ] || grep -q {NAME} /proc/$p/cmdline; }} && a=alive; '
        'echo "$n $l $e $a $s"'
    )


@dataclass(frozen=True)
class DeadmanState:
    """How the switch of an instance is."""

    armed: bool
    settled: bool
    """Whether waiting a little could not change that."""
    text: str
    """For people: the program that it would use, or why there is none."""


@dataclass(frozen=True)
class HeartbeatReply:
    """What the instance said to a heartbeat."""

    lease_s: int
    """Seconds to the end of the lease, as it stands in the file."""
    end_s: int
    """Seconds to the hard end; 0 where none is set yet."""
    switch: DeadmanState


_BEAT = re.compile(r"(\d{1,18}) (\d{1,18}) (\d{0,18}) (alive|gone) ?(?:(\S{1,40}) (\d{1,9}))?\s*")


def parse_heartbeat_reply(output: str) -> HeartbeatReply | None:
    """What the output of :func:`heartbeat_command` says; None where it says nothing, as when the disk is full."""
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
        # Vast calls it the key to start, stop and destroy the instance: that it may look too is not promised.
        return DeadmanState(
            True, True, f"{program}; the container's key is known, though it may not look at the instance"
        )
    if not (200 <= status < 300 or status == 429):
        return DeadmanState(False, True, f"the market answers HTTP {status} to the container's own key ({program})")
    return DeadmanState(True, True, program)

# Tells what is new of a warming server, one line each, until its stdin ends:
#
#   server alive|killed|CODE [WHEN NOW]      what has become of its process, once all of its log is told; when, in
#                                            seconds of uptime
#   log OFFSET HEX                           bytes of its log, and where in it they stand
#   probe NUMBER late|CODE SECONDS/100 HEX HEX   what a probe printed on stdout and stderr
#   still                        nothing; only a write shows an SSH server that its client is gone without a word
#
# Needs only what dash and busybox have; bash does it without starting a program at every turn, which the server would
# feel. It lies in the server's folder, beside its log. $1: offset in the log from which to tell. Everything here runs at
# the same time: each probe in a loop of its own, so that one that hangs holds up nobody else. Whoever tells takes the
# only line out of a pipe and puts it back afterwards, since long lines would run into each other. Where $2 is "quiet",
# the server is in use: its end is told at once, and its log less often.

umask 077
home=${0%/*}
notes=$home/watch.$$
offset=$1
chunk=262144   # bytes of the log in a line
keep=4194304   # of a log that is further ahead, only the last half of that is told
most=262144    # bytes of a probe's output
still=3000     # hundredths of a second between two lines that tell nothing

nap=0.05       # between two looks at a port
tick=0.1       # between two looks at the server
idle=0.5       # between two looks at the clock, where there is nothing else to look at
if [ -n "${BASH_VERSION:-}" ]; then
  # shellcheck disable=SC3045 # bash has it
  rest() { read -r -t "$1" _ <&6 || :; }   # nobody ever writes there
else
  sleep "$nap" 2>/dev/null || nap=1 tick=1 idle=1
  rest() { sleep "$1"; }
fi
calm=1         # ticks between two looks at the log's size, which start a program
early=0        # ticks left of them when a look at its time, which starts none, may hasten the next one
if [ "${2:-}" = quiet ]; then
  calm=5
  [ -z "${BASH_VERSION:-}" ] || calm=5 early=4
fi
own=
command -v setsid >/dev/null 2>&1 && own=setsid

clock() { # sets now, in hundredths of a second
  if read -r now _ < /proc/uptime; then
    now=$((${now%.*} * 100 + 1${now#*.} - 100))   # the 1 keeps 08 from being an octal number
  else
    now=$(date +%s)00
  fi
} 2>/dev/null

tell() {
  read -r _ <&4
  printf '%s\n' "$*"
  echo >&4
}

hex() { od -An -v -tx1 "$@" | tr -d ' \n'; }

printed() { [ ! -s "$1" ] || hex -N "$most" "$1"; }

listens() { # whether anybody listens on a port
  if [ -n "${BASH_VERSION:-}" ]; then
    # shellcheck disable=SC3025 # bash has it
    true <> "/dev/tcp/127.0.0.1/$1" || true <> "/dev/tcp/::1/$1"
  else # local port, any peer, state "listening"; the kernel takes milliseconds to list that
    [ ! -r /proc/net/tcp ] || grep -qs "$(printf ':%04X [0-9A-F]*:0000 0A ' "$1")" /proc/net/tcp /proc/net/tcp6
  fi
} 2>/dev/null

end() { kill -9 "-$1" || kill -9 "$1"; } 2>/dev/null

probe() { # number, time limit, time between two starts (both in hundredths of a second), port that tells, command
  ulimit -f 16384
  told=
  period=$3
  port=$4
  pause=$idle
  [ -z "$port" ] || pause=$nap
  while [ -d "$notes" ]; do   # the watcher can end before it has noted this loop
    clock
    began=$now
    # It notes itself, since we can be killed before we could; where the notes are gone, so is whoever would end it.
    # shellcheck disable=SC2016 # that shell expands it
    $own sh -c '{ echo "$$ $1" > "$0.run"; } 2>/dev/null || [ -d "${0%/*}" ] || exit
eval "shift 2
$2"' "$notes/$1" "$((began + $2))" "$5" > "$notes/$1.out" 2> "$notes/$1.err" < /dev/null 3<&- 4<&- 5<&- 6<&- &
    wait "$!" 2>/dev/null
    code=$?
    : > "$notes/$1.run"
    clock
    took=$((now - began))
    if [ -e "$notes/$1.late" ]; then   # told already
      rm -f "$notes/$1.late"
      told=
    else
      result="$(printed "$notes/$1.out") $(printed "$notes/$1.err")"
      if [ "$code $result" != "$told" ]; then
        told="$code $result"
        tell probe "$1" "$code" "$took" "$result"
      fi
    fi
    # At most a third of the time, however dear it is; but half a second's rest is enough for one that only waits.
    soonest=$((now + (took > 25 ? 50 : 2 * took)))
    due=$((began + period))
    [ "$due" -ge "$soonest" ] || due=$soonest
    while rest "$pause" && clock && [ "$now" -lt "$due" ]; do
      if [ -n "$port" ] && [ "$now" -ge "$soonest" ] && listens "$port"; then
        # Once open it is not knocked at any more: a server that hangs may let nobody in, and us wait.
        port=
        period=0
        break
      fi
    done
  done
}

end_late() { # ends the probes that are over their time, and tells what they have printed
  clock
  for run in "$notes"/*.run; do
    if ! read -r pid until < "$run" || [ "$now" -le "$until" ]; then continue; fi
    : > "$run"
    : > "${run%.run}.late"
    end "$pid"
    number=${run##*/}
    number=${number%.run}
    tell probe "$number" late 0 "$(printed "${run%.run}.out")" "$(printed "${run%.run}.err")"
  done
} 2>/dev/null

skip() { # bytes of the log
  dd bs=1 skip="$1" count=0 <&5
} >/dev/null 2>&1

gone=          # whether the pipe that its shell held open is closed
pause() { rest "$tick"; }

look() { # sets found
  found=alive
  if read -r code when < "$home/exit_code"; then
    found=$code
  elif read -r pid < "$home/pid" && ! kill -0 "$pid" && [ ! -e "$home/exit_code" ]; then
    found=killed
  elif [ -n "$gone" ]; then   # it may be a zombie
    found=killed
  fi
} 2>/dev/null

measure() { # sets size
  # shellcheck disable=SC2046,SC2012 # its fifth word is the size, and no reading of the whole file tells it quicker
  set -- $(ls -ln "$home/server.log")
  size=${5:-0}
} 2>/dev/null

grown() { # whether the log was written to since its size was looked at
  # shellcheck disable=SC3013 # dash and busybox have it
  [ "$home/server.log" -nt "$notes/seen" ]
} 2>/dev/null

watch() {
  state=
  when=
  turn=0
  clock
  due=$((now + still))
  while [ -d "$notes" ]; do
    look
    turn=$((turn - 1))
    if [ "$turn" -le 0 ] || [ "$found" != "$state" ] || { [ "$turn" -le "$early" ] && grown; }; then
      : > "$notes/seen"
      measure
      turn=$calm
    fi
    if [ $((size - offset)) -gt "$keep" ]; then
      skip $((size - keep / 2 - offset))
      offset=$((size - keep / 2))
    fi
    if [ "$size" -gt "$offset" ]; then
      piece=$(dd bs="$chunk" count=1 <&5 2>/dev/null | hex)
      tell log "$offset" "$piece"
      offset=$((offset + ${#piece} / 2))
    fi
    if [ "$found" != "$state" ] && [ "$offset" -ge "$size" ]; then
      now=
      [ -z "$when" ] || read -r now _ < /proc/uptime
      tell server "$found" $when $now
      state=$found
    fi
    end_late
    if [ "$now" -ge "$due" ]; then
      tell still
      due=$((now + still))
    fi
    pause
  done
}

stop() {
  trap '' HUP INT TERM PIPE
  # shellcheck disable=SC2046 # several words
  kill -9 $(cat "$notes/lanes")
  mv "$notes" "$notes.over"   # so that nothing is written there any more
  for run in "$notes.over"/*.run; do
    read -r pid _ < "$run" && end "$pid"
  done
  rm -rf "$notes.over" "$notes"
} 2>/dev/null

trap stop EXIT
trap 'exit 0' HUP INT TERM PIPE
mkdir "$notes" && mkfifo "$notes/turn" "$notes/never" || exit 1
exec 3<&0 4<>"$notes/turn" 5<"$home/server.log" 6<>"$notes/never" || exit 1
echo >&4
skip "$offset"
if [ "${2:-}" = quiet ] && [ -n "${BASH_VERSION:-}" ] && [ -p "$home/alive" ]; then
  exec 8<>"$home/alive" 7<"$home/alive" 8>&-   # to open it for reading alone would wait for a writer
  pause() {
    if [ -n "$gone" ]; then
      rest "$tick"
    else
      # shellcheck disable=SC3045 # bash has it
      read -r -t "$tick" _ <&7
      [ "$?" -gt 128 ] || gone=yes   # not late, so closed: no process writes there
    fi
  }
fi
hang_up() { # ends all of it, also where the signal is ignored because our parent ignored it
  kill "$$"
  looks=20
  while [ -d "$notes" ] && [ "$looks" -gt 0 ]; do
    rest "$tick"
    looks=$((looks - 1))
  done
  [ ! -d "$notes" ] || { stop; kill -9 "$$"; }
}

{ cat > /dev/null; hang_up; } <&3 2>/dev/null &
# What follows starts the probes, then watches.

"""Several probes in one command: one round trip, however many there are. Pure: values in, text out."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.supervisor.rental.server.state import parse

_SCRIPT = r"""
umask 077
notes=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d) || exit 1
trap 'rm -rf "$notes"' EXIT
limited() { if command -v timeout >/dev/null 2>&1; then timeout "$@"; else shift; "$@"; fi; }
hex() { [ ! -s "$1" ] || head -c 262144 "$1" | od -An -v -tx1 | tr -d ' \n'; }
probe() { # number, time limit, command
  ulimit -f 16384
  limited "$2" sh -c "$3" > "$notes/$1.out" 2> "$notes/$1.err" < /dev/null
  code=$?
  [ "$code" != 124 ] || code=late
  echo "probe $1 $code 0 $(hex "$notes/$1.out") $(hex "$notes/$1.err")" > "$notes/$1.told"
}
""".lstrip()
"""A full disk must not keep it from telling so: where there is shared memory, its files are there."""


def script(probes: Sequence[Probe]) -> str:
    """Shell text that runs probes at the same time, each within its time limit, and prints what they printed."""
    starts = "".join(
        f"probe {shlex.join([str(number), str(math.ceil(probe.timeout_s)), probe.command])} &\n"
        for number, probe in enumerate(probes, 1)
    )
    return f'{_SCRIPT}{starts}wait\ncat "$notes"/*.told\n'


def not_run(probe: Probe) -> ProbeResult:
    """The result of a probe that was not run."""
    return ProbeResult(probe.name, ProbeFailure.NOT_RUN, None, "", "[not run]\n", 0.0)


def results(output: str, probes: Sequence[Probe]) -> list[ProbeResult]:
    """The result of each probe, in their order. One of which the output says nothing was not run."""
    found: dict[int, ProbeResult] = {}
    for line in output.splitlines():
        words = line.split(" ", 2)
        result = parse(line, probes)
        if isinstance(result, ProbeResult):
            found[int(words[1])] = result
    return [found.get(number, not_run(probe)) for number, probe in enumerate(probes, 1)]

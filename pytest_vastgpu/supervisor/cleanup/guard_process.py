"""The guard: a process that outlives the supervisor, and destroys what a supervisor that died has left behind.

``python -m pytest_vastgpu.supervisor.cleanup.guard_process <run's directory> <supervisor's process id>``, started by
:mod:`pytest_vastgpu.supervisor.cleanup.guard`. It has only its end of a pipe from the supervisor, its log, and
the API key in its environment. It has a session of its own, so that no signal to the run reaches it. It is idle, and
imports almost nothing, until the supervisor ends it or dies.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pytest_vastgpu.core.backoff import backoff_s
from pytest_vastgpu.core.environment import api_key
from pytest_vastgpu.core.text.durations import HOUR_S

FAREWELL = b"end\n"
"""The supervisor sends this at its end, when it has given back all that it could."""
READY = b"ready\n"
PERSEVERE_S = HOUR_S
"""How long it tries to destroy what is left: long enough to outlast most outages of the market."""
_LOOK_S = 1.0
"""Longest pause between two checks whether the supervisor lives; the pipe's end is noticed at once."""
_FIRST_LOOK_S = 0.01
"""The first such pause after the pipe's end: as a rule, the supervisor is about to be gone."""
_LONGEST_PAUSE_S = 15.0
_TAKE_OVER_S = 600.0
"""How long it waits while another process owns the same run."""


def main() -> int:
    """Run the guard.

    :returns: 0 if nothing is left, 1 otherwise.
    """
    directory, owner = Path(sys.argv[1]), int(sys.argv[2])
    with contextlib.suppress(BrokenPipeError):  # the supervisor may have died, or ended without renting
        os.write(sys.stdout.fileno(), READY)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # closes our end of that pipe, so that no reader waits for it
    _await_end(owner)
    return persevere(lambda: _take_over(directory), directory.is_dir)


def persevere(
    take_over: Callable[[], int],
    worthwhile: Callable[[], bool],
    within_s: float = PERSEVERE_S,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Take over, and after any error try again until the time is over.

    :param take_over: One try; its result ends the guard.
    :param worthwhile: Whether another try can succeed: not once the run's directory has been removed.
    """
    ends = time.monotonic() + within_s
    failures = 0
    while True:
        try:
            return take_over()
        except Exception as error:  # noqa: BLE001 - whatever it is, what is left costs money until it is gone
            _log(f"{type(error).__name__}: {error}")
            failures += 1
            if not worthwhile() or time.monotonic() >= ends:
                return 1
        pause(backoff_s(_LOOK_S, failures, _LONGEST_PAUSE_S))


def _await_end(owner: int) -> None:
    """Return when the supervisor has ended, or has died.

    The pipe shows that at once. But a test that closes all descriptors may close it, and a process forked by the
    supervisor may hold it open. The parent process id is reliable.
    """
    pipe = sys.stdin.fileno()
    while os.getppid() == owner:
        if select.select([pipe], [], [], _LOOK_S)[0]:
            if os.read(pipe, len(FAREWELL)):
                return
            break
    looks = 0
    while os.getppid() == owner:
        looks += 1
        time.sleep(backoff_s(_FIRST_LOOK_S, looks, _LOOK_S))


def _take_over(directory: Path) -> int:
    from pytest_vastgpu.core.ledger_record import FILE
    from pytest_vastgpu.core.ledger_record import read_ledger
    from pytest_vastgpu.core.ownership import ownership

    ends = time.monotonic() + _TAKE_OVER_S
    while time.monotonic() < ends:
        with ownership(directory) as ours:
            if not ours:
                time.sleep(_LOOK_S / 10)
                continue
            record = read_ledger(directory / FILE)
            return _recover(directory, record.url) if record.left(time.time()) or record.key else 0
    _log("somebody else owns the run")
    return 1


def _recover(directory: Path, url: str) -> int:
    from pytest_vastgpu.core.secret import Secret
    from pytest_vastgpu.providers.open import open_provider
    from pytest_vastgpu.supervisor.cleanup.recover import recover

    _log(f"the owner of run {directory.name} is gone, and has left something")
    with open_provider(url, Secret(api_key(os.environ))) as client:
        recovery = recover(directory, client, by="guard", within_s=PERSEVERE_S)
    for instance_id in recovery.destroyed:
        _log(f"instance {instance_id} is gone")
    for problem in recovery.problems:
        _log(problem)
    return 1 if recovery.problems else 0


def _log(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

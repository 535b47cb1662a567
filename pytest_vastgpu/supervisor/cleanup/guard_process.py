"""The guard: a process beside the run that outlives it, and destroys what it has left when it dies.

``python -m pytest_vastgpu.supervisor.cleanup.guard_process <run's directory> <owner's process id>``, started by
:mod:`pytest_vastgpu.supervisor.cleanup.guard`. It holds nothing but its end of a pipe from the owner, its log, and the
API key in its environment; it has a session of its own, so that no signal to the run reaches it. It is idle, and has
loaded next to nothing, until the owner lets it go or is gone.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from pathlib import Path

FAREWELL = b"end\n"
"""What the owner sends when it has given back what it could."""
READY = b"ready\n"
PERSEVERE_S = 3600.0
"""How long it goes on trying: outages of the market are over by then, or somebody has been told."""
_LOOK_S = 1.0
"""How often it looks whether the owner is there, beside waiting for the pipe's end."""
_TAKE_OVER_S = 600.0
"""How long it waits for somebody else who takes care of the same run."""


def main() -> int:
    """Be the guard.

    :returns: 0 if nothing is left, 1 otherwise.
    """
    directory, owner = Path(sys.argv[1]), int(sys.argv[2])
    with contextlib.suppress(BrokenPipeError):  # the owner may be gone already, or has ended without renting
        os.write(sys.stdout.fileno(), READY)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody shall wait for our end of that pipe
    _await_end(owner)
    return _take_over(directory)


def _await_end(owner: int) -> None:
    """Return when the owner has let us go, or is gone.

    The pipe tells at once. But it can be closed by a test that closes what it does not know, and be held open by a
    process that the owner has forked; whose child we are cannot be mistaken.
    """
    pipe = [sys.stdin.fileno()]
    pause = _LOOK_S
    while os.getppid() == owner:
        if not select.select(pipe, [], [], pause)[0]:
            pause = min(2 * pause, _LOOK_S)
        elif os.read(pipe[0], len(FAREWELL)):
            return
        else:
            pipe, pause = [], 0.01


def _take_over(directory: Path) -> int:
    from pytest_vastgpu.supervisor.ledger.ledger import FILE
    from pytest_vastgpu.supervisor.ledger.ledger import read_ledger
    from pytest_vastgpu.supervisor.ledger.ownership import ownership

    ends = time.monotonic() + _TAKE_OVER_S
    while time.monotonic() < ends:
        with ownership(directory) as ours:
            if not ours:
                time.sleep(_LOOK_S / 10)
                continue
            record = read_ledger(directory / FILE)
            return _recover(directory, record.url) if record.left(time.time()) else 0
    _log("somebody else owns the run")
    return 1


def _recover(directory: Path, url: str) -> int:
    from pytest_vastgpu.core.secret import Secret
    from pytest_vastgpu.providers.open import open_provider
    from pytest_vastgpu.supervisor.cleanup.recover import recover

    _log(f"the owner of run {directory.name} is gone, and has left something")
    with open_provider(url, Secret(os.environ["VAST_API_KEY"])) as client:
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

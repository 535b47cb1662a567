"""The market as a program, started from a command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager

from pytest_vastgpu.local.embed import LocalMarket

COMMAND = [sys.executable, "-m", "pytest_vastgpu", "local"]
_FORBID = 'echo 0 > /proc/sys/user/max_net_namespaces; exec "$@"'
WITHOUT_NAMESPACES = ["unshare", "--user", "--map-root-user", "sh", "-c", _FORBID, "-"]
"""Runs its arguments without the right to make network namespaces, as in many containers."""


@contextmanager
def served(*arguments: str, within: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """Run a market; kill it at the end.

    :param within: A command line that runs the command after it.
    """
    command = [*within, *COMMAND, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def announced(process: subprocess.Popen[str]) -> LocalMarket:
    """Return the market that a process has just announced; it can be called but not stopped."""
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    market = LocalMarket()
    market.url, market.api_key, market.pid = ready["url"], ready["api_key"], ready["pid"]
    return market


def namespaces_can_be_forbidden() -> bool:
    """Whether :data:`WITHOUT_NAMESPACES` works on this system."""
    command = [*WITHOUT_NAMESPACES, "sh", "-c", "unshare --net true 2> /dev/null || echo refused"]
    return subprocess.run(command, capture_output=True, check=False).stdout == b"refused\n"

"""What tests of every kind look at from outside, and how they wait for it."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
import subprocess
import time
import traceback
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from pytest_vastgpu.local.embed import LocalMarket

_T = TypeVar("_T")
PATIENCE_S = 120.0
"""Nothing that is waited for takes so long, unless it never comes."""
LOOK_S = 0.02


_PORTS = itertools.cycle(random.SystemRandom().sample(range(15_000, 30_000), 15_000))


def free_port() -> int:
    """A port on which nothing listens now, for a program that takes it at once.

    It is below those that the system gives to whoever asks for any, so that no other test gets it before.
    """
    while True:
        with contextlib.suppress(OSError), socket.socket() as bound:
            bound.bind(("127.0.0.1", next(_PORTS)))
            port: int = bound.getsockname()[1]
            return port


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """A port on which nothing listens, and nothing else can meanwhile: it is bound."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def open_files(pid: int) -> set[str]:
    """What a process has open, as the system names it: paths, ``pipe:[123]``, ``socket:[123]``."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it has just been closed
            found.add(str(link.readlink()))
    return found


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it does not only wait to be waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def sleeper(env: Mapping[str, str] | None = None) -> Iterator[int]:
    """A process that sleeps, in a session of its own, until the ``with`` block ends; its id."""
    with subprocess.Popen(["sleep", "1000"], env=env, start_new_session=True) as process:
        try:
            until(Path(f"/proc/{process.pid}/environ").read_bytes, bool)  # the system shows it after the start only
            yield process.pid
        finally:
            process.kill()


def alive(market: LocalMarket) -> set[int]:
    """The ids of what the market says is alive."""
    return {row["id"] for row in market.status()["alive"]}


def until(look: Callable[[], _T], good: Callable[[_T], bool]) -> _T:
    """What ``look`` gives, once it is good."""
    for _ in range(int(PATIENCE_S / LOOK_S)):  # no deadline: the clock goes on while this machine is suspended
        if good(seen := look()):
            return seen
        time.sleep(LOOK_S)
    pytest.fail(f"still {seen!r}")


def forked(holds: Callable[[], object]) -> None:
    """See that something holds in a child that is forked off this process."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if holds() else 2
        except BaseException:  # noqa: BLE001 - nothing of it may come back into the test run
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = until(lambda: os.waitpid(pid, os.WNOHANG), lambda found: found[0] != 0)
    assert os.waitstatus_to_exitcode(status) == 0, "it does not hold in the child"

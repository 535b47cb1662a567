"""The driver is killed as a command whose time is over, or the connection breaks, and nobody reads what it tells."""

from __future__ import annotations

import json
import operator
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu import shell
from pytest_vastgpu.client.measure import COMMAND
from pytest_vastgpu.client.measure import orders_of
from pytest_vastgpu.client.measure import program
from pytest_vastgpu.measuring.on_instance import asking
from tests.support.looks import is_running
from tests.support.looks import until

ENDS = pytest.mark.parametrize("how", ["killed", "alone"])


@contextmanager
def driven(orders: dict[str, Any], files: list[Path], how: str) -> Iterator[None]:
    """The driver has gone, once what it has started has written a line into each of these files."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = {**os.environ, "TMPDIR": str(files[0].parent)}
    with subprocess.Popen(["/bin/sh", "-c", COMMAND], **pipes, start_new_session=True, env=environment) as run:  # type: ignore[call-overload]
        run.stdin.write(f"{program()}{json.dumps(orders)}\n".encode())
        run.stdin.flush()
        assert until(lambda: all(each.exists() and each.read_text().endswith("\n") for each in files), bool)
        if how == "killed":
            os.killpg(run.pid, signal.SIGKILL)
        else:
            run.stdout.close()
        yield


def ended(file: Path) -> bool:
    """Whether the process has ended that has written its number there."""
    return not until(partial(is_running, int(file.read_text())), operator.not_)


@ENDS
def test_what_the_driver_has_started_ends_with_it(how: str, tmp_path: Path) -> None:
    load = shell(f"echo $$ > {tmp_path}/pid; exec sleep 600", timeout_s=600.0)
    orders = {**orders_of(load, 1, {}, 600.0), "gpu_command": f"echo $$ > {tmp_path}/watch; exec sleep 600"}
    files = [tmp_path / "pid", tmp_path / "watch"]
    with driven(orders, files, how):
        assert all(map(ended, files))


@ENDS
def test_what_hides_our_mark_in_its_environment_ends_too(how: str, tmp_path: Path) -> None:
    """As a program does that gives itself a title. One command has ended before, and has left something behind."""
    path = (
        f"[ -e {tmp_path}/left ] && {{ echo $$ > {tmp_path}/pid; exec env -i sleep 600; }}; "
        f"env -i sleep 600 & echo $! > {tmp_path}/left"
    )
    with driven(orders_of(shell(path, timeout_s=600.0), 1, {}, 600.0), [tmp_path / "left", tmp_path / "pid"], how):
        assert ended(tmp_path / "left")
        assert ended(tmp_path / "pid")


@ENDS
def test_the_files_of_another_driver_go_with_it(how: str, tmp_path: Path) -> None:
    """They may hold the server's key."""
    there = tmp_path / "there"
    told = {"files": {"config.json": "sk-of-the-server"}, "results": "*.json", "env": {}, "limit_s": 600.0}
    path = f"pwd > {there}; echo $$ > {tmp_path}/pid; exec sleep 600"
    orders = {**orders_of(shell("true"), 1, {}, 600.0), **told, "kind": "program", "path": path, "gpu_command": ""}
    with driven(orders, [tmp_path / "pid", there], how):
        assert tmp_path in Path(there.read_text()).parents
        assert ended(tmp_path / "pid")
        assert not until(lambda: [each for each in tmp_path.iterdir() if each.is_dir()], operator.not_)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_nothing_is_started_before_a_kill_of_the_drivers_session_spares_the_guard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guards: list[int] = []
    fork, setsid = os.fork, os.setsid

    def forks() -> int:
        guards.append(fork())
        return guards[-1]

    def late() -> None:
        time.sleep(0.5)
        setsid()

    monkeypatch.setattr(os, "fork", forks)
    monkeypatch.setattr(os, "setsid", late)
    with asking.guarded():
        assert [os.getsid(guard) for guard in guards] == guards

"""A second server beside the first: real processes in a home directory."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.server.monitor import PROGRAM
from pytest_vastgpu.supervisor.rental.server.monitor import program
from tests.support.looks import is_running
from tests.support.looks import until

KEY = secrets.token_hex()
"""No other test's: a server is ended with all processes of this machine that have its key."""
HIDES = "import os, sys; os.execve(sys.argv[1], sys.argv[1:], {})"
"""Runs a program without our key in its environment."""


def sh(home: Path, script: str, told: str = "") -> str:
    env = {**os.environ, "HOME": str(home)}
    done = subprocess.run(["sh", "-c", script], cwd=home, env=env, input=told, capture_output=True, text=True)
    return done.stdout


def start(home: Path, folder: str, script: str) -> None:
    """Start a server as a bring-up does."""
    sh(home, job.MAKE_FOLDERS)
    for name, text in job.files_of(Launch(script), KEY, "127.0.0.1", {}, "", folder).items():
        (home / folder / name).write_text(text)
    sh(home, job.start(folder))


def look(home: Path, folder: str) -> str:
    return sh(home, job.look(0, 0.0, folder)).strip()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[list[int]]:
    """The servers of two starts, not the shells that wait for them; the second hides our key."""
    pids = [tmp_path / name for name in ("first", "second")]
    start(tmp_path, job.HOME, f"echo $$ > {pids[0]}; echo first; exec sleep 1000")
    start(tmp_path, job.BESIDE, f"echo $$ > {pids[1]}; echo second; exec python3 -c '{HIDES}' /bin/sleep 1000")
    until(lambda: [log_of(tmp_path, each) for each in (job.HOME, job.BESIDE)], lambda logs: all(logs))
    second = int(pids[1].read_text())
    until(lambda: Path(f"/proc/{second}/environ").read_bytes(), lambda environ: KEY.encode() not in environ)
    yield [int(each.read_text()) for each in pids]
    sh(tmp_path, job.stop(60.0), f"{KEY}\n")


def log_of(home: Path, folder: str) -> str:
    return (home / folder / "server.log").read_text()


def test_each_has_a_log_and_a_process_of_its_own_and_one_stop_ends_both(tmp_path: Path, both: list[int]) -> None:
    assert [log_of(tmp_path, each) for each in (job.HOME, job.BESIDE)] == ["first\n", "second\n"]
    assert [look(tmp_path, each) for each in (job.HOME, job.BESIDE)] == [job.LISTENING] * 2
    assert not (tmp_path / job.BESIDE / "setup.sh").exists(), "they share it"
    assert sh(tmp_path, job.stop(60.0), f"{KEY}\n") == ""
    assert [pid for pid in both if is_running(pid)] == []


def test_one_that_ends_leaves_the_other(tmp_path: Path, both: list[int]) -> None:
    start(tmp_path, job.BESIDE, "exit 3")
    until(lambda: look(tmp_path, job.BESIDE), lambda said: said.startswith(f"{job.ENDED} 3 "))
    until(lambda: is_running(both[1]), lambda runs: not runs)
    assert is_running(both[0])
    assert look(tmp_path, job.HOME) == job.LISTENING


def test_of_one_that_was_stopped_nothing_is_known_after_the_next_start(tmp_path: Path, both: list[int]) -> None:
    sh(tmp_path, job.stop(60.0), f"{KEY}\n")
    start(tmp_path, job.HOME, "exit 0")
    assert list((tmp_path / job.BESIDE).iterdir()) == [], "its process id may be another's by the next stop"


def test_each_is_watched_in_its_folder(tmp_path: Path, both: list[int]) -> None:
    for folder, log in ((job.HOME, b"first\n"), (job.BESIDE, b"second\n")):
        (tmp_path / folder / PROGRAM).write_text(program([]))
        command = ["sh", f"{folder}/{PROGRAM}", "0"]
        with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as watch:
            assert watch.stdin is not None
            assert watch.stdout is not None
            told = {watch.stdout.readline().decode().strip() for _ in range(2)}
            watch.stdin.close()
        assert told == {f"log 0 {log.hex()}", "server alive"}

"""What tests have left on an instance is ended, and nothing else."""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

import pytest

from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.server import workers
from tests.support.looks import is_running
from tests.support.looks import sleeper
from tests.support.looks import until

LEAVES = """
setsid sleep 1000 > /dev/null 2>&1 &
echo $! >> left
(sh -c 'sleep 1000 & echo $! >> left' > /dev/null 2>&1 &)
until [ "$(wc -l < left)" = 2 ]; do sleep 0.05; done
echo $$
"""
"""Prints the process id of a program that leaves a process in a session of its own, and an orphan."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of an instance, with a key that no other test has."""
    (tmp_path / ".vastgpu").mkdir()
    for name, text in job.files_of(Launch("exit 0"), secrets.token_hex(), "127.0.0.1", {}).items():
        (tmp_path / ".vastgpu" / name).write_text(text)
    return tmp_path


def sh(home: Path, command: str) -> str:
    env = {**os.environ, "HOME": str(home)}
    return subprocess.run(["sh", "-c", command], cwd=home, env=env, capture_output=True, text=True, check=True).stdout


def key_of(home: Path) -> str:
    return (home / ".vastgpu" / "env.sh").read_text().split(f"{job.API_KEY}=")[1].split()[0].strip("'\"")


def left(home: Path) -> list[int]:
    found = [int(line) for line in (home / "left").read_text().split()]
    (home / "left").unlink()
    for pid in found:  # until it is a program of its own, it shows the environment of the one that it was forked off
        until(Path(f"/proc/{pid}/environ").read_bytes, lambda environ: workers.MARK.encode() in environ)
    assert all(map(is_running, found))
    return found


def gone(pids: list[int]) -> None:
    until(lambda: [pid for pid in pids if is_running(pid)], lambda running: not running)


def test_a_program_that_starts_finds_nothing_of_an_earlier_one(home: Path) -> None:
    sh(home, workers.start(LEAVES))
    pids = left(home)
    with sleeper({**os.environ, workers.MARK: f"{secrets.token_hex()}-1."}) as stranger:
        assert sh(home, workers.start("echo and runs")) == "and runs\n"
        gone(pids)
        assert is_running(stranger), "it is another instance's"


def test_the_end_of_a_program_leaves_what_another_one_has_started(home: Path) -> None:
    first = int(sh(home, workers.start(LEAVES)))
    pids = left(home)
    with sleeper({**os.environ, workers.MARK: f"{key_of(home)}-{first}0."}) as other:
        sh(home, workers.end(first))
        gone(pids)
        assert is_running(other)
        sh(home, workers.start("true"))
        gone([other])


def test_a_program_has_the_environment_of_a_server(home: Path) -> None:
    env = {"A_VARIABLE": "its value"}
    (home / ".vastgpu" / "env.sh").write_text(job.files_of(Launch("exit 0"), "a-key", "127.0.0.1", env)["env.sh"])
    assert sh(home, workers.start('echo "$A_VARIABLE"')) == "its value\n"


def test_where_another_workload_takes_the_instance_nothing_of_the_tests_is_left_either(home: Path) -> None:
    sh(home, workers.start(LEAVES))
    pids = left(home)
    command = ["sh", "-c", job.stop(10.0)]
    stopped = subprocess.run(command, cwd=home, input=f"{key_of(home)}\n", capture_output=True, text=True, check=True)
    assert stopped.stdout == ""
    gone(pids)

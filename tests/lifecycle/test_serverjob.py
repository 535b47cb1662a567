from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pytest_vastgpu.lifecycle import serverjob
from pytest_vastgpu.lifecycle.serverjob import ServerState
from pytest_vastgpu.readiness.adapter import Launch


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".vastgpu" / "work").mkdir(parents=True)
    return tmp_path


def sh(home: Path, script: str) -> str:
    env = {**os.environ, "HOME": str(home)}
    done = subprocess.run(["sh", "-c", script], cwd=home, env=env, capture_output=True, check=True)
    return done.stdout.decode()


def put(home: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (home / ".vastgpu" / name).write_text(text)


def test_a_server_runs_with_its_environment_and_leaves_its_exit_code(home: Path) -> None:
    launch = Launch('echo "$GREETING, $WHO"; exit 3', {"GREETING": 'it\'s $HOME `x` "y"'})
    put(home, serverjob.files_of(launch, "s3cret", "127.0.0.1", {"WHO": "a\nb"}))
    sh(home, serverjob.START + "wait")
    state = serverjob.parse_look(sh(home, serverjob.look_command(0)), 0)
    assert state == ServerState(3, 'it\'s $HOME `x` "y", a\nb\n', 24)


def test_the_log_is_read_from_where_it_was_left(home: Path) -> None:
    put(home, {"server.log": "one\ntwo\n", "pid": str(os.getpid())})
    first = serverjob.parse_look(sh(home, serverjob.look_command(0)), 0)
    assert first == ServerState(None, "one\ntwo\n", 8)
    put(home, {"server.log": "one\ntwo\nthree\n"})
    assert serverjob.parse_look(sh(home, serverjob.look_command(8)), 8) == ServerState(None, "three\n", 14)
    assert serverjob.parse_look(sh(home, serverjob.look_command(14)), 14) == ServerState(None, "", 14)


def test_a_server_whose_shell_was_killed_is_seen(home: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    put(home, {"server.log": "", "pid": str(gone.pid)})
    state = serverjob.parse_look(sh(home, serverjob.look_command(0)), 0)
    assert state == ServerState(serverjob.KILLED_EXIT_CODE, "", 0)


def test_an_ended_server_is_told_when_its_whole_log_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serverjob, "LOG_CHUNK_BYTES", 4)
    put(home, {"server.log": "12345678", "exit_code": "1\n"})
    first = serverjob.parse_look(sh(home, serverjob.look_command(0)), 0)
    assert first == ServerState(None, "1234", 4)
    assert serverjob.parse_look(sh(home, serverjob.look_command(4)), 4) == ServerState(1, "5678", 8)


@pytest.mark.parametrize("output", ["", "no sessions\n", "alive\n", "alive x\n"])
def test_what_is_not_the_commands_output_decides_nothing(output: str) -> None:
    assert serverjob.parse_look(output, 0) is None

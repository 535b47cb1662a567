from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.supervisor.rental.server import job


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".vastgpu" / "work").mkdir(parents=True)
    return tmp_path


def sh(home: Path, script: str) -> None:
    subprocess.run(["sh", "-c", script], cwd=home, env={**os.environ, "HOME": str(home)}, check=True)


def put(home: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (home / ".vastgpu" / name).write_text(text)


def test_a_server_runs_with_its_environment_and_leaves_its_exit_code(home: Path) -> None:
    launch = Launch('echo "$GREETING, $WHO"; exit 3', {"GREETING": 'it\'s $HOME `x` "y"'})
    put(home, job.files_of(launch, "s3cret", "127.0.0.1", {"WHO": "a\nb"}))
    sh(home, job.START + "wait")
    assert (home / ".vastgpu" / "server.log").read_text() == 'it\'s $HOME `x` "y", a\nb\n'
    assert (home / ".vastgpu" / "exit_code").read_text() == "3\n"


@pytest.mark.parametrize("name", ["X=1; touch pwned; Y", "A B", "1A", "", "A\nB", "Ä"])
def test_a_name_that_a_shell_could_take_for_more_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is no name for an environment variable"):
        job.env_script({name: "1"})

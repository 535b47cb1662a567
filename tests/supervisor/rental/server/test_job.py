from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
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


SHELLS = [name for name in ("dash", "bash", "busybox") if shutil.which(name)]
ODD = {
    "PATH": f"/opt/conda/bin:{os.environ['PATH']}",
    "LD_LIBRARY_PATH": "/opt/conda/lib",
    "CONDA_PREFIX": "/opt/conda",
    "LINES_OF_IT": "\n one\\two  \n\nthree\n",
    "QUOTES": "$HOME `id` $(id) \"a\" 'b' \\n = *",
    "EMPTY": "",
    "TAB": "\t x \t",
}
"""An image's environment."""
KEPT_OUT = {
    "HOME": "/elsewhere",
    "PWD": "/x",
    "UID": "7",
    "IFS": "o",
    "CONTAINER_API_KEY": "k",
    "odd.name": "x",
    "1A": "x",
}
"""What does not come along: the session's own, what no shell can set, and the container's key."""


@contextmanager
def first_process(environment: Mapping[str, str]) -> Iterator[str]:
    """One with this environment, as the container's; its process id."""
    with subprocess.Popen(["sleep", "600"], env=dict(environment), executable=shutil.which("sleep")) as process:
        yield str(process.pid)
        process.kill()


def environment_in(shell: str, home: Path, init: str, script: str) -> dict[str, str]:
    """The environment that a program started by the script gets."""
    words = [shell, "sh"] if shell == "busybox" else [shell]
    show = f"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    bare = {"HOME": str(home), "PATH": "/usr/bin:/bin", "VASTGPU_INIT": init, "OWN": "kept"}
    done = subprocess.run([*words, "-c", script + show], env=bare, cwd=home, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("shell", SHELLS)
def test_a_session_gets_the_image_s_environment_and_keeps_its_own(home: Path, shell: str) -> None:
    put(home, {"image_env.sh": job.IMAGE_ENV_SCRIPT})
    with first_process(ODD | KEPT_OUT) as init:
        found = environment_in(shell, home, init, job.IN_IMAGE_ENV)
    assert {name: found.get(name) for name in ODD} == ODD
    assert found["HOME"] == str(home)
    assert found["OWN"] == "kept"
    assert not found.keys() & (KEPT_OUT.keys() - {"HOME", "PWD", "UID", "IFS"})
    assert not [name for name in found if name.startswith("VASTGPU_") and name != "VASTGPU_INIT"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("init", ["none", "0"])
def test_without_a_readable_environment_of_the_image_a_session_goes_on(home: Path, shell: str, init: str) -> None:
    put(home, {"image_env.sh": job.IMAGE_ENV_SCRIPT})
    assert environment_in(shell, home, init, job.IN_IMAGE_ENV)["PATH"] == "/usr/bin:/bin"
    (home / ".vastgpu" / "image_env.sh").unlink()
    assert environment_in(shell, home, init, job.IN_IMAGE_ENV)["OWN"] == "kept"


def test_a_server_gets_the_image_s_environment_and_then_the_workload_s(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Launch('echo "$CONDA_PREFIX $GREETING $WHO $VASTGPU_HOST"', {"GREETING": "ours"})
    put(home, job.files_of(launch, "s3cret", "127.0.0.1", {"WHO": "the workload"}))
    with first_process({**ODD, "GREETING": "the image", "WHO": "the image", "VASTGPU_HOST": "everywhere"}) as init:
        monkeypatch.setenv("VASTGPU_INIT", init)
        sh(home, job.START + "wait")
    assert (home / ".vastgpu" / "server.log").read_text() == "/opt/conda ours the workload 127.0.0.1\n"

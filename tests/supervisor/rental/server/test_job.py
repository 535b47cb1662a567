from __future__ import annotations

import functools
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.supervisor.rental.server import job
from tests.support.looks import is_running
from tests.support.looks import refusing
from tests.support.looks import sleeper
from tests.support.looks import until
from tests.support.quick import only

KEY = secrets.token_hex()
"""No other test's: a server is ended with all processes of this machine that have its key."""
SHELLS = ("dash", "bash", "busybox sh")


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
    put(home, job.files_of(launch, KEY, "127.0.0.1", {"WHO": "a\nb"}))
    sh(home, job.start() + "wait")
    assert (home / ".vastgpu" / "server.log").read_text() == 'it\'s $HOME `x` "y", a\nb\n'
    code, when = (home / ".vastgpu" / "exit_code").read_text().split()
    assert code == "3"
    assert 0 <= float(Path("/proc/uptime").read_text().split()[0]) - float(when) < 3600


@pytest.fixture(params=only(["dash"], SHELLS))
def shell(request: pytest.FixtureRequest) -> list[str]:
    words: list[str] = request.param.split()
    if shutil.which(words[0]) is None:
        pytest.skip(f"no {words[0]} on this machine")
    return words


def look(home: Path, shell: list[str], port: int, settle_s: float = 0.0) -> str:
    command = [*shell, "-c", job.look(port, settle_s)]
    return subprocess.run(command, cwd=home, capture_output=True, text=True, check=True).stdout.strip()


def test_what_has_become_of_a_server(home: Path, shell: list[str]) -> None:
    put(home, {"pid": f"{os.getpid()}\n"})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert look(home, shell, port) == job.LISTENING
    with subprocess.Popen(["true"]) as dead:
        pass
    put(home, {"pid": f"{dead.pid}\n"})
    assert look(home, shell, port) == f"{job.ENDED} killed"
    put(home, {"exit_code": "3 0.5\n"})
    answer = look(home, shell, port)
    assert answer.startswith(f"{job.ENDED} 3 0.5 ")
    assert float(answer.split()[3]) > 0.5


@pytest.mark.slow
def test_one_that_lives_and_no_longer_listens(home: Path, shell: list[str]) -> None:
    put(home, {"pid": f"{os.getpid()}\n"})
    with refusing() as port:
        assert look(home, shell, port) == job.DEAF


@pytest.mark.slow
def test_one_that_goes_on_listening_although_a_request_got_no_answer_lives(home: Path, shell: list[str]) -> None:
    put(home, {"pid": f"{os.getpid()}\n"})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert look(home, shell, listener.getsockname()[1], settle_s=0.3) == job.LISTENING


def test_one_that_is_about_to_end_is_given_time_for_it(home: Path, shell: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, subprocess.Popen(["sleep", "0.3"]) as server:
        reaper = threading.Thread(target=server.wait)
        reaper.start()
        put(home, {"pid": f"{server.pid}\n"})
        assert look(home, shell, listener.getsockname()[1], settle_s=1.9) == f"{job.ENDED} killed"
        reaper.join()


def test_a_start_ends_what_is_left_of_the_one_before(home: Path) -> None:
    launch = Launch("sleep 1000 & echo $! > ../left; exit 3")
    put(home, job.files_of(launch, KEY, "127.0.0.1", {}))
    sh(home, job.start() + "wait")
    left = int((home / ".vastgpu" / "left").read_text())
    assert is_running(left)
    put(home, job.files_of(Launch("exit 0"), KEY, "127.0.0.1", {}))
    sh(home, job.start() + "wait")
    until(lambda: is_running(left), lambda runs: not runs)


def stop(home: Path, shell: list[str], within_s: float) -> str:
    command = [*shell, "-c", job.stop(within_s)]
    return subprocess.run(command, cwd=home, input=f"{KEY}\n", capture_output=True, text=True, check=True).stdout


ALONE = "python3 -c 'import os, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(1000)'"
"""A process in a session of its own."""


@pytest.mark.parametrize("deaf", [False, True], ids=["it obeys", "it ignores SIGTERM"])
def test_a_server_is_stopped_with_all_that_it_has_started(home: Path, shell: list[str], deaf: bool) -> None:
    trap = "trap '' TERM; " if deaf else ""
    launch = Launch(f"{trap}{ALONE} > ../alone & sleep 1000 & echo $! > ../child; echo $$ > ../self; sleep 1000")
    put(home, job.files_of(launch, KEY, "127.0.0.1", {}))
    with sleeper({**os.environ, "OTHER": KEY}) as stranger:
        sh(home, job.start())
        files = [home / ".vastgpu" / name for name in ("self", "child", "alone", "pid")]
        pids = [int(until(functools.partial(_read, file), bool)) for file in files]
        assert all(is_running(pid) for pid in pids)
        assert stop(home, shell, 0.5 if deaf else 60.0) == ""
        assert [pid for pid in pids if is_running(pid)] == []
        assert is_running(stranger)
    assert stop(home, shell, 60.0) == "", "there is nothing left to stop"


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def test_a_process_that_has_got_the_id_of_a_server_that_ended_lives_on(home: Path, shell: list[str]) -> None:
    with sleeper() as stranger:
        put(home, {"pid": f"{stranger}\n", "exit_code": "3\n"})
        assert stop(home, shell, 1.0) == ""
        assert is_running(stranger)


@pytest.mark.parametrize("name", ["X=1; touch pwned; Y", "A B", "1A", "", "A\nB", "Ä"])
def test_a_name_that_a_shell_could_take_for_more_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is no name for an environment variable"):
        job.env_script({name: "1"})


INSTALLED = [name for name in ("dash", "bash", "busybox") if shutil.which(name)]
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
        until(Path(f"/proc/{process.pid}/environ").read_bytes, bool)  # the system shows it after the start only
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


@pytest.mark.parametrize("interpreter", INSTALLED)
def test_a_session_gets_the_image_s_environment_and_keeps_its_own(home: Path, interpreter: str) -> None:
    put(home, {"image_env.sh": job.IMAGE_ENV_SCRIPT})
    with first_process(ODD | KEPT_OUT) as init:
        found = environment_in(interpreter, home, init, job.IN_IMAGE_ENV)
    assert {name: found.get(name) for name in ODD} == ODD
    assert found["HOME"] == str(home)
    assert found["OWN"] == "kept"
    assert not found.keys() & (KEPT_OUT.keys() - {"HOME", "PWD", "UID", "IFS"})
    assert not [name for name in found if name.startswith("VASTGPU_") and name != "VASTGPU_INIT"]


@pytest.mark.parametrize("interpreter", INSTALLED)
@pytest.mark.parametrize("init", ["none", "0"])
def test_without_a_readable_environment_of_the_image_a_session_goes_on(home: Path, interpreter: str, init: str) -> None:
    put(home, {"image_env.sh": job.IMAGE_ENV_SCRIPT})
    assert environment_in(interpreter, home, init, job.IN_IMAGE_ENV)["PATH"] == "/usr/bin:/bin"
    (home / ".vastgpu" / "image_env.sh").unlink()
    assert environment_in(interpreter, home, init, job.IN_IMAGE_ENV)["OWN"] == "kept"


def test_a_server_gets_the_image_s_environment_and_then_the_workload_s(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Launch('echo "$CONDA_PREFIX $GREETING $WHO $VASTGPU_HOST"', {"GREETING": "ours"})
    put(home, job.files_of(launch, KEY, "127.0.0.1", {"WHO": "the workload"}))
    with first_process({**ODD, "GREETING": "the image", "WHO": "the image", "VASTGPU_HOST": "everywhere"}) as init:
        monkeypatch.setenv("VASTGPU_INIT", init)
        sh(home, job.start() + "wait")
    assert (home / ".vastgpu" / "server.log").read_text() == "/opt/conda ours the workload 127.0.0.1\n"


def test_the_workload_s_environment_is_in_one_file_that_only_its_owner_can_reach(tmp_path: Path) -> None:
    texts = job.files_of(Launch("exit 0"), KEY, "127.0.0.1", {"HF_TOKEN": "a-secret"}, "make it")
    assert [name for name, text in texts.items() if "a-secret" in text] == ["env.sh"]
    sh(tmp_path, f"umask 022; {job.MAKE_FOLDERS}")
    assert (tmp_path / job.HOME).stat().st_mode & 0o777 == 0o700

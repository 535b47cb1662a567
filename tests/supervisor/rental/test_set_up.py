"""Before the server starts: the setup command runs once, within its time, for all to see."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.supervisor.rental.server import job
from tests.support.lives import WORKLOAD
from tests.support.lives import Life
from tests.support.lives import any_key
from tests.support.memory import Script

KEY = any_key()


def life(tmp_path: Path, script: Script, **fields: object) -> Life:
    made = Life(tmp_path, [script, Script()], KEY)
    made.workload = replace(WORKLOAD, setup="pip install it", **fields)  # type: ignore[arg-type] # fields of it
    return made


def told(life: Life) -> list[str]:
    return [text for event in life.events.events if (text := event.text.partition(": ")[2]).startswith("setup: ")]


@pytest.mark.parametrize("breaks", [False, True], ids=["one connection", "it breaks"])
def test_what_it_prints_is_told_as_it_comes(tmp_path: Path, breaks: bool) -> None:
    lived = life(tmp_path, Script(setup_breaks=breaks))
    assert lived.live() is None
    assert told(lived) == ["setup: pip install it", "setup: collecting", "setup: done"]
    texts = [event.text for event in lived.events.events]
    done = next(number for number, text in enumerate(texts) if text.endswith("setup: done"))
    assert any("server launched" in text for text in texts[done:])
    assert not any("server launched" in text for text in texts[:done])


def test_its_failure_is_the_workloads_and_shows_its_end(tmp_path: Path) -> None:
    lived = life(tmp_path, Script(setup_log=("collecting", "ERROR: no such package"), setup_code=3))
    problem = lived.live()
    assert isinstance(problem, ProvisioningFailed)
    (attempt,) = lived.records  # the next host would fail the same
    assert attempt.verdict is not None
    assert (attempt.verdict.failure_class, attempt.verdict.reason) == (FailureClass.WORKLOAD_FATAL, "setup_failed")
    assert attempt.verdict.evidence == "the setup command ended with exit code 3: ERROR: no such package"
    assert "'pip install it'" in attempt.verdict.remedy
    assert "collecting\nERROR: no such package" in attempt.log_tail
    assert lived.provider.instances == {}


def test_its_time_is_limited(tmp_path: Path) -> None:
    lived = life(tmp_path, Script(setup_log=("line",) * 100), setup_s=60.0)
    assert lived.live() is None
    first, second = lived.records
    assert first.verdict is not None
    assert (first.verdict.failure_class, first.verdict.reason) == (FailureClass.UNKNOWN, "setup_timeout")
    assert "takes longer than 60 s: line" in first.verdict.evidence
    assert second.verdict is None


class Shell:
    """The very commands, in a home of their own."""

    def __init__(self, home: Path, setup: str) -> None:
        self.home = home
        subprocess.run(["sh", "-c", job.MAKE_FOLDERS], cwd=home, check=True)
        (home / job.HOME / "image_env.sh").write_text("export IMAGE='the image'\n")
        (home / job.HOME / "env.sh").write_text("export NAME='a value'\n")
        (home / job.HOME / "setup.sh").write_text(setup + "\n")

    def follow(self, sent: int = 0, key: str = "") -> tuple[int, list[str]]:
        run = subprocess.run(
            ["sh", "-c", job.setup_command(sent, key)], cwd=self.home, capture_output=True, text=True, check=False
        )
        assert run.stderr == ""
        return run.returncode, run.stdout.split("\n")[:-1]


def test_it_runs_once_in_the_servers_directory_and_environment(tmp_path: Path) -> None:
    shell = Shell(tmp_path, 'echo "$NAME in $IMAGE"; echo trouble >&2; pwd; echo x >> runs; printf "no newline"')
    work = str(tmp_path / job.WORK)
    code, lines = shell.follow()
    assert (code, lines) == (0, ["a value in the image", "trouble", work, "no newline"])
    assert shell.follow() == (0, [])  # a restart
    assert shell.follow(2) == (0, [work, "no newline"])  # the session broke after two lines
    assert (tmp_path / job.WORK / "runs").read_text() == "x\n"
    assert "trouble" in (tmp_path / job.HOME / "setup.log").read_text()


def test_it_runs_once_more_where_what_it_depends_on_has_changed(tmp_path: Path) -> None:
    shell = Shell(tmp_path, "echo x >> runs; wc -l < runs")
    assert [shell.follow(key=key)[1] for key in ("a", "a", "b", "b", "a")] == [["1"], [], ["2"], [], ["3"]]
    assert shell.follow(sent=0, key="a") == (0, [])


def test_it_ends_as_the_command_ends(tmp_path: Path) -> None:
    assert Shell(tmp_path, "echo one; exit 7").follow()[0] == 7

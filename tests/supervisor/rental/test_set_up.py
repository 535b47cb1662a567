"""Before the server starts: the setup command runs once, within its time, for all to see."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.host import numbered
from pytest_vastgpu.supervisor.rental.bringup import restart
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.bringup.set_up import TOLD_AT_ONCE
from pytest_vastgpu.supervisor.rental.bringup.set_up import shortened
from pytest_vastgpu.supervisor.rental.bringup.set_up import title
from pytest_vastgpu.supervisor.rental.bringup.set_up import verdict
from pytest_vastgpu.supervisor.rental.reuse import Restart
from pytest_vastgpu.supervisor.rental.reuse import look_again
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
    assert attempt.verdict.remedy == "mend it; it is 'setup: pip install it'"
    assert "collecting\nERROR: no such package" in attempt.log_tail
    assert lived.provider.instances == {}


HOST = numbered(Workload("host", gpus=0, port=0, image=WORKLOAD.image, setup="pip install it"), 1)


def test_all_that_it_prints_on_a_host_for_tests_is_told_with_its_name(tmp_path: Path) -> None:
    printed = tuple(f"line {number}" for number in range(7))
    lived = Life(tmp_path, [Script(setup_log=printed)], KEY, workload=HOST)
    lived.bring_up()
    assert told(lived) == ["setup: pip install it", *(f"setup: {line}" for line in printed)]
    assert {event.text.partition(":")[0] for event in lived.events.events} == {
        "host 1 (attempt 1)",
        "host 1 (instance 1)",
    }


def test_of_very_many_lines_at_once_the_last_ones_are_shown() -> None:
    lines = [f"line {number}" for number in range(TOLD_AT_ONCE + 20)]
    assert shortened(lines[20:]) == lines[20:]
    assert shortened(lines) == ["… 20 lines more", *lines[20:]]
    assert shortened(["one", " ", "two"]) == ["one", "two"]


def test_a_host_for_tests_is_made_ready_again_and_no_server(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text("1")
    lived = Life(tmp_path, [Script()], KEY, workload=replace(HOST, files=(("project/test_it.py", str(file)),)))
    lived.bring_up()
    file.write_text("changed")
    context = BringUpContext(lived.services, lived.rentals[0], lived.adapter, lived.cancel)
    found = look_again(context)
    assert found == Restart("test_it.py has changed here")
    before = len(lived.events.events)
    restart(context, found.why)
    texts = [event.text.partition(": ")[2] for event in lived.events.events[before:]]
    assert texts[0] == "making it ready again because test_it.py has changed here"
    assert texts[-1].startswith("ready after ")
    assert not [text for text in texts if "server" in text]


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


@pytest.mark.parametrize(
    ("setup", "shown"),
    [
        ("pip install it", "setup: pip install it"),
        ("# environment: uv sync (uv.lock)\nset -e\nuv sync", "environment: uv sync (uv.lock)"),
        ("#!/bin/sh\ntrue", "setup: #!/bin/sh\ntrue"),
    ],
)
def test_a_comment_in_its_first_line_is_shown_in_its_place(setup: str, shown: str) -> None:
    assert title(setup) == shown


UV_FINDS_NONE = """\
Using Python 3.12.1 environment at: env
  \N{MULTIPLICATION SIGN} No solution found when resolving dependencies:
  ╰─▶ Because no-such-package was not found in the package registry and you
      require no-such-package, we can conclude that your requirements are
      unsatisfiable.
"""
UV_CANNOT_BUILD = """\
   Building it @ file:///root/.vastgpu/work/project
  \N{MULTIPLICATION SIGN} Failed to build `it @ file:///root/.vastgpu/work/project`
  ├─▶ The build backend returned an error
  ╰─▶ Call to `setuptools.build_meta.build_editable` failed (exit status: 1)
"""
PIP_FINDS_NONE = """\
ERROR: Could not find a version that satisfies the requirement no-such-package (from versions: none)
ERROR: No matching distribution found for no-such-package

[notice] A new release of pip is available: 24.0 -> 25.3
[notice] To update, run: pip install --upgrade pip
"""
COMPILER = 'nvcc -c k.cu\nk.cu(3): error: identifier "foo" is undefined\nmake: *** [Makefile:2: all] Error 1\n'
NO_NAMES = """\
error: Failed to fetch: `https://pypi.org/simple/numpy/`
  Caused by: error sending request for url (https://pypi.org/simple/numpy/)
  Caused by: dns error
  Caused by: failed to lookup address information: Temporary failure in name resolution
"""
NO_INDEX = """\
error: Failed to fetch: `https://pypi.org/simple/numpy/`
  Caused by: Request failed after 3 retries
  Caused by: error sending request for url (https://pypi.org/simple/numpy/)
  Caused by: client error (Connect)
  Caused by: tcp connect error
  Caused by: Connection refused (os error 111)
"""
PIP_NO_INDEX = """\
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken by \
'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new \
connection: [Errno 111] Connection refused')': /simple/numpy/
ERROR: Could not find a version that satisfies the requirement numpy (from versions: none)
ERROR: No matching distribution found for numpy
"""
NO_INSTALLER = "curl: (6) Could not resolve host: astral.sh\nerror: uv's installer could not be fetched\n"
NO_SPACE = "error: failed to write to file: No space left on device (os error 28)\n"
OWN_INDEX = NO_INDEX.replace("pypi.org", "pypi.internal.example")


@pytest.mark.parametrize(
    ("log", "failure_class", "reason", "evidence"),
    [
        (UV_FINDS_NONE, "workload_fatal", "setup_failed", "No solution .*-package was not found.*unsatisfiable"),
        (UV_CANNOT_BUILD, "workload_fatal", "setup_failed", "Failed to build .*build_editable. failed"),
        (PIP_FINDS_NONE, "workload_fatal", "setup_failed", "1: ERROR: No matching distribution .*no-such-package$"),
        (COMPILER, "workload_fatal", "setup_failed", 'identifier "foo" is undefined'),
        ("one\ntwo\n\n", "workload_fatal", "setup_failed", "1: two$"),
        ("", "workload_fatal", "setup_failed", "it printed nothing"),
        (OWN_INDEX, "workload_fatal", "setup_failed", "Failed to fetch"),
        (NO_NAMES, "infra_fatal", "package_index_unreachable", r"pypi\.org"),
        (NO_INDEX, "infra_fatal", "package_index_unreachable", r"pypi\.org"),
        (PIP_NO_INDEX, "infra_fatal", "package_index_unreachable", "Connection refused"),
        (NO_INSTALLER, "infra_fatal", "host_dns_broken", "astral"),
        (NO_SPACE, "incompatible", "disk_too_small", "No space"),
    ],
)
def test_whose_fault_a_failure_is(log: str, failure_class: str, reason: str, evidence: str) -> None:
    found = verdict(Workload("host", setup="# environment: uv sync\nuv sync"), 1, log.splitlines())
    assert (found.failure_class.value, found.reason) == (failure_class, reason)
    assert re.search(evidence, found.evidence), found.evidence
    if reason == "setup_failed":
        assert found.remedy == "mend what it needs, or say another command with --vast-setup; it is 'uv sync'"

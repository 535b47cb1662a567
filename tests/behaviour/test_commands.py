"""The commands of ``vastgpu`` beside a run that lives, on the local market that belongs to it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.behaviour.conftest import SERVER
from tests.behaviour.test_switch import NO_GPU
from tests.support.runs import run_directories

LOOKS = """
import json, pathlib, subprocess, sys

def vastgpu(*words):
    done = subprocess.run([sys.executable, "-m", "pytest_vastgpu", *words], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr

def test_it(vast_instance):
    [run] = pathlib.Path.home().glob(".local/state/pytest-vastgpu/runs/*")
    seen = {
        "id": vast_instance.id,
        "run": run.name,
        "ls": vastgpu("ls", "--json"),
        "logs": vastgpu("logs"),
        "ssh": vastgpu("ssh", "echo", "$VASTGPU_NOTHING here; exit 4"),
        "named": vastgpu("ssh", run.name, "exit 5"),
        "runs": vastgpu("runs", "--json"),
        "modes": {name: (run / name).stat().st_mode for name in (".", "id", "market.json", "known_hosts")},
    }
    pathlib.Path("seen.json").write_text(json.dumps(seen))
"""


@pytest.mark.slow
def test_a_living_run_on_its_own_market_is_found_without_a_key(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_BACKEND", "local")
    pytester.path.joinpath("server.py").write_text(SERVER)
    pytester.makepyfile(NO_GPU + LOOKS.replace('"ssh", "echo"', '"ssh", str(vast_instance.id), "echo"'))
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    seen = json.loads(Path("seen.json").read_text())
    code, out, err = seen["ls"]
    assert (code, err) == (0, "")
    [listed] = json.loads(out)["instances"]
    assert (listed["id"], listed["run"], listed["run_alive"]) == (seen["id"], seen["run"], True)
    assert seen["logs"] == [0, "serving\n", ""]
    assert seen["ssh"] == [4, "here\n", ""]
    assert seen["named"][0] == 5
    [told] = json.loads(seen["runs"][1])["runs"]
    assert (told["state"], told["instances"], told["directory"]) == ("alive", 1, str(pytester.path))
    assert {stat.S_IMODE(mode) for name, mode in seen["modes"].items() if name != "."} == {0o600}
    assert stat.S_IMODE(seen["modes"]["."]) == 0o700
    [directory] = run_directories()
    assert not (directory / "id").exists(), "the key goes with the run"
    assert not (directory / "market.json").exists()


DESTROYS = """
import subprocess, sys

def test_destroys(vast_instance):
    for _ in range(2):
        subprocess.run([sys.executable, "-m", "pytest_vastgpu", "destroy", str(vast_instance.id)], check=True)
    assert vast_instance.run("true").ok

def test_next(vast_instance):
    assert vast_instance.run("true").ok
"""


@pytest.mark.slow
def test_what_the_user_destroys_is_nobodys_fault_and_the_next_test_gets_another(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_BACKEND", "local")
    pytester.path.joinpath("server.py").write_text(SERVER)
    pytester.makepyfile(NO_GPU + DESTROYS)
    result = pytester.runpytest_subprocess()
    output = result.stdout.str()
    assert "own_fault: destroyed_by_user" in output
    assert "you have destroyed it with `vastgpu destroy`" in output
    assert "runtime_lost" not in output
    [directory] = run_directories()
    assert "failed" not in (directory / "hosts.yaml").read_text()
    assert "1 passed" in output

"""Several probes in one command."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.supervisor.rental.server import at_once
from tests.support.quick import only

SHELLS = ("dash", "bash", "busybox sh")


@pytest.mark.parametrize("shell", only(["dash"], SHELLS))
def test_each_has_its_own_result_and_time_limit(tmp_path: Path, shell: str) -> None:
    probes = [
        Probe("answers", "echo \"it's $SECRET\"; echo '@@ ready 200'; echo oh >&2"),
        Probe("fails", "exit 7"),
        Probe("hangs", "echo begun; sleep 1000", timeout_s=0.5),
        Probe("answers too", "cat; echo ok"),
    ]
    env = {"PATH": os.environ["PATH"], "SECRET": "s3cret"}
    command = [*shell.split(), "-c", at_once.script(probes)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    answers, fails, hangs, too = at_once.results(done.stdout, probes)
    assert (answers.name, answers.ok, answers.stdout) == ("answers", True, "it's s3cret\n@@ ready 200\n")
    assert answers.stderr == "oh\n"
    assert (fails.failure, fails.exit_code) == (ProbeFailure.COMMAND, 7)
    assert (hangs.failure, hangs.stdout) == (ProbeFailure.TIMEOUT, "begun\n")
    assert too.stdout == "ok\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("output", ["", "probe 9 0 0 61 \nprobe 1 0 0\nprobe x\n", "probe 0 0 0 61 "])
def test_a_probe_of_which_nothing_is_told_was_not_run(output: str) -> None:
    (result,) = at_once.results(output, [Probe("it", "true")])
    assert (result.name, result.failure, result.exit_code) == ("it", ProbeFailure.NOT_RUN, None)

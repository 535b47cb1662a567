from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.client import rpc
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import MachineRecord
from pytest_vastgpu.model import Reputation
from pytest_vastgpu.planning.client import Answer
from pytest_vastgpu.planning.client import Question
from pytest_vastgpu.planning.client import ask
from pytest_vastgpu.planning.process import main
from pytest_vastgpu.reputation.outcomes import workload_key
from tests.planning.values import SMALL
from tests.planning.values import expect
from tests.planning.values import plan
from tests.planning.values import settings
from tests.support.limits import UNSPACED

KNOWN = MachineRecord(2, successes=3, ready_s=200, boot_s={"vllm": 50}, banned_until=float("inf"), allowed=True)
ANSWER = Answer(
    tuple(
        plan(expect(each), known=Reputation(machines={2: KNOWN})).workloads[0].found.survey
        for each in (SMALL, replace(SMALL, gpu_ram_gb=100))
    ),
    None,
    ("a note",),
)


def question(**changes: Any) -> Question:
    return Question(settings(), (replace(SMALL, **changes),), ("ours",), "/somewhere", UNSPACED)


class Process:
    """What is in place of the process: it says what it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.says = json.dumps({"answer": encode(ANSWER)})
        self.told = ""
        self.environ: dict[str, str] = {}
        monkeypatch.setattr(subprocess, "run", self.run)

    def run(self, command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        self.told, self.environ = how["input"], how["env"]
        assert "s3cret" not in str(command)
        return subprocess.CompletedProcess(
            command, 1, self.says, "Traceback\n  in a line\nValueError: what went wrong\n"
        )


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process(monkeypatch)


def test_the_answer_arrives_as_it_was_given(process: Process) -> None:
    assert ask(question()) == ANSWER


def test_an_error_is_raised_here(process: Process) -> None:
    process.says = json.dumps({"error": rpc.encode_error(NotAuthorized("the key lacks the scope misc", status=403))})
    with pytest.raises(NotAuthorized, match="the key lacks the scope misc"):
        ask(question())


def test_a_process_that_dies_is_one_line(process: Process) -> None:
    process.says = ""
    with pytest.raises(VastGpuError, match=r"^the process .* ended early \(1\): ValueError: what went wrong$"):
        ask(question())


def test_a_workload_s_secrets_are_not_handed_over(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_API_KEY", "s3cret-of-the-account")
    asked = question(env=(("HF_TOKEN", "s3cret-of-mine"),), image_login="-u me -p s3cret-of-ours registry.org")
    ask(asked)
    handed, secrets = process.told.split("\n")
    assert "s3cret" not in handed
    assert "VAST_API_KEY" not in process.environ
    assert json.loads(secrets) == {"VAST_API_KEY": "s3cret-of-the-account"}
    (workload,) = decode(Question, json.loads(handed)).workloads
    assert workload_key(workload) == workload_key(asked.workloads[0]), "what is known of it is found all the same"


def test_files_that_do_not_fit_are_told_as_a_run_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "m").open("wb") as file:
        file.truncate(2 * 10**9)
    asked = question(files=(("m", str(tmp_path / "m")),), disk_gb=1.0)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{json.dumps(encode(asked))}\n{{}}"))
    assert main() == 0
    told = json.dumps(json.loads(capsys.readouterr().out)["error"])
    assert "disk_gb=1 is less: give the workload disk_gb=3 or more" in told

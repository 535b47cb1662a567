"""The adapter for SGLang: its start script, its questions, and whose fault what SGLang prints is."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.questions import PROBE
from pytest_vastgpu.servers.sglang import IMAGE_COMPUTE_CAP
from pytest_vastgpu.servers.sglang import IMAGE_CUDA
from pytest_vastgpu.servers.sglang import SglangAdapter
from pytest_vastgpu.servers.sglang import sglang
from tests.support.sglang_stand_in import LINES

ADAPTER = SglangAdapter()
KEY = "0123456789abcdef"
NASTY = """it's "$HOME"; exit 3 `id` *\n\\"""


def called(workload: Workload, directory: Path) -> list[str]:
    """How its start script calls the program."""
    program = directory / "python3"
    note = "import json, sys; print(json.dumps(sys.argv[1:]))"
    program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-c", note])} "$@"\n')
    program.chmod(0o755)
    env = {"PATH": f"{directory}:{os.environ['PATH']}", "VASTGPU_API_KEY": KEY}
    script = ADAPTER.launch(workload, KEY).script
    assert KEY not in script
    done = subprocess.run(["sh", "-c", script], env=env, cwd=directory, capture_output=True, timeout=60, check=True)
    arguments: list[str] = json.loads(done.stdout)
    return arguments


def test_it_starts_on_the_loopback_with_every_value_quoted_and_its_key_in_a_file_of_its_owner(tmp_path: Path) -> None:
    arguments = called(sglang(NASTY, "--context-length=512", NASTY, port=8123), tmp_path)
    start = ["-m", "sglang.launch_server", "--config", "vastgpu-sglang.yaml", "--host", "127.0.0.1"]
    model = ["--model-path", NASTY, "--served-model-name", NASTY, "--port", "8123"]
    assert arguments == [*start, *model, "--context-length=512", NASTY]
    file = tmp_path / "vastgpu-sglang.yaml"
    assert file.read_text() == f'api-key: "{KEY}"\n'
    assert file.stat().st_mode & 0o777 == 0o600
    assert ADAPTER.headers(sglang("m"), KEY) == {"Authorization": f"Bearer {KEY}"}


def test_without_a_gpu_it_is_told_to_use_the_cpu(tmp_path: Path) -> None:
    assert called(sglang("m", "--x", gpus=0), tmp_path)[-3:] == ["--device", "cpu", "--x"]


@pytest.mark.parametrize("argument", ["--api-key", "--api-key=mine", "--config", "--config=mine.yaml"])
def test_what_the_plugin_gives_itself_is_refused(argument: str) -> None:
    with pytest.raises(WorkloadInvalid, match=r"args of the workload hold '--[a-z-]+'; give .* key") as told:
        sglang("m", argument)
    assert "mine" not in str(told.value)


def test_every_parameter_is_documented() -> None:
    for parameter in inspect.signature(sglang).parameters:
        assert f":param {parameter}:" in (sglang.__doc__ or ""), parameter


def test_it_needs_what_its_image_needs() -> None:
    assert (sglang("m").cuda, sglang("m").compute_cap) == (IMAGE_CUDA, IMAGE_COMPUTE_CAP)
    assert sglang("m", compute_cap=9.0).compute_cap == 9.0
    for other in (sglang("m", image="mine"), sglang("m", gpus=0)):
        assert (other.cuda, other.compute_cap) == (0.0, 0.0)


# --- the state of its start -------------------------------------------------------------------------------------------

HEALTHY = "\n@@ health 200\n"
LISTED = HEALTHY + '{"data": [{"id": "tiny"}]}\n@@ models 200\n'
ONE_TOKEN = LISTED + '{"choices": [{"text": " blue"}]}\n@@ completion 200\n'


@pytest.mark.parametrize(
    ("lines", "answers", "expected"),
    [
        (1, "", Warming(Progress("starting"))),
        (3, "", Warming(Progress("weights"))),
        (4, "", Warming(Progress("weights", 0, 2))),
        (7, "", Warming(Progress("kv_cache"))),
        (8, "", Warming(Progress("graphs"))),
        (9, "", Warming(Progress("graphs", 4, 4))),
        (10, "\n@@ health 503\n", Warming(Progress("serving"))),
        (11, HEALTHY, Warming(Progress("serving"))),
        (12, LISTED, Warming(Progress("serving"))),
        (12, LISTED.replace("tiny", "other"), "model_not_listed"),
        (12, ONE_TOKEN, Ready()),
    ],
)
def test_where_it_stands(lines: int, answers: str, expected: Readiness | str) -> None:
    log = "".join(LINES.splitlines(keepends=True)[:lines])
    result = ProbeResult(PROBE, ProbeFailure.NONE, 0, answers, "", 0.1)
    found = ADAPTER.assess(sglang("tiny"), Observation({PROBE: result}, log, None, 1.0))
    assert (found.verdict.reason if isinstance(found, Failed) else found) == expected


def test_it_is_asked_to_generate_before_anything_else() -> None:
    first, *_ = ADAPTER.questions(sglang("tiny"))
    assert first.path == "/health_generate"
    assert first.timeout_s > 20, "SGLang itself waits so long for its token (HEALTH_CHECK_TIMEOUT)"


@pytest.mark.parametrize(
    ("printed", "failure", "reason"),
    [
        (
            "RuntimeError: SGLang only supports sm75 and above.",
            FailureClass.INCOMPATIBLE,
            "gpu_generation_not_supported",
        ),
        (
            "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
            FailureClass.INCOMPATIBLE,
            "vram_too_small",
        ),
        ("torch.AcceleratorError: CUDA error: invalid device ordinal", FailureClass.INCOMPATIBLE, "tp_exceeds_gpus"),
        ("sglang serve: error: unrecognized arguments: --nope", FailureClass.WORKLOAD_FATAL, "bad_cli_argument"),
        (
            "OSError: no/such is not a local folder and is not a valid model identifier listed on "
            "https://huggingface.co/models",
            FailureClass.WORKLOAD_FATAL,
            "model_repo_not_found",
        ),
        (
            "[2026-11-01 10:00:10] ERROR:    [Errno 98] error while attempting to bind on address "
            "('127.0.0.1', 30000): address already in use",
            FailureClass.WORKLOAD_FATAL,
            "address_in_use",
        ),
        ("torch.AcceleratorError: CUDA error: uncorrectable ECC error", FailureClass.INFRA_FATAL, "uncorrectable_ecc"),
        (
            "[2026-11-01 10:00:10] Received sigquit from a child process. It usually means the child failed.",
            FailureClass.UNKNOWN,
            "server_exited",
        ),
    ],
)
def test_whose_fault_an_end_is(printed: str, failure: FailureClass, reason: str) -> None:
    log = "".join(LINES.splitlines(keepends=True)[:3]) + printed + "\n"
    found = ADAPTER.assess(sglang("tiny"), Observation({}, log, 1, 1.0))
    assert isinstance(found, Failed)
    assert (found.verdict.failure_class, found.verdict.reason) == (failure, reason)
    assert found.verdict.remedy

"""Servers that crash, at every stage and with every label; and labels that do not exist."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.local.faults import server_shim
from pytest_vastgpu.local.faults.catalogue import FaultInvalid
from pytest_vastgpu.local.faults.catalogue import make_fault
from pytest_vastgpu.local.faults.effects import Within
from pytest_vastgpu.local.faults.server_texts import CRASHES
from pytest_vastgpu.local.faults.server_texts import STAGES
from pytest_vastgpu.local.faults.server_texts import THE_HOST
from pytest_vastgpu.local.faults.server_texts import THE_KIND_OF_HOST
from pytest_vastgpu.local.faults.server_texts import THE_WORKLOAD
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass

CLASSES: Mapping[FailureClass, Mapping[str, str]] = {
    FailureClass.INFRA_FATAL: THE_HOST,
    FailureClass.INCOMPATIBLE: THE_KIND_OF_HOST,
    FailureClass.WORKLOAD_FATAL: THE_WORKLOAD,
}


def install(directory: Path, name: str, **parameters: object) -> Path:
    """Install the program that a fault puts in the place of the server."""
    fault = make_fault(name, parameters)
    assert isinstance(fault.effect, Within)
    config: dict[str, Any] = fault.effect.faults(fault.parameters)["server"]
    server_shim.install(directory, config)
    return directory / str(config["program"])


def start(directory: Path, name: str, *arguments: str, **parameters: object) -> subprocess.Popen[str]:
    command = [str(install(directory, name, **parameters)), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("failure", CLASSES)
def test_a_crash_is_read_as_what_it_is(
    stage: str, failure: FailureClass, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for says in CLASSES[failure]:
        program = install(tmp_path, "server_crash", stage=stage, says=says)
        assert server_shim.main(program.parent / server_shim.CONFIG_FILE, ["serve", "some/model"]) == 1
        written = capsys.readouterr()
        log = written.out + written.err
        assert STAGES[stage] in log
        assert CRASHES[says] in log
        verdict = classify(log, channel=Channel.SERVER_LOG, server="vllm", exit_code=1)
        assert (says, verdict.failure_class) == (says, failure)


def test_a_server_that_is_killed_says_no_more(tmp_path: Path) -> None:
    with start(tmp_path / "bin", "server_crash", "serve", says="killed") as process:
        assert process.communicate(timeout=60)[0].endswith("Killed\n")
    assert process.returncode == 137


def test_words_of_ones_own(tmp_path: Path) -> None:
    with start(tmp_path / "bin", "server_crash", "serve", text="RuntimeError: mine") as process:
        assert process.communicate(timeout=60)[0].endswith("RuntimeError: mine\n")


def test_other_calls_go_on_to_the_real_program(tmp_path: Path) -> None:
    with start(tmp_path / "bin", "server_crash", "-c", "print(6 * 7)", program=Path(sys.executable).name) as process:
        assert process.communicate(timeout=60)[0] == "42\n"
    assert process.returncode == 0


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with start(tmp_path / "bin", "server_dies", "serve", program="no-such-server") as process:
        assert process.communicate(timeout=60)[0] == "no-such-server: not found\n"
    assert process.returncode == 127


@pytest.mark.parametrize(("parameter", "there_is"), [("says", "unknown_architecture"), ("stage", "compiling")])
def test_a_label_that_is_not_there(parameter: str, there_is: str) -> None:
    with pytest.raises(FaultInvalid, match=f"is 'nonsense'; there are: .*{there_is}"):
        make_fault("server_crash", {parameter: "nonsense"})

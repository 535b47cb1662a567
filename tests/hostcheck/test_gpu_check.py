from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.hostcheck import gpu_check
from pytest_vastgpu.hostcheck import gpu_speed
from pytest_vastgpu.hostcheck.gpu_check import GpuCheckFacts
from pytest_vastgpu.hostcheck.gpu_check import GpuState
from pytest_vastgpu.local.container import gpu_tools
from pytest_vastgpu.local.container.spec import ContainerFaults
from pytest_vastgpu.local.gpu import SimulatedGpu
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import GpuCheck
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from tests.support.factories import make_offer

OFFER = make_offer(num_gpus=2, gpu_memory_gb_s=880.0, tflops=164.0, pcie_lanes=16)
WORKLOAD = Workload("vllm", gpus=2)
RTX = SimulatedGpu("RTX 4090", 24564, "570.86.15", 12.8, 8.9)


def state(index: int = 0, sm: int = 210, memory: int = 405, lanes: int = 16, reasons: int = 0x1) -> str:
    """A line of ``nvidia-smi``: by default of a GPU at rest."""
    return f"{index}, {sm}, 3105, {memory}, 10501, {lanes}, 16, 61, 0x{reasons:016x}"


AT_WORK = {"sm": 2790, "memory": 10251, "reasons": 0x4}
"""At its power limit, as at any full load."""


def printed(
    at_rest: str = state(),
    busy: str = "0, 0\n0, 2\n0, 0",
    users: str = "",
    loaded: str = state(**AT_WORK),
    gb_s: tuple[float, ...] = (900.0, 910.0, 905.0),
    tflops: tuple[float, ...] = (60.0, 59.0, 60.0),
) -> str:
    """What the script prints on a host."""
    speed = {"gpus": [{"gb_s": gb_s, "tflops": tflops}], "loaded": {"text": loaded, "code": 0}}
    notes = {"busy": busy, "state": at_rest, "users": users, "speed": f"a warning\n{json.dumps(speed)}"}
    return "".join(f"\n{text}\n\n@@ {name} 0\n" for name, text in notes.items()) + "@@ end 0\n"


def judged(output: str) -> GpuCheck:
    return gpu_check.judge(OFFER, WORKLOAD, output)


def test_a_check_that_passes_has_what_was_measured() -> None:
    assert judged(printed()) == GpuCheck(None, (), 905.0, 60.0)
    assert judged(printed()).hardware_problem == ""


@pytest.mark.parametrize(
    ("output", "reason", "words"),
    [
        (
            printed(at_rest=state(reasons=0x41)),
            "gpu_throttled",
            "GPU 0 is slowed down: its hardware is too hot",
        ),
        (printed(at_rest=state(reasons=0x80)), "gpu_throttled", "asks for less power"),
        (printed(loaded=state(1, 1200, 10251, reasons=0x8)), "gpu_throttled", "GPU 1 .*holds it back.* 61 °C"),
        (printed(loaded=state(sm=2700, memory=10251, reasons=0x20)), "gpu_throttled", "near its highest temperature"),
        (printed(loaded=state(sm=210, memory=10251)), "clock_low", "computes at 210 of 3105 MHz while it is busy"),
        (printed(loaded=state(sm=2790, memory=5001)), "memory_clock_low", "uses its memory at 5001 of 10501 MHz"),
        (printed(busy="0, 96\n0, 34\n1, 0\n0, 88"), "gpu_shared", "GPU 0 is used for 34 % .*: a process outside"),
        (printed(busy="0, 34", users="77, /usr/bin/xmrig, 900"), "gpu_shared", r"/usr/bin/xmrig \(pid 77\)"),
        (printed(loaded=state(**AT_WORK, lanes=1)), "pcie_narrow", "GPU 0 has 1 PCIe lanes of 16"),
        (printed(gb_s=(300.0, 310.0, 305.0)), "memory_slow", "the memory of GPU 0 moves 305 GB/s, 880 were sold"),
        (printed(tflops=(20.0, 21.0, 22.0)), "matrix_slow", "GPU 0 multiplies matrices at 21 TFLOPS, 82 were sold"),
        (printed(gb_s=(900.0, 880.0, 650.0)), "speed_unsteady", "moves 650 to 900 GB/s from one moment to the next"),
    ],
)
def test_what_fails_the_check(output: str, reason: str, words: str) -> None:
    verdict = judged(output).verdict
    assert verdict is not None
    assert (verdict.failure_class, verdict.reason) == (FailureClass.UNKNOWN, reason)
    assert re.search(words, verdict.evidence), verdict.evidence
    assert "another host" in verdict.remedy


@pytest.mark.parametrize(
    "output",
    [
        printed(at_rest=state(reasons=0x9)),  # the hardware's bit, while clocks change
        printed(at_rest=state(lanes=4)),  # lanes that a board gives up at rest
        printed(busy="0, 96\n0, 3\n0, 40"),  # still at work from before
        printed(loaded=state(sm=900, memory=10251, reasons=0x4)),  # a small card at its power limit
        printed(busy="0, [N/A]", at_rest="", loaded=""),
        "",
    ],
)
def test_what_is_no_property_of_the_host_or_not_known_is_not_held_against_it(output: str) -> None:
    assert judged(output).verdict is None


def test_lanes_are_compared_with_what_was_sold() -> None:
    narrow = printed(loaded=state(**AT_WORK, lanes=8))
    assert gpu_check.judge(replace(OFFER, pcie_lanes=8), WORKLOAD, narrow).verdict is None
    unknown = gpu_check.judge(replace(OFFER, pcie_lanes=0), WORKLOAD, narrow).verdict
    assert unknown is not None
    assert unknown.evidence == "GPU 0 has 8 PCIe lanes of 16"


@pytest.mark.parametrize(
    ("speed", "why"),
    [
        ("@@ speed 127", "there is no python3"),
        ("@@ speed 124", "PyTorch gave no answer within 75 s"),
        ("Killed\n@@ speed 137", "the check ended with exit code 137"),
        ('{"why": "PyTorch sees no GPU"}\n@@ speed 0', "PyTorch sees no GPU"),
        ("{broken\n@@ speed 0", "the check ended with exit code 0"),
        ("", "there is no nvidia-smi"),
    ],
)
def test_why_no_speed_was_measured_is_said(speed: str, why: str) -> None:
    found = judged(f"{speed}\n@@ end 0\n")
    assert found.notes[-1] == f"the GPU's speed was not measured: {why}"
    assert (found.memory_gb_s, found.tflops) == (0.0, 0.0)


def test_what_a_host_says_steers_no_terminal() -> None:
    found = judged(printed(busy="0, 34", users="77, \x1b[2Jminer, 900"))
    broken = judged('{"why": "PyTorch cannot be imported: \\u001b[2J"}\n@@ speed 0\n@@ end 0\n')
    assert "miner (pid 77)" in found.hardware_problem
    assert "\x1b" not in found.hardware_problem + broken.notes[-1]


def test_without_a_need_for_gpus_nothing_is_looked_at() -> None:
    hot = printed(at_rest=state(reasons=0x40))
    found = gpu_check.judge(OFFER, Workload("command", gpus=0), hot)
    assert (found.verdict, len(found.notes)) == (None, 1)


def test_the_parts_of_the_output() -> None:
    assert gpu_check.parse("noise\n") == GpuCheckFacts(not_measured="there is no nvidia-smi")
    found = gpu_check.parse(printed(at_rest=f"{state()}\nno line of a GPU\n{state(1)}"))
    assert found.complete
    assert found.at_rest == tuple(GpuState(at, 210, 3105, 405, 10501, 16, 16, 61, 1) for at in (0, 1))
    assert found.busy == ((0, 0.0),)


def look(home: Path, *gpus: SimulatedGpu) -> GpuCheck:
    """The script's own look at simulated GPUs."""
    gpu_tools.install(home / "bin", gpus, ContainerFaults())
    path = os.pathsep.join([str(home / "bin"), "/usr/bin", "/bin"])
    done = subprocess.run(
        ["sh", "-c", gpu_check.SCRIPT],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(home), "PATH": path},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return judged(done.stdout)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(RTX, "", marks=pytest.mark.slow),
        pytest.param(replace(RTX, throttle_reasons=0x40), "gpu_throttled", marks=pytest.mark.slow),
        pytest.param(replace(RTX, busy_percent=60), "gpu_shared", marks=pytest.mark.slow),
        (replace(RTX, pcie_lanes=1), "pcie_narrow"),
    ],
)
def test_the_script_without_pytorch(tmp_path: Path, fault: SimulatedGpu, reason: str) -> None:
    found = look(tmp_path, RTX, fault)
    assert (found.verdict.reason if found.verdict else "") == reason
    assert "GPU 1" in found.hardware_problem or not reason
    (note,) = found.notes
    assert note.startswith("the GPU's speed was not measured: ")


@pytest.mark.slow
def test_the_script_measures_with_pytorch_while_the_gpus_are_busy(tmp_path: Path) -> None:
    """The simulated GPUs' clocks show load only while PyTorch uses them: an idle one would be called too low."""
    found = look(tmp_path, replace(RTX, memory_gb_s=200))
    assert found.verdict is not None
    assert found.verdict.reason == "memory_slow"
    assert 0 < found.memory_gb_s <= 200
    assert 0 < found.tflops <= 60
    assert found.notes == ()


def test_the_program_is_one_for_old_pythons() -> None:
    ast.parse(Path(gpu_speed.__file__).read_text(), feature_version=(3, 8))


@pytest.mark.slow
def test_the_script_answers_where_next_to_nothing_is_installed(tmp_path: Path) -> None:
    for tool in ("sh", "mktemp", "cat", "rm", "sleep"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    done = subprocess.run(
        [str(tmp_path / "sh"), "-c", gpu_check.SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": str(tmp_path)},
    )
    assert judged(done.stdout).verdict is None
    assert gpu_check.parse(done.stdout).complete


def test_what_was_seen_of_a_host_is_printed_in_words() -> None:
    verdict = Verdict(FailureClass.UNKNOWN, "narrow_pcie", "GPU 0 has 4 of 16 PCIe lanes")
    assert str(GpuCheck(memory_gb_s=911.98765, tflops=41.34567)) == "GPU check passed; memory 912 GB/s; 41.3 TFLOPS"
    assert str(GpuCheck(verdict, ("no PyTorch",))) == "GPU check failed: GPU 0 has 4 of 16 PCIe lanes; no PyTorch"

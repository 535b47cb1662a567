"""What nvidia-smi says beside a load, in numbers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from pytest_vastgpu.local.container import gpu_tools
from pytest_vastgpu.local.container import simulated_gpus
from pytest_vastgpu.local.container.spec import ContainerFaults
from pytest_vastgpu.local.gpu import SimulatedGpu
from pytest_vastgpu.measuring import gpu
from pytest_vastgpu.measuring.figures import exact

Lines = list[tuple[float, str]]


def watch(*texts: str, seconds: float = 10.0, start: float = 0.0, every_s: float = 0.2) -> Lines:
    """The same lines again and again."""
    count = round(seconds / every_s)
    return [(start + at * every_s + 0.01, text) for at in range(count) for text in texts]


def test_one_gpu_gives_its_memory_use_power_energy_clock_and_throttling() -> None:
    seen = gpu.seen(
        [
            *watch("0, 1000, 40, 100.5, 1200, 0x4", seconds=5),
            *watch("0, 3000, 80, 300.5, 1600, 0x0", start=5, seconds=5),
        ],
        10,
    )
    assert list(seen.figures) == list(gpu.NAMES)
    assert not seen.missing
    assert seen.figures["gpu_memory_peak"] == exact(3000, "MiB", -1)
    values = {name: figure.value for name, figure in seen.figures.items()}
    assert values == pytest.approx(
        {
            "gpu_memory_peak": 3000,
            "gpu_utilisation": 60,
            "gpu_power": 200.5,
            "energy": 2005,
            "gpu_clock": 1400,
            "gpu_throttled": 50,
        }
    )
    assert not seen.figures["energy"].better  # in the same time, who does more uses more
    power = seen.figures["gpu_power"]
    assert power.low < 150
    assert power.high > 250


def test_of_several_gpus_the_fullest_the_slowest_and_all_together_count() -> None:
    seen = gpu.seen(watch("0, 1000, 40, 100, 1500, 0x0", "1, 5000, 60, 250, 1200, 0x40"), 10)
    assert {name: figure.value for name, figure in seen.figures.items()} == pytest.approx(
        {
            "gpu_memory_peak": 5000,
            "gpu_utilisation": 50,
            "gpu_power": 350,
            "energy": 3500,
            "gpu_clock": 1200,
            "gpu_throttled": 50,
        }
    )
    assert [each.memory_peak_mib for each in seen.gpus] == [1000, 5000]
    assert [each.power_w for each in seen.gpus] == [100, 250]
    assert [each.throttled for each in seen.gpus] == [{}, {"its hardware is too hot": 1.0}]


def test_what_was_before_and_after_does_not_count() -> None:
    lines = [
        *watch("0, 90000, 0, 900, 100, 0x8", start=-3, seconds=3),
        *watch("0, 1000, 40, 100, 1500, 0x0"),
        *watch("0, 90000, 0, 900, 100, 0x8", start=10, seconds=1),
    ]
    seen = gpu.seen(lines, 10)
    assert seen.figures["gpu_memory_peak"].value == 1000
    assert seen.figures["gpu_power"].value == 100
    assert not gpu.hardware_problem(seen.gpus)


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("0, 1000, [N/A], 100, 1500, 0x0", {"gpu_memory_peak", "gpu_power", "energy", "gpu_clock", "gpu_throttled"}),
        ("0, [N/A], 40, [Not Supported], 1500, P2", {"gpu_utilisation", "gpu_clock"}),
        ("0, 1000, 40, [Unknown Error], [GPU is lost], [N/A]", {"gpu_memory_peak", "gpu_utilisation"}),
    ],
)
def test_what_the_driver_does_not_tell_is_missing(line: str, known: set[str]) -> None:
    seen = gpu.seen(watch(line), 10)
    assert seen.figures.keys() == known
    assert set(seen.missing.values()) == {"the driver does not tell"}
    assert seen.missing.keys() == set(gpu.NAMES) - known


def test_without_a_gpu_there_is_nothing_to_say() -> None:
    assert gpu.seen([], 10) == gpu.GpusSeen({}, {})


def test_an_error_of_nvidia_smi_is_the_reason() -> None:
    seen = gpu.seen([(0.0, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\x1b[0m")], 10)
    assert not seen.figures
    assert seen.missing["energy"].startswith("nvidia-smi says: NVIDIA-SMI has failed because")
    assert "\x1b" not in seen.missing["energy"]


def test_too_few_answers_are_said() -> None:
    seen = gpu.seen(watch("0, 1000, 40, 100, 1500, 0x0", every_s=1, seconds=2), 10)
    assert seen.missing["gpu_power"] == "nvidia-smi answered 2 times in 10 s"


def test_a_second_without_an_answer_is_left_out() -> None:
    lines = [each for each in watch("0, 1000, 40, 100, 1500, 0x0") if not 3.9 < each[0] < 6.1]
    assert gpu.seen(lines, 10).figures["gpu_power"].value == 100


def test_a_line_that_breaks_off_does_not_count() -> None:
    lines = [*watch("0, 1000, 40, 100, 1500, 0x0"), (9.9, "0, 99999, 40, 1"), (9.95, "x, 99999, 40, 100, 1500, 0x0")]
    assert gpu.seen(lines, 10).figures["gpu_memory_peak"].value == 1000


def test_what_no_sample_shows_may_still_have_been() -> None:
    throttled = gpu.seen(watch("0, 1000, 40, 100, 1500, 0x1"), 10).figures["gpu_throttled"]
    assert throttled.value == throttled.low == 0
    assert 5 < throttled.high < 10


@pytest.mark.parametrize(
    ("mask", "hardware_problem"),
    [
        ("0x0000000000000000", ""),
        ("0x0000000000000001", ""),  # idle
        ("0x0000000000000002", ""),  # the owner's clocks
        ("0x0000000000000004", ""),  # a busy GPU anywhere
        ("0x0000000000000008", "its hardware holds it back (heat or power)"),
        ("0x0000000000000024", "it is near its highest temperature"),
        ("0x0000000000000040", "its hardware is too hot"),
        ("0x0000000000000080", "the machine's power supply asks for less power"),
    ],
)
def test_heat_and_power_brakes_are_hardware_problems_and_a_power_cap_is_none(mask: str, hardware_problem: str) -> None:
    told = gpu.hardware_problem(gpu.seen(watch(f"0, 1000, 40, 100, 1500, {mask}"), 10).gpus)
    assert told == (f"GPU 0 was slowed down in 100% of the samples: {hardware_problem}" if hardware_problem else "")


def test_a_moment_of_slowdown_is_no_hardware_problem() -> None:
    lines = [*watch("0, 1000, 40, 100, 1500, 0x0"), (5.0, "0, 1000, 40, 100, 1500, 0x8")]
    assert not gpu.hardware_problem(gpu.seen(lines, 10).gpus)


@pytest.mark.parametrize(
    ("seconds", "hot", "hardware_problem"),
    [
        (2, 1, ""),  # a tenth of the samples
        (10, 4, ""),
        (10, 5, "10%"),
        (60, 14, ""),  # less than a twentieth
    ],
)
def test_few_samples_are_no_hardware_problem_however_large_their_share(
    seconds: float, hot: int, hardware_problem: str
) -> None:
    cool = watch("0, 1000, 40, 100, 1500, 0x0", seconds=seconds)
    lines = [(at, line.replace("0x0", "0x40") if number < hot else line) for number, (at, line) in enumerate(cool)]
    told = gpu.hardware_problem(gpu.seen(lines, seconds).gpus)
    assert hardware_problem in told
    assert bool(told) is bool(hardware_problem)


def test_several_measurements_of_a_host_count_together() -> None:
    hot, cool = (gpu.seen(watch(f"0, 1000, 40, 100, 1500, {mask}", seconds=2), 2).gpus for mask in ("0x40", "0x0"))
    (seen,) = gpu.together([hot, cool, cool, cool])
    assert (seen.samples, seen.throttled) == (40, {"its hardware is too hot": 0.25})
    assert gpu.hardware_problem(gpu.together([hot, *[cool] * 20])) == ""
    assert gpu.together([[], []]) == []


def watched(path: str, home: Path, gpus: int = 1) -> Lines:
    """Three answers of the command, run here, each in a second of its own."""
    command = ["/bin/sh", "-c", gpu.COMMAND]
    environment = {"PATH": path, "HOME": str(home)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        assert run.stdout is not None
        found = [(at // gpus + 0.5, line) for at, line in zip(range(3 * gpus), run.stdout, strict=False)]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    return found


def test_the_command_tells_of_every_gpu_again_and_again(tmp_path: Path) -> None:
    gpus = tuple(SimulatedGpu("RTX 4090", 24576, "550.54", 12.4, 8.9, throttle_reasons=bits) for bits in (0, 0x40))
    gpu_tools.install(tmp_path, gpus, ContainerFaults())
    (tmp_path / simulated_gpus.LOAD).write_text("50")
    seen = gpu.seen(watched(f"{tmp_path}:{os.environ['PATH']}", tmp_path, gpus=2), 3)
    assert [(each.index, each.memory_peak_mib, each.utilisation) for each in seen.gpus] == [(0, 2, 50), (1, 2, 50)]
    assert [each.throttled for each in seen.gpus] == [{}, {"its hardware is too hot": 1.0}]


@pytest.mark.parametrize(("known", "reasons"), [("throttle", "0x40"), ("event", "0x40"), ("nothing", "P0")])
def test_drivers_of_any_age_are_asked_for_what_they_know(known: str, reasons: str, tmp_path: Path) -> None:
    """Those before 535 say ``throttle`` for ``event``."""
    script = f"""#!/bin/sh
case "$1" in
  *_{known}_reasons.active | *pstate) ;;
  *) echo 'Field is not a valid field to query.'; exit 2 ;;
esac
case "$*" in *-lms*) for turn in 1 2 3; do echo "0, 1000, 40, 100.00, 1500, {reasons}"; done ;; esac
"""
    (tmp_path / "nvidia-smi").write_text(script)
    (tmp_path / "nvidia-smi").chmod(0o755)
    seen = gpu.seen(watched(f"{tmp_path}:{os.environ['PATH']}", tmp_path), 3)
    assert seen.figures["gpu_power"].value == 100
    assert ("gpu_throttled" in seen.figures) == (known != "nothing")


def test_the_command_ends_at_once_where_there_is_no_nvidia_smi(tmp_path: Path) -> None:
    assert watched(str(tmp_path), tmp_path) == []

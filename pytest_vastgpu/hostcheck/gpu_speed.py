"""Measures how fast the GPUs' memory and arithmetic are, where PyTorch can run. It is sent to a host as a program.

Python 3.8, and PyTorch if it is there. It prints one line of JSON: ``{"gpus": […], "loaded": …}``, or ``{"why": …}``
where it could not measure. What ``nvidia-smi`` says while all GPUs are busy comes along: idle clocks tell nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

REPEATS = 5
"""Each speed is measured so often, so that one that varies shows."""
REPEAT_S = 0.12
"""Seconds of one repeat: long beside the time that a launch takes."""
BYTES = 256 << 20
"""Of a copy: more than any GPU's cache holds."""
SIDE = 4096
"""Of a square matrix: enough work for every GPU."""
LEAST_FREE = 4 * BYTES
"""Memory that must be free: for two copies and three matrices, and some more."""
LOADED_S = 6.0
"""``nvidia-smi`` gets so long for its answer."""


def rates(run: Callable[[], object], wait: Callable[[], object], amount: float) -> list[float]:
    """How much is done in a second, several times.

    :param run: Begins the work; it may return before that is done.
    :param wait: Waits until what was begun is done.
    :param amount: What one call of ``run`` does.
    """
    run()
    wait()
    begun = time.perf_counter()
    run()
    wait()
    calls = max(1, round(REPEAT_S / max(time.perf_counter() - begun, 1e-6)))
    found = []
    for _ in range(REPEATS + 1):  # clocks rise during the first, which does not count
        begun = time.perf_counter()
        for _ in range(calls):
            run()
        wait()
        found.append(amount * calls / (time.perf_counter() - begun))
    return found[1:]


def measure(torch: Any, place: str, wait: Callable[[], object], size: int, side: int) -> dict[str, Any]:
    """The speeds of one device, and what keeps it busy.

    :param size: Bytes of a copy.
    :param side: Rows and columns of a matrix.
    """
    source, target = (torch.empty(size, dtype=torch.uint8, device=place) for _ in range(2))
    left, right, product = (torch.ones(side, side, device=place) for _ in range(3))

    def multiply() -> None:
        torch.mm(left, right, out=product)

    return {
        "gb_s": rates(lambda: target.copy_(source), wait, 2 * size / 1e9),  # it is read once and written once
        "tflops": rates(multiply, wait, 2 * side**3 / 1e12),
        "multiply": multiply,
    }


def loaded(command: list[str], keep_busy: Callable[[], object]) -> dict[str, Any]:
    """What a command prints while the GPUs are busy."""
    begun = time.perf_counter()
    keep_busy()
    asked = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    while asked.poll() is None and time.perf_counter() - begun < LOADED_S:
        keep_busy()
    if asked.returncode is None:
        asked.kill()
    return {"text": asked.communicate()[0].decode("utf-8", "replace"), "code": asked.returncode}


def main(smi: list[str]) -> dict[str, Any]:
    """Measure every GPU.

    :param smi: The command line that asks ``nvidia-smi``; it does not wait.
    """
    try:
        import torch  # type: ignore[import-not-found,unused-ignore]
    except Exception as error:  # noqa: BLE001 - a broken installation raises whatever it likes
        return {"why": f"PyTorch cannot be imported: {error}"}
    if not torch.cuda.is_available():
        return {"why": "PyTorch sees no GPU"}
    torch.backends.cuda.matmul.allow_tf32 = False  # what is sold is the speed in single precision
    found = []
    for index in range(torch.cuda.device_count()):
        free = torch.cuda.mem_get_info(index)[0]
        if free < LEAST_FREE:
            return {"why": f"only {free >> 20} MiB of GPU {index} are free, and {LEAST_FREE >> 20} are needed"}
        found.append(measure(torch, f"cuda:{index}", partial(torch.cuda.synchronize, index), BYTES, SIDE))

    def keep_busy() -> None:
        for each in found:
            for _ in range(4):
                each["multiply"]()
        for index in range(len(found)):
            torch.cuda.synchronize(index)

    seen = loaded(smi, keep_busy)
    return {"gpus": [{name: gpu[name] for name in ("gb_s", "tflops")} for gpu in found], "loaded": seen}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1:])) + "\n")
